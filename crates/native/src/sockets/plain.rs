//! What a plain `socket.socket` knows of itself, without calling it.
//!
//! CPython's socket objects begin with their descriptor and their family, in all versions, as the C interface that the
//! `ssl` module uses them through has it. Whether they do here is looked up with the first socket; if not, it is asked.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use libc::c_int;
use pyo3::ffi;
use pyo3::prelude::*;

use crate::calls;
use crate::gil::{GilOnceCell, intern};

#[repr(C)]
struct Beginning {
    head: ffi::PyObject,
    fd: c_int,
    family: c_int,
}

const UNKNOWN: u8 = 0;
const AS_EXPECTED: u8 = 1;
const OTHERWISE: u8 = 2;

static LAYOUT: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The socket's descriptor: -1 if it is closed.
pub fn descriptor(socket: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    match beginning(socket)? {
        Some((fd, _)) => Ok(fd),
        None => ask_descriptor(socket),
    }
}

/// Of a plain socket, without the enumeration that Python makes of it.
pub fn family(socket: &Bound<'_, PyAny>) -> PyResult<c_int> {
    match beginning(socket)? {
        Some((_, family)) => Ok(family),
        None => ask_family(socket),
    }
}

/// None: it has to be asked, as it may be anything.
fn beginning(socket: &Bound<'_, PyAny>) -> PyResult<Option<(c_int, c_int)>> {
    if !socket.get_type().is(calls::socket_type(socket.py())?) {
        return Ok(None);
    }
    // ORDERING: Relaxed, the GIL is held whenever it is read or written.
    match LAYOUT.load(Relaxed) {
        OTHERWISE => return Ok(None),
        AS_EXPECTED => return Ok(Some(read(socket))),
        _ => {}
    }
    let asked = (ask_descriptor(socket)?, ask_family(socket)?);
    if asked.0 < 0 {
        return Ok(None);
    }
    // SAFETY: a live type.
    let size = unsafe { (*socket.get_type_ptr()).tp_basicsize };
    let is_as_expected = size as usize >= size_of::<Beginning>() && read(socket) == asked;
    let found = if is_as_expected {
        AS_EXPECTED
    } else {
        OTHERWISE
    };
    LAYOUT.store(found, Relaxed);
    Ok(Some(asked))
}

fn read(socket: &Bound<'_, PyAny>) -> (c_int, c_int) {
    // SAFETY: the object is alive and at least that large; whatever is there is numbers.
    unsafe {
        let beginning = socket.as_ptr().cast::<Beginning>();
        ((*beginning).fd, (*beginning).family)
    }
}

fn ask_descriptor(socket: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let fd = socket.call_method0(intern!(socket.py(), "fileno"))?;
    fd.extract()
}

fn ask_family(socket: &Bound<'_, PyAny>) -> PyResult<c_int> {
    static GET: GilOnceCell<Py<PyAny>> = GilOnceCell::new();
    let py = socket.py();
    let get = GET.get_or_try_init(py, || {
        let member = py.import("_socket")?.getattr("socket")?.getattr("family")?;
        Ok(member.getattr("__get__")?.unbind())
    })?;
    get.bind(py).call1((socket,))?.extract()
}
