//! Objects that ended, for reuse as the next of their class: what a loop makes and drops with each callback.
//!
//! The collector knows an object from here as it knows every other: a cycle through it is found. (PyO3's `freelist`
//! hands out objects that the collector never hears of.) Nor does one that is reused hasten the collector's next run.

use pyo3::prelude::*;
use pyo3::{PyTypeInfo, ffi};

use crate::gil::{GilCell, GilRefCell};

/// Ended objects of one class. Each is whole but for its reference count, and holds nothing.
pub struct FreeList {
    /// So many are kept, at most.
    keep: usize,
    kept: GilRefCell<Vec<Ended>>,
    /// What PyO3 does at the end of an object. None until the list is in use.
    dealloc: GilCell<Option<ffi::destructor>>,
}

struct Ended(*mut ffi::PyObject);

// SAFETY: nobody else has the pointer, and an object isn't bound to a thread.
unsafe impl Send for Ended {}

/// A class whose objects are reused.
pub trait Reused: PyTypeInfo {
    fn free_list() -> &'static FreeList;

    /// A new object that holds nothing.
    fn fresh(py: Python<'_>) -> PyResult<Bound<'_, Self>>;

    /// Lets go of all that it holds.
    fn empty(slf: &Bound<'_, Self>);
}

impl FreeList {
    pub const fn new(keep: usize) -> Self {
        Self {
            keep,
            kept: GilRefCell::new(Vec::new()),
            dealloc: GilCell::new(None),
        }
    }

    /// Has the objects of a class come here at their end.
    pub fn prepare<T: Reused>(py: Python<'_>) {
        let list = T::free_list();
        list.kept.borrow_mut(py).reserve(list.keep);
        // SAFETY: a live type, and the slot is there to be set by whoever makes the type.
        let dealloc = unsafe { &mut (*T::type_object_raw(py)).tp_dealloc };
        list.dealloc.set(py, dealloc.replace(end::<T>));
    }

    /// An object, filled by `fill`, which runs no Python code.
    pub fn make<'py, T: Reused>(
        py: Python<'py>,
        fill: impl FnOnce(&Bound<'py, T>),
    ) -> PyResult<Bound<'py, T>> {
        let Some(Ended(object)) = T::free_list().kept.borrow_mut(py).pop() else {
            let object = T::fresh(py)?;
            fill(&object);
            return Ok(object);
        };
        // SAFETY: it is an object of the class, which the collector has forgotten and which nobody refers to. This
        // reference is the first one of its new life. The collector hears of it when it is filled.
        unsafe {
            ffi::PyObject_Init(object, T::type_object_raw(py));
            let object = Bound::from_owned_ptr(py, object).cast_into_unchecked();
            fill(&object);
            ffi::PyObject_GC_Track(object.as_ptr().cast());
            Ok(object)
        }
    }
}

/// `tp_dealloc`
unsafe extern "C" fn end<T: Reused>(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this with the GIL held, and with an object of the class, or of one that derives from
    // it, to which nobody refers any more.
    unsafe {
        let py = Python::assume_attached();
        let list = T::free_list();
        let class = ffi::Py_TYPE(object);
        if class != T::type_object_raw(py) {
            if let Some(dealloc) = list.dealloc.get(py) {
                dealloc(object);
            }
            return;
        }
        ffi::PyObject_GC_UnTrack(object.cast());
        let weak = object
            .byte_offset((*class).tp_weaklistoffset)
            .cast::<*mut ffi::PyObject>();
        if !(*weak).is_null() {
            ffi::PyObject_ClearWeakRefs(object);
        }
        T::empty(&Borrowed::from_ptr(py, object).cast_unchecked::<T>());
        // What it held is gone, and that may have ended others.
        let mut kept = list.kept.borrow_mut(py);
        if kept.len() < list.keep {
            kept.push(Ended(object));
        } else {
            drop(kept);
            ffi::PyObject_GC_Del(object.cast());
        }
        ffi::Py_DECREF(class.cast());
    }
}
