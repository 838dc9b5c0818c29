//! Two threads that hand a turn to each other through futexes: no bridge between threads can be faster.
//!
//! Each line of the input is a number of round trips to make. The answer is a line with the seconds
//! they took, and the thread switches of the process meanwhile, voluntary and involuntary. Ends
//! with its input.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, Thread};
use std::time::Instant;

/// The asking thread may go on.
const ASKS: u32 = 0;
/// The other thread is to answer.
const ANSWERS: u32 = 1;
/// The other thread is to end.
const ENDS: u32 = 2;

fn main() -> io::Result<()> {
    let turn = Arc::new(AtomicU32::new(ASKS));
    let asker = thread::current();
    let answerer = thread::spawn({
        let turn = turn.clone();
        move || answer(&turn, &asker)
    });
    for line in io::stdin().lock().lines() {
        let round_trips = line?.trim().parse().expect("a number of round trips");
        let (voluntary, involuntary) = switches();
        let began = Instant::now();
        for _ in 0..round_trips {
            ask(&turn, answerer.thread());
        }
        let seconds = began.elapsed().as_secs_f64();
        let after = switches();
        let mut output = io::stdout().lock();
        writeln!(
            output,
            "{seconds:.9} {} {}",
            after.0 - voluntary,
            after.1 - involuntary
        )?;
        output.flush()?;
    }
    turn.store(ENDS, Ordering::Release);
    answerer.thread().unpark();
    answerer.join().expect("nothing in there panics");
    Ok(())
}

fn ask(turn: &AtomicU32, answerer: &Thread) {
    // ORDERING: pairs with Acquire in `wait_while`, as a bridge's own hand-over would have to.
    turn.store(ANSWERS, Ordering::Release);
    answerer.unpark();
    wait_while(turn, ANSWERS);
}

fn answer(turn: &AtomicU32, asker: &Thread) {
    while wait_while(turn, ASKS) == ANSWERS {
        // ORDERING: pairs with Acquire in `wait_while`.
        turn.store(ASKS, Ordering::Release);
        asker.unpark();
    }
}

/// Parks (which is a futex on Linux) until it is another's turn, and says whose.
fn wait_while(turn: &AtomicU32, whose: u32) -> u32 {
    loop {
        // ORDERING: pairs with Release in `ask`, `answer` and `main`.
        let now = turn.load(Ordering::Acquire);
        if now != whose {
            return now;
        }
        thread::park();
    }
}

/// Thread switches of this process so far: voluntary, involuntary.
fn switches() -> (i64, i64) {
    // SAFETY: a zeroed `rusage` is one, and the call only writes into it.
    let usage = unsafe {
        let mut usage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    (usage.ru_nvcsw, usage.ru_nivcsw)
}
