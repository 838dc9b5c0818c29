//! The calls that were accepted and haven't ended, and whether more are accepted.
//!
//! A call is accepted or refused in one step, and it leaves the roster once: when it has ended, or into the hands of
//! whoever gives up on it and has to end it.
//!
//! There is no lock in here. What changes the roster demands it for itself (`&mut`), so it lives under the lock that
//! its owner holds anyway: in the extension that is the GIL. Whatever is taken out is returned, to be dropped when the
//! roster has been let go of: dropping a call may run anything, and come back here.

use crate::inbox::Closed;
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::{fmt, mem};

/// Calls `T` that were accepted and haven't ended.
pub struct Roster<T> {
    calls: Vec<T>,
    slot_of: fn(&T) -> &Slot,
    closed: bool,
}

/// A call's place on its roster: part of the call, so that it is found and taken out without a search.
///
/// It is set exactly as long as the call is on the roster. Only the roster writes it.
pub struct Slot(AtomicU32);

/// The call is on no roster.
const NONE: u32 = u32::MAX;

impl<T> Roster<T> {
    /// An empty roster that accepts calls. `slot_of` finds the slot in a call, always the same one.
    pub const fn new(slot_of: fn(&T) -> &Slot) -> Self {
        Self {
            calls: Vec::new(),
            slot_of,
            closed: false,
        }
    }

    /// Whether calls are accepted.
    pub fn is_open(&self) -> bool {
        !self.closed
    }

    /// Puts a call on the roster, which must be on none.
    ///
    /// # Errors
    ///
    /// [`Closed`], with the call in it, once the roster was closed.
    pub fn accept(&mut self, call: T) -> Result<(), Closed<T>> {
        if self.closed {
            return Err(Closed(call));
        }
        let index = u32::try_from(self.calls.len()).expect("memory ends long before");
        debug_assert!((self.slot_of)(&call).get().is_none());
        (self.slot_of)(&call).0.store(index, Relaxed);
        self.calls.push(call);
        Ok(())
    }

    /// Takes out the call with this slot. None if it is on no roster: it was refused, has left, or was given up on.
    /// The slot is never one of another roster's calls.
    pub fn forget(&mut self, slot: &Slot) -> Option<T> {
        let index = slot.clear()?;
        let call = self.calls.swap_remove(index as usize);
        if let Some(moved) = self.calls.get(index as usize) {
            (self.slot_of)(moved).0.store(index, Relaxed);
        }
        Some(call)
    }

    /// Refuses further calls. Those on the roster stay until they end.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Refuses further calls, and takes out one that hasn't ended, for the caller to end it. To be repeated until
    /// there is none.
    ///
    /// One at a time: ending a call may let other threads have a turn, and calls that end by themselves meanwhile find
    /// everything in order. Nor is a call lost if ending the one before it fails.
    pub fn give_up(&mut self) -> Option<T> {
        self.closed = true;
        let call = self.calls.pop()?;
        (self.slot_of)(&call).clear();
        Some(call)
    }

    /// Refuses further calls and takes out all, for a garbage collector that breaks a cycle: nobody will end them.
    #[must_use = "to be dropped when the roster has been let go of"]
    pub fn clear(&mut self) -> Vec<T> {
        self.closed = true;
        for call in &self.calls {
            (self.slot_of)(call).clear();
        }
        mem::take(&mut self.calls)
    }

    /// The calls, in no particular order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.calls.iter()
    }
}

impl<'a, T> IntoIterator for &'a Roster<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T> fmt::Debug for Roster<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Roster")
            .field("unfinished", &self.calls.len())
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

// ORDERING: Relaxed, everywhere in this file. A slot is written only by who has its roster for itself, and what
// excludes the others (a lock, the GIL) orders the writes. It is atomic only so that calls can be shared.
impl Slot {
    /// Of a call that is on no roster.
    pub fn new() -> Self {
        Self(AtomicU32::new(NONE))
    }

    fn get(&self) -> Option<u32> {
        Some(self.0.load(Relaxed)).filter(|&index| index != NONE)
    }

    /// Returns what was in it.
    fn clear(&self) -> Option<u32> {
        let index = self.get();
        self.0.store(NONE, Relaxed);
        index
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.get()).finish()
    }
}
