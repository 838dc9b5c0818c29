//! A transport's end of its connection: an object of the `socket` module, or a descriptor of which one is made as soon
//! as somebody asks. Of an accepted connection mostly nobody does.

use std::io;
use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::calls;
use crate::gil::{GilCell, intern};
use crate::sockets;

/// What the `socket` module is told of a descriptor.
#[derive(Clone, Copy)]
pub struct Kind {
    pub family: i32,
    pub kind: i32,
    pub protocol: i32,
    /// Closing it waits until what was sent has arrived (`SO_LINGER`).
    pub lingers: bool,
}

pub struct Endpoint {
    /// At most one of the two is there; none once the connection is lost.
    object: GilCell<Option<Py<PyAny>>>,
    /// Ours to close.
    bare: GilCell<Option<RawFd>>,
    /// Of one that was bare at first.
    kind: Option<Kind>,
}

impl Endpoint {
    pub fn of(socket: Bound<'_, PyAny>) -> Self {
        Self {
            object: GilCell::new(Some(socket.unbind())),
            bare: GilCell::new(None),
            kind: None,
        }
    }

    /// Of a descriptor that doesn't block.
    pub fn bare(fd: OwnedFd, kind: Kind) -> Self {
        Self {
            object: GilCell::new(None),
            bare: GilCell::new(Some(fd.into_raw_fd())),
            kind: Some(kind),
        }
    }

    /// Of a connection that is lost.
    pub const fn nothing() -> Self {
        Self {
            object: GilCell::new(None),
            bare: GilCell::new(None),
            kind: None,
        }
    }

    pub fn is_open(&self, py: Python<'_>) -> bool {
        self.object.is_some(py) || self.bare.get(py).is_some()
    }

    /// The descriptor, which is -1 if the socket was closed behind our back, and once the connection is lost.
    pub fn descriptor(&self, py: Python<'_>) -> PyResult<RawFd> {
        if let Some(fd) = self.bare.get(py) {
            return Ok(fd);
        }
        match self.object.bind(py) {
            Some(socket) => sockets::descriptor(&socket),
            None => Ok(-1),
        }
    }

    /// The socket as an object, which owns the descriptor from now on. None once the connection is lost.
    pub fn object<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let (Some(fd), Some(kind)) = (self.bare.get(py), self.kind) {
            let made = kind.object(py, fd)?;
            if self.bare.take(py).is_some() {
                self.object.set(py, Some(made.unbind()));
            } else {
                // Made twice: Python code ran meanwhile.
                made.call_method0(intern!(py, "detach"))?;
            }
        }
        Ok(self.object.bind(py))
    }

    /// The same. Once the connection is lost it is one that is closed, if there never was another.
    pub fn object_or_closed<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        match (self.object(py)?, self.kind) {
            (None, Some(kind)) => kind.closed(py).map(Some),
            (socket, _) => Ok(socket),
        }
    }

    /// Closes the socket, as an object would: an error but for a connection that was reset.
    pub fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(fd) = self.bare.take(py) {
            let lingers = self.kind.is_some_and(|kind| kind.lingers);
            let closed = if lingers {
                py.detach(|| close(fd))
            } else {
                close(fd)
            };
            return closed.map_err(calls::os_error);
        }
        match self.object.take(py) {
            Some(socket) => socket.call_method0(py, intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.object.visit(|object| visit.call(object))
    }

    /// For `__clear__`. A descriptor needs nobody's help.
    pub fn let_go(&self, py: Python<'_>) {
        drop(self.object.take(py));
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Some(fd) = self.bare.get_mut().take() {
            let _ = close(fd);
        }
    }
}

impl Kind {
    /// A socket with this descriptor. If that fails the descriptor is nobody's, as before.
    fn object<'py>(self, py: Python<'py>, fd: RawFd) -> PyResult<Bound<'py, PyAny>> {
        // Told that it doesn't block, the object need not ask the system.
        let kind = self.kind | libc::SOCK_NONBLOCK;
        let args = PyTuple::new(py, [self.family, kind, self.protocol, fd])?;
        let class = calls::socket_type(py)?;
        let (socket, made) = calls::construct_in_two_steps(class, &args, &PyDict::new(py))?;
        if made.is_err() {
            // It may have got as far as having the descriptor.
            socket.call_method0(intern!(py, "detach"))?;
        }
        made.map(|()| socket)
    }

    /// A socket of this kind that is closed: what is left of a connection that is lost.
    pub fn closed<'py>(self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let socket = calls::socket_type(py)?.call1((self.family, self.kind, self.protocol))?;
        socket.call_method0(intern!(py, "close"))?;
        Ok(socket)
    }
}

fn close(fd: RawFd) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    if unsafe { libc::close(fd) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ECONNRESET) => Ok(()),
        _ => Err(error),
    }
}
