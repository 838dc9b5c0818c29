//! Reading: from the socket into the protocol.

use std::mem::MaybeUninit;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;

use super::life::Lives;
use super::socket::{self, Outcome};
use super::stream::StreamTransport;
use super::tls::{Queue, TlsCore};
use crate::buffer::receive_bytes;
use crate::calls;
use crate::gil::intern;

/// At most so many bytes are read at once.
pub const MAX_SIZE: usize = 256 * 1024;

impl StreamTransport {
    /// The socket can be read.
    pub fn read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_lost(py) {
            return Ok(());
        }
        if this.is_buffered(py) {
            Self::read_into_protocol(slf)
        } else {
            Self::read_for_protocol(slf)
        }
    }

    /// `Protocol`: it is handed what was received.
    fn read_for_protocol(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let fd = this.descriptor(py)?;
        let received = receive_bytes(py, &this.expected, MAX_SIZE, true, |into| match into {
            // SAFETY: the memory is valid for writes of its length.
            [one] => unsafe { socket::receive(fd, one.as_mut_ptr(), one.len()) }.moved(),
            several => socket::receive_vectored(fd, several).moved(),
        });
        let data = match received {
            Ok(Some(data)) => data,
            Ok(None) => return Ok(()),
            Err(error) => {
                return Self::fatal_error(slf, error, "Fatal read error on socket transport");
            }
        };
        if data.as_bytes().is_empty() {
            return Self::read_eof(slf);
        }
        let Some(protocol) = this.protocol(py) else {
            return Ok(());
        };
        let returned = calls::call_user_method(intern!(py, "data_received"), [&protocol, &data]);
        drop(data);
        Self::check_protocol(
            slf,
            returned,
            "Fatal error: protocol.data_received() call failed.",
        )
        .map(drop)
    }

    /// `BufferedProtocol`: it provides the memory.
    fn read_into_protocol(slf: &Bound<'_, Self>) -> PyResult<()> {
        const FAILED: &str = "Fatal error: protocol.get_buffer() call failed.";
        let py = slf.py();
        let this = slf.get();
        let Some(protocol) = this.protocol(py) else {
            return Ok(());
        };
        if let Ok(tls) = protocol.cast::<TlsCore>() {
            return Self::read_for_tls(slf, tls);
        }
        let any_size = (-1i32).into_pyobject(py)?.into_any();
        let buffer = calls::call_user_method(intern!(py, "get_buffer"), [&protocol, &any_size]);
        let buffer = buffer.and_then(|buffer| match buffer.len()? {
            0 => Err(calls::builtin_error::<PyRuntimeError>(
                "get_buffer() returned an empty buffer",
            )),
            _ => Ok(buffer),
        });
        let Some(buffer) = Self::check_protocol(slf, buffer, FAILED)? else {
            return Ok(());
        };
        let received = Memory::of(&buffer).and_then(|memory| {
            let fd = this.descriptor(py)?;
            // SAFETY: the memory is writable and stays as long as `memory` does.
            Ok(unsafe { socket::receive(fd, memory.start(), memory.size()) })
        });
        drop(buffer);
        let size = match received {
            Ok(Outcome::Later) => return Ok(()),
            Ok(Outcome::Moved(0)) => return Self::read_eof(slf),
            Ok(Outcome::Moved(size)) => size,
            failed => {
                let error = match failed {
                    Ok(Outcome::Failed(number)) => socket::os_error(py, number),
                    Err(error) => error,
                    Ok(_) => return Ok(()),
                };
                return Self::fatal_error(slf, error, "Fatal read error on socket transport");
            }
        };
        let size = size.into_pyobject(py)?.into_any();
        let returned = calls::call_user_method(intern!(py, "buffer_updated"), [&protocol, &size]);
        Self::check_protocol(
            slf,
            returned,
            "Fatal error: protocol.buffer_updated() call failed.",
        )
        .map(drop)
    }

    /// TLS is handed what was received where it is.
    fn read_for_tls(slf: &Bound<'_, Self>, tls: &Bound<'_, TlsCore>) -> PyResult<()> {
        let py = slf.py();
        let fd = slf.get().descriptor(py)?;
        let mut received = Queue::with_room(MAX_SIZE);
        let room = &mut received.room()[..MAX_SIZE];
        // SAFETY: it is as long as it is said to be.
        match unsafe { socket::receive(fd, room.as_mut_ptr(), room.len()) } {
            Outcome::Later => return Ok(()),
            Outcome::Moved(0) => return Self::read_eof(slf),
            Outcome::Moved(size) => received.was_filled(size),
            Outcome::Failed(number) => {
                let error = socket::os_error(py, number);
                return Self::fatal_error(slf, error, "Fatal read error on socket transport");
            }
        }
        let done = TlsCore::receive(tls, received);
        Self::check_protocol(
            slf,
            done,
            "Fatal error: protocol.buffer_updated() call failed.",
        )
        .map(drop)
    }

    /// The other side has sent its last.
    fn read_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        Self::log(slf, "debug", "%r received EOF")?;
        let Some(protocol) = this.protocol(py) else {
            return Ok(());
        };
        let returned = calls::call_user_method(intern!(py, "eof_received"), [&protocol])
            .and_then(|keep_open| keep_open.is_truthy());
        match Self::check_protocol(
            slf,
            returned,
            "Fatal error: protocol.eof_received() call failed.",
        )? {
            None => Ok(()),
            // It may still write; there is nothing more to be read.
            Some(true) => {
                this.stop_reading(py);
                Ok(())
            }
            Some(false) => slf.call_method0(intern!(py, "close")).map(drop),
        }
    }

    /// What a method of the protocol returned. None if it failed, which ends the connection.
    fn check_protocol<T>(
        slf: &Bound<'_, Self>,
        returned: PyResult<T>,
        message: &str,
    ) -> PyResult<Option<T>> {
        match returned {
            Ok(value) => Ok(Some(value)),
            Err(error) if calls::ends_the_program(slf.py(), &error) => Err(error),
            Err(error) => Self::fatal_error(slf, error, message).map(|()| None),
        }
    }
}

/// The memory of an object, which can't move while this lives.
pub struct Memory(Box<ffi::Py_buffer>);

impl Memory {
    /// Memory that may be written to.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        Self::get(object, ffi::PyBUF_WRITABLE).map_err(|_| {
            let kind = object.get_type();
            let kind = kind
                .name()
                .map_or_else(|_| "?".into(), |kind| kind.to_string());
            calls::builtin_error::<PyTypeError>(format!(
                "get_buffer() must return a read-write bytes-like object, not {kind}"
            ))
        })
    }

    /// Memory in one piece.
    pub fn get(object: &Bound<'_, PyAny>, flags: i32) -> PyResult<Self> {
        let mut buffer = Box::new(ffi::Py_buffer::new());
        // SAFETY: the object is alive, and `buffer` stays where it is until it is released.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *buffer, flags) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self(buffer))
    }

    pub fn start(&self) -> *mut u8 {
        self.0.buf.cast()
    }

    pub fn size(&self) -> usize {
        self.0.len.unsigned_abs()
    }

    pub fn as_bytes(&self) -> &[u8] {
        if self.size() == 0 {
            return &[];
        }
        // SAFETY: it is that long and doesn't move. The GIL is held as long as the slice is looked at, and no Python code
        // runs meanwhile.
        unsafe { std::slice::from_raw_parts(self.start(), self.size()) }
    }
}

impl Memory {
    /// The same memory, of one that may be written to.
    pub fn as_mut_slice(&mut self) -> &mut [MaybeUninit<u8>] {
        if self.size() == 0 {
            return &mut [];
        }
        // SAFETY: as in `as_bytes`.
        unsafe { std::slice::from_raw_parts_mut(self.start().cast(), self.size()) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was got, and is released once. The GIL is held: it doesn't leave the function that got it.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}
