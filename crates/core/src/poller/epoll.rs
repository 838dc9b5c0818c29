//! The poller on Linux: epoll with timeouts in nanoseconds, woken through an eventfd.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use super::{Event, Interest, WAKE};

const CAPACITY: usize = 1024;

pub(super) struct Poller {
    epoll: OwnedFd,
    /// Registered edge-triggered: every write is an edge, so nobody has to read it. What it
    /// counts would take centuries to overflow.
    wake: OwnedFd,
    /// Whether the kernel has `epoll_pwait2` (Linux 5.11).
    precise: AtomicBool,
}

pub(super) struct Events {
    buffer: Box<[libc::epoll_event]>,
    len: usize,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed.
        let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: no pointers are passed.
        let wake = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        let poller = Self {
            epoll,
            wake,
            precise: AtomicBool::new(true),
        };
        let edge = (libc::EPOLLIN | libc::EPOLLET) as u32;
        poller.control(libc::EPOLL_CTL_ADD, poller.wake.as_raw_fd(), WAKE, edge)?;
        Ok(poller)
    }

    pub(super) fn add(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        self.register(libc::EPOLL_CTL_ADD, fd, key, interest)
    }

    pub(super) fn modify(&self, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        self.register(libc::EPOLL_CTL_MOD, fd, key, interest)
    }

    pub(super) fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    pub(super) fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        // ORDERING: Relaxed. It only saves asking the kernel again.
        if self.precise.load(Relaxed) {
            match self.wait_precise(events, timeout) {
                // Some sandboxes say EPERM to a system call they do not know.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    // ORDERING: Relaxed, see above.
                    self.precise.store(false, Relaxed);
                }
                result => return result,
            }
        }
        self.wait_coarse(events, timeout)
    }

    pub(super) fn wait_until_ready(&self, timeout: Option<Duration>) -> bool {
        // An epoll descriptor is itself readable while it has something to tell.
        let mut epoll = libc::pollfd {
            fd: self.epoll.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: `epoll` is valid for writes, the timeout is null or alive until the end of this function, and no signal
        // mask is passed.
        let ready = unsafe { libc::ppoll(&raw mut epoll, 1, timeout, ptr::null()) };
        ready != 0
    }

    pub(super) fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is valid for reads of its length.
        let written = unsafe { libc::write(self.wake.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        debug_assert_eq!(written, 8, "{}", io::Error::last_os_error());
    }

    fn wait_precise(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        /// The kernel's own timespec: 64 bits on every architecture.
        #[repr(C)]
        struct Timespec {
            seconds: i64,
            nanoseconds: i64,
        }
        let timeout = timeout.map(|timeout| Timespec {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: timeout.subsec_nanos().into(),
        });
        // SAFETY: the buffer is valid for writes of the length given with it, the timeout is null
        // or alive until the end of this function, and no signal mask is passed.
        let found = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                events.buffer.as_mut_ptr(),
                events.buffer.len() as libc::c_int,
                timeout.as_ref().map_or(ptr::null(), ptr::from_ref),
                ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        events.len = usize::try_from(found).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }

    fn wait_coarse(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        // Rounded up: a wait that ends early would only be followed by another one.
        let timeout = timeout.map_or(-1, |timeout| {
            libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000))
                .unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: the buffer is valid for writes of the length given with it, and no signal mask
        // is passed.
        let found = unsafe {
            libc::epoll_pwait(
                self.epoll.as_raw_fd(),
                events.buffer.as_mut_ptr(),
                events.buffer.len() as libc::c_int,
                timeout,
                ptr::null(),
            )
        };
        events.len = usize::try_from(found).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }

    fn register(&self, operation: i32, fd: RawFd, key: u64, interest: Interest) -> io::Result<()> {
        let mut flags = 0;
        if interest.readable {
            flags |= libc::EPOLLIN as u32;
        }
        if interest.writable {
            flags |= libc::EPOLLOUT as u32;
        }
        if interest.edges {
            flags |= libc::EPOLLET as u32;
        }
        let result = self.control(operation, fd, key, flags);
        // A descriptor was closed behind our back, and its number perhaps reused.
        match result.as_ref().map_err(io::Error::raw_os_error) {
            Err(Some(libc::EEXIST)) => self.control(libc::EPOLL_CTL_MOD, fd, key, flags),
            Err(Some(libc::ENOENT)) => self.control(libc::EPOLL_CTL_ADD, fd, key, flags),
            _ => result,
        }
    }

    fn control(&self, operation: i32, fd: RawFd, key: u64, flags: u32) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: flags,
            u64: key,
        };
        // SAFETY: `event` is valid, and whether `fd` is open is for the kernel to say.
        let result =
            unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Events {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![libc::epoll_event { events: 0, u64: 0 }; CAPACITY].into(),
            len: 0,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        const READ: u32 = (libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        const WRITE: u32 = (libc::EPOLLOUT | libc::EPOLLHUP | libc::EPOLLERR) as u32;
        self.buffer[..self.len]
            .iter()
            .map(|event| Event {
                key: event.u64,
                readable: event.events & READ != 0,
                writable: event.events & WRITE != 0,
            })
            .filter(|event| event.key != WAKE)
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }
}

fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system call just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(result) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// A poller on a kernel without `epoll_pwait2`.
    fn coarse() -> Poller {
        let poller = Poller::new().unwrap();
        poller.precise.store(false, Relaxed);
        poller
    }

    #[test]
    fn an_old_kernel_never_cuts_a_timeout_short() {
        let poller = coarse();
        let mut events = Events::new();
        for micros in [0, 1, 999, 1001] {
            let timeout = Duration::from_micros(micros);
            let start = Instant::now();
            poller.wait(&mut events, Some(timeout)).unwrap();
            assert!(start.elapsed() >= timeout, "{micros} µs");
            assert_eq!(events.len, 0);
        }
    }

    #[test]
    fn an_old_kernel_is_woken_just_as_well() {
        let poller = coarse();
        let mut events = Events::new();
        for timeout in [None, Some(Duration::MAX)] {
            poller.wake();
            poller.wait(&mut events, timeout).unwrap();
            assert_eq!((events.len, events.iter().count()), (1, 0));
        }
    }
}
