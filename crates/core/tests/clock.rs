//! What the clock promises.

#![cfg(not(atl_loom))]

use asyncio_thread_loop_core::clock::{duration, monotonic, now};
use std::time::Duration;

#[test]
fn both_readings_are_of_one_clock_that_never_goes_back() {
    let (first, middle, last) = (now(), monotonic(), now());
    assert!(first.as_secs_f64() <= middle && middle <= last.as_secs_f64());
}

#[test]
fn seconds_become_a_duration_whatever_they_are() {
    assert_eq!(duration(1.5), Duration::from_millis(1500));
    assert_eq!(duration(0.0), Duration::ZERO);
    assert_eq!(duration(-1.0), Duration::ZERO);
    assert_eq!(duration(f64::NAN), Duration::ZERO);
    assert_eq!(duration(f64::NEG_INFINITY), Duration::ZERO);
    assert_eq!(duration(f64::INFINITY), Duration::MAX);
    assert_eq!(duration(1e300), Duration::MAX);
}
