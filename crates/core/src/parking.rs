//! A thread asleep until another thread wakes it, a deadline passes or a signal arrives.
//!
//! `std::thread::park` goes back to sleep after a signal, so Ctrl-C could not end a wait built on
//! it. This one returns [`Parked::Interrupted`].
//!
//! As with the standard one there is a token: [`Unparker::unpark`] leaves it, a park that finds
//! it returns at once. Tokens may be stale (left for an earlier wait that had already ended) and
//! `Notified` may be spurious, so callers look at their condition again after every return.
//! They also look for signals after every return: a token and a signal may come together, and
//! then `Notified` is what is reported.
//!
//! A signal that arrives after the caller last looked for one, but before the thread really
//! sleeps, interrupts nothing. A thread that has to notice signals (Python's main thread) passes
//! a deadline not far away and looks again.

// The futex is what Linux runs and what loom and shuttle explore (with a kernel of their own).
#[cfg(all(
    not(any(atl_loom, atl_shuttle)),
    any(test, not(all(target_os = "linux", target_pointer_width = "64")))
))]
mod condvar;
#[cfg(any(
    atl_loom,
    atl_shuttle,
    all(target_os = "linux", target_pointer_width = "64")
))]
mod futex;

#[cfg(not(any(
    atl_loom,
    atl_shuttle,
    all(target_os = "linux", target_pointer_width = "64")
)))]
use condvar::Token;
#[cfg(any(
    atl_loom,
    atl_shuttle,
    all(target_os = "linux", target_pointer_width = "64")
))]
use futex::Token;

use crate::sync::Arc;
use std::fmt;
use std::time::{Duration, Instant};

/// Where one thread sleeps. Only one thread may park on it at a time.
pub struct Parker {
    place: Arc<Place>,
}

/// Wakes the thread that sleeps on a [`Parker`], from anywhere, also after that thread ended.
#[derive(Clone)]
pub struct Unparker {
    place: Arc<Place>,
}

struct Place {
    token: Token,
    /// Number of the thread that made it.
    thread: u64,
}

/// When a sleep ends at the latest.
#[derive(Clone, Copy)]
#[cfg_attr(
    any(atl_loom, atl_shuttle),
    expect(dead_code, reason = "time passes there as the explorer likes")
)]
enum Limit {
    At(Instant),
    /// So long after it begins, give or take a few milliseconds.
    About(Duration),
}

/// Why [`Parker::park`] returned.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Parked {
    /// There was a token, or the wake-up was spurious.
    Notified,
    /// The deadline passed.
    TimedOut,
    /// A signal handler may have run.
    Interrupted,
}

impl Parker {
    /// A parker without a token.
    pub fn new() -> Self {
        Self {
            place: Arc::new(Place {
                token: Token::new(),
                thread: this_thread(),
            }),
        }
    }

    /// What wakes a thread parked here.
    pub fn unparker(&self) -> Unparker {
        Unparker {
            place: self.place.clone(),
        }
    }

    /// Takes the token; sleeps until there is one if there is none.
    ///
    /// What happened before the [`unpark`](Unparker::unpark) that left the token is visible after.
    pub fn park(&self, deadline: Option<Instant>) -> Parked {
        self.place.token.take(deadline.map(Limit::At))
    }

    /// The same for about so long, to a few milliseconds: it costs no look at the clock.
    pub fn nap(&self, duration: Duration) -> Parked {
        self.place.token.take(Some(Limit::About(duration)))
    }

    /// Whether there is a token, at a glance: nothing is visible for it before [`park`](Self::park) has taken it.
    pub fn has_token(&self) -> bool {
        self.place.token.is_here()
    }
}

impl Unparker {
    /// Leaves the token. A system call only if the thread really sleeps.
    pub fn unpark(&self) {
        self.place.token.leave();
    }

    /// As an even address, never null, for [`from_raw`](Self::from_raw).
    pub(crate) fn into_raw(self) -> *const () {
        const { assert!(align_of::<Place>() > 1) };
        Arc::into_raw(self.place).cast()
    }

    /// # Safety
    ///
    /// It came from `into_raw`, and of what comes from one `into_raw` only one is dropped.
    pub(crate) unsafe fn from_raw(raw: *const ()) -> Self {
        Self {
            // SAFETY: by the above.
            place: unsafe { Arc::from_raw(raw.cast()) },
        }
    }

    /// Names the parker this wakes; two living unparkers with one name wake the same.
    pub(crate) fn name(&self) -> usize {
        &raw const *self.place as usize
    }

    /// Number of the thread that made the parker: what Python's `threading.get_ident()` returns there.
    pub fn thread(&self) -> u64 {
        self.place.thread
    }
}

crate::sync::thread_local! {
    static CURRENT: Parker = Parker::new();
}

/// Calls `f` with this thread's parker.
///
/// May be nested (a signal handler that waits inside a wait): the inner one may take the outer
/// one's token, which is one more reason to look at the condition before parking again.
pub fn with_current<R>(f: impl FnOnce(&Parker) -> R) -> R {
    // A thread that is ending has lost its thread locals; it gets a parker for this one time.
    let parker = CURRENT
        .try_with(|current| Parker {
            place: current.place.clone(),
        })
        .unwrap_or_default();
    f(&parker)
}

fn this_thread() -> u64 {
    // SAFETY: asks for this thread's own handle, nothing else.
    unsafe { libc::pthread_self() as u64 }
}

impl Default for Parker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Parker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parker").finish_non_exhaustive()
    }
}

impl fmt::Debug for Unparker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unparker").finish_non_exhaustive()
    }
}
