//! Which handles wait for which descriptors, kept in step with the poller.

use std::os::fd::RawFd;

use asyncio_thread_loop_core::poller::{Event, Interest, Poller};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::calls;
use crate::handle::Handle;

/// Indexed by descriptor: they are small numbers.
#[derive(Default)]
pub struct Descriptors {
    entries: Vec<Entry>,
    /// The number of descriptors that somebody waits for.
    watched: usize,
    /// Distinguishes registrations of one descriptor: an event collected for an earlier one is stale.
    generation: u32,
}

#[derive(Default)]
struct Entry {
    reader: Option<Py<Handle>>,
    writer: Option<Py<Handle>>,
    generation: u32,
}

#[derive(Clone, Copy)]
pub enum Direction {
    Read,
    Write,
}

impl Direction {
    pub fn is_in(self, event: Event) -> bool {
        match self {
            Direction::Read => event.readable,
            Direction::Write => event.writable,
        }
    }
}

impl Descriptors {
    /// Sets the handle for one direction and returns the one it replaces. Without a poller only the table changes.
    pub fn set(
        &mut self,
        poller: Option<&Poller>,
        fd: RawFd,
        direction: Direction,
        handle: Py<Handle>,
    ) -> PyResult<Option<Py<Handle>>> {
        let index = index(fd).ok_or_else(|| invalid(fd))?;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, Entry::default);
        }
        let entry = &mut self.entries[index];
        let before = entry.interest();
        let replaced = entry.slot(direction).replace(handle);
        let after = entry.interest();
        if before.is_none() {
            self.generation = self.generation.wrapping_add(1);
            entry.generation = self.generation;
        }
        let key = entry.key(fd);
        let registered = match (poller, before, after) {
            (Some(poller), None, Some(interest)) => poller.add(fd, key, interest),
            // The same interest again is told to the poller as well: the descriptor may have been closed and reused.
            (Some(poller), Some(_), Some(interest)) => poller.modify(fd, key, interest),
            _ => Ok(()),
        };
        if let Err(error) = registered {
            *entry.slot(direction) = replaced;
            return Err(error.into());
        }
        self.watched += usize::from(before.is_none());
        Ok(replaced)
    }

    /// Removes the handle for one direction.
    pub fn remove(
        &mut self,
        poller: Option<&Poller>,
        fd: RawFd,
        direction: Direction,
    ) -> Option<Py<Handle>> {
        let entry = self.entries.get_mut(index(fd)?)?;
        let removed = entry.slot(direction).take()?;
        self.watched -= usize::from(entry.interest().is_none());
        if let Some(poller) = poller {
            // A descriptor that was closed in the meantime has left the poller by itself: nothing to do about errors.
            let _ = match entry.interest() {
                Some(interest) => poller.modify(fd, entry.key(fd), interest),
                None => poller.delete(fd),
            };
        }
        Some(removed)
    }

    /// Tells another poller of all there is. A descriptor that is no longer open is left out.
    pub fn register_all(&self, poller: &Poller) {
        for (entry, fd) in self.entries.iter().zip(0..) {
            if let Some(interest) = entry.interest() {
                let _ = poller.add(fd, entry.key(fd), interest);
            }
        }
    }

    /// The handle that an event is for, unless the event is stale.
    pub fn handle_of(&self, key: u64, direction: Direction) -> Option<&Py<Handle>> {
        let entry = self
            .entries
            .get(usize::try_from(key & u64::from(u32::MAX)).ok()?)?;
        if u64::from(entry.generation) != key >> 32 {
            return None;
        }
        match direction {
            Direction::Read => entry.reader.as_ref(),
            Direction::Write => entry.writer.as_ref(),
        }
    }

    /// Whether a descriptor has a reader and a writer.
    pub fn watched(&self, fd: RawFd) -> (bool, bool) {
        match index(fd).and_then(|index| self.entries.get(index)) {
            Some(entry) => (entry.reader.is_some(), entry.writer.is_some()),
            None => (false, false),
        }
    }

    pub fn count(&self) -> usize {
        self.watched
    }

    pub fn handles(&self) -> impl Iterator<Item = &Py<Handle>> {
        self.entries
            .iter()
            .flat_map(|entry| entry.reader.iter().chain(&entry.writer))
    }
}

impl Entry {
    fn slot(&mut self, direction: Direction) -> &mut Option<Py<Handle>> {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }

    /// None: in nothing.
    fn interest(&self) -> Option<Interest> {
        let interest = Interest {
            readable: self.reader.is_some(),
            writable: self.writer.is_some(),
        };
        (interest.readable || interest.writable).then_some(interest)
    }

    fn key(&self, fd: RawFd) -> u64 {
        u64::from(self.generation) << 32 | u64::from(fd.unsigned_abs())
    }
}

fn index(fd: RawFd) -> Option<usize> {
    usize::try_from(fd).ok()
}

fn invalid(fd: RawFd) -> PyErr {
    calls::builtin_error::<PyValueError>(format!("Invalid file descriptor: {fd}"))
}

/// The number behind a descriptor, a socket or a file.
pub fn file_descriptor(file: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    if let Ok(fd) = file.extract::<RawFd>() {
        return if fd >= 0 { Ok(fd) } else { Err(invalid(fd)) };
    }
    let fd = file
        .call_method0("fileno")
        .and_then(|fd| fd.extract::<RawFd>())
        .ok()
        .filter(|fd| *fd >= 0);
    match fd {
        Some(fd) => Ok(fd),
        None => Err(calls::builtin_error::<PyValueError>(format!(
            "Invalid file object: {}",
            file.repr()?
        ))),
    }
}
