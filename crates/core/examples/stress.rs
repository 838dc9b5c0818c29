//! Real threads against the inbox, the outcome and parking, with a ledger that must balance.
//!
//! `stress [ROUNDS [CALLERS [CALLS]]]`. In each round some callers push calls to a loop and wait
//! for their outcomes; now and then a caller cancels, or gives up waiting and waits again. In
//! every other round the loop closes while callers are still pushing. At the end every call was
//! answered, cancelled or refused, exactly once.

use asyncio_thread_loop_core::inbox::{Closed, Inbox};
use asyncio_thread_loop_core::outcome::{Outcome, State, Wakes};
use asyncio_thread_loop_core::parking::{Parked, Parker, Unparker, with_current};
use std::ops::AddAssign;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

struct Call {
    input: Box<usize>,
    answer: Arc<Answer>,
}

#[derive(Default)]
struct Answer {
    outcome: Outcome,
    value: OnceLock<Box<usize>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Ledger {
    answered: usize,
    cancelled: usize,
    refused: usize,
}

impl AddAssign for Ledger {
    fn add_assign(&mut self, other: Self) {
        self.answered += other.answered;
        self.cancelled += other.cancelled;
        self.refused += other.refused;
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| {
        argument
            .parse()
            .expect("usage: stress [ROUNDS [CALLERS [CALLS]]], all of them numbers")
    });
    let rounds: usize = arguments.next().unwrap_or(20);
    let callers: usize = arguments.next().unwrap_or(4);
    let calls: usize = arguments.next().unwrap_or(200);

    let mut total = Ledger::default();
    for number in 0..rounds {
        // Every other round the loop closes while callers are still pushing.
        let enough = callers * calls / (1 + number % 2);
        total += round(callers, calls, enough);
    }
    println!("{rounds} rounds of {callers} callers with {calls} calls each: {total:?}");
    assert_eq!(
        total.answered + total.cancelled + total.refused,
        rounds * callers * calls,
        "a call was lost or counted twice"
    );
}

/// One life of a loop, which closes once it has seen `enough` calls.
fn round(callers: usize, calls: usize, enough: usize) -> Ledger {
    let inbox = Arc::new(Inbox::new());
    let parker = Parker::new();
    let callers: Vec<_> = (0..callers)
        .map(|_| {
            let inbox = inbox.clone();
            thread::spawn(move || call(&inbox, calls))
        })
        .collect();
    run(&inbox, &parker, enough);
    let mut ledger = Ledger::default();
    for caller in callers {
        ledger += caller.join().unwrap();
    }
    ledger
}

/// The loop's side: answers what it gets and wakes the callers at the end of each pass.
fn run(inbox: &Inbox<Call, Unparker>, parker: &Parker, enough: usize) {
    let (mut jobs, mut seen) = (Vec::new(), 0);
    while seen < enough {
        if inbox.announce_sleep(parker.unparker()) {
            parker.park(None);
            inbox.awake();
        }
        inbox.drain(&mut jobs);
        seen += jobs.len();
        let mut wakes = Wakes::none();
        for Call { input, answer } in jobs.drain(..) {
            let Answer { outcome, value } = &*answer;
            match outcome.start() {
                Ok(()) => wakes.append(
                    outcome
                        .settle(|| value.set(Box::new(*input * 2)).unwrap())
                        .unwrap(),
                ),
                Err(State::Cancelled) => assert!(outcome.notify_cancelled()),
                Err(state) => unreachable!("{state:?} before it began"),
            }
        }
        wakes.fire();
    }
    for Call { answer, .. } in inbox.close() {
        let outcome = &answer.outcome;
        // Refused after all; the caller has cancelled it already or learns it this way.
        match outcome.settle_cancelled() {
            Ok(wakes) => wakes.fire(),
            Err(_) => assert!(outcome.notify_cancelled()),
        }
    }
}

/// A caller's side.
fn call(inbox: &Inbox<Call, Unparker>, calls: usize) -> Ledger {
    let mut ledger = Ledger::default();
    for number in 0..calls {
        let answer = Arc::new(Answer::default());
        let outcome = &answer.outcome;
        let pushed = inbox.push(Call {
            input: Box::new(number),
            answer: answer.clone(),
        });
        match pushed {
            Ok(bell) => bell.iter().for_each(Unparker::unpark),
            Err(Closed(call)) => {
                assert_eq!(*call.input, number);
                ledger.refused += 1;
                continue;
            }
        }
        if number % 7 == 0 {
            // Gives up at once, subscription and all, and then waits after all.
            with_current(|parker| outcome.wait(parker, Some(Instant::now())));
        }
        if number % 4 == 0 && outcome.cancel().is_ok() {
            ledger.cancelled += 1;
            continue;
        }
        while with_current(|parker| outcome.wait(parker, None)) != Parked::Notified {}
        match outcome.state() {
            State::Finished => {
                assert_eq!(answer.value.get().map(|value| **value), Some(number * 2));
                ledger.answered += 1;
            }
            State::CancelledAndNotified => ledger.refused += 1,
            state => unreachable!("{state:?} after the wait"),
        }
    }
    ledger
}
