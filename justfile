# What the project's engineers run. Environments are made inside the checkout, one per CPython (.venv-3.11, ...).

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

here := justfile_directory()
target := env("CARGO_TARGET_DIR", here / "target")

# The CPythons to build for and test on (PYTHONS="3.12" narrows it), and those of them that run here.
versions := env("PYTHONS", "3.11 3.12 3.13")
pythons := shell(here / ".ci/pythons" + ' $1', versions)
found := shell('awk "NF > 1 { print \$1 }" <<< "$1" | xargs', pythons)

# The first of them also runs the linters, the docs, the benchmarks and the demo.
main := shell('echo "${1%% *}"', found)
bin := here / ".venv-" + main / "bin"

# pyo3's build script asks this interpreter what to build for; maturin names its own.
export PYO3_PYTHON := bin / "python"

_default:
    @"{{ just_executable() }}" --justfile "{{ justfile() }}" --list --unsorted

# make the environments and install what every recipe uses
setup: (_envs found) (_need "lint") (_need "docs") _need-peers

# format Rust and Python in place
fmt: (_envs main) (_need "lint")
    cargo fmt --all
    {{ bin }}/ruff check --quiet --select I --fix .
    {{ bin }}/ruff format .

# formatting, linters, types, stubs against the built module
lint: (_install main) (_need "lint")
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    {{ bin }}/ruff format --check .
    {{ bin }}/ruff check .
    {{ bin }}/mypy --strict --python-executable {{ bin }}/python python
    PATH="{{ bin }}:$PATH" pyright
    PATH="{{ bin }}:$PATH" pyright --verifytypes asyncio_thread_loop --ignoreexternal
    {{ bin }}/stubtest asyncio_thread_loop --allowlist .ci/stubtest-allowlist

# the core's tests, then pytest on the installed wheel with every CPython found; arguments go to pytest
test *args: _test-core (_install found) (_need "lint")
    #!/usr/bin/env bash
    set -euo pipefail
    elsewhere=$(mktemp -d)  # away from the checkout only the installed wheel can be imported
    trap 'rm -rf "$elsewhere"' EXIT
    cd "$elsewhere"
    while read -r version python; do
        echo "CPython $version: ${python:-NOT TESTED, none that runs was found here}"
    done <<< "{{ pythons }}"
    one() {
        local bin="{{ here }}/.venv-$1/bin"
        echo "== pytest on $("$bin/python" --version), installed wheel"
        "$bin/python" -I -c 'import asyncio_thread_loop as a, sys; sys.exit(not a.__file__.startswith(sys.prefix))'
        "$bin/pytest" -c "{{ here }}/pyproject.toml" --rootdir "{{ here }}" "{{ here }}/tests" "${@:2}"
    }
    # The contract: on the native loop with each CPython, on the other flavours with one of them each.
    found=({{ found }}) others=(standard caller_runs uvloop) flavours=()
    case " $*" in
        *" --all-flavours"* | *" --flavours"*) ;;
        *)
            for number in "${!others[@]}"; do
                at=$((number % ${#found[@]}))
                flavours[at]="${flavours[at]:---flavours=native},${others[number]}"
            done
            ;;
    esac
    # Side by side: most tests wait most of the time.
    running=()
    for number in "${!found[@]}"; do
        version=${found[number]}
        (one "$version" ${flavours[number]:-} "$@" 2>&1 | sed -u "s/^/$version | /") &
        running+=($!)
    done
    failed=0
    for each in "${running[@]}"; do wait "$each" || failed=1; done
    exit $failed

# model-check the core's protocols: with loom completely, with shuttle at random and larger
loom:
    RUSTFLAGS="--cfg atl_loom" CARGO_TARGET_DIR="{{ target }}/loom" \
        cargo test --release -p asyncio-thread-loop-core --test loom --test portal --test ownership
    RUSTFLAGS="--cfg atl_shuttle" CARGO_TARGET_DIR="{{ target }}/shuttle" \
        cargo test --release -p asyncio-thread-loop-core --test portal --test ownership

# the core's stress example under valgrind
valgrind:
    cargo build -p asyncio-thread-loop-core --example stress
    valgrind --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite,indirect \
        "{{ target }}/debug/examples/stress"

# measure, interleaved with the peers and what nothing can be faster than; arguments go to the benchmarks
bench *args: (_install main) _need-peers
    cargo build --quiet --release -p asyncio-thread-loop-core --example handover
    CARGO_TARGET_DIR="{{ target }}" {{ bin }}/python -m benches "$@"

# measure the event loop, interleaved with other loops; arguments go to the benchmarks
bench-io *args: (_install main) _need-peers
    cargo build --quiet --release -p asyncio-thread-loop-core --example load
    CARGO_TARGET_DIR="{{ target }}" {{ bin }}/python -m benches.io "$@"

# a million calls, 1,000 loops, 100,000 connections: threads, descriptors and memory must not grow
leaks *args: (_install main)
    {{ bin }}/python -m benches.leaks "$@"

# CPython's own tests of asyncio on EventLoop, the standard loop and uvloop, with every CPython found
conformance *args: (_install found)
    #!/usr/bin/env bash
    set -euo pipefail
    cd "{{ here }}"
    failed=0
    for version in {{ found }}; do
        .venv-$version/bin/python -m pip install --quiet -r requirements/conformance.txt
        .venv-$version/bin/python -m tests.conformance "$@" || failed=1
    done
    exit $failed

# random calls, cancels, closes, forks, signals and faults, for minutes: a ledger proves that no call is lost
soak *args: (_install main)
    {{ bin }}/python -m tests.soak "$@"

# a plain synchronous script downloads 2,000 times from a real aiohttp server
demo: (_install main)
    {{ bin }}/python examples/download.py

# build the documentation and run its examples
docs: (_install main) (_need "docs")
    {{ bin }}/sphinx-build -q -n -W --keep-going -b html docs docs/_build/html
    {{ bin }}/sphinx-build -q -n -W --keep-going -b doctest docs docs/_build/doctest
    @echo "docs/_build/html/index.html"

# build one wheel per CPython found, into dist/
wheel: (_wheels found)

# everything, as before a release
ci: _checks (bench "--quick") (bench-io "--quick") test

# What doesn't mind company; the benchmarks do, and the tests keep all processors busy.
[parallel]
[private]
_checks: lint loom valgrind docs

[private]
_test-core:
    #!/usr/bin/env bash
    set -euo pipefail
    if cargo nextest --version > /dev/null 2>&1; then
        cargo nextest run -p asyncio-thread-loop-core
        cargo test --doc -p asyncio-thread-loop-core
    else
        cargo test -p asyncio-thread-loop-core
    fi

[private]
_envs wanted:
    #!/usr/bin/env bash
    set -euo pipefail
    [ -n "{{ wanted }}" ] || { echo "none of CPython {{ versions }} runs here (with venv and ensurepip)" >&2; exit 1; }
    for version in {{ wanted }}; do
        venv=.venv-$version
        if ! "$venv/bin/python" -m pip --version > /dev/null 2>&1; then
            "$(awk -v v="$version" '$1 == v { print $2 }' <<< "{{ pythons }}")" -m venv --clear "$venv"
        fi
        "$venv/bin/python" -m pip install --quiet -r requirements/test.txt
    done

[private]
_need purpose:
    {{ bin }}/python -m pip install --quiet -r requirements/{{ purpose }}.txt

# A peer that can't be installed here is shown as not available; what the benchmarks themselves use must be there.
[private]
_need-peers: (_need "bench")
    #!/usr/bin/env bash
    set -euo pipefail
    install() { {{ bin }}/python -m pip install --quiet --only-binary :all: "$@"; }
    install -r requirements/peers.txt 2> /dev/null && exit
    while read -r peer; do
        install "$peer" || echo "$peer can't be installed here, and won't be compared" >&2
    done < requirements/peers.txt

# A target folder for each CPython: pyo3 is built anew whenever the interpreter changes.
[private]
_wheels wanted: (_envs wanted)
    #!/usr/bin/env bash
    set -euo pipefail
    cd "{{ here }}"
    rm -rf dist
    # Side by side: most of a build is the linker, on one processor.
    running=()
    for version in {{ wanted }}; do
        CARGO_TARGET_DIR="{{ target }}/py$version" {{ bin }}/maturin build --quiet --release \
            --out dist --interpreter .venv-$version/bin/python &
        running+=($!)
    done
    for each in "${running[@]}"; do wait "$each"; done

[private]
_install wanted: (_wheels wanted)
    for version in {{ wanted }}; do \
        .venv-$version/bin/python -m pip install --quiet --no-deps --force-reinstall dist/*-cp${version/./}-*.whl; \
    done
