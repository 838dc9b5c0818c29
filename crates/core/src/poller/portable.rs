//! The poller on other Unix systems, by way of the `polling` crate (kqueue, event ports, poll).
//! It goes back to sleep after a signal, so this one sleeps in short slices and reports
//! `Interrupted` after each: the caller looks for signals and waits again.

use polling::PollMode;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::time::Duration;

use super::{Event, Interest};

/// The longest a signal can go unnoticed.
const SLICE: Duration = Duration::from_millis(50);

pub(super) struct Poller {
    poller: polling::Poller,
    /// Tells a wake-up from the end of a slice: `polling` reports both as no events.
    woken: AtomicBool,
}

pub(super) struct Events {
    events: polling::Events,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: polling::Poller::new()?,
            woken: AtomicBool::new(false),
        })
    }

    pub(super) fn add(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        // A descriptor closed behind our back may have left its number registered.
        match self.insert(fd, key, interest) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.update(fd, key, interest)
            }
            result => result,
        }
    }

    pub(super) fn modify(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        match self.update(fd, key, interest) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.insert(fd, key, interest),
            result => result,
        }
    }

    pub(super) fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.poller.delete(borrow(&fd)?)
    }

    pub(super) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let slice = timeout.map_or(SLICE, |timeout| timeout.min(SLICE));
        let found = self.poller.wait(&mut events.events, Some(slice))?;
        // ORDERING: Acquire pairs with Release in `wake`: what was done before is seen after.
        let woken = self.woken.swap(false, Acquire);
        if found == 0 && !woken && timeout != Some(slice) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    pub(super) fn wait_until_ready(&self, timeout: Option<Duration>) -> bool {
        // The system's own poller is a descriptor, too, readable while it has something to tell.
        let mut poller = libc::pollfd {
            fd: self.poller.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // Rounded up, as an early end would be taken for the timeout.
        let timeout = timeout.map_or(-1, |timeout| {
            libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000))
                .unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: `poller` is valid for writes.
        let ready = unsafe { libc::poll(&raw mut poller, 1, timeout) };
        ready != 0
    }

    pub(super) fn wake(&self) {
        // ORDERING: Release, see `wait`. Before the notification, so that the wait it ends
        // finds the flag.
        self.woken.store(true, Release);
        // It can't fail but for want of memory, and then the wake-up comes a slice late.
        let _ = self.poller.notify();
    }

    fn insert(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        let fd = borrow(&fd)?;
        let event = event(key, interest)?;
        // SAFETY: asked of us is to delete the descriptor before it is closed, as systems may go
        // on reporting it. They report it by its key, a number, and what a key stands for the
        // caller looks up; no memory is reached through it.
        unsafe { self.poller.add_with_mode(&fd, event, self.mode(interest)) }
    }

    fn update(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        self.poller
            .modify_with_mode(borrow(&fd)?, event(key, interest)?, self.mode(interest))
    }

    fn mode(&self, interest: Interest) -> PollMode {
        if interest.edges && self.poller.supports_edge() {
            PollMode::Edge
        } else {
            PollMode::Level
        }
    }
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            events: polling::Events::new(),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.events.iter().map(|event| {
            // A system that can't tell (kqueue) marks a hang-up as what was asked for.
            let broken = event.is_interrupt() || event.is_err().unwrap_or(false);
            Event {
                key: event.key as u64,
                readable: event.readable || broken,
                writable: event.writable || broken,
            }
        })
    }

    pub(super) fn clear(&mut self) {
        self.events.clear();
    }
}

fn event(key: u64, interest: Interest) -> io::Result<polling::Event> {
    let key = usize::try_from(key).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok(polling::Event::new(
        key,
        interest.readable,
        interest.writable,
    ))
}

fn borrow(fd: &RawFd) -> io::Result<BorrowedFd<'_>> {
    if *fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is not -1, and it is lent for one system call, which says so if it is not open.
    Ok(unsafe { BorrowedFd::borrow_raw(*fd) })
}
