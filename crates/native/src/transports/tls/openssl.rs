//! The OpenSSL that the standard library uses: functions of it, by name.

use std::ffi::{CStr, CString, c_void};
use std::mem;
use std::sync::OnceLock;

use pyo3::prelude::*;

/// What `find` finds, looked for once. Why it isn't found is of no interest.
pub fn once<T>(
    py: Python<'_>,
    found: &'static OnceLock<Option<T>>,
    find: impl FnOnce(Python<'_>) -> PyResult<Option<T>>,
) -> Option<&'static T> {
    if let Some(found) = found.get() {
        return found.as_ref();
    }
    // Not by the cell itself: this runs Python code.
    let new = find(py).unwrap_or(None);
    found.get_or_init(|| new).as_ref()
}

/// The library that `_ssl` is, or is linked with, loaded for good.
#[derive(Clone, Copy)]
pub struct Library(*mut c_void);

impl Library {
    /// None: it can't be told which one that is, as when it is part of the program.
    pub fn find(py: Python<'_>) -> PyResult<Option<Self>> {
        let path: String = py.import("_ssl")?.getattr("__file__")?.extract()?;
        let path = CString::new(path)?;
        // SAFETY: the path ends with a zero.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        // Never closed.
        Ok((!handle.is_null()).then_some(Self(handle)))
    }

    /// # Safety
    ///
    /// What it has of that name is a function as `T` says.
    pub unsafe fn function<T: Copy>(self, name: &CStr) -> Option<T> {
        // SAFETY: the name ends with a zero.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        // SAFETY: the caller's, and both are pointers.
        (!found.is_null()).then(|| unsafe { mem::transmute_copy(&found) })
    }
}
