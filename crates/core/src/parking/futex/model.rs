//! A kernel for loom: a futex as its manual page describes it. Comparing and falling asleep is
//! one step with respect to waking. There is no time and there are no signals.

use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use loom::sync::{Condvar, Mutex};
use std::time::Instant;

use super::Parked;

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

    pub(super) fn sleep_while(&self, value: u32, _deadline: Option<Instant>) -> Parked {
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
