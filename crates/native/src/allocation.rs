//! Objects made without the detour of a class call: what a program makes by the million, as futures.
//!
//! Calling a Python class packs arguments, looks for `__new__` and `__init__`, and, before CPython 3.13, allocates room
//! for instance attributes that a future never has. None of it is needed here: an object is allocated by its type and
//! the core written into it, which is all that PyO3 does in the end, too.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pyo3::PyClass;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;
use pyo3::types::PyType;

use crate::calls;
use crate::future::{FutureCore, prepare_finalizer};

/// Where the Rust half of a class, the core, lies in its objects.
pub struct Place<T> {
    /// 0 until it is known to be safe to use.
    offset: AtomicUsize,
    core: PhantomData<fn(T)>,
}

static FUTURE: Place<FutureCore> = Place::unknown();

impl<T: PyClass> Place<T> {
    pub const fn unknown() -> Self {
        Self {
            offset: AtomicUsize::new(0),
            core: PhantomData,
        }
    }

    /// Finds it in an object that PyO3 made, which has its core there.
    pub fn find(&self, sample: &Bound<'_, T>, core: &T) {
        let offset = std::ptr::from_ref(core).addr() - sample.as_ptr().addr();
        let base = T::type_object_raw(sample.py());
        // SAFETY: a live type.
        let size = unsafe { (*base).tp_basicsize };
        // PyO3 may keep state of its own behind the core; only if it doesn't is writing the core all there is to do.
        if size as usize == offset + size_of::<T>() {
            // ORDERING: Relaxed, the GIL is held whenever it is read or written.
            self.offset.store(offset, Relaxed);
        }
    }

    pub fn is_known(&self) -> bool {
        // ORDERING: Relaxed, see `find`.
        self.offset.load(Relaxed) != 0
    }

    /// An object of the class with this core, or null and an exception.
    ///
    /// # Safety
    ///
    /// The GIL is held, the place is known, and `class` derives from `T`'s and only appends to its layout.
    pub unsafe fn make(&self, class: *mut ffi::PyTypeObject, core: T) -> *mut ffi::PyObject {
        // SAFETY: every ready type has an allocator. What it returns is zeroed, as large as the class says and already
        // known to the collector, which can't run before the core is in its place. The core lies at the offset that PyO3
        // gave it in an object of its own, in a class that only appends to that layout.
        unsafe {
            let Some(alloc) = (*class).tp_alloc else {
                return std::ptr::null_mut();
            };
            let object = alloc(class, 0);
            if !object.is_null() {
                // ORDERING: Relaxed, see `find`.
                object
                    .byte_add(self.offset.load(Relaxed))
                    .cast::<T>()
                    .write(core);
            }
            object
        }
    }
}

/// Called once, with the class `Future`, before any is made.
#[pyfunction]
pub fn prepare_future_type(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    // While it can be imported: the last future may go when nothing can be any more.
    calls::report_unretrieved(py)?;
    prepare_finalizer(&FutureCore::type_object(py));
    prepare_finalizer(class);
    let sample = Bound::new(py, FutureCore::default())?;
    FUTURE.find(&sample, sample.get());
    if FUTURE.is_known() {
        // SAFETY: a live type. The vectorcall slot is there to be set by whoever makes the type; it isn't inherited by
        // classes that derive from this one.
        unsafe { (*class.as_type_ptr()).tp_vectorcall = Some(construct) };
    }
    Ok(())
}

/// A fresh future of `class`: `Future`, or `FutureCore` for one that nobody sees.
pub fn new_future<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, FutureCore>> {
    if !FUTURE.is_known() {
        return Ok(class.call0()?.cast_into()?);
    }
    // SAFETY: the class was prepared, or the place would be unknown; the object that comes back is ours and a
    // `FutureCore`.
    unsafe {
        let object = FUTURE.make(class.as_type_ptr(), FutureCore::default());
        let object = Bound::from_owned_ptr_or_err(class.py(), object)?;
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
        FUTURE.make(class.cast(), FutureCore::default())
    }
}
