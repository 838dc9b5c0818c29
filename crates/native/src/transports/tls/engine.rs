//! OpenSSL's half of a connection, as the standard library wraps it.

use std::ffi::{c_char, c_int};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::connection::Connection;
use crate::buffer::NewBytes;
use crate::calls;
use crate::gil::intern;

/// What came of an attempt.
pub enum Attempt<T> {
    Done(T),
    /// First something has to come from the other side.
    Again,
}

/// The C object behind an `ssl.SSLObject`: its methods without the Python ones around them. An object of another class
/// stands for itself, since whatever its class changes about reading and writing must not be lost.
pub fn of<'py>(ssl_object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = ssl_object.py();
    if ssl_object.get_type().is(calls::ssl_object(py)?) {
        return ssl_object.getattr(intern!(py, "_sslobj"));
    }
    Ok(ssl_object.clone())
}

/// It decrypts and encrypts, in OpenSSL's connection if that can be gotten at.
pub struct Engine<'py> {
    pub object: Bound<'py, PyAny>,
    /// Of this object.
    pub connection: Option<Connection>,
}

impl<'py> Engine<'py> {
    /// Decrypts up to `size` bytes. None: the other side has said that these were all.
    pub fn read(&self, size: usize) -> PyResult<Attempt<Bound<'py, PyBytes>>> {
        let py = self.object.py();
        if self.connection.is_some() {
            let mut bytes = NewBytes::new(py, size as isize)?;
            let place = bytes.as_mut_slice().as_mut_ptr().cast();
            // SAFETY: nobody else has a reference to the new object, which has as much room as was asked for.
            return Ok(match unsafe { self.read_into(place, size)? } {
                Attempt::Done(count) => Attempt::Done(bytes.shrink(count)?.cast_into()?),
                Attempt::Again => Attempt::Again,
            });
        }
        let size = calls::size(py, size)?;
        match calls::call_user_method(intern!(py, "read"), [&self.object, &size]) {
            Ok(data) => Ok(Attempt::Done(data.cast_into()?)),
            Err(error) => again(py, error),
        }
    }

    /// The same, into memory.
    ///
    /// # Safety
    ///
    /// `place` is valid for writes of `size` bytes, which may be uninitialized and nobody else reads, as long as this runs.
    pub unsafe fn read_into(&self, place: *mut u8, size: usize) -> PyResult<Attempt<usize>> {
        let py = self.object.py();
        if let Some(connection) = self.connection
            // SAFETY: the caller's; the object is here.
            && let Some(attempt) = unsafe { connection.read(place, size) }
        {
            self.check_callbacks(connection)?;
            return Ok(attempt);
        }
        if !self.object.get_type().is(calls::c_ssl_object(py)?) {
            // Of somebody else's class, which might keep a view.
            return Ok(match self.read(size)? {
                Attempt::Again => Attempt::Again,
                Attempt::Done(data) => {
                    let data = data.as_bytes();
                    let count = data.len().min(size);
                    // SAFETY: the caller's; a new object of Python's doesn't overlap.
                    unsafe { place.copy_from_nonoverlapping(data.as_ptr(), count) };
                    Attempt::Done(count)
                }
            });
        }
        // SAFETY: the caller's. Nobody keeps the view: it goes to OpenSSL, which writes to it and lets go of it.
        let view = unsafe { view(py, place, size, ffi::PyBUF_WRITE)? };
        let size = calls::size(py, size)?;
        match calls::call_user_method(intern!(py, "read"), [&self.object, &size, &view]) {
            Ok(count) => Ok(Attempt::Done(count.extract()?)),
            Err(error) => again(py, error),
        }
    }

    /// Encrypts the bytes of an object. Returns how many of them.
    pub fn write(&self, data: &Bound<'_, PyAny>, bytes: &[u8]) -> PyResult<Attempt<usize>> {
        let py = self.object.py();
        if let Some(connection) = self.connection
            // SAFETY: the object is here.
            && let Some(attempt) = unsafe { connection.write(py, bytes) }
        {
            self.check_callbacks(connection)?;
            return Ok(attempt);
        }
        match calls::call_user_method(intern!(py, "write"), [&self.object, data]) {
            Ok(count) => Ok(Attempt::Done(count.extract()?)),
            Err(error) => again(py, error),
        }
    }

    /// Raises what a callback of the context has raised meanwhile.
    fn check_callbacks(&self, connection: Connection) -> PyResult<()> {
        // SAFETY: the object is here.
        if unsafe { connection.has_failed() } {
            // The object has it, and raises it now. There is no handshake left to do, or else it goes on.
            self.object
                .call_method0(intern!(self.object.py(), "do_handshake"))?;
        }
        Ok(())
    }
}

/// # Safety
///
/// `place` is valid for what `flags` says for `size` bytes as long as anybody has the view.
unsafe fn view(
    py: Python<'_>,
    place: *mut u8,
    size: usize,
    flags: c_int,
) -> PyResult<Bound<'_, PyAny>> {
    let size = size as ffi::Py_ssize_t;
    // SAFETY: the GIL is held, the memory is the caller's to vouch for, and the returned reference is ours.
    unsafe {
        let view = ffi::PyMemoryView_FromMemory(place.cast::<c_char>(), size, flags);
        Bound::from_owned_ptr_or_err(py, view)
    }
}

/// Which of asyncio's `SSLAgainErrors` it is, or that it is none.
fn again<T>(py: Python<'_>, error: PyErr) -> PyResult<Attempt<T>> {
    let again = error.is_instance(py, calls::ssl_wants_read(py)?)
        || error.is_instance(py, calls::ssl_system_call(py)?);
    if again {
        Ok(Attempt::Again)
    } else {
        Err(error)
    }
}
