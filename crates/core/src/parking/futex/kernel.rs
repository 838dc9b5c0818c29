//! The two futex calls, `FUTEX_WAIT_BITSET` for its absolute deadline.

use crate::clock;
use crate::sync::atomic::AtomicU32;
use std::io;
use std::ptr;
use std::time::Instant;

use super::{Limit, Parked};

pub(super) struct Word {
    pub(super) value: AtomicU32,
}

impl Word {
    pub(super) fn new(value: u32) -> Self {
        Self {
            value: AtomicU32::new(value),
        }
    }

    /// Sleeps unless the word has another value. The kernel compares and goes to sleep in one
    /// step, so a change just before is not missed.
    pub(super) fn sleep_while(&self, value: u32, limit: Option<Limit>) -> Parked {
        // Absolute, on the clock that `Instant` is on here: an `Instant` does not tell its
        // reading, so it is translated by way of the time that remains.
        let deadline = limit.map(|limit| {
            let (now, remaining) = match limit {
                Limit::At(deadline) => {
                    let remaining = deadline.saturating_duration_since(Instant::now());
                    (clock::now(), remaining)
                }
                Limit::About(duration) => (clock::recently(), duration),
            };
            timespec(now.saturating_add(remaining))
        });
        let deadline = deadline.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the word is alive and aligned, `deadline` is null or points to a timespec that
        // lives until the end of this function, and the operation ignores the fifth argument.
        let result = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.value.as_ptr(),
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                value,
                deadline,
                ptr::null::<u32>(),
                libc::FUTEX_BITSET_MATCH_ANY,
            )
        };
        if result == 0 {
            return Parked::Notified;
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN) => Parked::Notified, // the word changed first
            Some(libc::EINTR) => Parked::Interrupted,
            Some(libc::ETIMEDOUT) => Parked::TimedOut,
            error => unreachable!("futex wait failed: {error:?}"),
        }
    }

    /// Wakes the thread that sleeps, if one does.
    pub(super) fn wake(&self) {
        // SAFETY: a wake uses the address as a name only.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.value.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                1,
            );
        }
    }
}

fn timespec(time: std::time::Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}
