//! What an outcome promises: every transition, every waiter woken, its size.

#![cfg(not(atl_loom))]

use asyncio_thread_loop_core::outcome::{Outcome, State, Wakes};
use asyncio_thread_loop_core::parking::{Parked, Parker};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

const STATES: [State; 5] = [
    State::Pending,
    State::Running,
    State::Cancelled,
    State::CancelledAndNotified,
    State::Finished,
];

fn outcome_in(state: State) -> Outcome {
    let outcome = Outcome::new();
    match state {
        State::Pending => (),
        State::Running => outcome.start().unwrap(),
        State::Cancelled => outcome.cancel().unwrap().fire(),
        State::CancelledAndNotified => outcome.settle_cancelled().unwrap().fire(),
        State::Finished => outcome.settle(|| ()).unwrap().fire(),
    }
    assert_eq!(outcome.state(), state);
    outcome
}

/// Whether the parker holds a token.
fn was_woken(parker: &Parker) -> bool {
    parker.park(Some(Instant::now())) == Parked::Notified
}

#[test]
fn every_state_allows_just_its_own_transitions() {
    use State::*;
    for state in STATES {
        let open = matches!(state, Pending | Running);
        assert_eq!(state.is_done(), !open);

        let outcome = outcome_in(state);
        assert_eq!(outcome.start().err(), (state != Pending).then_some(state));
        assert_eq!(outcome.state(), if open { Running } else { state });

        let outcome = outcome_in(state);
        assert_eq!(outcome.cancel().err(), (state != Pending).then_some(state));
        assert_eq!(outcome.is_done(), state != Running);

        let outcome = outcome_in(state);
        assert_eq!(outcome.notify_cancelled(), state == Cancelled);
        assert_eq!(
            outcome.state() == CancelledAndNotified,
            matches!(state, Cancelled | CancelledAndNotified)
        );

        let outcome = outcome_in(state);
        assert_eq!(outcome.settle(|| ()).err(), (!open).then_some(state));
        assert_eq!(outcome.state(), if open { Finished } else { state });

        let outcome = outcome_in(state);
        assert_eq!(outcome.settle_cancelled().err(), (!open).then_some(state));
        assert_eq!(
            outcome.state(),
            if open { CancelledAndNotified } else { state }
        );
    }
}

#[test]
fn only_who_settles_stores_a_value_and_before_that_can_be_seen() {
    for state in STATES {
        let outcome = outcome_in(state);
        let mut seen = None;
        let settled = outcome.settle(|| seen = Some(outcome.state()));
        assert_eq!(settled.is_ok(), !state.is_done());
        assert_eq!(seen, settled.is_ok().then_some(state));
    }
}

#[test]
fn whatever_ends_it_wakes_every_subscriber_once() {
    let ends: [fn(&Outcome) -> Wakes; 3] = [
        |outcome| outcome.settle(|| ()).unwrap(),
        |outcome| outcome.cancel().unwrap(),
        |outcome| outcome.settle_cancelled().unwrap(),
    ];
    for end in ends {
        let outcome = Outcome::new();
        let parkers = [(); 3].map(|()| Parker::new());
        let tickets = [0, 1, 2].map(|i: usize| outcome.subscribe(parkers[i].unparker()));
        assert!(tickets.iter().all(Option::is_some));
        let wakes = end(&outcome);
        assert!(!wakes.is_empty());
        assert!(!parkers.iter().any(was_woken), "woken before fired");
        wakes.fire();
        assert!(parkers.iter().all(was_woken));
        assert!(!parkers.iter().any(was_woken));
    }
}

#[test]
fn dropping_the_wakes_fires_them() {
    let outcome = Outcome::new();
    let parker = Parker::new();
    let _ticket = outcome.subscribe(parker.unparker());
    drop(outcome.settle(|| ()));
    assert!(was_woken(&parker));
}

#[test]
fn wakes_of_several_outcomes_fire_together() {
    let mut wakes = Wakes::none();
    assert!(wakes.is_empty());
    let parkers: Vec<_> = (0..4)
        .map(|_| {
            let outcome = Outcome::new();
            let parker = Parker::new();
            let _ticket = outcome.subscribe(parker.unparker());
            wakes.append(outcome.settle(|| ()).unwrap());
            parker
        })
        .collect();
    wakes.append(Wakes::none());
    assert!(!parkers.iter().any(was_woken));
    wakes.fire();
    assert!(parkers.iter().all(was_woken));
}

#[test]
fn nobody_can_subscribe_to_what_is_done() {
    for state in STATES {
        let ticket = outcome_in(state).subscribe(Parker::new().unparker());
        assert_eq!(ticket.is_none(), state.is_done());
    }
}

#[test]
fn unsubscribing_removes_one_subscription_of_that_thread_only() {
    let outcome = Outcome::new();
    let (mine, other) = (Parker::new(), Parker::new());
    let outer = outcome.subscribe(mine.unparker()).unwrap();
    let _other = outcome.subscribe(other.unparker()).unwrap();
    let inner = outcome.subscribe(mine.unparker()).unwrap();
    outcome.unsubscribe(inner);
    outcome.unsubscribe(outer);
    outcome.settle(|| ()).unwrap().fire();
    assert!(!was_woken(&mine));
    assert!(was_woken(&other));

    let outcome = Outcome::new();
    let _outer = outcome.subscribe(mine.unparker()).unwrap();
    let inner = outcome.subscribe(mine.unparker()).unwrap();
    outcome.unsubscribe(inner);
    outcome.settle(|| ()).unwrap().fire();
    assert!(was_woken(&mine));
}

#[test]
fn of_many_subscribers_any_can_leave_and_the_others_are_woken() {
    for many in 1..=4 {
        for leaving in 0..many {
            let outcome = Outcome::new();
            let parkers: Vec<_> = (0..many).map(|_| Parker::new()).collect();
            let mut tickets: Vec<_> = parkers
                .iter()
                .map(|parker| outcome.subscribe(parker.unparker()).unwrap())
                .collect();
            outcome.unsubscribe(tickets.swap_remove(leaving));
            assert_eq!(outcome.waiting().len(), many - 1);
            outcome.settle(|| ()).unwrap().fire();
            for (number, parker) in parkers.iter().enumerate() {
                assert_eq!(was_woken(parker), number != leaving);
            }
        }
    }
}

#[test]
fn unsubscribing_after_the_end_does_nothing() {
    let outcome = Outcome::new();
    let parker = Parker::new();
    let ticket = outcome.subscribe(parker.unparker()).unwrap();
    let wakes = outcome.settle(|| ()).unwrap();
    outcome.unsubscribe(ticket);
    wakes.fire();
    assert!(was_woken(&parker), "a wake-up under way still arrives");
}

#[test]
fn waiting_for_what_is_done_returns_at_once() {
    let outcome = outcome_in(State::Finished);
    assert_eq!(outcome.wait(&Parker::new(), None), Parked::Notified);
}

#[test]
fn a_wait_that_times_out_leaves_no_subscription() {
    let outcome = Outcome::new();
    let parker = Parker::new();
    assert_eq!(
        outcome.wait(&parker, Some(Instant::now())),
        Parked::TimedOut
    );
    assert!(outcome.settle(|| ()).unwrap().is_empty());
}

#[test]
fn a_stale_token_does_not_end_a_wait() {
    let outcome = Outcome::new();
    let parker = Parker::new();
    parker.unparker().unpark();
    assert_eq!(
        outcome.wait(&parker, Some(Instant::now())),
        Parked::TimedOut
    );
}

#[test]
fn every_waiting_thread_sees_the_value() {
    let (outcome, value) = (Outcome::new(), AtomicU8::new(0));
    let ready = Barrier::new(9);
    thread::scope(|scope| {
        let waiters = [(); 8].map(|()| {
            scope.spawn(|| {
                ready.wait();
                while outcome.wait(&Parker::new(), None) != Parked::Notified {}
                value.load(Relaxed)
            })
        });
        ready.wait();
        outcome.settle(|| value.store(42, Relaxed)).unwrap().fire();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), 42);
        }
    });
}

#[test]
fn a_value_that_is_refused_may_use_the_outcome_while_it_is_dropped() {
    struct Value(Arc<Outcome>);
    impl Drop for Value {
        fn drop(&mut self) {
            assert!(self.0.waiting().is_empty()); // takes the lock
        }
    }
    let outcome = Arc::new(outcome_in(State::Finished));
    let value = Value(outcome.clone());
    assert!(outcome.settle(|| drop(value)).is_err());
    assert_eq!(Arc::strong_count(&outcome), 1);
}

#[test]
fn an_outcome_takes_16_bytes() {
    assert!(size_of::<Outcome>() <= 16);
}
