//! What timers promise: order, fairness among equals, and that cancelled ones leave nothing behind.

#![cfg(not(atl_loom))]

use asyncio_thread_loop_core::timers::{NOWHERE, Placed, Timers};
use std::cell::Cell;
use std::rc::Rc;

/// A timer that doesn't mind where it is.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Eq, Ord)]
struct Plain<T>(T);

impl<T> Placed for Plain<T> {
    fn placed(&self, _place: usize) {}
}

/// A timer that knows where it is.
#[derive(Clone, Debug)]
struct Tracked {
    number: usize,
    place: Rc<Cell<usize>>,
}

impl Tracked {
    fn new(number: usize) -> Self {
        let place = Rc::new(Cell::new(NOWHERE));
        Self { number, place }
    }
}

impl Placed for Tracked {
    fn placed(&self, place: usize) {
        self.place.set(place);
    }
}

/// Numbers below a limit that look like chance and are the same in each run.
fn numbers(mut seed: u64) -> impl FnMut(u64) -> u64 {
    move |limit| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) % limit
    }
}

fn all_due<T>(timers: &mut Timers<Plain<T>>, now: f64) -> Vec<T> {
    std::iter::from_fn(|| timers.pop_due(now))
        .map(|Plain(timer)| timer)
        .collect()
}

#[test]
fn timers_come_due_in_the_order_of_their_deadlines() {
    let mut timers = Timers::new();
    for when in [3.0, 1.0, 2.0, -1.0, 0.0] {
        timers.insert(when, Plain(when));
    }
    assert_eq!(timers.next_deadline(), Some(-1.0));
    assert_eq!(timers.peek(), Some(&Plain(-1.0)));
    assert_eq!(all_due(&mut timers, 2.0), [-1.0, 0.0, 1.0, 2.0]);
    assert_eq!((timers.len(), timers.is_empty()), (1, false));
    assert_eq!(timers.next_deadline(), Some(3.0));
}

#[test]
fn equal_deadlines_come_due_in_the_order_they_were_set() {
    let mut timers = Timers::new();
    for turn in 0..100 {
        timers.insert(1.0, Plain(turn));
    }
    assert!(all_due(&mut timers, 1.0).into_iter().eq(0..100));
}

#[test]
fn nothing_is_due_early() {
    let mut timers = Timers::new();
    timers.insert(1.0, Plain(()));
    assert_eq!(timers.pop_due(1.0_f64.next_down()), None);
    assert_eq!(timers.pop_due(1.0), Some(Plain(())));
    assert_eq!(timers.pop_due(f64::INFINITY), None);
    assert_eq!((timers.next_deadline(), timers.peek()), (None, None));
}

#[test]
fn a_deadline_that_is_no_number_holds_up_nobody() {
    let mut timers = Timers::new();
    timers.insert(f64::NAN, Plain("never"));
    timers.insert(f64::INFINITY, Plain("last"));
    timers.insert(1.0, Plain("first"));
    assert_eq!(all_due(&mut timers, f64::INFINITY), ["first", "last"]);
    assert_eq!(timers.clear(), [Plain("never")]);
}

#[test]
fn the_order_is_that_of_a_stable_sort() {
    let mut random = numbers(1);
    let mut timers = Timers::new();
    let mut expected: Vec<(u64, usize)> = (0..1000).map(|turn| (random(50), turn)).collect();
    for &(when, turn) in &expected {
        timers.insert(when as f64, Plain((when, turn)));
    }
    expected.sort_by_key(|&(when, _)| when);
    assert_eq!(all_due(&mut timers, f64::INFINITY), expected);
}

#[test]
fn clearing_hands_every_timer_back() {
    let mut timers = Timers::new();
    for turn in 0..5 {
        timers.insert(0.0, Plain(turn));
    }
    let mut seen: Vec<_> = timers.iter().copied().collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4].map(Plain));
    assert_eq!(timers.clear().len(), 5);
    assert!(timers.is_empty());
}

#[test]
fn a_timer_is_taken_out_wherever_it_is_and_the_others_keep_their_order() {
    let mut random = numbers(7);
    for size in [1, 2, 5, 6, 21, 22, 100, 500] {
        let mut timers = Timers::new();
        let mut live: Vec<(u64, Tracked)> = Vec::new();
        for number in 0..size {
            let (when, timer) = (random(20), Tracked::new(number));
            timers.insert(when as f64, timer.clone());
            live.push((when, timer));
        }
        // Half of them go, from any place, and some are added meanwhile.
        for number in size..size + size / 2 {
            let (_, gone) = live.swap_remove(random(live.len() as u64) as usize);
            assert_eq!(timers.remove(gone.place.get()).number, gone.number);
            assert_eq!(gone.place.get(), NOWHERE);
            if number % 3 == 0 {
                let (when, timer) = (random(20), Tracked::new(number));
                timers.insert(when as f64, timer.clone());
                live.push((when, timer));
            }
        }
        live.sort_by_key(|(when, timer)| (*when, timer.number));
        for (_, expected) in live {
            let timer = timers.pop_due(f64::INFINITY).unwrap();
            assert_eq!(timer.number, expected.number);
            assert_eq!(timer.place.get(), NOWHERE);
        }
        assert!(timers.is_empty());
    }
}

#[test]
fn clearing_and_sweeping_tell_the_timers_that_they_are_out() {
    let mut timers = Timers::new();
    let all: Vec<_> = (0..200).map(Tracked::new).collect();
    for timer in &all {
        timers.insert(1.0, timer.clone());
    }
    let mut swept = Vec::new();
    for _ in 0..150 {
        swept.append(&mut timers.note_cancelled(|timer| timer.number < 150));
    }
    assert_eq!(swept.len(), 150);
    for timer in &all {
        assert_eq!(timer.place.get() == NOWHERE, timer.number < 150);
    }
    assert_eq!(timers.clear().len(), 50);
    assert!(all.iter().all(|timer| timer.place.get() == NOWHERE));
}

#[test]
fn a_million_timers_that_are_taken_out_leave_no_memory_behind() {
    let mut timers = Timers::new();
    timers.insert(1e9, Tracked::new(0));
    for number in 1..=1_000_000 {
        let timer = Tracked::new(number);
        timers.insert(number as f64, timer.clone());
        timers.remove(timer.place.get());
    }
    assert_eq!(timers.len(), 1);
    assert!(timers.capacity() <= 256, "{} places", timers.capacity());
}

#[test]
fn memory_shrinks_with_what_is_left() {
    let mut random = numbers(3);
    let mut timers = Timers::new();
    let mut live: Vec<_> = (0..100_000).map(Tracked::new).collect();
    for timer in &live {
        timers.insert(random(1000) as f64, timer.clone());
    }
    while let Some(gone) = live.pop() {
        timers.remove(gone.place.get());
        assert_eq!(timers.len(), live.len());
        assert!(
            timers.capacity() <= (4 * timers.len()).max(256),
            "{} places for {} timers",
            timers.capacity(),
            timers.len()
        );
    }
}

/// Whether a timer that keeps no place was cancelled.
type Cancelled = Plain<Rc<Cell<bool>>>;

#[test]
fn cancelled_timers_without_a_place_do_not_pile_up() {
    let mut timers = Timers::<Cancelled>::new();
    let (mut most, mut swept, mut looks) = (0, 0, 0);
    timers.insert(1e9, Plain(Rc::default()));
    for turn in 0..1_000_000 {
        let timer = Plain(Rc::new(Cell::new(false)));
        timers.insert(f64::from(turn), timer.clone());
        timer.0.set(true);
        let gone = timers.note_cancelled(|timer| {
            looks += 1;
            timer.0.get()
        });
        assert!(
            gone.iter().all(|timer| timer.0.get()),
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
    assert!(timers.iter().any(|timer| !timer.0.get()));
}

#[test]
fn live_timers_keep_their_order_through_a_sweep() {
    let mut timers = Timers::new();
    let live: Vec<_> = (0..300).map(|turn| (turn, turn % 3 == 0)).collect();
    for &timer in &live {
        timers.insert(f64::from(timer.0 / 10), Plain(timer));
    }
    let mut swept = 0;
    for _ in live.iter().filter(|timer| !timer.1) {
        swept += timers.note_cancelled(|Plain(timer)| !timer.1).len();
    }
    assert_eq!(swept, 200);
    let expected: Vec<_> = live.into_iter().filter(|timer| timer.1).collect();
    assert_eq!(all_due(&mut timers, f64::INFINITY), expected);
}

#[test]
fn a_cancelled_timer_that_came_due_is_no_longer_counted() {
    let mut timers = Timers::new();
    for _ in 0..1000 {
        timers.insert(0.0, Plain(true));
        assert!(timers.note_cancelled(|cancelled| cancelled.0).is_empty());
        assert_eq!(timers.pop_due(0.0), Some(Plain(true)));
        timers.forget_cancelled();
    }
    for _ in 0..200 {
        timers.insert(1.0, Plain(false));
    }
    let swept = timers.note_cancelled(|_| panic!("a sweep for a single cancelled timer"));
    assert!(swept.is_empty());
}
