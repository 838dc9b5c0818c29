//! Which descriptors are ready, level-triggered, with a wake-up from any thread.
//!
//! Level-triggered as asyncio's selectors are: a descriptor is told of again and again until it
//! is no longer ready. Who found it not ready and then only waits for that to change may ask for
//! the edges instead: nothing comes of it while nobody waits. A hang-up or an error counts as
//! readable and writable, so that whoever waits for either is told; who waits only for one
//! disregards the other.
//!
//! Descriptors are plain numbers that Python code may close, and the system may reuse, at any
//! moment. So [`Poller::modify`] of an unknown descriptor adds it and [`Poller::add`] of a known
//! one changes it.

#[cfg(all(target_os = "linux", not(feature = "portable-poller")))]
mod epoll;
#[cfg(any(not(target_os = "linux"), feature = "portable-poller"))]
mod portable;

#[cfg(all(target_os = "linux", not(feature = "portable-poller")))]
use epoll as system;
#[cfg(any(not(target_os = "linux"), feature = "portable-poller"))]
use portable as system;

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::ownership::Watch;

/// Waits for descriptors. Usable from any thread, though only one takes events ([`wait`](Poller::wait)) at a time.
pub struct Poller {
    system: system::Poller,
}

/// What to be told of. One of the two at least: to be told of nothing, delete the descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest {
    /// Reading, or accepting, would not block.
    pub readable: bool,
    /// Writing would not block, or a connection attempt ended.
    pub writable: bool,
    /// To be told once whenever it becomes ready, not for as long as it is. Some systems can't help but tell more often.
    pub edges: bool,
}

/// A descriptor is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The key it was registered with.
    pub key: u64,
    /// To be read, or hung up, or in error.
    pub readable: bool,
    /// To be written, or hung up, or in error.
    pub writable: bool,
}

/// A buffer for [`Poller::wait`], to be reused.
pub struct Events {
    system: system::Events,
}

impl Poller {
    /// A poller with nothing registered.
    ///
    /// # Errors
    ///
    /// The system's, when there are no more descriptors, say.
    pub fn new() -> io::Result<Self> {
        let system = system::Poller::new()?;
        Ok(Self { system })
    }

    /// Registers a descriptor, or changes it if it is registered. Any key but `u64::MAX`.
    ///
    /// # Errors
    ///
    /// The system's: `EBADF` if it is not open, `EPERM` if it is a regular file, `EINVAL` for the
    /// reserved key or an interest in nothing.
    pub fn add(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        check(key, interest)?;
        self.system.add(fd, key, interest)
    }

    /// Changes a registered descriptor, or registers it if it is not.
    ///
    /// # Errors
    ///
    /// As for [`add`](Self::add).
    pub fn modify(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        check(key, interest)?;
        self.system.modify(fd, key, interest)
    }

    /// Forgets a descriptor.
    ///
    /// # Errors
    ///
    /// The system's: `ENOENT` if it is not registered, `EBADF` if it is no longer open.
    pub fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.system.delete(fd)
    }

    /// Replaces what is in `events` by the descriptors that are ready; sleeps until one is, the
    /// timeout is over, somebody wakes it, or a signal comes. The wake-up is not among the events.
    ///
    /// # Errors
    ///
    /// `Interrupted` after a signal, and on systems where signals cannot be told, now and then.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        self.system.wait(&mut events.system, timeout)
    }

    /// Ends the wait under way or, if there is none, the next one at once.
    pub fn wake(&self) {
        self.system.wake();
    }
}

/// For a thread that watches while another one waits. After a signal it can't tell whether there is something.
impl Watch for Poller {
    fn wait_until_ready(&self, timeout: Option<Duration>) -> bool {
        self.system.wait_until_ready(timeout)
    }

    fn wake(&self) {
        self.wake();
    }
}

impl Events {
    /// An empty buffer. Descriptors that do not fit are told of by the next wait.
    pub fn new() -> Self {
        Self {
            system: system::Events::new(),
        }
    }

    /// What the last wait found.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.system.iter()
    }

    /// Forgets what the last wait found.
    pub fn clear(&mut self) {
        self.system.clear();
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").finish_non_exhaustive()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The key that stands for the wake-up.
const WAKE: u64 = u64::MAX;

/// An interest in nothing would still be told of hang-ups, again and again.
fn check(key: u64, interest: Interest) -> io::Result<()> {
    if key == WAKE || !(interest.readable || interest.writable) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok(())
}
