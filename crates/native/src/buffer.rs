//! Memory for the system to write to, of which Python gets what was filled.

use std::cell::RefCell;
use std::mem::MaybeUninit;
use std::{ptr, slice};

use libc::c_int;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::calls;

thread_local! {
    static SCRATCH: RefCell<Vec<MaybeUninit<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Lends memory of the thread that is used again and again, and returns the bytes at its beginning that `fill` says it
/// has filled. No Python code may run in there.
pub fn fill_scratch<T>(
    py: Python<'_>,
    size: usize,
    fill: impl FnOnce(&mut [MaybeUninit<u8>]) -> PyResult<Option<(usize, T)>>,
) -> PyResult<Option<(Bound<'_, PyBytes>, T)>> {
    SCRATCH.with_borrow_mut(|scratch| {
        if scratch.len() < size {
            scratch.resize(size, MaybeUninit::uninit());
        }
        let Some((count, more)) = fill(&mut scratch[..size])? else {
            return Ok(None);
        };
        // SAFETY: so many bytes were filled.
        let filled = unsafe { slice::from_raw_parts(scratch[..count].as_ptr().cast(), count) };
        Ok(Some((calls::bytes(py, filled)?, more)))
    })
}

unsafe extern "C" {
    /// Of the public C API, though PyO3 doesn't declare it.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> c_int;
}

/// A `bytes` object that is being filled: nobody else knows it.
pub struct NewBytes<'py> {
    object: *mut ffi::PyObject,
    py: Python<'py>,
}

impl<'py> NewBytes<'py> {
    pub fn new(py: Python<'py>, size: isize) -> PyResult<Self> {
        // SAFETY: the GIL is held. Without a source the bytes are left as they are.
        let object = unsafe { ffi::PyBytes_FromStringAndSize(ptr::null(), size) };
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        Ok(Self { object, py })
    }

    pub fn as_mut_slice(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the object is bytes, and nobody else has a reference to it.
        unsafe {
            let memory = ffi::PyBytes_AsString(self.object);
            slice::from_raw_parts_mut(memory.cast(), ffi::PyBytes_Size(self.object).unsigned_abs())
        }
    }

    /// The object, cut to the bytes that were filled in.
    pub fn shrink(mut self, size: usize) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the only reference is given and, moved perhaps or null after an error, gotten back.
        unsafe { _PyBytes_Resize(&raw mut self.object, size as isize) };
        let object = std::mem::replace(&mut self.object, ptr::null_mut());
        // SAFETY: see above.
        unsafe { Bound::from_owned_ptr_or_err(self.py, object) }
    }
}

impl Drop for NewBytes<'_> {
    fn drop(&mut self) {
        let _ = self.py;
        // SAFETY: the GIL is held, as `py` says; the reference, if there still is one, is ours.
        unsafe { ffi::Py_XDECREF(self.object) };
    }
}
