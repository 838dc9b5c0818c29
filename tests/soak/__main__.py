"""Faults of every kind thrown at loops from many threads, with a ledger that says what became of every call.

Run from the root of the repository. Ends with 1, the seed and the history of the call if anything wasn't as promised.
The seed decides what the threads do, not how they interleave.
"""

import argparse
import importlib.util
import random
import sys

from .rounds import Soak
from .subjects import FLAVOURS


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0, help="how long (%(default)g)")
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="a random one by default"
    )
    parser.add_argument(
        "--loop", choices=[*FLAVOURS, "all"], default="all", help="which event loop (%(default)s)"
    )
    parser.add_argument("--threads", type=int, help="that call (8 to 16, as it comes)")
    parser.add_argument(
        "--first-round", type=int, default=0, help="begins with this one of the seed's rounds"
    )
    options = parser.parse_args()

    flavours = FLAVOURS if options.loop == "all" else [options.loop]
    if options.loop == "all" and importlib.util.find_spec("uvloop") is None:
        print("uvloop is not installed: left out")
        flavours = [flavour for flavour in flavours if flavour != "uvloop"]
    print(f"seed {options.seed}, {', '.join(flavours)}, CPython {sys.version.split()[0]}", flush=True)
    soak = Soak(options.seed, flavours, options.threads)
    fine = soak.run(options.seconds, options.first_round)
    print_table(soak)
    if fine:
        return 0
    soak.ledger.print_violations()
    repeat = f"--seed {options.seed} --loop {options.loop} --first-round {soak.rounds - 1}"
    print(f"\n{len(soak.ledger.violations)} violations; {repeat} begins with this round", file=sys.stderr)
    return 1


def print_table(soak):
    outcomes = soak.ledger.outcomes
    kinds = sorted({kind for counts in outcomes.values() for kind in counts})
    width = max(map(len, outcomes)) + 2
    print(f"{'':{width}}" + "".join(f"{kind:>13}" for kind in kinds))
    for name, counts in sorted(outcomes.items()):
        print(
            f"{name.strip('_').replace('_', ' '):{width}}"
            + "".join(f"{counts[kind] or '':>13}" for kind in kinds)
        )
    total = sum(sum(counts.values()) for counts in outcomes.values())
    ends = ", ".join(f"{count:,} {end}" for end, count in soak.ledger.works.most_common())
    print(f"{soak.rounds} rounds, {total:,} calls; of their coroutines {ends}")
    if not soak.ledger.violations:
        print("every accepted call ended exactly once")


if __name__ == "__main__":
    sys.exit(main())
