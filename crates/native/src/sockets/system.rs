//! System calls on sockets, which never block. None: they would have to.

use std::io::{Error, ErrorKind, IoSlice, IoSliceMut};
use std::mem::{self, MaybeUninit};
use std::os::fd::RawFd;
use std::slice;

use libc::c_int;
use pyo3::prelude::*;

use crate::address::Address;
use crate::calls;

/// A broken connection is an error of the call, never a signal.
#[cfg(not(target_vendor = "apple"))]
const SENDING: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
#[cfg(target_vendor = "apple")]
const SENDING: c_int = libc::MSG_DONTWAIT;

pub fn receive(fd: RawFd, memory: &mut [MaybeUninit<u8>]) -> PyResult<Option<usize>> {
    let (pointer, size) = (memory.as_mut_ptr().cast(), memory.len());
    // SAFETY: the memory is valid for writes of its size.
    attempt(|| unsafe { libc::recv(fd, pointer, size, libc::MSG_DONTWAIT) })
}

/// Of what may be no socket, and doesn't block if it was set so. Fills one piece of memory after the other.
pub fn read(fd: RawFd, into: &mut [IoSliceMut<'_>]) -> PyResult<Option<usize>> {
    let (pointer, count) = (into.as_mut_ptr().cast(), into.len() as c_int);
    // SAFETY: an `IoSliceMut` is an `iovec` that is valid for writes, and there are so many of them.
    attempt(|| unsafe { libc::readv(fd, pointer, count) })
}

/// Likewise.
pub fn write(fd: RawFd, data: &[IoSlice<'_>]) -> PyResult<Option<usize>> {
    let (pointer, count) = (data.as_ptr().cast(), data.len() as c_int);
    // SAFETY: an `IoSlice` is an `iovec` that is valid for reads, and there are so many of them.
    attempt(|| unsafe { libc::writev(fd, pointer, count) })
}

/// Also says from whom.
pub fn receive_from(
    fd: RawFd,
    memory: &mut [MaybeUninit<u8>],
) -> PyResult<Option<(usize, Address)>> {
    let (pointer, size) = (memory.as_mut_ptr().cast(), memory.len());
    let mut from = Address::unknown();
    let received = attempt(|| {
        let (address, length) = from.for_writing();
        // SAFETY: the memory is valid for writes of its size, and so is the address.
        unsafe { libc::recvfrom(fd, pointer, size, libc::MSG_DONTWAIT, address, length) }
    })?;
    Ok(received.map(|count| (count, from)))
}

/// The same, filling one piece of memory after the other.
pub fn receive_message(
    fd: RawFd,
    into: &mut [IoSliceMut<'_>],
) -> PyResult<Option<(usize, Address)>> {
    if let [one] = into {
        // SAFETY: what is initialized may be taken for what need not be; nothing else is written to it than bytes.
        let one = unsafe { slice::from_raw_parts_mut(one.as_mut_ptr().cast(), one.len()) };
        return receive_from(fd, one);
    }
    let mut from = Address::unknown();
    // SAFETY: a header of zeros is an empty message.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    let (address, length) = from.for_writing();
    message.msg_iov = into.as_mut_ptr().cast();
    message.msg_iovlen = into.len() as _;
    message.msg_name = address.cast();
    // SAFETY: what was just gotten.
    message.msg_namelen = unsafe { *length };
    // SAFETY: an `IoSliceMut` is an `iovec` that is valid for writes, and so is the address.
    let received = attempt(|| unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT) })?;
    // SAFETY: as above.
    unsafe { *length = message.msg_namelen };
    Ok(received.map(|size| (size, from)))
}

/// Sends what fits.
pub fn send(fd: RawFd, data: &[u8]) -> PyResult<Option<usize>> {
    // SAFETY: the data is valid for reads.
    attempt(|| unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), SENDING) })
}

/// Sends to somebody.
pub fn send_to(fd: RawFd, data: &[u8], address: &Address) -> PyResult<Option<usize>> {
    let (pointer, length) = address.for_reading();
    // SAFETY: the data is valid for reads, and so is the address.
    attempt(|| unsafe {
        libc::sendto(
            fd,
            data.as_ptr().cast(),
            data.len(),
            SENDING,
            pointer,
            length,
        )
    })
}

fn attempt(mut call: impl FnMut() -> isize) -> PyResult<Option<usize>> {
    loop {
        if let Ok(count) = usize::try_from(call()) {
            return Ok(Some(count));
        }
        let error = Error::last_os_error();
        match error.kind() {
            ErrorKind::WouldBlock => return Ok(None),
            ErrorKind::Interrupted => {}
            _ => return Err(calls::os_error(error)),
        }
    }
}
