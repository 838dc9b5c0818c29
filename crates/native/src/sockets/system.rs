//! System calls on sockets, which never block. None: they would have to.

use std::io::{Error, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

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

/// Of what may be no socket, and doesn't block if it was set so.
pub fn read(fd: RawFd, memory: &mut [MaybeUninit<u8>]) -> PyResult<Option<usize>> {
    let (pointer, size) = (memory.as_mut_ptr().cast(), memory.len());
    // SAFETY: the memory is valid for writes of its size.
    attempt(|| unsafe { libc::read(fd, pointer, size) })
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
