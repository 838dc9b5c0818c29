//! Addresses of sockets: Python's tuples and the system's structures.
//!
//! What takes a look at a name server, and families that are rare, are left to the `socket` module.

use std::mem::{self, offset_of};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;

use libc::{
    AF_INET, AF_INET6, AF_UNIX, c_int, sa_family_t, sockaddr, sockaddr_in, sockaddr_in6,
    sockaddr_storage, sockaddr_un, socklen_t,
};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use crate::calls;

#[derive(Clone)]
pub struct Address {
    storage: sockaddr_storage,
    length: socklen_t,
}

impl Address {
    /// To be filled by the system.
    pub fn unknown() -> Self {
        Self {
            // SAFETY: a structure of numbers.
            storage: unsafe { mem::zeroed() },
            length: socklen_of::<sockaddr_storage>(),
        }
    }

    /// Of this side of a connection. None if the system doesn't tell.
    pub fn of(fd: RawFd) -> Option<Self> {
        let mut found = Self::unknown();
        let (address, length) = found.for_writing();
        // SAFETY: the address is valid for writes.
        let told = unsafe { libc::getsockname(fd, address, length) };
        (told == 0).then_some(found)
    }

    /// Whether it is a number and a port.
    pub fn is_of_the_internet(&self) -> bool {
        matches!(c_int::from(self.storage.ss_family), AF_INET | AF_INET6)
    }

    /// Whether the addresses that sockets of this family receive from are told.
    pub fn is_told(family: c_int) -> bool {
        matches!(family, AF_INET | AF_INET6 | AF_UNIX)
    }

    /// Of a host that is given by number. None: of another kind, or of none.
    pub fn numeric(family: c_int, address: &Bound<'_, PyAny>) -> Option<Self> {
        let parts = address.cast_exact::<PyTuple>().ok()?.as_slice();
        let [host, port, more @ ..] = parts else {
            return None;
        };
        let host = host.cast_exact::<PyString>().ok()?.to_str().ok()?;
        let port = port.extract::<u16>().ok()?.to_be();
        let mut made = Self::unknown();
        match (family, more) {
            (AF_INET, []) => {
                let host: Ipv4Addr = host.parse().ok()?;
                let address: &mut sockaddr_in = made.as_mut();
                address.sin_family = AF_INET as sa_family_t;
                address.sin_port = port;
                address.sin_addr.s_addr = u32::from_ne_bytes(host.octets());
                made.length = socklen_of::<sockaddr_in>();
            }
            (AF_INET6, more) if more.len() <= 2 => {
                let host: Ipv6Addr = host.parse().ok()?;
                let number = |index: usize| more.get(index).map_or(Some(0), |n| n.extract().ok());
                let flow: u32 = number(0).filter(|flow| *flow <= 0xf_ffff)?;
                let scope: u32 = number(1)?;
                let address: &mut sockaddr_in6 = made.as_mut();
                address.sin6_family = AF_INET6 as sa_family_t;
                address.sin6_port = port;
                address.sin6_flowinfo = flow.to_be();
                address.sin6_addr.s6_addr = host.octets();
                address.sin6_scope_id = scope;
                made.length = socklen_of::<sockaddr_in6>();
            }
            _ => return None,
        }
        Some(made)
    }

    /// Whether it is what looking it up would give.
    pub fn is_resolved(family: c_int, address: &Bound<'_, PyAny>) -> bool {
        let parts = if family == AF_INET { 2 } else { 4 };
        address.len().is_ok_and(|length| length == parts)
            && Self::numeric(family, address).is_some()
    }

    /// As the `socket` module gives it.
    pub fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let length = self.length as usize;
        if length == 0 {
            return Ok(py.None().into_bound(py));
        }
        match c_int::from(self.storage.ss_family) {
            AF_INET => {
                let address: &sockaddr_in = self.as_ref();
                let host = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
                let host = calls::string(py, host.to_string())?;
                let port = u16::from_be(address.sin_port);
                Ok(PyTuple::new(py, [host.into_any(), number(py, port.into())?])?.into_any())
            }
            AF_INET6 => {
                let address: &sockaddr_in6 = self.as_ref();
                let host = calls::string(py, numbers(address.sin6_addr.s6_addr))?;
                let port = u16::from_be(address.sin6_port);
                let flow = u32::from_be(address.sin6_flowinfo);
                let parts = [
                    host.into_any(),
                    number(py, port.into())?,
                    number(py, flow)?,
                    number(py, address.sin6_scope_id)?,
                ];
                Ok(PyTuple::new(py, parts)?.into_any())
            }
            _ => self.path(py, length),
        }
    }

    /// Of a Unix socket: bytes if it is an abstract one.
    fn path<'py>(&self, py: Python<'py>, length: usize) -> PyResult<Bound<'py, PyAny>> {
        let address: &sockaddr_un = self.as_ref();
        let path = address.sun_path.map(|byte| byte as u8);
        let path = &path[..length
            .saturating_sub(offset_of!(sockaddr_un, sun_path))
            .min(path.len())];
        if path.first() == Some(&0) {
            return Ok(calls::bytes(py, path)?.into_any());
        }
        let end = path.iter().position(|byte| *byte == 0);
        let path = &path[..end.unwrap_or(path.len())];
        // SAFETY: the bytes are valid for reads of their length, and the returned reference is ours.
        unsafe {
            let path =
                ffi::PyUnicode_DecodeFSDefaultAndSize(path.as_ptr().cast(), path.len() as isize);
            Bound::from_owned_ptr_or_err(py, path)
        }
    }

    pub fn for_writing(&mut self) -> (*mut sockaddr, *mut socklen_t) {
        self.length = socklen_of::<sockaddr_storage>();
        ((&raw mut self.storage).cast(), &raw mut self.length)
    }

    pub fn for_reading(&self) -> (*const sockaddr, socklen_t) {
        ((&raw const self.storage).cast(), self.length)
    }

    fn as_ref<T: Structure>(&self) -> &T {
        // SAFETY: the storage is large and aligned enough for each of these structures, all of numbers, and initialized.
        unsafe { &*(&raw const self.storage).cast() }
    }

    fn as_mut<T: Structure>(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *(&raw mut self.storage).cast() }
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Address {
    /// Differs where addresses of the internet mostly do.
    pub fn hash(&self) -> usize {
        let mixed = self.bytes().chunks_exact(4).fold(0u32, |mixed, part| {
            let part = part.try_into().map_or(0, u32::from_ne_bytes);
            (mixed.rotate_left(5) ^ part).wrapping_mul(0x9E37_79B9)
        });
        (mixed >> 16) as usize
    }

    fn bytes(&self) -> &[u8] {
        let length = (self.length as usize).min(size_of::<sockaddr_storage>());
        // SAFETY: so many bytes of the storage are initialized.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), length) }
    }
}

/// As `inet_ntop` writes it: what holds an IPv4 address ends like one.
fn numbers(octets: [u8; 16]) -> String {
    match octets {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d] if (a, b) != (0, 0) => {
            format!("::{}", Ipv4Addr::new(a, b, c, d))
        }
        _ => Ipv6Addr::from(octets).to_string(),
    }
}

fn number(py: Python<'_>, number: u32) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the GIL is held and the returned reference is ours.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromUnsignedLong(number.into())) }
}

/// What the system's storage holds.
trait Structure {}
impl Structure for sockaddr_in {}
impl Structure for sockaddr_in6 {}
impl Structure for sockaddr_un {}

fn socklen_of<T>() -> socklen_t {
    size_of::<T>() as socklen_t
}
