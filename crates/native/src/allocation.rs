//! Futures made without the detour of a class call: what a program makes by the million.
//!
//! Calling a Python class packs arguments, looks for `__new__` and `__init__`, and, before CPython 3.13, allocates room
//! for instance attributes that a future never has. None of it is needed here: an object is allocated by its type and
//! the core written into it, which is all that PyO3 does in the end, too.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use pyo3::types::PyType;

use crate::calls;
use crate::future::{FutureCore, prepare_finalizer};

/// Where the core lies in its object; 0 until that is known to be safe to use.
static OFFSET: AtomicUsize = AtomicUsize::new(0);

/// Called once, with the class `Future`, before any is made.
#[pyfunction]
pub fn prepare_future_type(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    // While it can be imported: the last future may go when nothing can be any more.
    calls::report_unretrieved(py)?;
    prepare_finalizer(&FutureCore::type_object(py));
    prepare_finalizer(class);
    let sample = Bound::new(py, FutureCore::default())?;
    let offset = std::ptr::from_ref(sample.get()).addr() - sample.as_ptr().addr();
    let base = FutureCore::type_object_raw(py);
    // SAFETY: both are live types. The vectorcall slot of a type is there to be set by whoever makes the type; it isn't
    // inherited by classes that derive from this one.
    unsafe {
        // PyO3 may keep state of its own behind the core; only if it doesn't is writing the core all there is to do.
        if (*base).tp_basicsize as usize == offset + size_of::<FutureCore>() {
            // ORDERING: Relaxed, the GIL is held whenever it is read or written.
            OFFSET.store(offset, Relaxed);
            (*class.as_type_ptr()).tp_vectorcall = Some(construct);
        }
    }
    Ok(())
}

/// A fresh instance of `class`, which is `Future`.
pub fn new_future<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, FutureCore>> {
    // ORDERING: Relaxed, see `prepare_future_type`.
    if OFFSET.load(Relaxed) == 0 {
        return Ok(class.call0()?.cast_into()?);
    }
    // SAFETY: the class was prepared, or the offset would be 0; the object that comes back is ours and a `FutureCore`.
    unsafe {
        let object = Bound::from_owned_ptr_or_err(class.py(), allocate(class.as_type_ptr()))?;
        Ok(object.cast_into_unchecked())
    }
}

/// `Future()` from Python.
unsafe extern "C" fn construct(
    class: *mut ffi::PyObject,
    _args: *const *mut ffi::PyObject,
    count: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the GIL held, with the class it was set for, and by its protocol.
    unsafe {
        if ffi::PyVectorcall_NARGS(count) != 0 || !names.is_null() {
            let message = c"Future() takes no arguments";
            ffi::PyErr_SetString(ffi::PyExc_TypeError, message.as_ptr());
            return std::ptr::null_mut();
        }
        allocate(class.cast())
    }
}

/// # Safety
///
/// The GIL is held and `class` is the class that was prepared.
unsafe fn allocate(class: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
    // SAFETY: every ready type has an allocator. What it returns is zeroed, as large as the class says and already
    // known to the collector, which can't run before the core is in its place. The core lies at the offset that PyO3
    // gave it in an object of its own, in a class that only appends to that layout.
    unsafe {
        let Some(alloc) = (*class).tp_alloc else {
            return std::ptr::null_mut();
        };
        let object = alloc(class, 0);
        if !object.is_null() {
            // ORDERING: Relaxed, see `prepare_future_type`.
            let core = object.byte_add(OFFSET.load(Relaxed)).cast::<FutureCore>();
            core.write(FutureCore::default());
        }
        object
    }
}
