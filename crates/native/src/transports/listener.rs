//! `Listener`: accepts connections for a server, without a task for each.
//!
//! What is rare is left to asyncio's `_accept_connection`: debug mode, and errors, which it meets again.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::calls;
use crate::descriptors::{Direction, Watch};
use crate::event_loop::{LoopCore, Step};
use crate::gil::{GilCell, intern};
use crate::handle::run_in_context;

#[pyclass(frozen, module = "asyncio_thread_loop._native")]
pub struct Listener {
    /// Of asyncio's `_accept_connection`: the factory of protocols, the socket, and so on.
    args: GilCell<Option<Py<PyTuple>>>,
    server: GilCell<Option<Py<PyAny>>>,
    context: GilCell<Option<Py<PyAny>>>,
    fd: RawFd,
    /// At most so many are accepted in a turn.
    backlog: usize,
    family: i32,
    kind: i32,
    protocol: i32,
}

/// A connection that becomes a transport in the next turn.
#[pyclass(frozen, module = "asyncio_thread_loop._native")]
struct Accepted {
    listener: Py<Listener>,
    socket: Py<PyAny>,
    peer: Py<PyAny>,
    context: Py<PyAny>,
}

#[pymethods]
impl Listener {
    #[new]
    fn new(
        socket: &Bound<'_, PyAny>,
        args: Py<PyTuple>,
        server: Option<Py<PyAny>>,
        backlog: usize,
    ) -> PyResult<Self> {
        let py = socket.py();
        Ok(Self {
            args: GilCell::new(Some(args)),
            server: GilCell::new(server),
            context: GilCell::new(Some(calls::copy_context(py)?.unbind())),
            fd: socket.call_method0("fileno")?.extract()?,
            backlog,
            family: socket.getattr("family")?.extract()?,
            kind: socket.getattr("type")?.extract()?,
            protocol: socket.getattr("proto")?.extract()?,
        })
    }

    /// Accepts from now on, until somebody else watches the descriptor or nobody does.
    fn _begin(slf: &Bound<'_, Self>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        event_loop
            .get()
            .watch_natively(slf.get().fd, Direction::Read, slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.args.visit(|args| visit.call(args))?;
        self.server.visit(|server| visit.call(server))?;
        self.context.visit(|context| visit.call(context))
    }

    fn __clear__(&self, py: Python<'_>) {
        drop((self.args.take(py), self.server.take(py)));
        drop(self.context.take(py));
    }
}

#[pymethods]
impl Accepted {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.listener)?;
        visit.call(&self.socket)?;
        visit.call(&self.peer)?;
        visit.call(&self.context)
    }
}

impl Watch for Listener {
    fn ready(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, LoopCore>,
        _direction: Direction,
    ) -> PyResult<()> {
        let py = slf.py();
        let Some(context) = slf.get().context.bind(py) else {
            return Ok(());
        };
        run_in_context(&context, || {
            Self::accept_all(slf, event_loop)?;
            Ok(py.None().into_bound(py))
        })
    }
}

impl Listener {
    fn accept_all(slf: &Bound<'_, Self>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if event_loop.get().is_debugged(py) {
            return this.accept_as_asyncio(event_loop);
        }
        for _ in 0..this.backlog {
            match accept(this.fd) {
                Ok((fd, peer)) => {
                    let accepted = Self::wrap(slf, fd, &peer)?;
                    LoopCore::soon::<Open>(event_loop, &accepted)?;
                }
                Err(error) => {
                    return match error.raw_os_error() {
                        Some(libc::EAGAIN | libc::EINTR | libc::ECONNABORTED) => Ok(()),
                        _ => this.accept_as_asyncio(event_loop),
                    };
                }
            }
        }
        Ok(())
    }

    fn accept_as_asyncio(&self, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = event_loop.py();
        let Some(args) = self.args.bind(py) else {
            return Ok(());
        };
        event_loop
            .getattr(intern!(py, "_accept_connection"))?
            .call1(args)
            .map(drop)
    }

    fn wrap<'py>(
        slf: &Bound<'py, Self>,
        fd: OwnedFd,
        peer: &Address,
    ) -> PyResult<Bound<'py, Accepted>> {
        let py = slf.py();
        let this = slf.get();
        // Told that it doesn't block, the object need not ask the system.
        let kind = this.kind | libc::SOCK_NONBLOCK;
        let (family, protocol) = (this.family, this.protocol);
        let socket = calls::socket_type(py)?.call1((family, kind, protocol, fd.as_raw_fd()))?;
        let _ = fd.into_raw_fd(); // It is the object's.
        let peer = match peer.to_python(py)? {
            Some(peer) => peer,
            None => socket.call_method0("getpeername")?,
        };
        let accepted = Accepted {
            listener: slf.clone().unbind(),
            socket: socket.unbind(),
            peer: peer.unbind(),
            context: calls::copy_context(py)?.unbind(),
        };
        Bound::new(py, accepted)
    }
}

/// An accepted connection gets its protocol and its transport.
struct Open;

impl Step for Open {
    type Of = Accepted;

    fn run(slf: &Bound<'_, Accepted>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let opened = run_in_context(this.context.bind(py), || this.open(py, event_loop));
        match opened {
            Err(error) if calls::ends_the_program(py, &error) => Err(error),
            // As in asyncio, which tells of it in debug mode alone: the peer sees its connection closed.
            _ => Ok(()),
        }
    }
}

impl Accepted {
    fn open<'py>(
        &self,
        py: Python<'py>,
        event_loop: &Bound<'py, LoopCore>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let listener = self.listener.get();
        let Some(args) = listener.args.bind(py) else {
            return Ok(py.None().into_bound(py));
        };
        let protocol = calls::call_user_plainly(&args.get_item(0)?)?;
        event_loop.call_method1(
            intern!(py, "_ensure_fd_no_transport"),
            (self.socket.bind(py),),
        )?;
        let extra = PyDict::new(py);
        extra.set_item(intern!(py, "peername"), &self.peer)?;
        let server = listener.server.bind(py);
        let socket = self.socket.bind(py);
        let nothing = py.None();
        calls::make_transport(py)?.call1((
            event_loop, socket, protocol, &nothing, extra, server, &nothing,
        ))
    }
}

/// The other side of a connection.
struct Address {
    storage: libc::sockaddr_storage,
    size: usize,
}

impl Address {
    /// None: what only the socket object can make of it.
    fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
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
fn accept(fd: RawFd) -> io::Result<(OwnedFd, Address)> {
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
