//! What timers promise: order, fairness among equals, and that cancelled ones do not pile up.

#![cfg(not(atl_loom))]

use asyncio_thread_loop_core::timers::Timers;
use std::cell::Cell;
use std::rc::Rc;

fn all_due<T>(timers: &mut Timers<T>, now: f64) -> Vec<T> {
    std::iter::from_fn(|| timers.pop_due(now)).collect()
}

#[test]
fn timers_come_due_in_the_order_of_their_deadlines() {
    let mut timers = Timers::new();
    for when in [3.0, 1.0, 2.0, -1.0, 0.0] {
        timers.insert(when, when);
    }
    assert_eq!(timers.next_deadline(), Some(-1.0));
    assert_eq!(timers.peek(), Some(&-1.0));
    assert_eq!(all_due(&mut timers, 2.0), [-1.0, 0.0, 1.0, 2.0]);
    assert_eq!((timers.len(), timers.is_empty()), (1, false));
    assert_eq!(timers.next_deadline(), Some(3.0));
}

#[test]
fn equal_deadlines_come_due_in_the_order_they_were_set() {
    let mut timers = Timers::new();
    for turn in 0..100 {
        timers.insert(1.0, turn);
    }
    assert!(all_due(&mut timers, 1.0).into_iter().eq(0..100));
}

#[test]
fn nothing_is_due_early() {
    let mut timers = Timers::new();
    timers.insert(1.0, ());
    assert_eq!(timers.pop_due(1.0_f64.next_down()), None);
    assert_eq!(timers.pop_due(1.0), Some(()));
    assert_eq!(timers.pop_due(f64::INFINITY), None);
    assert_eq!((timers.next_deadline(), timers.peek()), (None, None));
}

#[test]
fn a_deadline_that_is_no_number_holds_up_nobody() {
    let mut timers = Timers::new();
    timers.insert(f64::NAN, "never");
    timers.insert(f64::INFINITY, "last");
    timers.insert(1.0, "first");
    assert_eq!(all_due(&mut timers, f64::INFINITY), ["first", "last"]);
    assert_eq!(timers.clear(), ["never"]);
}

#[test]
fn the_order_is_that_of_a_stable_sort() {
    let mut random = 1u64;
    let mut next = || {
        random = random
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (random >> 33) % 50
    };
    let mut timers = Timers::new();
    let mut expected: Vec<(u64, usize)> = (0..1000).map(|turn| (next(), turn)).collect();
    for &(when, turn) in &expected {
        timers.insert(when as f64, (when, turn));
    }
    expected.sort_by_key(|&(when, _)| when);
    assert_eq!(all_due(&mut timers, f64::INFINITY), expected);
}

#[test]
fn clearing_hands_every_timer_back() {
    let mut timers = Timers::new();
    for turn in 0..5 {
        timers.insert(0.0, turn);
    }
    let mut seen: Vec<_> = timers.iter().copied().collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4]);
    assert_eq!(timers.clear().len(), 5);
    assert!(timers.is_empty());
}

#[test]
fn a_million_cancelled_timers_do_not_pile_up() {
    let mut timers = Timers::new();
    let (mut most, mut swept, mut looks) = (0, 0, 0);
    timers.insert(1e9, Rc::new(Cell::new(false)));
    for turn in 0..1_000_000 {
        let timer = Rc::new(Cell::new(false));
        timers.insert(f64::from(turn), timer.clone());
        timer.set(true);
        let gone = timers.note_cancelled(|timer| {
            looks += 1;
            timer.get()
        });
        assert!(
            gone.iter().all(|timer| timer.get()),
            "a live timer was swept"
        );
        swept += gone.len();
        most = most.max(timers.len());
    }
    assert_eq!(swept + timers.len(), 1_000_001);
    assert!(most <= 200, "{most} timers at once");
    assert!(
        looks <= 2_000_000,
        "{looks} looks for a million cancellations"
    );
    assert!(timers.iter().any(|timer| !timer.get()));
}

#[test]
fn live_timers_keep_their_order_through_a_sweep() {
    let mut timers = Timers::new();
    let live: Vec<_> = (0..300).map(|turn| (turn, turn % 3 == 0)).collect();
    for &timer in &live {
        timers.insert(f64::from(timer.0 / 10), timer);
    }
    let mut swept = 0;
    for _ in live.iter().filter(|timer| !timer.1) {
        swept += timers.note_cancelled(|timer| !timer.1).len();
    }
    assert_eq!(swept, 200);
    let expected: Vec<_> = live.into_iter().filter(|timer| timer.1).collect();
    assert_eq!(all_due(&mut timers, f64::INFINITY), expected);
}

#[test]
fn a_cancelled_timer_that_came_due_is_no_longer_counted() {
    let mut timers = Timers::new();
    for _ in 0..1000 {
        timers.insert(0.0, true);
        assert!(timers.note_cancelled(|cancelled| *cancelled).is_empty());
        assert_eq!(timers.pop_due(0.0), Some(true));
        timers.forget_cancelled();
    }
    for _ in 0..200 {
        timers.insert(1.0, false);
    }
    let swept = timers.note_cancelled(|_| panic!("a sweep for a single cancelled timer"));
    assert!(swept.is_empty());
}
