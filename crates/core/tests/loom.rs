//! The protocols under every interleaving loom can find. A lost wake-up shows as a deadlock, a
//! lost job as a failed assertion. The last model is broken on purpose: loom must see it.
//!
//! Models of two threads are explored completely. Those of three threads would take hours, so
//! they are explored completely up to four preemptions (a thread held up where it could go on).
//!
//! `RUSTFLAGS="--cfg atl_loom" cargo test --release -p asyncio-thread-loop-core --test loom`

#![cfg(atl_loom)]

use asyncio_thread_loop_core::inbox::{Closed, Inbox};
use asyncio_thread_loop_core::outcome::{Outcome, State, Wakes};
use asyncio_thread_loop_core::parking::{Parked, Parker, Unparker, with_current};
use asyncio_thread_loop_core::watchdog::Heartbeat;
use loom::cell::UnsafeCell;
use loom::sync::atomic::{
    AtomicBool, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::mem::ManuallyDrop;

fn model_of_three(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(4);
    builder.check(model);
}

/// What a loop does between two looks at its inbox: returns what it got, and how often it slept.
fn run_until(inbox: &Inbox<u32, Unparker>, parker: &Parker, jobs: usize) -> (Vec<u32>, usize) {
    let (mut got, mut buffer, mut sleeps) = (Vec::new(), Vec::new(), 0);
    loop {
        inbox.drain(&mut buffer);
        got.append(&mut buffer);
        if got.len() == jobs {
            return (got, sleeps);
        }
        if inbox.announce_sleep(parker.unparker()) {
            sleeps += 1;
            parker.park(None);
            inbox.awake();
        }
    }
}

/// Returns how often it had to ring.
fn push(inbox: &Inbox<u32, Unparker>, job: u32) -> usize {
    let bell = inbox.push(job).unwrap();
    bell.iter().for_each(Unparker::unpark);
    usize::from(bell.is_some())
}

#[test]
fn a_sleeping_loop_gets_every_job_and_is_woken_once_per_sleep() {
    model_of_three(|| {
        let inbox = Arc::new(Inbox::new());
        let parker = Parker::new();
        let pushers = [1, 2].map(|job| {
            let inbox = inbox.clone();
            thread::spawn(move || push(&inbox, job))
        });
        let (mut got, sleeps) = run_until(&inbox, &parker, 2);
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        let wakes: usize = pushers.map(|pusher| pusher.join().unwrap()).iter().sum();
        assert!(wakes <= sleeps, "{wakes} wake-ups for {sleeps} sleeps");
    });
}

#[test]
fn a_wake_up_without_a_job_ends_the_sleep() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::<u32, Unparker>::new());
        let parker = Parker::new();
        let stop = Arc::new(AtomicBool::new(false));
        let stopper = {
            let (inbox, stop) = (inbox.clone(), stop.clone());
            thread::spawn(move || {
                stop.store(true, Release);
                inbox.take_bell().iter().for_each(Unparker::unpark);
            })
        };
        // The loop announces first and looks at the mark after: one of the two sees the other.
        while inbox.announce_sleep(parker.unparker()) && !stop.load(Acquire) {
            parker.park(None);
            inbox.awake();
        }
        stopper.join().unwrap();
    });
}

#[test]
fn jobs_of_one_thread_keep_their_order() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::new());
        let parker = Parker::new();
        let pusher = {
            let inbox = inbox.clone();
            thread::spawn(move || push(&inbox, 1) + push(&inbox, 2))
        };
        let (got, sleeps) = run_until(&inbox, &parker, 2);
        assert_eq!(got, [1, 2]);
        assert!(pusher.join().unwrap() <= sleeps);
    });
}

#[test]
fn a_push_that_happened_before_is_never_overlooked() {
    loom::model(|| {
        let inbox = Arc::new(Inbox::<_, ()>::new());
        let pusher = {
            let inbox = inbox.clone();
            thread::spawn(move || assert_eq!(inbox.push(1).unwrap(), None))
        };
        pusher.join().unwrap();
        let mut jobs = Vec::new();
        inbox.drain(&mut jobs);
        assert_eq!(jobs, [1]);
    });
}

#[test]
fn a_push_that_races_with_closing_is_either_handed_over_or_refused() {
    model_of_three(|| {
        let inbox = Arc::new(Inbox::<_, ()>::new());
        let pushers = [1u32, 2].map(|job| {
            let inbox = inbox.clone();
            thread::spawn(move || match inbox.push(job) {
                Ok(_) => None,
                Err(Closed(job)) => Some(job),
            })
        });
        let mut all = Vec::new();
        inbox.drain(&mut all);
        all.extend(inbox.close());
        all.extend(pushers.into_iter().filter_map(|p| p.join().unwrap()));
        inbox.drain(&mut all); // a closed inbox stays empty
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
    });
}

/// An outcome and, beside it, its value. loom sees two that touch the value at once.
struct Answer {
    outcome: Outcome,
    value: UnsafeCell<u32>,
}

// SAFETY: the value is written while the outcome is settled and read after, or loom tells.
unsafe impl Sync for Answer {}

impl Answer {
    fn new() -> Self {
        Self {
            outcome: Outcome::new(),
            value: UnsafeCell::new(0),
        }
    }

    fn settle(&self, value: u32) -> Result<Wakes, State> {
        let store = |place: *mut u32| {
            // SAFETY: nobody else touches it, see above.
            unsafe { *place = value };
        };
        self.outcome.settle(|| self.value.with_mut(store))
    }

    fn value(&self) -> u32 {
        // SAFETY: as above.
        self.value.with(|place| unsafe { *place })
    }
}

#[test]
fn a_waiter_sees_the_value_and_everything_before_it() {
    loom::model(|| {
        let answer = Arc::new(Answer::new());
        let before = Arc::new(AtomicU32::new(0));
        let setter = {
            let (answer, before) = (answer.clone(), before.clone());
            thread::spawn(move || {
                before.store(7, Relaxed);
                answer.outcome.start().unwrap();
                answer.settle(42).unwrap().fire();
            })
        };
        let parked = with_current(|parker| answer.outcome.wait(parker, None));
        assert_eq!(parked, Parked::Notified);
        assert_eq!(answer.outcome.state(), State::Finished);
        assert_eq!(before.load(Relaxed), 7);
        assert_eq!(answer.value(), 42);
        setter.join().unwrap();
    });
}

#[test]
fn a_state_seen_without_the_lock_shows_everything_before_it() {
    loom::model(|| {
        let answer = Arc::new(Answer::new());
        let before = Arc::new(AtomicU32::new(0));
        // The reader is the thread that starts second: the other way round loom does not try
        // the reads that would show a missing Release in the settling thread.
        let reader = {
            let (answer, before) = (answer.clone(), before.clone());
            thread::spawn(move || {
                if answer.outcome.is_done() {
                    assert_eq!(before.load(Relaxed), 7);
                    assert_eq!(answer.value(), 42);
                }
            })
        };
        before.store(7, Relaxed);
        answer.settle(42).unwrap().fire();
        reader.join().unwrap();
    });
}

#[test]
fn many_waiters_are_all_woken() {
    model_of_three(|| {
        let answer = Arc::new(Answer::new());
        let waiters = [(); 2].map(|()| {
            let answer = answer.clone();
            thread::spawn(move || {
                let parked = answer.outcome.wait(&Parker::new(), None);
                assert_eq!(parked, Parked::Notified);
                assert_eq!(answer.value(), 42);
            })
        });
        answer.settle(42).unwrap().fire();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn the_outcome_may_be_gone_before_its_waiters_are_woken() {
    loom::model(|| {
        let outcome = Arc::new(Outcome::new());
        let setter = {
            let outcome = outcome.clone();
            thread::spawn(move || {
                let wakes = outcome.settle(|| ()).unwrap();
                drop(outcome);
                wakes.fire();
            })
        };
        assert_eq!(outcome.wait(&Parker::new(), None), Parked::Notified);
        drop(outcome);
        setter.join().unwrap();
    });
}

#[test]
fn of_a_cancel_and_a_settle_exactly_one_wins() {
    model_of_three(|| {
        let answer = Arc::new(Answer::new());
        let canceller = {
            let answer = answer.clone();
            thread::spawn(move || answer.outcome.cancel().is_ok())
        };
        let settler = {
            let answer = answer.clone();
            thread::spawn(move || answer.settle(42).map(drop))
        };
        assert_eq!(answer.outcome.wait(&Parker::new(), None), Parked::Notified);
        let value = answer.value();
        match (canceller.join().unwrap(), settler.join().unwrap()) {
            (true, Err(state)) => assert_eq!((state, value), (State::Cancelled, 0)),
            (false, Ok(())) => assert_eq!((answer.outcome.state(), value), (State::Finished, 42)),
            both => panic!("{both:?}"),
        }
    });
}

#[test]
fn of_two_that_settle_exactly_one_stores_its_value() {
    model_of_three(|| {
        let answer = Arc::new(Answer::new());
        let settlers = [1, 2].map(|value| {
            let answer = answer.clone();
            thread::spawn(move || answer.settle(value).is_ok().then_some(value))
        });
        assert_eq!(answer.outcome.wait(&Parker::new(), None), Parked::Notified);
        let seen = answer.value();
        let stored = settlers.map(|settler| settler.join().unwrap());
        assert_eq!(stored.into_iter().flatten().collect::<Vec<_>>(), [seen]);
    });
}

#[test]
fn of_a_cancel_and_a_start_exactly_one_wins() {
    loom::model(|| {
        let outcome = Arc::new(Outcome::new());
        let canceller = {
            let outcome = outcome.clone();
            thread::spawn(move || outcome.cancel().is_ok())
        };
        let started = outcome.start().is_ok();
        assert_ne!(started, canceller.join().unwrap());
        assert_eq!(started, !outcome.notify_cancelled());
    });
}

#[test]
fn a_waiter_that_gives_up_takes_no_wake_up_from_another() {
    model_of_three(|| {
        let outcome = Arc::new(Outcome::new());
        let setter = {
            let outcome = outcome.clone();
            thread::spawn(move || outcome.settle(|| ()).unwrap().fire())
        };
        let patient = {
            let outcome = outcome.clone();
            thread::spawn(move || outcome.wait(&Parker::new(), None))
        };
        if let Some(ticket) = outcome.subscribe(Parker::new().unparker()) {
            outcome.unsubscribe(ticket);
        }
        assert_eq!(patient.join().unwrap(), Parked::Notified);
        setter.join().unwrap();
    });
}

#[test]
fn a_stale_token_of_one_wait_does_not_end_the_next_too_early() {
    loom::model(|| {
        let first = Arc::new(Outcome::new());
        let second = Arc::new(Answer::new());
        let setter = {
            let (first, second) = (first.clone(), second.clone());
            thread::spawn(move || {
                first.settle(|| ()).unwrap().fire();
                second.settle(2).unwrap().fire();
            })
        };
        let parker = Parker::new();
        if let Some(ticket) = first.subscribe(parker.unparker()) {
            first.unsubscribe(ticket); // a wake-up may be on its way already
        }
        assert_eq!(second.outcome.wait(&parker, None), Parked::Notified);
        assert_eq!(second.value(), 2);
        setter.join().unwrap();
    });
}

#[test]
fn a_token_wakes_the_parked_thread_and_shows_everything_before_it() {
    loom::model(|| {
        let parker = Parker::new();
        let before = Arc::new(AtomicU32::new(0));
        let other = {
            let (unparker, before) = (parker.unparker(), before.clone());
            thread::spawn(move || {
                before.store(7, Relaxed);
                unparker.unpark();
            })
        };
        assert_eq!(parker.park(None), Parked::Notified);
        assert_eq!(before.load(Relaxed), 7);
        other.join().unwrap();
    });
}

#[test]
fn two_tokens_may_become_one_but_never_none() {
    model_of_three(|| {
        let parker = Parker::new();
        let before = Arc::new(AtomicU32::new(0));
        let others = [(); 2].map(|()| {
            let (unparker, before) = (parker.unparker(), before.clone());
            thread::spawn(move || {
                before.fetch_add(1, Relaxed);
                unparker.unpark();
            })
        });
        while before.load(Relaxed) < 2 {
            parker.park(None);
        }
        for other in others {
            other.join().unwrap();
        }
    });
}
#[test]
fn a_dozing_watchdog_is_woken_by_the_next_callback() {
    loom::model(|| {
        let heartbeat = Arc::new(Heartbeat::new());
        let watchdog = {
            let heartbeat = heartbeat.clone();
            // Woken too late, or not at all, is a deadlock.
            thread::spawn(move || {
                while heartbeat.running().is_none() {
                    heartbeat.doze();
                }
            })
        };
        heartbeat.beat();
        watchdog.join().unwrap();
    });
}

#[test]
fn a_dozing_watchdog_is_woken_after_any_number_of_rests() {
    loom::model(|| {
        let heartbeat = Arc::new(Heartbeat::new());
        let watchdog = {
            let heartbeat = heartbeat.clone();
            thread::spawn(move || {
                heartbeat.doze();
                while heartbeat.running().is_none() {
                    heartbeat.doze();
                }
            })
        };
        heartbeat.beat();
        heartbeat.rest();
        heartbeat.beat();
        watchdog.join().unwrap();
    });
}

#[test]
fn a_watchdog_is_stopped_wherever_it_is() {
    loom::model(|| {
        let heartbeat = Arc::new(Heartbeat::new());
        let watchdog = {
            let heartbeat = heartbeat.clone();
            thread::spawn(move || {
                while !heartbeat.is_stopped() {
                    heartbeat.doze();
                }
            })
        };
        heartbeat.stop();
        watchdog.join().unwrap();
    });
}

/// An inbox as one might write it first: looks, then announces, and lets go of the lock between.
struct Careless {
    queue: Mutex<Vec<u32>>,
    asleep: AtomicBool,
}

impl Careless {
    /// Returns whether the loop has to be woken.
    fn push(&self, job: u32) -> bool {
        self.queue.lock().unwrap().push(job);
        // ORDERING: AcqRel, the strongest it could use: what is wrong is not the ordering.
        self.asleep.swap(false, AcqRel)
    }

    fn announce_sleep(&self) -> bool {
        let empty = self.queue.lock().unwrap().is_empty();
        // Here a push finds nobody asleep.
        if empty {
            // ORDERING: Release, see `push`.
            self.asleep.store(true, Release);
        }
        empty
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_lost_wake_up_planted_on_purpose_is_seen() {
    loom::model(|| {
        // loom's own Arc cannot be dropped while a deadlock unwinds.
        let inbox = std::sync::Arc::new(Careless {
            queue: Mutex::new(Vec::new()),
            asleep: AtomicBool::new(false),
        });
        let parker = ManuallyDrop::new(Parker::new());
        let pusher = {
            let (inbox, the_loop) = (inbox.clone(), parker.unparker());
            thread::spawn(move || {
                if inbox.push(1) {
                    the_loop.unpark();
                }
            })
        };
        while inbox.queue.lock().unwrap().is_empty() {
            if inbox.announce_sleep() {
                parker.park(None);
            }
        }
        pusher.join().unwrap();
        drop(ManuallyDrop::into_inner(parker));
    });
}
