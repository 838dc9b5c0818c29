//! The time everything in this crate means: `CLOCK_MONOTONIC`, which on Linux is also the clock
//! of `std::time::Instant` and of Python's `time.monotonic()`.

use std::time::Duration;

/// Seconds, the number Python's `time.monotonic()` returns.
pub fn monotonic() -> f64 {
    // As Python does it: whole nanoseconds, divided once.
    now().as_nanos() as f64 / 1e9
}

/// The same reading, exact.
pub fn now() -> Duration {
    read(libc::CLOCK_MONOTONIC)
}

/// The same clock as it was some milliseconds ago at most, at a third of the price.
pub fn recently() -> Duration {
    #[cfg(target_os = "linux")]
    return read(libc::CLOCK_MONOTONIC_COARSE);
    #[cfg(not(target_os = "linux"))]
    return now();
}

fn read(clock: libc::clockid_t) -> Duration {
    let mut reading = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `reading` is valid for writes.
    let result = unsafe { libc::clock_gettime(clock, &raw mut reading) };
    assert_eq!(result, 0, "the monotonic clock cannot be read");
    Duration::new(reading.tv_sec as u64, reading.tv_nsec as u32)
}

/// Seconds as a [`Duration`], rounded to nanoseconds. Negative and NaN are no time at all, and
/// what is too long becomes the longest.
pub fn duration(seconds: f64) -> Duration {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) => duration,
        Err(_) if seconds > 0.0 => Duration::MAX,
        Err(_) => Duration::ZERO,
    }
}
