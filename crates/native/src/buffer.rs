//! Memory for the system to write to, of which Python gets what was filled.

use std::cell::RefCell;
use std::hint::black_box;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::{ptr, slice};

use libc::c_int;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::calls;
use crate::gil::GilCell;

/// Whoever receives this much at a time has the next bytes received where they are to stay. Less is copied faster than
/// memory is found for it in advance.
const LARGE: usize = 4096;

/// Of a stream that brings less than this at a time no more than expected is received at once: to tell the system of two pieces of
/// memory takes it as long as to copy 2 KiB.
const VERY_LARGE: usize = 64 * 1024;

/// How many times as much is expected of a stream once there was as much as there was room for.
const MORE: usize = 4;

thread_local! {
    /// Used again and again, as it is empty again before Python code runs.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Has `receive` fill memory for at most `most` bytes, and returns those that it says it has filled. What is `expected`
/// is received where it is to stay, what comes beyond that elsewhere: so it may get one piece of memory or two, of which
/// the second comes after the first. What `can_be_split` may be left to the next time instead. None: nothing was received,
/// and it wasn't the end.
///
/// `receive` runs no Python code, but may let go of the GIL.
pub fn receive_bytes<'py>(
    py: Python<'py>,
    expected: &GilCell<usize>,
    most: usize,
    can_be_split: bool,
    receive: impl FnOnce(&mut [IoSliceMut<'_>]) -> PyResult<Option<usize>>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let usual = expected.get(py);
    let is_split = can_be_split && (LARGE..VERY_LARGE).contains(&usual);
    let received = SCRATCH.with_borrow_mut(|scratch| {
        grow(scratch, most);
        if usual < LARGE {
            let received = receive(&mut [IoSliceMut::new(&mut scratch[..most])])?;
            return received
                .map(|size| calls::bytes(py, &scratch[..size]))
                .transpose();
        }
        KEEPS_MEMORY.call_once(keep_memory);
        // With room for one more it shows whether that was all.
        let size = usual + usize::from(is_split);
        let mut place = NewBytes::new(py, size.min(most) as isize)?;
        let room = place.as_mut_slice();
        let length = room.len();
        // SAFETY: the memory is as long as it says; who receives only writes to it.
        let room = unsafe { slice::from_raw_parts_mut(room.as_mut_ptr().cast(), length) };
        let received = if is_split {
            receive(&mut [IoSliceMut::new(room)])?
        } else {
            let beyond = &mut scratch[..most - length];
            receive(&mut [IoSliceMut::new(room), IoSliceMut::new(beyond)])?
        };
        let Some(size) = received else {
            return Ok(None);
        };
        let bytes = place.shrink(size.min(length))?.cast_into::<PyBytes>()?;
        if size <= length {
            return Ok(Some(bytes));
        }
        concatenate(py, &[bytes.as_bytes(), &scratch[..size - length]]).map(Some)
    })?;
    if let Some(bytes) = &received {
        let size = bytes.as_bytes().len();
        let next = if is_split && size > usual {
            MORE * usual
        } else {
            // Messages that come in pieces are expected whole again.
            size.max(usual - usual / 4)
        };
        expected.set(py, next);
    }
    Ok(received)
}

fn grow(scratch: &mut Vec<u8>, size: usize) {
    if scratch.len() < size {
        // Zeros that the system hands out when they are touched.
        *scratch = vec![0; size];
    }
}

static KEEPS_MEMORY: Once = Once::new();

/// Has glibc keep a little more of the memory that is freed at the end of its heap.
///
/// By default it gives back all beyond 128 KiB. Whoever receives and drops large messages then has the system take away
/// and hand out the same pages again and again, which costs as much as all the rest. Once it has seen a block of a larger
/// size come and go, it keeps twice that size: see `M_MMAP_THRESHOLD` in mallopt(3), also for how to have it otherwise.
/// Mostly a program makes such a block sooner or later anyway.
fn keep_memory() {
    const SIZE: usize = 1024 * 1024;
    // Not optimized away.
    drop(black_box(Vec::<u8>::with_capacity(SIZE)));
}

/// The parts, one after the other.
pub fn concatenate<'py>(py: Python<'py>, parts: &[&[u8]]) -> PyResult<Bound<'py, PyBytes>> {
    let size = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut bytes = NewBytes::new(py, size as isize)?;
    let mut rest = bytes.as_mut_slice();
    for part in parts {
        let (place, after) = rest.split_at_mut(part.len());
        // SAFETY: both are as long as the part, and nobody else knows the new object.
        unsafe {
            place
                .as_mut_ptr()
                .cast::<u8>()
                .copy_from_nonoverlapping(part.as_ptr(), part.len())
        };
        rest = after;
    }
    Ok(bytes.shrink(size)?.cast_into()?)
}

unsafe extern "C" {
    /// Of the public C API, though PyO3 doesn't declare it.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> c_int;
}

/// To give back less than one part of so many of an object's memory takes longer than it is worth.
const KEEPS: usize = 32;

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

    /// The object, cut to the bytes that were filled in. Of the memory beyond it may keep some.
    pub fn shrink(mut self, size: usize) -> PyResult<Bound<'py, PyAny>> {
        let room = self.as_mut_slice().len();
        if size < room && room - size <= room / KEEPS {
            // SAFETY: the object is bytes, with room for more than `size` and a zero behind, and nobody else knows it: not its
            // size either, which is no part of how it is freed.
            unsafe {
                ffi::PyBytes_AsString(self.object).add(size).write(0);
                (*self.object.cast::<ffi::PyVarObject>()).ob_size = size as isize;
            }
        }
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
