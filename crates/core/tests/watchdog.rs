//! What the watchdog tells of, and what it lets be. Subjects follow a script, so the clock decides nothing but how long
//! a test takes.

#![cfg(not(atl_loom))]

use asyncio_thread_loop_core::watchdog::{Heartbeat, Subject, watch};
use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const LIMIT: Duration = Duration::from_millis(8);

/// Answers what it was told to, then stops the watchdog.
struct Scripted {
    heartbeat: Arc<Heartbeat>,
    running: VecDeque<Option<u64>>,
    dozed: usize,
    told: Vec<(u64, Duration)>,
    /// How often to be unsure.
    unsure: usize,
}

impl Scripted {
    fn new(running: impl IntoIterator<Item = Option<u64>>) -> Self {
        Self {
            heartbeat: Arc::default(),
            running: running.into_iter().collect(),
            dozed: 0,
            told: Vec::new(),
            unsure: 0,
        }
    }

    fn watched(mut self) -> Self {
        let heartbeat = self.heartbeat.clone();
        watch(&heartbeat, &mut self);
        self
    }
}

impl Subject for Scripted {
    fn limit(&mut self) -> Duration {
        LIMIT
    }

    fn running(&mut self) -> Option<u64> {
        self.running.pop_front().unwrap_or_else(|| {
            self.heartbeat.stop();
            None
        })
    }

    fn doze(&mut self) {
        self.dozed += 1;
    }

    fn stuck(&mut self, callback: u64, time: Duration) -> bool {
        if self.unsure > 0 {
            self.unsure -= 1;
            return false;
        }
        self.told.push((callback, time));
        true
    }
}

#[test]
fn a_callback_that_runs_too_long_is_told_of_once() {
    let subject = Scripted::new(vec![Some(7); 50]).watched();
    let [(callback, time)] = subject.told[..] else {
        panic!("told of {:?}", subject.told);
    };
    assert_eq!(callback, 7);
    assert!(time >= LIMIT);
}

#[test]
fn each_of_two_is_told_of() {
    let script = [vec![Some(1); 20], vec![Some(2); 20]].concat();
    let told = Scripted::new(script).watched().told;
    assert_eq!(told.iter().map(|told| told.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_busy_loop_is_not_stuck() {
    let subject = Scripted::new((0..60).map(Some)).watched();
    assert!(subject.told.is_empty());
    assert_eq!(subject.dozed, 0);
}

#[test]
fn a_callback_that_ends_in_time_is_not_told_of() {
    let script = (0..20).flat_map(|callback| [Some(callback); 4]);
    assert!(Scripted::new(script).watched().told.is_empty());
}

#[test]
fn beside_a_loop_that_rests_it_sleeps() {
    let subject = Scripted::new(vec![None; 10]).watched();
    assert!(subject.told.is_empty());
    assert!(subject.dozed >= 4);
}

#[test]
fn what_is_not_certain_is_looked_at_again() {
    let mut subject = Scripted::new(vec![Some(7); 80]);
    subject.unsure = 2;
    assert_eq!(subject.watched().told.len(), 1);
}

#[test]
fn a_heartbeat_numbers_what_runs() {
    let heartbeat = Heartbeat::new();
    assert_eq!(heartbeat.running(), None);
    heartbeat.beat();
    let first = heartbeat.running();
    assert!(first.is_some());
    heartbeat.beat();
    let second = heartbeat.running();
    assert!(second.is_some() && second != first);
    heartbeat.rest();
    assert_eq!(heartbeat.running(), None);
    heartbeat.rest();
    heartbeat.beat();
    let third = heartbeat.running();
    assert!(third.is_some() && third != first && third != second);
}

#[test]
fn a_limit_is_kept_exactly() {
    let heartbeat = Heartbeat::new();
    assert_eq!(heartbeat.limit(), f64::INFINITY);
    heartbeat.set_limit(0.1);
    assert_eq!(heartbeat.limit(), 0.1);
}

#[test]
fn a_watchdog_that_dozes_is_woken_by_the_next_callback() {
    let heartbeat = Arc::new(Heartbeat::new());
    let watchdog = thread::spawn({
        let heartbeat = heartbeat.clone();
        move || {
            while heartbeat.running().is_none() {
                heartbeat.doze();
            }
        }
    });
    heartbeat.beat();
    watchdog.join().unwrap();
}

#[test]
fn a_nap_that_is_cut_short_does_not_count() {
    let heartbeat = Heartbeat::new();
    assert!(heartbeat.nap(Duration::from_millis(1)));
    heartbeat.stop();
    assert!(!heartbeat.nap(Duration::from_secs(1000)));
}
