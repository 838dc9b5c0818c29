//! Calls other threads leave for the loop. Each is run or handed back; none is lost.
//!
//! Any thread pushes, one thread (the loop) drains. Before the loop blocks it says so with
//! [`announce_sleep`](Inbox::announce_sleep) and leaves a bell, whatever wakes it from that sleep.
//! Exactly the first push after that gets the bell and has to ring it: a thousand pushes to a
//! sleeping loop cost one system call, pushes to a busy loop none.
//! No code of `T` or `B` runs under the lock, their `Drop`s included.

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::{error, fmt, mem};

/// Buffers up to this many jobs are kept for reuse however little they were needed for.
const KEEP: usize = 1024;

/// A queue of jobs `T` from many threads to the loop, and the bell `B` of a loop that sleeps.
pub struct Inbox<T, B> {
    /// Whether the queue holds anything, kept in step with it under the lock. A glance at it
    /// spares the loop the lock on most of its rounds.
    filled: AtomicBool,
    state: Mutex<State<T, B>>,
}

struct State<T, B> {
    queue: Vec<T>,
    /// Some: the loop is about to block, and the next push must ring. None: it is awake, or
    /// somebody is already ringing.
    asleep: Option<B>,
    closed: bool,
}

/// The inbox is closed; here is the job back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Closed<T>(pub T);

impl<T> fmt::Debug for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closed(..)")
    }
}

impl<T> fmt::Display for Closed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the inbox is closed")
    }
}

impl<T> error::Error for Closed<T> {}

impl<T, B> Inbox<T, B> {
    /// An empty inbox of a loop that is awake.
    pub fn new() -> Self {
        Self {
            filled: AtomicBool::new(false),
            state: Mutex::new(State {
                queue: Vec::new(),
                asleep: None,
                closed: false,
            }),
        }
    }

    /// Leaves a job for the loop. Returns the bell, to be rung, at most once per announced sleep.
    ///
    /// # Errors
    ///
    /// [`Closed`], with the job in it, once the inbox was closed.
    #[must_use = "a loop that sleeps must be woken"]
    pub fn push(&self, job: T) -> Result<Option<B>, Closed<T>> {
        let mut state = self.state.lock();
        if state.closed {
            drop(state); // so that the job, should the caller drop it, is dropped without the lock
            return Err(Closed(job));
        }
        state.queue.push(job);
        // ORDERING: Relaxed, see `is_empty`.
        self.filled.store(true, Relaxed);
        Ok(state.asleep.take())
    }

    /// The bell of a sleeping loop that nobody has rung yet, to wake it without a job.
    #[must_use = "a loop that sleeps must be woken"]
    pub fn take_bell(&self) -> Option<B> {
        self.state.lock().asleep.take()
    }

    /// Appends everything to `jobs`, in the order it was pushed.
    ///
    /// An empty `jobs` is exchanged for the queue, so that two buffers go back and forth and
    /// nothing is copied. Buffers far larger than needed are let go.
    pub fn drain(&self, jobs: &mut Vec<T>) {
        if self.is_empty() {
            if jobs.is_empty() && jobs.capacity() > KEEP {
                *jobs = Vec::new();
            }
            return;
        }
        let mut unused = Vec::new(); // outlives the guard: freed without the lock
        let mut state = self.state.lock();
        // ORDERING: Relaxed, see `is_empty`.
        self.filled.store(false, Relaxed);
        if jobs.is_empty() {
            if jobs.capacity() > KEEP.max(4 * state.queue.len()) {
                mem::swap(jobs, &mut unused);
            }
            mem::swap(jobs, &mut state.queue);
        } else {
            jobs.append(&mut state.queue);
        }
        drop(state);
        drop(unused);
    }

    /// The loop is about to block: the next push will get `bell` to wake it.
    ///
    /// False if something is in the inbox: do not block, drain it. What makes this safe is that
    /// looking and announcing are one step under the lock; see the README for the lost wake-up
    /// that threatens otherwise.
    #[must_use = "blocking in spite of false leaves jobs behind"]
    pub fn announce_sleep(&self, bell: B) -> bool {
        // Both outlive the guard: they are dropped without the lock.
        let mut unused = Vec::new();
        let mut bell = Some(bell);
        let mut state = self.state.lock();
        if !state.queue.is_empty() {
            drop(state);
            return false;
        }
        mem::swap(&mut state.asleep, &mut bell);
        if state.queue.capacity() > KEEP {
            mem::swap(&mut state.queue, &mut unused);
        }
        drop(state);
        drop(unused);
        true
    }

    /// The loop no longer blocks, whatever woke it: pushes need not wake it.
    pub fn awake(&self) {
        let unused = self.state.lock().asleep.take();
        drop(unused); // without the lock
    }

    /// Whether nothing is waiting. Without the lock: a push under way may or may not be seen,
    /// one that happened before is.
    pub fn is_empty(&self) -> bool {
        // ORDERING: Relaxed. The flag guards no data, it is a hint whether to take the lock,
        // and the lock carries the jobs. Its writes are ordered by that lock, so a push that
        // happens before this load is seen by coherence. A push that is missed because it is
        // concurrent is found in a later round or, at the latest, by `announce_sleep`, which
        // looks at the queue itself.
        !self.filled.load(Relaxed)
    }

    /// Refuses all later pushes and returns what was left. A second call returns nothing.
    ///
    /// Does not wake the loop: it is the loop, or whoever ended it, that closes.
    #[must_use = "these jobs were accepted; they are to be run or refused"]
    pub fn close(&self) -> Vec<T> {
        let mut state = self.state.lock();
        state.closed = true;
        // ORDERING: Relaxed, see `is_empty`.
        self.filled.store(false, Relaxed);
        mem::take(&mut state.queue)
    }

    /// Whether pushes are refused.
    pub fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

impl<T, B> Default for Inbox<T, B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, B> fmt::Debug for Inbox<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}
