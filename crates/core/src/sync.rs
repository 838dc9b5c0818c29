//! Atomics, locks and thread locals, from one place: the real ones, or loom's when it explores
//! every interleaving. Both wear the same face here, so no protocol knows which it got.

#[cfg(not(atl_loom))]
mod real {
    #[cfg(any(test, not(all(target_os = "linux", target_pointer_width = "64"))))]
    pub(crate) use parking_lot::Condvar;
    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::sync::{Arc, atomic};
    pub(crate) use std::thread_local;
}

#[cfg(atl_loom)]
mod model {
    use loom::sync::MutexGuard;
    pub(crate) use loom::sync::{Arc, atomic};
    pub(crate) use loom::thread_local;

    /// loom's mutex with the face of parking_lot's: nothing is ever poisoned.
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("a model never panics under a lock")
        }
    }
}

#[cfg(atl_loom)]
pub(crate) use model::*;
#[cfg(not(atl_loom))]
pub(crate) use real::*;
