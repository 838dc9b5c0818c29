//! A kernel for models: a futex as its manual page describes it. Comparing and falling asleep is
//! one step with respect to waking. There are no signals, and time passes as the explorer likes:
//! it may hold a thread up anywhere, so a deadline may have come whenever one looks.

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use crate::sync::explorer::{
    sync::{Condvar, Mutex},
    thread,
};

use super::{Limit, Parked};

pub(super) struct Word {
    pub(super) value: AtomicU32,
    sleepers: Mutex<()>,
    woken: Condvar,
}

impl Word {
    pub(super) fn new(value: u32) -> Self {
        Self {
            value: AtomicU32::new(value),
            sleepers: Mutex::new(()),
            woken: Condvar::new(),
        }
    }

    pub(super) fn sleep_while(&self, value: u32, limit: Option<Limit>) -> Parked {
        if limit.is_some() {
            thread::yield_now();
            // ORDERING: Relaxed, as for who compares below.
            return match self.value.load(Relaxed) == value {
                true => Parked::TimedOut,
                false => Parked::Notified,
            };
        }
        let sleepers = self.sleepers.lock().expect("never poisoned");
        // ORDERING: Relaxed. Who changed the word and then found nobody to wake has let go of
        // this lock since, so the change is seen.
        if self.value.load(Relaxed) == value {
            drop(self.woken.wait(sleepers));
        }
        Parked::Notified
    }

    pub(super) fn wake(&self) {
        let _sleepers = self.sleepers.lock().expect("never poisoned");
        self.woken.notify_one();
    }
}
