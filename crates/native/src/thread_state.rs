//! What CPython keeps for the calling thread and this crate reads and writes in place: what is left of the recursion limit,
//! and the hooks by which a loop hears of async generators. To change these by calling `sys` took as long as all else that
//! it takes to run a loop on somebody else's thread.

#[cfg(not(Py_3_14))]
use std::{mem, ptr};

#[cfg(not(Py_3_14))]
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

/// The hooks of `sys.set_asyncgen_hooks`.
#[repr(C)]
pub struct Hooks {
    firstiter: Option<Py<PyAny>>,
    finalizer: Option<Py<PyAny>>,
}

impl Hooks {
    pub fn new(firstiter: Bound<'_, PyAny>, finalizer: Bound<'_, PyAny>) -> Self {
        Self {
            firstiter: Some(firstiter.unbind()),
            finalizer: Some(finalizer.unbind()),
        }
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            firstiter: self.firstiter.as_ref().map(|hook| hook.clone_ref(py)),
            finalizer: self.finalizer.as_ref().map(|hook| hook.clone_ref(py)),
        }
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.firstiter)?;
        visit.call(&self.finalizer)
    }
}

/// How `PyThreadState` begins, in CPython's `cpython/pystate.h`: it stays so for as long as the minor version.
#[cfg(not(Py_3_14))]
#[repr(C)]
struct ThreadState {
    _links: [*const (); 3],
    #[cfg(Py_3_13)]
    _eval_breaker: usize,
    #[cfg(Py_3_13)]
    _status_whence_state: [i32; 3],
    #[cfg(all(Py_3_12, not(Py_3_13)))]
    _status: i32,
    #[cfg(not(Py_3_12))]
    _initialized_static: [i32; 2],
    remaining: i32,
    limit: i32,
    #[cfg(Py_3_12)]
    _c_recursion: i32,
    _headroom: i32,
    _tracing: [i32; 2],
    _frame: *const (),
    _trace_functions: [*const (); 4],
    #[cfg(Py_3_12)]
    _raised: *const (),
    #[cfg(not(Py_3_12))]
    _raised: [*const (); 3],
    _handled: *const (),
    _dict: *const (),
    _attached: i32,
    _async_exc: *const (),
    _thread_ids: [std::ffi::c_ulong; 2],
    #[cfg(not(Py_3_13))]
    _trash_depth: i32,
    _trash: *const (),
    #[cfg(Py_3_13)]
    _critical_section: usize,
    #[cfg(not(Py_3_13))]
    _on_delete: [*const (); 2],
    _origin_depth: i32,
    hooks: Hooks,
}

/// As the headers of CPython have it, on Linux and macOS.
#[cfg(all(not(Py_3_14), target_pointer_width = "64"))]
const _: () = {
    let (recursion, hooks) = if cfg!(Py_3_13) {
        (44, 192)
    } else if cfg!(Py_3_12) {
        (28, 192)
    } else {
        (32, 208)
    };
    assert!(mem::offset_of!(ThreadState, remaining) == recursion);
    assert!(mem::offset_of!(ThreadState, hooks) == hooks);
};

#[cfg(not(Py_3_14))]
fn here(_py: Python<'_>) -> *mut ThreadState {
    // SAFETY: the GIL is held, so there is a state.
    unsafe { ffi::PyThreadState_Get().cast() }
}

/// What is left of the recursion limit, and the limit. None if it can't be told.
pub fn remaining_recursion(py: Python<'_>) -> Option<(i32, i32)> {
    #[cfg(Py_3_14)]
    {
        let _ = py;
        None
    }
    #[cfg(not(Py_3_14))]
    {
        let state = here(py);
        // SAFETY: the calling thread's own, which begins as above.
        unsafe { Some(((*state).remaining, (*state).limit)) }
    }
}

/// Gives the calling thread these hooks; returns those that it had.
pub fn exchange_hooks(py: Python<'_>, hooks: Hooks) -> PyResult<Hooks> {
    #[cfg(Py_3_14)]
    {
        let sys = py.import("sys")?;
        let (firstiter, finalizer) = sys.call_method0("get_asyncgen_hooks")?.extract()?;
        sys.call_method1("set_asyncgen_hooks", (hooks.firstiter, hooks.finalizer))?;
        Ok(Hooks {
            firstiter,
            finalizer,
        })
    }
    #[cfg(not(Py_3_14))]
    {
        let state = here(py);
        // SAFETY: the calling thread's own state, which begins as above and owns two references there, or nulls. Nobody
        // else touches them.
        Ok(unsafe { ptr::replace(&raw mut (*state).hooks, hooks) })
    }
}
