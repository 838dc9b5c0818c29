//! `Listener`: accepts connections for a server, without a task for each.
//!
//! What is rare is left to asyncio's `_accept_connection`: debug mode, and errors, which it meets again.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::endpoint::{Endpoint, Kind};
use super::making;
use super::socket;
use super::stream::{Addresses, StreamTransport};
use crate::address::Address;
use crate::calls;
use crate::descriptors::{Direction, Watch};
use crate::event_loop::{LoopCore, Step};
use crate::gil::{GilCell, GilRefCell, intern};
use crate::handle::run_in_context;

/// So often no second connection is looked for after a look that found only one. To look for one that isn't there has
/// the kernel make a socket all the same.
const SINGLES: usize = 7;

#[pyclass(frozen, module = "asyncio_thread_loop._native")]
pub struct Listener {
    /// Of asyncio's `_accept_connection`: the factory of protocols, the socket, and so on.
    args: GilCell<Option<Py<PyTuple>>>,
    server: GilCell<Option<Py<PyAny>>>,
    context: GilCell<Option<Py<PyAny>>>,
    fd: RawFd,
    /// At most so many are accepted in a turn.
    backlog: usize,
    /// Of the connections.
    kind: Kind,
    /// Accepted, and about to become transports.
    accepted: GilRefCell<VecDeque<(OwnedFd, Address)>>,
    /// So often from now on one connection is accepted in a turn: they come one by one.
    singles: GilCell<usize>,
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
        let fd = socket.call_method0("fileno")?.extract()?;
        Ok(Self {
            args: GilCell::new(Some(args)),
            server: GilCell::new(server),
            context: GilCell::new(Some(calls::copy_context(py)?.unbind())),
            fd,
            backlog,
            kind: Kind {
                family: socket.getattr("family")?.extract()?,
                kind: socket.getattr("type")?.extract()?,
                protocol: socket.getattr("proto")?.extract()?,
                lingers: socket::lingers(fd),
            },
            accepted: GilRefCell::new(VecDeque::new()),
            singles: GilCell::new(0),
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

impl Watch for Listener {
    fn ready(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, LoopCore>,
        _direction: Direction,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if event_loop.get().is_debugged(py) {
            return this.accept_as_asyncio(event_loop);
        }
        // All of them first: a factory of protocols may close the server.
        let accepted = this.accept_all(py);
        Self::open_all(slf, event_loop)?;
        match accepted {
            Ok(()) => Ok(()),
            Err(_) => this.accept_as_asyncio(event_loop),
        }
    }
}

impl Listener {
    /// An error is one that has to do with the system, not with a connection.
    fn accept_all(&self, py: Python<'_>) -> io::Result<()> {
        let mut accepted = self.accepted.borrow_mut(py);
        let singles = self.singles.get(py);
        if let Some(singles) = singles.checked_sub(1) {
            self.singles.set(py, singles);
        }
        let limit = if singles > 0 { 1 } else { self.backlog };
        for count in 0..limit {
            match accept(self.fd) {
                Ok(connection) => accepted.push_back(connection),
                Err(error) => {
                    if count == 1 {
                        self.singles.set(py, SINGLES);
                    }
                    return match error.raw_os_error() {
                        Some(libc::EAGAIN | libc::EINTR | libc::ECONNABORTED) => Ok(()),
                        _ => Err(error),
                    };
                }
            }
        }
        Ok(())
    }

    fn accept_as_asyncio(&self, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = event_loop.py();
        let (Some(args), Some(context)) = (self.args.bind(py), self.context.bind(py)) else {
            return Ok(());
        };
        run_in_context(&context, || {
            let accept = event_loop.getattr(intern!(py, "_accept_connection"))?;
            calls::call_user(&accept, &args, None)
        })
    }

    fn open_all(slf: &Bound<'_, Self>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        loop {
            let Some((fd, peer)) = this.accepted.borrow_mut(py).pop_front() else {
                return Ok(());
            };
            match this.open(event_loop, fd, peer) {
                Err(error) if calls::ends_the_program(py, &error) => {
                    LoopCore::soon::<OpenRest>(event_loop, slf)?;
                    return Err(error);
                }
                // As in asyncio, which tells of it in debug mode alone: the peer sees its connection closed.
                _ => {}
            }
        }
    }

    /// An accepted connection gets its protocol and its transport.
    fn open(&self, event_loop: &Bound<'_, LoopCore>, fd: OwnedFd, peer: Address) -> PyResult<()> {
        let py = event_loop.py();
        let (Some(args), Some(context)) = (self.args.bind(py), self.context.bind(py)) else {
            return Ok(());
        };
        let context = calls::copy_of_context(&context)?;
        run_in_context(&context, || {
            let protocol = calls::call_user_plainly(&args.get_item(0)?)?;
            self.connect(event_loop, fd, peer, protocol)
        })
    }

    fn connect<'py>(
        &self,
        event_loop: &Bound<'py, LoopCore>,
        fd: OwnedFd,
        peer: Address,
        protocol: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        let number = fd.as_raw_fd();
        LoopCore::check_no_transport(event_loop, number)?;
        if self.is_tcp() {
            socket::send_at_once(number);
        }
        let endpoint = Endpoint::bare(fd, self.kind);
        let extra = PyDict::new(py);
        let addresses = if Address::is_told(self.kind.family) {
            let own = Address::of(number);
            let peer = Some(peer);
            Some(Addresses { peer, own })
        } else {
            if let Some(socket) = endpoint.object(py)? {
                for (name, ask) in [("peername", "getpeername"), ("sockname", "getsockname")] {
                    extra.set_item(name, socket.call_method0(ask).ok())?;
                }
            }
            None
        };
        let server = self.server.bind(py);
        let transport =
            StreamTransport::accepted(event_loop, endpoint, extra, addresses, protocol, server)?;
        let transport = making::make(py, transport)?;
        let begun = StreamTransport::begin(&transport, None);
        if begun.is_err() {
            // Its server has closed in the meantime, or the loop has: nobody is to be told of its end.
            transport.get().drop_connection(py);
        }
        begun.map(|()| transport.into_any())
    }

    /// As asyncio asks before it has small writes sent at once.
    fn is_tcp(&self) -> bool {
        matches!(self.kind.family, libc::AF_INET | libc::AF_INET6)
            && self.kind.kind == libc::SOCK_STREAM
            && self.kind.protocol == libc::IPPROTO_TCP
    }
}

/// What was accepted when a factory ended the program goes on if the loop does.
struct OpenRest;

impl Step for OpenRest {
    type Of = Listener;

    fn run(slf: &Bound<'_, Listener>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        Listener::open_all(slf, event_loop)
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
