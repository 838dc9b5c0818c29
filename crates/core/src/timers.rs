//! What is to happen later, in order; first come, first served among equals.
//!
//! A cancelled timer stays in the heap until its time comes or the cancelled ones are most of it,
//! whichever is first: a million timeouts that never fire do not pile up. The heap does not know
//! which timers are cancelled, it only counts. So whoever cancels one *that is in here* says so
//! with [`Timers::note_cancelled`], and whoever takes a cancelled one out with
//! [`Timers::pop_due`] says so with [`Timers::forget_cancelled`]. A wrong count costs a sweep too
//! early or too late, never a timer.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt;

/// Fewer timers than this are not worth a sweep.
const SWEEP_FROM: usize = 100;

/// Timers by deadline, in seconds of [`clock::monotonic`](crate::clock::monotonic).
pub struct Timers<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    /// The number of timers ever inserted.
    inserted: u64,
    /// The number of cancelled timers in the heap.
    cancelled: usize,
}

struct Entry<T> {
    when: f64,
    /// Orders timers with the same deadline.
    turn: u64,
    timer: T,
}

impl<T> Timers<T> {
    /// No timers.
    pub fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            inserted: 0,
            cancelled: 0,
        }
    }

    /// Adds a timer. A deadline of NaN orders after every other and is never due.
    pub fn insert(&mut self, when: f64, timer: T) {
        let turn = self.inserted;
        self.inserted += 1;
        self.heap.push(Reverse(Entry { when, turn, timer }));
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<f64> {
        self.heap.peek().map(|Reverse(entry)| entry.when)
    }

    /// The timer with the earliest deadline.
    pub fn peek(&self) -> Option<&T> {
        self.heap.peek().map(|Reverse(entry)| &entry.timer)
    }

    /// Takes out the next timer with a deadline of `now` or earlier.
    ///
    /// If it was counted as cancelled, call [`forget_cancelled`](Self::forget_cancelled).
    /// With `f64::INFINITY` it takes out the next one whatever its deadline: that is how
    /// cancelled timers at the front go, so that the loop does not wake for them.
    pub fn pop_due(&mut self, now: f64) -> Option<T> {
        if self.next_deadline()? <= now {
            self.heap.pop().map(|Reverse(entry)| entry.timer)
        } else {
            None
        }
    }

    /// One of the timers in here was cancelled. When most are, they are taken out and returned.
    ///
    /// A sweep looks at every timer and removes at least half of them, each of which was
    /// announced by one call: so a call costs constant time on average.
    #[must_use = "dropping timers may run their owner's code: choose where"]
    pub fn note_cancelled(&mut self, mut is_cancelled: impl FnMut(&T) -> bool) -> Vec<T> {
        self.cancelled += 1;
        if self.heap.len() < SWEEP_FROM || self.cancelled <= self.heap.len() / 2 {
            return Vec::new();
        }
        self.cancelled = 0;
        let (swept, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.heap)
            .into_iter()
            .partition(|Reverse(entry)| is_cancelled(&entry.timer));
        self.heap = kept.into();
        swept
            .into_iter()
            .map(|Reverse(entry)| entry.timer)
            .collect()
    }

    /// A timer that [`pop_due`](Self::pop_due) just returned had been counted as cancelled.
    pub fn forget_cancelled(&mut self) {
        self.cancelled = self.cancelled.saturating_sub(1);
    }

    /// The number of timers, cancelled ones included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// All timers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.heap.iter().map(|Reverse(entry)| &entry.timer)
    }

    /// Takes out all timers, in no order.
    #[must_use = "dropping timers may run their owner's code: choose where"]
    pub fn clear(&mut self) -> Vec<T> {
        self.cancelled = 0;
        std::mem::take(&mut self.heap)
            .into_iter()
            .map(|Reverse(entry)| entry.timer)
            .collect()
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Timers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers")
            .field("len", &self.len())
            .field("next_deadline", &self.next_deadline())
            .finish_non_exhaustive()
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.when
            .total_cmp(&other.when)
            .then(self.turn.cmp(&other.turn))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}
