//! Atomics, locks, cells and thread locals, from one place: the real ones, or those of an explorer of interleavings:
//! loom, which tries every one, or shuttle, which tries many at random. All wear the same face here, so no protocol
//! knows which it got.

#[cfg(not(any(atl_loom, atl_shuttle)))]
mod real {
    #[cfg(any(test, not(all(target_os = "linux", target_pointer_width = "64"))))]
    pub(crate) use parking_lot::Condvar;
    pub(crate) use parking_lot::Mutex;
    pub(crate) use std::sync::{Arc, atomic};
    pub(crate) use std::thread_local;
}

#[cfg(any(atl_loom, atl_shuttle))]
pub(crate) mod model {
    #[cfg(atl_loom)]
    pub(crate) use loom as explorer;
    #[cfg(atl_shuttle)]
    pub(crate) use shuttle as explorer;

    pub(crate) use explorer::sync::{Arc, atomic};
    pub(crate) use explorer::thread_local;
    use std::cell::Cell;
    use std::ops::{Deref, DerefMut};

    std::thread_local! {
        /// An explorer runs all threads of a model on one real one.
        static HELD: Cell<usize> = const { Cell::new(0) };
    }

    /// How many locks of this crate the threads of the model hold together.
    pub fn locks_held() -> usize {
        HELD.get()
    }

    /// The explorer's mutex with the face of parking_lot's: nothing is ever poisoned.
    pub(crate) struct Mutex<T>(explorer::sync::Mutex<T>);

    pub(crate) struct MutexGuard<'a, T>(explorer::sync::MutexGuard<'a, T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(explorer::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            let guard = self.0.lock().expect("a model never panics under a lock");
            HELD.set(HELD.get() + 1);
            // Other threads may get a turn while it is held. (loom need not try: it would only double its work.)
            #[cfg(atl_shuttle)]
            atomic::AtomicBool::new(false).load(atomic::Ordering::SeqCst);
            MutexGuard(guard)
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            &mut self.0
        }
    }

    impl<T> Drop for MutexGuard<'_, T> {
        fn drop(&mut self) {
            HELD.set(HELD.get() - 1);
        }
    }
}

/// A cell with the face of loom's, which sees an access that nothing orders. (shuttle has none.)
#[cfg(not(atl_loom))]
mod cell {
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        pub(crate) fn with_mut<R>(&self, work: impl FnOnce(*mut T) -> R) -> R {
            work(self.0.get())
        }
    }
}

#[cfg(not(atl_loom))]
pub(crate) use cell::UnsafeCell;
#[cfg(atl_loom)]
pub(crate) use loom::cell::UnsafeCell;
#[cfg(any(atl_loom, atl_shuttle))]
pub(crate) use model::*;
#[cfg(not(any(atl_loom, atl_shuttle)))]
pub(crate) use real::*;
