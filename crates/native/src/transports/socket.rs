//! System calls on sockets that don't block.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::RawFd;

use pyo3::prelude::*;

use crate::calls;

/// What came of a system call.
pub enum Outcome {
    /// So many bytes.
    Moved(usize),
    /// Not now: it would block.
    Later,
    /// The number of an error.
    Failed(i32),
}

impl Outcome {
    fn of(result: isize) -> Self {
        if let Ok(count) = usize::try_from(result) {
            return Outcome::Moved(count);
        }
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Outcome::Later,
            error => Outcome::Failed(error.unwrap_or(libc::EIO)),
        }
    }

    /// How many bytes, or the error. None: not now.
    pub fn moved(self) -> PyResult<Option<usize>> {
        match self {
            Outcome::Moved(size) => Ok(Some(size)),
            Outcome::Later => Ok(None),
            Outcome::Failed(number) => Err(calls::os_error(io::Error::from_raw_os_error(number))),
        }
    }
}

/// Receives into memory that may be uninitialized.
///
/// # Safety
///
/// `into` is valid for writes of `size` bytes.
pub unsafe fn receive(fd: RawFd, into: *mut u8, size: usize) -> Outcome {
    // SAFETY: the caller's; whether `fd` is a socket is for the kernel to say.
    Outcome::of(unsafe { libc::recv(fd, into.cast(), size, 0) })
}

/// Receives into several buffers, one after the other.
pub fn receive_vectored(fd: RawFd, into: &mut [IoSliceMut<'_>]) -> Outcome {
    let count = libc::c_int::try_from(into.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: an `IoSliceMut` is an `iovec` that is valid for writes, and there are `count` of them.
    Outcome::of(unsafe { libc::readv(fd, into.as_ptr().cast(), count) })
}

pub fn send(fd: RawFd, data: &[u8]) -> Outcome {
    // SAFETY: `data` is valid for reads of its length.
    Outcome::of(unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), libc::MSG_NOSIGNAL) })
}

pub fn send_vectored(fd: RawFd, data: &[IoSlice<'_>]) -> Outcome {
    // SAFETY: a header of zeros is an empty message.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = data.as_ptr().cast_mut().cast();
    message.msg_iovlen = data.len() as _;
    // SAFETY: the header is valid; an `IoSlice` is an `iovec` that is valid for reads, and the kernel doesn't write to it.
    Outcome::of(unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) })
}

/// Small writes over TCP don't wait for more. If they do nevertheless, nothing is wrong.
pub fn send_at_once(fd: RawFd) {
    let on: libc::c_int = 1;
    // SAFETY: the option is an integer, valid for reads of its size.
    unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        );
    }
}

/// Whether closing the socket, or one that it accepts, waits until what was sent has arrived.
pub fn lingers(fd: RawFd) -> bool {
    let mut linger = libc::linger {
        l_onoff: 0,
        l_linger: 0,
    };
    let mut size = size_of_val(&linger) as libc::socklen_t;
    // SAFETY: the option is such a structure, valid for writes of its size.
    unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw mut linger).cast(),
            &raw mut size,
        );
    }
    linger.l_onoff != 0
}

/// Sends the end of the stream.
pub fn shut_down_writing(py: Python<'_>, fd: RawFd) -> PyResult<()> {
    // SAFETY: no pointers are passed.
    if unsafe { libc::shutdown(fd, libc::SHUT_WR) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error().raw_os_error();
    Err(os_error(py, error.unwrap_or(libc::EIO)))
}

/// The `OSError` of this number, of the subclass that it has.
pub fn os_error(_py: Python<'_>, number: i32) -> PyErr {
    calls::os_error(io::Error::from_raw_os_error(number))
}
