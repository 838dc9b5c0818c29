//! One result, set once, seen by every waiter.
//!
//! The state of a `concurrent.futures.Future` and the threads that wait for it, in 16 bytes. The
//! value lies with the owner, which stores it while it settles the outcome ([`Outcome::settle`]):
//! exactly one does, and who sees the new state sees the value. Whoever settles an outcome gets its
//! waiters as [`Wakes`] and chooses when to wake them; dropping the `Wakes` wakes them too, so no
//! waiter is forgotten.

use crate::parking::{Parked, Parker, Unparker};
use crate::sync::atomic::{
    AtomicU8, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use crate::sync::{Mutex, UnsafeCell};
use std::fmt;
use std::mem::{self, ManuallyDrop};
use std::ptr;
use std::time::Instant;

/// How far an outcome is.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
#[repr(u8)]
pub enum State {
    /// Nothing has begun; it can be cancelled at once.
    Pending,
    /// The work has begun; only its own end settles it.
    Running,
    /// Cancelled, and whoever was to do the work has not heard yet.
    Cancelled,
    /// Cancelled, and everybody knows.
    CancelledAndNotified,
    /// There is a value.
    Finished,
}

impl State {
    /// Whether nothing can change any more: the last three.
    pub fn is_done(self) -> bool {
        self as u8 >= State::Cancelled as u8
    }

    fn from_u8(state: u8) -> Self {
        match state {
            0 => State::Pending,
            1 => State::Running,
            2 => State::Cancelled,
            3 => State::CancelledAndNotified,
            _ => State::Finished,
        }
    }
}

/// One result, set once, seen by every waiter.
pub struct Outcome {
    /// A [`State`]. Written only under the lock, read without it.
    state: AtomicU8,
    /// Guards what is beside it: around that it would take a word of its own.
    lock: Mutex<()>,
    /// A number for the owner, where there would be padding.
    pub note: AtomicU32,
    waiters: UnsafeCell<Waiters>,
}

// SAFETY: `waiters` is touched by one thread at a time (see `locked`), and is `Send`, or an outcome would not be.
unsafe impl Sync for Outcome {}

/// A subscription, to be given back with [`Outcome::unsubscribe`].
///
/// It names the parker rather than the entry: entries for one parker are interchangeable.
#[must_use = "without it the subscription lasts until the outcome is done"]
#[derive(Debug)]
pub struct Ticket(usize);

impl Outcome {
    /// A pending outcome.
    pub fn new() -> Self {
        Self {
            state: AtomicU8::new(State::Pending as u8),
            lock: Mutex::new(()),
            note: AtomicU32::new(0),
            waiters: UnsafeCell::new(Waiters::default()),
        }
    }

    /// The state, without the lock. What was done before it was reached is visible.
    pub fn state(&self) -> State {
        // ORDERING: Acquire pairs with Release in `advance`.
        State::from_u8(self.state.load(Acquire))
    }

    /// Whether the state is one of the last three.
    pub fn is_done(&self) -> bool {
        self.state().is_done()
    }

    /// `Pending` → `Running`: from here on it can't be cancelled from outside.
    ///
    /// # Errors
    ///
    /// The state found, if it was another.
    pub fn start(&self) -> Result<(), State> {
        self.advance(|from| from == State::Pending, State::Running, |_| ())
    }

    /// `Pending` → `Cancelled`.
    ///
    /// # Errors
    ///
    /// The state found, if it was another.
    pub fn cancel(&self) -> Result<Wakes, State> {
        self.advance(
            |from| from == State::Pending,
            State::Cancelled,
            Waiters::take,
        )
    }

    /// `Cancelled` → `CancelledAndNotified`; false if the state was another.
    pub fn notify_cancelled(&self) -> bool {
        self.advance(
            |from| from == State::Cancelled,
            State::CancelledAndNotified,
            |_| (),
        )
        .is_ok()
    }

    /// `Pending` or `Running` → `Finished`. `store` puts the value in its place before the new state
    /// can be seen, and is called only if there is one.
    ///
    /// It is called under the lock: it may move something, and nothing that could come back to this
    /// outcome. What it holds is dropped without the lock.
    ///
    /// # Errors
    ///
    /// The state found, if the outcome was done already.
    pub fn settle(&self, store: impl FnOnce()) -> Result<Wakes, State> {
        let mut store = Some(store);
        self.advance(
            |from| !from.is_done(),
            State::Finished,
            |waiters| {
                if let Some(store) = store.take() {
                    store();
                }
                waiters.take()
            },
        )
    }

    /// `Pending` or `Running` → `CancelledAndNotified`: the work itself ended by cancellation.
    ///
    /// # Errors
    ///
    /// The state found, if the outcome was done already.
    pub fn settle_cancelled(&self) -> Result<Wakes, State> {
        self.advance(
            |from| !from.is_done(),
            State::CancelledAndNotified,
            Waiters::take,
        )
    }

    /// Has `waiter` woken when the outcome is done. None if it is done already.
    ///
    /// The caller looks at the state after every wake-up; see [`parking`](crate::parking).
    pub fn subscribe(&self, waiter: Unparker) -> Option<Ticket> {
        let ticket = Ticket(waiter.name());
        self.locked(|waiters| {
            // ORDERING: Relaxed, the state is only written under this lock.
            if State::from_u8(self.state.load(Relaxed)).is_done() {
                return None;
            }
            waiters.push(waiter);
            Some(ticket)
        })
    }

    /// Ends a subscription. A wake-up already under way may still arrive, as a stale token.
    pub fn unsubscribe(&self, ticket: Ticket) {
        let removed = self.locked(|waiters| waiters.remove(&ticket));
        drop(removed); // without the lock
    }

    /// The threads that wait, by the numbers their parkers carry.
    pub fn waiting(&self) -> Vec<u64> {
        self.locked(Waiters::threads)
    }

    /// Waits on this thread's `parker` until done (`Notified`), the deadline or a signal.
    pub fn wait(&self, parker: &Parker, deadline: Option<Instant>) -> Parked {
        let Some(ticket) = self.subscribe(parker.unparker()) else {
            return Parked::Notified;
        };
        loop {
            let parked = parker.park(deadline);
            if self.is_done() {
                return Parked::Notified; // the subscription ended with the waiting
            }
            if parked != Parked::Notified {
                self.unsubscribe(ticket);
                return parked;
            }
        }
    }

    /// The only place where the state changes: if `allowed`, moves to `to` and calls `then`
    /// before anybody can see it.
    fn advance<R>(
        &self,
        allowed: impl FnOnce(State) -> bool,
        to: State,
        then: impl FnOnce(&mut Waiters) -> R,
    ) -> Result<R, State> {
        self.locked(|waiters| {
            // ORDERING: Relaxed, the state is only written under this lock.
            let from = State::from_u8(self.state.load(Relaxed));
            if !allowed(from) {
                return Err(from);
            }
            let result = then(waiters);
            // ORDERING: Release pairs with Acquire in `state`: what was done before is seen by a
            // thread that reads the new state without the lock.
            self.state.store(to as u8, Release);
            Ok(result)
        })
    }

    fn locked<R>(&self, work: impl FnOnce(&mut Waiters) -> R) -> R {
        let _held = self.lock.lock();
        // SAFETY: nothing else touches them, and this thread holds the lock, which nobody, itself
        // included, gets a second time meanwhile.
        self.waiters
            .with_mut(|waiters| work(unsafe { &mut *waiters }))
    }
}

impl Default for Outcome {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outcome").field(&self.state()).finish()
    }
}

/// The waiters of a settled outcome. They hold on to the waiting threads, not to the outcome,
/// which may be gone by the time they are woken.
///
/// Fire them when it suits: the loop does so after it let go of the interpreter, as a caller
/// woken earlier would only run into it. Dropping fires too.
#[must_use = "dropping wakes the waiters on the spot"]
#[derive(Default)]
pub struct Wakes {
    waiters: Waiters,
}

impl Wakes {
    /// Nobody to wake.
    pub fn none() -> Self {
        Self::default()
    }

    /// Wakes them all.
    pub fn fire(self) {
        drop(self);
    }

    /// Whether there is nobody to wake.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Adds the waiters of another outcome, to be woken together.
    pub fn append(&mut self, mut other: Wakes) {
        if self.is_empty() {
            mem::swap(self, &mut other);
        }
        while let Some(waiter) = other.waiters.pop() {
            self.waiters.push(waiter);
        }
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        while let Some(waiter) = self.waiters.pop() {
            waiter.unpark();
        }
    }
}

impl fmt::Debug for Wakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wakes")
            .field("is_empty", &self.is_empty())
            .finish_non_exhaustive()
    }
}

/// A list in one word: nothing, a waiter, which is what there usually is, or the address of a [`Node`], marked in its lowest
/// bit. Never longer than there are waiting threads.
struct Waiters(*const ());

struct Node {
    waiter: Unparker,
    next: Waiters,
}

/// What a list is at its beginning.
enum First<'a> {
    Nobody,
    One(ManuallyDrop<Unparker>),
    Node(&'a mut Node),
}

const MARK: usize = 1;

const _: () = assert!(align_of::<Node>() > MARK);

// SAFETY: what it owns is.
unsafe impl Send for Waiters where (Unparker, Box<Node>): Send {}

impl Waiters {
    fn is_empty(&self) -> bool {
        self.0.is_null()
    }

    fn take(&mut self) -> Wakes {
        Wakes {
            waiters: mem::take(self),
        }
    }

    fn first(&mut self) -> First<'_> {
        if self.is_empty() {
            First::Nobody
        } else if self.0.addr() & MARK == 0 {
            // SAFETY: an unparker came to lie here by `into_raw` and is still ours.
            First::One(ManuallyDrop::new(unsafe { Unparker::from_raw(self.0) }))
        } else {
            let node = self.0.map_addr(|address| address & !MARK);
            // SAFETY: it is a box of ours, lent as long as we are.
            First::Node(unsafe { &mut *node.cast::<Node>().cast_mut() })
        }
    }

    /// The numbers of the threads that wait.
    fn threads(&mut self) -> Vec<u64> {
        let mut threads = Vec::new();
        let mut rest = self;
        loop {
            match rest.first() {
                First::Nobody => return threads,
                First::One(waiter) => {
                    threads.push(waiter.thread());
                    return threads;
                }
                First::Node(node) => {
                    threads.push(node.waiter.thread());
                    rest = &mut node.next;
                }
            }
        }
    }

    fn push(&mut self, waiter: Unparker) {
        let next = mem::take(self);
        self.0 = if next.is_empty() {
            waiter.into_raw()
        } else {
            let node = Box::into_raw(Box::new(Node { waiter, next }));
            node.map_addr(|address| address | MARK).cast()
        };
    }

    fn pop(&mut self) -> Option<Unparker> {
        match self.first() {
            First::Nobody => None,
            First::One(waiter) => {
                self.0 = ptr::null();
                Some(ManuallyDrop::into_inner(waiter))
            }
            First::Node(node) => {
                // SAFETY: it is a box of ours, which is forgotten in the next line.
                let node = unsafe { Box::from_raw(node) };
                mem::forget(mem::replace(self, node.next));
                Some(node.waiter)
            }
        }
    }

    /// Takes out one entry of the ticket's parker, if there is one.
    fn remove(&mut self, ticket: &Ticket) -> Option<Unparker> {
        let mut rest = self;
        loop {
            let found = match rest.first() {
                First::Nobody => return None,
                First::One(waiter) => waiter.name() == ticket.0,
                First::Node(node) => node.waiter.name() == ticket.0,
            };
            if found {
                return rest.pop();
            }
            let First::Node(node) = rest.first() else {
                return None;
            };
            rest = &mut node.next;
        }
    }
}

impl Default for Waiters {
    fn default() -> Self {
        Self(ptr::null())
    }
}

impl Drop for Waiters {
    fn drop(&mut self) {
        // One by one: the derived drop would recurse along the list.
        while self.pop().is_some() {}
    }
}
