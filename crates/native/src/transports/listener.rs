//! `Listener`: accepts connections for a server, without a task for each.
//!
//! What is rare is left to asyncio's `_accept_connection`: debug mode, and errors, which it meets again.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::socket;
use super::stream::StreamTransport;
use crate::address::Address;
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
    /// As asyncio asks before it has small writes sent at once.
    fn is_tcp(&self) -> bool {
        matches!(self.family, libc::AF_INET | libc::AF_INET6)
            && self.kind == libc::SOCK_STREAM
            && self.protocol == libc::IPPROTO_TCP
    }

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
        let peer = if Address::is_told(this.family) {
            peer.to_python(py)?
        } else {
            socket.call_method0("getpeername")?
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
        let socket = self.socket.bind(py);
        let fd: RawFd = socket.call_method0(intern!(py, "fileno"))?.extract()?;
        let others = event_loop.getattr(intern!(py, "_transports"))?;
        if !others.call_method1(intern!(py, "get"), (fd,))?.is_none() {
            // It raises unless that transport is about to end.
            event_loop.call_method1(intern!(py, "_ensure_fd_no_transport"), (fd,))?;
        }
        if listener.is_tcp() {
            socket::send_at_once(fd);
        }
        let extra = PyDict::new(py);
        extra.set_item(intern!(py, "peername"), &self.peer)?;
        let server = listener.server.bind(py);
        let transport = calls::socket_transport(py)?
            .call1((event_loop, socket, protocol, extra, server))?
            .cast_into::<StreamTransport>()?;
        transport.get().fill_in_later(py, Address::of(fd))?;
        StreamTransport::begin(&transport, None)?;
        Ok(transport.into_any())
    }
}

/// A connection that waits, as a descriptor that doesn't block and isn't inherited, and from whom.
fn accept(fd: RawFd) -> io::Result<(OwnedFd, Address)> {
    let mut peer = Address::unknown();
    let (address, length) = peer.for_writing();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the address is valid for writes.
    let accepted = unsafe { libc::accept4(fd, address, length, flags) };
    if accepted < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system call just made this descriptor.
    Ok((unsafe { OwnedFd::from_raw_fd(accepted) }, peer))
}
