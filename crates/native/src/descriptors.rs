//! Who waits for which descriptors, kept in step with the poller.
//!
//! Callbacks and transports are told for as long as their descriptor is ready. An operation on a socket is told once, and
//! mostly another one on the same socket follows. So the poller goes on watching for it, for edges alone, until it tells
//! of something nobody waits for; an exchange of messages then asks it for nothing.
//!
//! Descriptors are numbers that may be closed, and used again, at any moment. So what the poller watches on for
//! operations is known by the socket that asked for it: another one with the same number asks anew.

use std::os::fd::RawFd;

use asyncio_thread_loop_core::poller::{Event, Interest, Poller};
use pyo3::PyClass;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit};

use crate::calls;
use crate::event_loop::LoopCore;
use crate::handle::Handle;

/// An object of ours that waits for descriptors and is told without a Python call in between.
pub trait Watch: PyClass {
    /// The descriptor is ready, or was when the loop last looked: it may have nothing to read any more, and is waited
    /// for again then. What this raises goes to the loop's exception handler.
    fn ready(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, LoopCore>,
        direction: Direction,
    ) -> PyResult<()>;
}

/// Who is told that a descriptor is ready.
pub enum Watcher {
    /// Of `add_reader` or `add_writer`.
    Handle(Py<Handle>),
    /// One of ours, and its [`Watch::ready`].
    Native(Py<PyAny>, Told),
    /// The `asyncio.Future` of an operation on a socket.
    Waiter(Py<PyAny>),
}

/// What tells a native watcher.
pub type Told = fn(&Bound<'_, PyAny>, &Bound<'_, LoopCore>, Direction) -> PyResult<()>;

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
    reader: Slot,
    writer: Slot,
    generation: u32,
    /// What the poller was told last. It may tell of more than somebody waits for, see [`Descriptors::pause`].
    registered: Option<Interest>,
    /// The socket whose operation had that told, as long as it lives.
    socket: Option<Py<PyWeakrefReference>>,
}

#[derive(Default)]
struct Slot {
    watcher: Option<Watcher>,
    /// A native watcher is to be told already, and need not be because the descriptor is still ready.
    is_queued: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Read,
    Write,
}

/// Whom an event is for.
pub enum Addressee<'a> {
    Handle(&'a Py<Handle>),
    /// One of ours, which isn't queued yet.
    Native,
    /// One of ours, which is.
    Queued,
    /// An operation, which isn't waiting any more.
    Waiter(Py<PyAny>),
    Nobody,
}

impl Direction {
    pub const BOTH: [Self; 2] = [Direction::Read, Direction::Write];

    pub fn is_in(self, event: Event) -> bool {
        match self {
            Direction::Read => event.readable,
            Direction::Write => event.writable,
        }
    }
}

impl Watcher {
    pub fn native<T: Watch>(object: &Bound<'_, T>) -> Self {
        Watcher::Native(
            object.clone().into_any().unbind(),
            |object, event_loop, direction| {
                // SAFETY: it is told with the object it stands beside, a `T`.
                T::ready(unsafe { object.cast_unchecked() }, event_loop, direction)
            },
        )
    }

    /// Of `add_reader` and the like: it isn't run any more, though it may be queued. Others see for themselves.
    pub fn cancel(&self, py: Python<'_>) {
        if let Watcher::Handle(handle) = self {
            handle.get().cancel(py);
        }
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Watcher::Handle(handle) => visit.call(handle),
            Watcher::Native(object, _) => visit.call(object),
            Watcher::Waiter(future) => visit.call(future),
        }
    }

    /// Who knows when its descriptor is closed need not have the poller told the same again.
    fn owns_its_descriptor(&self) -> bool {
        matches!(self, Watcher::Native(..))
    }
}

impl Descriptors {
    /// Sets who is told of one direction and returns whom it replaces. Without a poller only the table changes.
    pub fn set(
        &mut self,
        poller: Option<&Poller>,
        fd: RawFd,
        direction: Direction,
        watcher: Watcher,
    ) -> PyResult<Option<Watcher>> {
        let keeps = watcher.owns_its_descriptor();
        self.entry_for(fd)?.socket = None;
        self.put(poller, fd, direction, watcher, keeps)
    }

    /// Sets the waiter of an operation on a socket, to be told once, and returns whom it replaces. If the operation
    /// `has_just_failed` for want of what it waits for, what the poller watches already isn't asked for again.
    pub fn wait(
        &mut self,
        poller: Option<&Poller>,
        fd: RawFd,
        direction: Direction,
        (socket, waiter): (&Bound<'_, PyAny>, Py<PyAny>),
        has_just_failed: bool,
    ) -> PyResult<Option<Watcher>> {
        let entry = self.entry_for(fd)?;
        let is_known = entry.is_for(socket);
        if !is_known {
            entry.socket = None;
        }
        let keeps = is_known && has_just_failed;
        let replaced = self.put(poller, fd, direction, Watcher::Waiter(waiter), keeps)?;
        if !is_known {
            // What can't be referred to weakly asks each time.
            let reference = PyWeakrefReference::new(socket).map(Bound::unbind);
            self.entry_for(fd)?.socket = reference.ok();
        }
        Ok(replaced)
    }

    /// What is registered already isn't told to the poller again if the watcher `keeps` it.
    fn put(
        &mut self,
        poller: Option<&Poller>,
        fd: RawFd,
        direction: Direction,
        watcher: Watcher,
        keeps: bool,
    ) -> PyResult<Option<Watcher>> {
        let generation = self.generation.wrapping_add(1);
        let entry = self.entry_for(fd)?;
        let was_watched = entry.interest().is_some();
        let replaced = entry.slot(direction).watcher.replace(watcher);
        if !(keeps && entry.is_registered()) {
            if !was_watched {
                entry.generation = generation;
                (entry.reader.is_queued, entry.writer.is_queued) = (false, false);
            }
            // The same interest again is told to the poller as well: the descriptor may have been closed and reused.
            if let Err(error) = entry.register(poller, fd) {
                entry.slot(direction).watcher = replaced;
                return Err(calls::os_error(error));
            }
            self.generation = generation;
        }
        self.watched += usize::from(!was_watched);
        Ok(replaced)
    }

    /// Removes the waiter of an operation, unless it was told or somebody else is there now. The poller goes on watching,
    /// but is told again next time: who gives up may do so as the descriptor has become another file.
    pub fn forget(
        &mut self,
        fd: RawFd,
        direction: Direction,
        waiter: &Py<PyAny>,
    ) -> Option<Watcher> {
        let entry = self.entries.get_mut(index(fd)?)?;
        match &entry.slot(direction).watcher {
            Some(Watcher::Waiter(present)) if present.is(waiter) => {
                entry.socket = None;
                self.pause(fd, direction)
            }
            _ => None,
        }
    }

    /// Removes who is told of one direction.
    pub fn remove(
        &mut self,
        poller: Option<&Poller>,
        fd: RawFd,
        direction: Direction,
    ) -> Option<Watcher> {
        let removed = self.pause(fd, direction);
        let entry = self.entries.get_mut(index(fd)?)?;
        if removed.is_some() || !entry.is_exactly_registered() {
            entry.narrow(poller, fd);
        }
        removed
    }

    /// The same, but the poller goes on watching: who resumes soon finds everything as it was. If the descriptor gets
    /// ready before, the poller is told then.
    ///
    /// Whoever does this removes itself before the descriptor is closed. The system goes on telling of a descriptor
    /// that was duplicated, and wouldn't know it by its number any more.
    pub fn pause(&mut self, fd: RawFd, direction: Direction) -> Option<Watcher> {
        let entry = self.entries.get_mut(index(fd)?)?;
        let removed = entry.slot(direction).watcher.take()?;
        self.watched -= usize::from(entry.interest().is_none());
        Some(removed)
    }

    /// Tells another poller of all there is. A descriptor that is no longer open is left out.
    pub fn register_all(&mut self, poller: &Poller) {
        for (entry, fd) in self.entries.iter_mut().zip(0..) {
            (entry.registered, entry.socket) = (None, None);
            if entry.interest().is_some() {
                let _ = entry.register(Some(poller), fd);
            }
        }
    }

    /// Whom an event is for. One of ours counts as queued from now on, an operation waits no more. Stale events are for
    /// nobody.
    pub fn address(&mut self, key: u64, direction: Direction) -> Addressee<'_> {
        let Some(entry) = entry_of(&mut self.entries, key) else {
            return Addressee::Nobody;
        };
        if let Some(Watcher::Waiter(_)) = entry.slot(direction).watcher
            && let Some(Watcher::Waiter(waiter)) = entry.slot(direction).watcher.take()
        {
            self.watched -= usize::from(entry.interest().is_none());
            return Addressee::Waiter(waiter);
        }
        let slot = entry.slot(direction);
        match &slot.watcher {
            Some(Watcher::Handle(handle)) => Addressee::Handle(handle),
            Some(Watcher::Native(..)) if slot.is_queued => Addressee::Queued,
            Some(Watcher::Native(..)) => {
                slot.is_queued = true;
                Addressee::Native
            }
            Some(Watcher::Waiter(_)) | None => Addressee::Nobody,
        }
    }

    /// The native watcher that was queued, unless it has been removed since.
    pub fn take_queued(
        &mut self,
        py: Python<'_>,
        key: u64,
        direction: Direction,
    ) -> Option<(Py<PyAny>, Told)> {
        let slot = self.entry_of(key)?.slot(direction);
        slot.is_queued = false;
        match &slot.watcher {
            Some(Watcher::Native(object, told)) => Some((object.clone_ref(py), *told)),
            _ => None,
        }
    }

    /// The same to look at.
    pub fn queued(&mut self, key: u64, direction: Direction) -> Option<&Py<PyAny>> {
        match &self.entry_of(key)?.slot(direction).watcher {
            Some(Watcher::Native(object, _)) => Some(object),
            _ => None,
        }
    }

    /// Whether the poller would go on telling of what nobody waits for, now that an operation was told.
    pub fn is_to_correct(&mut self, key: u64) -> bool {
        self.entry_of(key).is_some_and(|entry| {
            let has_edges = entry.registered.is_some_and(|registered| registered.edges);
            !has_edges && !entry.is_exactly_registered()
        })
    }

    /// After an event that was for nobody: the poller is told what is waited for.
    pub fn correct(&mut self, poller: Option<&Poller>, key: u64) {
        if let Some(entry) = self.entry_of(key)
            && !entry.is_exactly_registered()
        {
            entry.narrow(poller, fd_of(key));
        }
    }

    /// Whether a descriptor has a reader and a writer.
    pub fn watched(&self, fd: RawFd) -> (bool, bool) {
        match index(fd).and_then(|index| self.entries.get(index)) {
            Some(entry) => (entry.reader.is_watched(), entry.writer.is_watched()),
            None => (false, false),
        }
    }

    pub fn count(&self) -> usize {
        self.watched
    }

    pub fn watchers(&self) -> impl Iterator<Item = &Watcher> {
        self.entries
            .iter()
            .flat_map(|entry| entry.reader.watcher.iter().chain(&entry.writer.watcher))
    }

    fn entry_of(&mut self, key: u64) -> Option<&mut Entry> {
        entry_of(&mut self.entries, key)
    }

    fn entry_for(&mut self, fd: RawFd) -> PyResult<&mut Entry> {
        let index = index(fd).ok_or_else(|| invalid(fd))?;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, Entry::default);
        }
        Ok(&mut self.entries[index])
    }
}

impl Entry {
    fn slot(&mut self, direction: Direction) -> &mut Slot {
        match direction {
            Direction::Read => &mut self.reader,
            Direction::Write => &mut self.writer,
        }
    }

    /// None: in nothing.
    fn interest(&self) -> Option<Interest> {
        let interest = Interest {
            readable: self.reader.is_watched(),
            writable: self.writer.is_watched(),
            edges: !self.reader.is_told_repeatedly() && !self.writer.is_told_repeatedly(),
        };
        (interest.readable || interest.writable).then_some(interest)
    }

    /// Whether the poller tells of all that is waited for.
    fn is_registered(&self) -> bool {
        let (Some(registered), Some(interest)) = (self.registered, self.interest()) else {
            return false;
        };
        (registered.readable || !interest.readable)
            && (registered.writable || !interest.writable)
            && (interest.edges || !registered.edges)
    }

    /// Whether what is registered is known to be for this socket.
    fn is_for(&self, socket: &Bound<'_, PyAny>) -> bool {
        let known = self.socket.as_ref();
        let known = known.and_then(|known| known.bind(socket.py()).upgrade());
        known.is_some_and(|known| known.is(socket))
    }

    fn is_exactly_registered(&self) -> bool {
        self.registered == self.interest()
    }

    fn register(&mut self, poller: Option<&Poller>, fd: RawFd) -> std::io::Result<()> {
        let was_registered = self.registered.take().is_some();
        if let (Some(poller), Some(interest)) = (poller, self.interest()) {
            if was_registered {
                poller.modify(fd, self.key(fd), interest)?;
            } else {
                poller.add(fd, self.key(fd), interest)?;
            }
            self.registered = Some(interest);
        }
        Ok(())
    }

    /// A descriptor that was closed in the meantime has left the poller by itself: nothing to do about errors.
    fn narrow(&mut self, poller: Option<&Poller>, fd: RawFd) {
        if let (Some(poller), None) = (poller, self.interest()) {
            self.registered = None;
            let _ = poller.delete(fd);
        } else {
            let _ = self.register(poller, fd);
        }
    }

    fn key(&self, fd: RawFd) -> u64 {
        u64::from(self.generation) << 32 | u64::from(fd.unsigned_abs())
    }
}

impl Slot {
    fn is_watched(&self) -> bool {
        self.watcher.is_some()
    }

    fn is_told_repeatedly(&self) -> bool {
        matches!(self.watcher, Some(Watcher::Handle(_) | Watcher::Native(..)))
    }
}

/// None if the key is of an earlier registration.
fn entry_of(entries: &mut [Entry], key: u64) -> Option<&mut Entry> {
    let index = usize::try_from(key & u64::from(u32::MAX)).ok()?;
    let entry = entries.get_mut(index)?;
    (u64::from(entry.generation) == key >> 32).then_some(entry)
}

/// The lower half of a key.
fn fd_of(key: u64) -> RawFd {
    key as u32 as RawFd
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
