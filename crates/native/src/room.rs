//! How much room a thread has left: of its stack, and of Python's recursion limit.
//!
//! A caller that runs a loop lends it the room that it has itself. Steps of others must not fail for want of it.

use std::cell::Cell;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::calls;
use crate::thread_state::remaining_recursion;

thread_local! {
    /// The lowest address of this thread's stack and its size, once looked up.
    static STACK: Cell<Option<(usize, usize)>> = const { Cell::new(None) };
}

/// The size of the calling thread's stack, in bytes. 0 if it can't be told.
pub fn stack_size() -> usize {
    stack().1
}

/// Whether the calling thread has three quarters of the recursion limit left and `wanted` bytes of its own stack, if that
/// can be told.
pub fn is_enough(py: Python<'_>, wanted: usize) -> PyResult<bool> {
    let (lowest, size) = stack();
    let here = std::ptr::from_ref(&lowest).addr();
    // A fiber is elsewhere than on its thread's stack, and may have little of its own.
    let is_enough = size == 0
        || here
            .checked_sub(lowest)
            .is_some_and(|left| (wanted..=size).contains(&left));
    Ok(is_enough && !recursion_is_deep(py)?)
}

fn stack() -> (usize, usize) {
    let known = STACK.get().unwrap_or_else(look_up_stack);
    STACK.set(Some(known));
    known
}

#[cfg(target_os = "linux")]
fn look_up_stack() -> (usize, usize) {
    let mut lowest = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: the attributes are initialized by the first call, which says whether it did, and destroyed by the last;
    // both results are valid for writes.
    unsafe {
        let mut attributes = std::mem::zeroed();
        if libc::pthread_getattr_np(libc::pthread_self(), &raw mut attributes) != 0 {
            return (0, 0);
        }
        libc::pthread_attr_getstack(&raw const attributes, &raw mut lowest, &raw mut size);
        libc::pthread_attr_destroy(&raw mut attributes);
    }
    (lowest.addr(), size)
}

#[cfg(not(target_os = "linux"))]
fn look_up_stack() -> (usize, usize) {
    (0, 0)
}

/// Whether more than a quarter of the recursion limit is used up.
fn recursion_is_deep(py: Python<'_>) -> PyResult<bool> {
    // SAFETY: asks for a number, with the GIL held.
    let limit = unsafe { ffi::Py_GetRecursionLimit() };
    if let Some((remaining, of)) = remaining_recursion(py)
        && of == limit
    {
        return Ok(remaining < limit / 4 * 3);
    }
    // The outermost of so many frames, or an error if there are fewer.
    Ok(calls::frame_at(py)?.call1((limit / 4,)).is_ok())
}
