//! What the `sock_*` coroutines of `EventLoop` do between two waits.
//!
//! Each function here makes one attempt, at once and without a look at the poller. It returns what the coroutine is to
//! return, or a [`Wait`] to be awaited before the next attempt. A plain `socket.socket` is served by system calls that
//! never block; any other object, and whatever is out of the ordinary, by its own methods, which also know what to
//! raise.

mod plain;
pub mod system;
pub mod wait;

use std::os::fd::RawFd;

use libc::{AF_INET, AF_INET6};
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PySlice, PyString, PyTuple};

pub use self::plain::{descriptor, family};
pub use self::wait::Wait;
use crate::address::Address;
use crate::buffer::NewBytes;
use crate::calls;
use crate::descriptors::Direction::{Read, Write};
use crate::event_loop::LoopCore;
use crate::gil::intern;
use crate::transports::Memory;

/// `socket.recv(size)`
#[pyfunction]
pub fn receive<'py>(
    event_loop: &Bound<'py, LoopCore>,
    socket: &Bound<'py, PyAny>,
    size: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    let received = match (plain(event_loop, socket)?, length(size)) {
        (Some(fd), Some(size)) => {
            let mut memory = NewBytes::new(py, size)?;
            let received = system::receive(fd, memory.as_mut_slice())?;
            received.map(|count| memory.shrink(count)).transpose()?
        }
        _ => attempt(socket, intern!(py, "recv"), &[size])?,
    };
    received.map_or_else(|| Wait::begin(event_loop, socket, Read), Ok)
}

/// `socket.recv_into(buffer)`
#[pyfunction]
pub fn receive_into<'py>(
    event_loop: &Bound<'py, LoopCore>,
    socket: &Bound<'py, PyAny>,
    buffer: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    let received = match (
        plain(event_loop, socket)?,
        Memory::get(buffer, ffi::PyBUF_WRITABLE),
    ) {
        (Some(fd), Ok(mut memory)) => {
            let received = system::receive(fd, memory.as_mut_slice())?;
            received.map(|count| number(py, count)).transpose()?
        }
        _ => attempt(socket, intern!(py, "recv_into"), &[buffer])?,
    };
    received.map_or_else(|| Wait::begin(event_loop, socket, Read), Ok)
}

/// `socket.recvfrom(size)`
#[pyfunction]
pub fn receive_from<'py>(
    event_loop: &Bound<'py, LoopCore>,
    socket: &Bound<'py, PyAny>,
    size: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    let received = match (told(event_loop, socket)?, length(size)) {
        (Some(fd), Some(size)) => {
            let mut memory = NewBytes::new(py, size)?;
            let received = system::receive_from(fd, memory.as_mut_slice())?;
            let received = received.map(|(count, from)| {
                PyTuple::new(py, [memory.shrink(count)?, from.to_python(py)?]).map(Bound::into_any)
            });
            received.transpose()?
        }
        _ => attempt(socket, intern!(py, "recvfrom"), &[size])?,
    };
    received.map_or_else(|| Wait::begin(event_loop, socket, Read), Ok)
}

/// `socket.recvfrom_into(buffer, size)`, where no size is that of the buffer.
#[pyfunction]
pub fn receive_from_into<'py>(
    event_loop: &Bound<'py, LoopCore>,
    socket: &Bound<'py, PyAny>,
    buffer: &Bound<'py, PyAny>,
    size: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    let memory = Memory::get(buffer, ffi::PyBUF_WRITABLE).ok();
    let wanted = memory
        .as_ref()
        .and_then(|memory| match length(size)?.unsigned_abs() {
            0 => Some(memory.size()),
            size => (size <= memory.size()).then_some(size),
        });
    let received = match (told(event_loop, socket)?, memory, wanted) {
        (Some(fd), Some(mut memory), Some(wanted)) => {
            let received = system::receive_from(fd, &mut memory.as_mut_slice()[..wanted])?;
            let received = received.map(|(count, from)| {
                PyTuple::new(py, [number(py, count)?, from.to_python(py)?]).map(Bound::into_any)
            });
            received.transpose()?
        }
        _ => attempt(socket, intern!(py, "recvfrom_into"), &[buffer, size])?,
    };
    received.map_or_else(|| Wait::begin(event_loop, socket, Read), Ok)
}

/// Sends what is left of the data after the first `done` bytes. None once it is all sent.
#[pyfunction]
pub fn send<'py>(
    event_loop: &Bound<'py, LoopCore>,
    socket: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
    done: usize,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = socket.py();
    let (sent, length) = match (
        plain(event_loop, socket)?,
        Memory::get(data, ffi::PyBUF_SIMPLE),
    ) {
        (Some(fd), Ok(memory)) => {
            let data = memory.as_bytes();
            let rest = data.get(done..).unwrap_or_default();
            (system::send(fd, rest)?, data.len())
        }
        _ => {
            let rest = match done {
                0 => data.clone(),
                _ => data.get_item(PySlice::new(py, done as isize, isize::MAX, 1))?,
            };
            let sent = attempt(socket, intern!(py, "send"), &[&rest])?;
            let sent = sent.map(|sent| sent.extract::<usize>()).transpose()?;
            (sent, data.len()?)
        }
    };
    let just_failed = sent.is_none();
    let done = done + sent.unwrap_or(0);
    if done == length && !just_failed {
        return Ok(None);
    }
    Wait::begin_after(event_loop, socket, Write, done, just_failed).map(Some)
}

/// `socket.sendto(data, address)`
#[pyfunction]
pub fn send_to<'py>(
    event_loop: &Bound<'py, LoopCore>,
    socket: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
    address: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    let plain = match plain(event_loop, socket)? {
        Some(fd) => Address::numeric(family(socket)?, address).map(|to| (fd, to)),
        None => None,
    };
    let sent = match (plain, Memory::get(data, ffi::PyBUF_SIMPLE)) {
        (Some((fd, to)), Ok(memory)) => {
            let sent = system::send_to(fd, memory.as_bytes(), &to)?;
            sent.map(|count| number(py, count)).transpose()?
        }
        _ => attempt(socket, intern!(py, "sendto"), &[data, address])?,
    };
    sent.map_or_else(|| Wait::begin(event_loop, socket, Write), Ok)
}

/// `socket.accept()`, with a connection that doesn't block.
#[pyfunction]
pub fn accept<'py>(
    event_loop: &Bound<'py, LoopCore>,
    socket: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = socket.py();
    check(event_loop, socket)?;
    match attempt(socket, intern!(py, "accept"), &[])? {
        Some(accepted) => {
            let (connection, address) =
                accepted.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
            connection.call_method1(intern!(py, "setblocking"), (false,))?;
            Ok((connection, address).into_pyobject(py)?.into_any())
        }
        None => Wait::begin(event_loop, socket, Read),
    }
}

/// Whether a socket can't be connected to this address before its host is looked up.
#[pyfunction]
pub fn is_to_be_resolved(
    event_loop: &Bound<'_, LoopCore>,
    socket: &Bound<'_, PyAny>,
    address: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    check(event_loop, socket)?;
    let family = socket.getattr(intern!(socket.py(), "family"))?.extract()?;
    Ok(matches!(family, AF_INET | AF_INET6) && !Address::is_resolved(family, address))
}

/// `socket.connect(address)`. None if it is connected.
#[pyfunction]
pub fn connect<'py>(
    event_loop: &Bound<'py, LoopCore>,
    socket: &Bound<'py, PyAny>,
    address: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let connect = intern!(socket.py(), "connect");
    match attempt(socket, connect, &[address])? {
        Some(_) => Ok(None),
        None => Wait::begin_after(event_loop, socket, Write, 0, false).map(Some),
    }
}

/// What came of it. None: it is connected.
#[pyfunction]
pub fn check_connected<'py>(
    event_loop: &Bound<'py, LoopCore>,
    socket: &Bound<'py, PyAny>,
    address: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = socket.py();
    let option = (libc::SOL_SOCKET, libc::SO_ERROR);
    let code = socket.call_method1(intern!(py, "getsockopt"), option)?;
    if !code.is_truthy()? {
        return Ok(None);
    }
    let message = calls::string(py, format!("Connect call failed {}", address.str()?))?;
    let error = PyErr::from_value(py.get_type::<PyOSError>().call1((code, message))?);
    if would_block(py, &error) {
        return Wait::begin_after(event_loop, socket, Write, 0, false).map(Some);
    }
    Err(error)
}

/// The number of a plain socket. None: its methods may do something else than the system calls of their names.
fn plain(event_loop: &Bound<'_, LoopCore>, socket: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    let py = socket.py();
    check(event_loop, socket)?;
    if !socket.get_type().is(calls::socket_type(py)?) {
        return Ok(None);
    }
    descriptor(socket).map(Some)
}

/// The same, of a socket that is told whom it receives from.
fn told(event_loop: &Bound<'_, LoopCore>, socket: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    let Some(fd) = plain(event_loop, socket)? else {
        return Ok(None);
    };
    Ok(Address::is_told(family(socket)?).then_some(fd))
}

/// Refuses what asyncio refuses.
fn check(event_loop: &Bound<'_, LoopCore>, socket: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = socket.py();
    if !socket.get_type().is(calls::socket_type(py)?) {
        calls::check_ssl_socket(py)?.call1((socket,))?;
    }
    if event_loop.get().is_debugged(py) && !socket.call_method0(intern!(py, "gettimeout"))?.eq(0)? {
        return Err(calls::builtin_error::<PyValueError>(
            "the socket must be non-blocking",
        ));
    }
    Ok(())
}

/// Calls a method of the socket. None: it would have to block.
fn attempt<'py>(
    socket: &Bound<'py, PyAny>,
    method: &Bound<'py, PyString>,
    args: &[&Bound<'py, PyAny>],
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = socket.py();
    let args = PyTuple::new(py, args)?;
    match calls::call_user(&socket.getattr(method)?, &args, None) {
        Err(error) if would_block(py, &error) => Ok(None),
        returned => returned.map(Some),
    }
}

/// None: no number of bytes that a buffer may have.
fn length(size: &Bound<'_, PyAny>) -> Option<isize> {
    size.extract().ok().filter(|size| *size >= 0)
}

pub fn would_block(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}

fn number(py: Python<'_>, number: usize) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the GIL is held and the returned reference is ours.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromSize_t(number)) }
}
