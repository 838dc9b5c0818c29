//! What is to happen later, in order; first come, first served among equals.
//!
//! A timer is told its place in the heap and each change of it. So one that is cancelled is
//! [taken out](Timers::remove) at once, wherever it is: a million timeouts that never fire leave
//! nothing behind, and the heap's memory shrinks with what is in it. Taking one out costs what
//! putting it in did, at most the height of the heap, and nothing at the end of the heap, where
//! a timeout is that was set last.
//!
//! A timer that can't keep its place stays in the heap when it is cancelled, until its time comes or
//! such timers are most of it, whichever is first. The heap does not know which they are, it
//! only counts. So whoever cancels one *that is in here* says so with [`Timers::note_cancelled`],
//! and whoever takes a cancelled one out with [`Timers::pop_due`] says so with
//! [`Timers::forget_cancelled`]. A wrong count costs a sweep too early or too late, never a timer.

use std::{fmt, mem};

/// Children of each timer in the heap. With 4 it is half as high as with 2, and they lie side by side.
const ARITY: usize = 4;

/// Fewer timers than this are not worth a sweep.
const SWEEP_FROM: usize = 100;

/// Room for so many timers is kept however little it was needed for.
const KEEP: usize = 256;

/// The place of a timer that is in no heap.
pub const NOWHERE: usize = usize::MAX;

/// A timer that is told where it is.
pub trait Placed {
    /// It is at this place now, or [`NOWHERE`]. Must not come back to the heap.
    fn placed(&self, place: usize);
}

/// Timers by deadline, in seconds of [`clock::monotonic`](crate::clock::monotonic).
pub struct Timers<T> {
    /// Each entry comes before its children, which for the one at `n` begin at `n * ARITY + 1`.
    heap: Vec<Entry<T>>,
    /// The number of timers ever inserted.
    inserted: u64,
    /// The number of cancelled timers in the heap.
    cancelled: usize,
}

struct Entry<T> {
    /// The deadline above, the turn below: one comparison orders by both.
    order: u128,
    timer: T,
}

impl<T: Placed> Timers<T> {
    /// No timers.
    pub fn new() -> Self {
        Self {
            heap: Vec::new(),
            inserted: 0,
            cancelled: 0,
        }
    }

    /// Adds a timer. A deadline of NaN orders after every other and is never due.
    pub fn insert(&mut self, when: f64, timer: T) {
        let order = u128::from(ordered(when)) << 64 | u128::from(self.inserted);
        self.inserted += 1;
        self.heap.push(Entry { order, timer });
        self.rise(self.heap.len() - 1);
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<f64> {
        self.heap.first().map(Entry::when)
    }

    /// The timer with the earliest deadline.
    pub fn peek(&self) -> Option<&T> {
        self.heap.first().map(|entry| &entry.timer)
    }

    /// Takes out the next timer with a deadline of `now` or earlier.
    ///
    /// If it was counted as cancelled, call [`forget_cancelled`](Self::forget_cancelled).
    /// With `f64::INFINITY` it takes out the next one whatever its deadline: that is how
    /// cancelled timers at the front go, so that the loop does not wake for them.
    pub fn pop_due(&mut self, now: f64) -> Option<T> {
        (self.next_deadline()? <= now).then(|| self.remove(0))
    }

    /// Takes out the timer at the place that it was told last.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn remove(&mut self, place: usize) -> T {
        let Entry { timer, .. } = self.heap.swap_remove(place);
        timer.placed(NOWHERE);
        if place < self.heap.len() {
            // What was last is there now, and may come before its parent as well as after its children.
            let settled = self.rise(place);
            if settled == place {
                self.sink(place);
            }
        }
        self.shrink();
        timer
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
        let (swept, kept): (Vec<_>, Vec<_>) = mem::take(&mut self.heap)
            .into_iter()
            .partition(|entry| is_cancelled(&entry.timer));
        self.heap = kept;
        for place in (0..self.heap.len()).rev() {
            self.sink(place);
        }
        self.shrink();
        let_go(swept)
    }

    /// A timer that [`pop_due`](Self::pop_due) just returned had been counted as cancelled.
    pub fn forget_cancelled(&mut self) {
        self.cancelled = self.cancelled.saturating_sub(1);
    }

    /// The number of timers, those included that were cancelled and are still here.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// For how many timers there is room.
    pub fn capacity(&self) -> usize {
        self.heap.capacity()
    }

    /// All timers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.heap.iter().map(|entry| &entry.timer)
    }

    /// Takes out all timers, in no order.
    #[must_use = "dropping timers may run their owner's code: choose where"]
    pub fn clear(&mut self) -> Vec<T> {
        self.cancelled = 0;
        let_go(mem::take(&mut self.heap))
    }

    /// Moves an entry up to where it belongs, and tells all that move where they are. Returns its place.
    fn rise(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / ARITY;
            if self.heap[place].order > self.heap[parent].order {
                break;
            }
            self.heap.swap(place, parent);
            self.tell(place);
            place = parent;
        }
        self.tell(place);
        place
    }

    /// The same downwards.
    fn sink(&mut self, mut place: usize) {
        loop {
            let first = place * ARITY + 1;
            let mut next = place;
            for child in first..(first + ARITY).min(self.heap.len()) {
                if self.heap[child].order < self.heap[next].order {
                    next = child;
                }
            }
            if next == place {
                break;
            }
            self.heap.swap(place, next);
            self.tell(place);
            place = next;
        }
        self.tell(place);
    }

    fn tell(&self, place: usize) {
        self.heap[place].timer.placed(place);
    }

    /// Gives memory back when three quarters of it are unused: half of it, so that it takes many more timers to
    /// need it again.
    fn shrink(&mut self) {
        let room = self.heap.capacity();
        if room > KEEP && self.heap.len() < room / 4 {
            self.heap.shrink_to(room / 2);
        }
    }
}

impl<T: Placed> Default for Timers<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Placed> fmt::Debug for Timers<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers")
            .field("len", &self.len())
            .field("next_deadline", &self.next_deadline())
            .finish_non_exhaustive()
    }
}

impl<T> Entry<T> {
    fn when(&self) -> f64 {
        let bits = (self.order >> 64) as u64;
        f64::from_bits(if bits & SIGN == 0 { !bits } else { bits ^ SIGN })
    }
}

const SIGN: u64 = 1 << 63;

/// The bits of a number as one that orders as [`f64::total_cmp`] does.
fn ordered(when: f64) -> u64 {
    let bits = when.to_bits();
    if bits & SIGN == 0 { bits ^ SIGN } else { !bits }
}

fn let_go<T: Placed>(entries: Vec<Entry<T>>) -> Vec<T> {
    entries
        .into_iter()
        .map(|Entry { timer, .. }| {
            timer.placed(NOWHERE);
            timer
        })
        .collect()
}
