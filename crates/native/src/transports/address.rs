//! Addresses of connections, as the kernel gives them and as Python shows them.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::Ipv4Addr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::calls;

/// Of one side of a connection.
pub struct Address {
    storage: libc::sockaddr_storage,
    size: usize,
}

impl Address {
    /// Of this side. None if the system doesn't tell.
    pub fn of(fd: RawFd) -> Option<Self> {
        let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let mut size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        // SAFETY: the storage is valid for writes of `size` bytes.
        let told = unsafe { libc::getsockname(fd, storage.as_mut_ptr().cast(), &raw mut size) };
        (told == 0).then(|| Self {
            // SAFETY: zeros are an address, too.
            storage: unsafe { storage.assume_init() },
            size: size as usize,
        })
    }

    /// Whether Python's form of it can be made without the socket.
    pub fn is_of_the_internet(&self) -> bool {
        matches!(
            i32::from(self.storage.ss_family),
            libc::AF_INET | libc::AF_INET6
        )
    }

    /// None: what only the socket object can make of it.
    pub fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let family = i32::from(self.storage.ss_family);
        if family == libc::AF_INET && self.size >= size_of::<libc::sockaddr_in>() {
            // SAFETY: the storage is that large and aligned for every kind of address; the family says which it is.
            let address = unsafe { *(&raw const self.storage).cast::<libc::sockaddr_in>() };
            let host = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).to_string();
            let pair = (calls::string(py, host)?, u16::from_be(address.sin_port));
            return Ok(Some(pair.into_pyobject(py)?.into_any()));
        }
        if family == libc::AF_INET6 && self.size >= size_of::<libc::sockaddr_in6>() {
            // SAFETY: as above.
            let address = unsafe { *(&raw const self.storage).cast::<libc::sockaddr_in6>() };
            let host = PyBytes::new(py, &address.sin6_addr.s6_addr);
            let parts = (
                calls::inet_ntop(py)?.call1((family, host))?,
                u16::from_be(address.sin6_port),
                u32::from_be(address.sin6_flowinfo),
                address.sin6_scope_id,
            );
            return Ok(Some(parts.into_pyobject(py)?.into_any()));
        }
        if family == libc::AF_UNIX && self.size <= size_of::<libc::sa_family_t>() {
            return Ok(Some(calls::string(py, "")?.into_any()));
        }
        Ok(None)
    }
}

/// A connection that waits, as a descriptor that doesn't block and isn't inherited.
pub fn accept(fd: RawFd) -> io::Result<(OwnedFd, Address)> {
    let mut storage = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut size = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the storage is valid for writes of `size` bytes.
    let accepted = unsafe { libc::accept4(fd, storage.as_mut_ptr().cast(), &raw mut size, flags) };
    if accepted < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system call just made this descriptor; zeros are an address, too.
    unsafe {
        let address = Address {
            storage: storage.assume_init(),
            size: size as usize,
        };
        Ok((OwnedFd::from_raw_fd(accepted), address))
    }
}
