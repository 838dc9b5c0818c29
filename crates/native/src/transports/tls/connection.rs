//! OpenSSL's connection in the C object behind an `ssl.SSLObject`, asked without that.
//!
//! For each message the methods of the object parse arguments, make a view of the memory and a number, and let go of the
//! GIL and take it back; beside a small message that is much. Here OpenSSL's functions are called as they are.
//!
//! Only that something was read or written, or has to come first, is taken from them. After every other answer the
//! object is asked, so that errors and ends are the standard library's. OpenSSL says the same again: a connection that
//! has failed or ended stays so, and the queue of errors, in which the reason is, is left alone.

use std::ffi::{c_char, c_int, c_void};
use std::ptr::NonNull;
use std::sync::OnceLock;

use pyo3::ffi;
use pyo3::prelude::*;

use super::engine::Attempt;
use super::memory::MemoryBio;
use super::openssl::{Library, once};
use crate::calls;
use crate::gil::intern;

/// Who encrypts more lets other threads go on meanwhile. Less is done before one of them would be awake, and whoever lets
/// go of the GIL for so little gets it back late from a thread that computes. What is decrypted at once is no more than
/// a record, of 16 KiB.
const LARGE: usize = 64 * 1024;

/// Good for as long as the object is.
#[derive(Clone, Copy)]
pub struct Connection {
    place: NonNull<Layout>,
    openssl: &'static OpenSsl,
}

// SAFETY: what it points to stays as it is as long as the object lives, as all functions demand, but for the exception,
// which is looked at under the GIL.
unsafe impl Send for Connection {}
// SAFETY: see above.
unsafe impl Sync for Connection {}

impl Connection {
    /// None: the object isn't what is expected, or there is something else than our own memory on either side.
    pub fn of(
        object: &Bound<'_, PyAny>,
        incoming: &MemoryBio,
        outgoing: &MemoryBio,
    ) -> PyResult<Option<Self>> {
        let py = object.py();
        if !object.get_type().is(calls::c_ssl_object(py)?) {
            return Ok(None);
        }
        let Some(openssl) = OpenSsl::get(py) else {
            return Ok(None);
        };
        let context = object.getattr(intern!(py, "context"))?;
        let Some(place) = NonNull::new(object.as_ptr().cast::<Layout>()) else {
            return Ok(None);
        };
        // SAFETY: an object of this type has the size of the layout, as `OpenSsl::find` has seen. If its context is where
        // it should be, so is what OpenSSL made, next to it, which stays as long as the object.
        let are_ours = unsafe {
            let Layout {
                ssl,
                context: found,
                ..
            } = *place.as_ptr();
            found == context.as_ptr()
                && !ssl.is_null()
                && incoming.is_of(py, (openssl.incoming)(ssl))
                && outgoing.is_of(py, (openssl.outgoing)(ssl))
        };
        Ok(are_ours.then_some(Self { place, openssl }))
    }

    /// Decrypts into memory. None: the object has to be asked.
    ///
    /// # Safety
    ///
    /// The object lives. `place` is valid for writes of `size` bytes, which may be uninitialized and nobody else reads.
    pub unsafe fn read(self, place: *mut u8, size: usize) -> Option<Attempt<usize>> {
        let mut count = 0;
        // Callbacks of Python may run in there, in which a thread may end.
        // SAFETY: the caller's.
        let answer = calls::stop_if_unwound(|| unsafe {
            (self.openssl.read)(self.ssl(), place.cast(), size, &raw mut count)
        });
        // SAFETY: the caller's.
        unsafe { self.outcome(answer, count) }
    }

    /// Encrypts, and says how much. None: the object has to be asked.
    ///
    /// # Safety
    ///
    /// The object lives.
    pub unsafe fn write(self, py: Python<'_>, data: &[u8]) -> Option<Attempt<usize>> {
        let mut count = 0;
        let mut encrypt = || {
            let place = data.as_ptr().cast();
            // SAFETY: as in `read`.
            calls::stop_if_unwound(|| unsafe {
                (self.openssl.write)(self.ssl(), place, data.len(), &raw mut count)
            })
        };
        let answer = if data.len() > LARGE {
            py.detach(encrypt)
        } else {
            encrypt()
        };
        // SAFETY: the caller's.
        unsafe { self.outcome(answer, count) }
    }

    /// Whether a callback has failed, of which the object hasn't told yet.
    ///
    /// # Safety
    ///
    /// The object lives.
    pub unsafe fn has_failed(self) -> bool {
        // SAFETY: the caller's, and the GIL is held.
        unsafe { !(*self.place.as_ptr()).exception[0].is_null() }
    }

    /// # Safety
    ///
    /// The object lives.
    unsafe fn ssl(self) -> *mut c_void {
        // SAFETY: the caller's. It is never another.
        unsafe { (*self.place.as_ptr()).ssl }
    }

    /// What OpenSSL's `answer` means.
    ///
    /// Errors that others left in its queue don't matter: a success is one whatever is there, and that something has to
    /// come first isn't told as long as there is anything.
    ///
    /// # Safety
    ///
    /// The object lives, and this thread has just got the answer.
    unsafe fn outcome(self, answer: c_int, count: usize) -> Option<Attempt<usize>> {
        if answer > 0 {
            return Some(Attempt::Done(count));
        }
        // SAFETY: the caller's.
        let is_again =
            unsafe { (self.openssl.error)(self.ssl(), answer) == WANTS_READ && !self.has_failed() };
        is_again.then_some(Attempt::Again)
    }
}

/// `PySSLSocket`, from CPython 3.11 on. Some versions have a mutex behind it: these have their reasons.
#[repr(C)]
struct Layout {
    head: ffi::PyObject,
    socket: *mut ffi::PyObject,
    ssl: *mut c_void,
    context: *mut ffi::PyObject,
    has_seen_zero: c_char,
    side: c_int,
    owner: *mut ffi::PyObject,
    hostname: *mut ffi::PyObject,
    error: [c_int; 2],
    exception: [*mut ffi::PyObject; if cfg!(Py_3_12) { 1 } else { 3 }],
}

/// Of OpenSSL's ssl.h.
const WANTS_READ: c_int = 2;

// Callbacks of Python may run in the first two.
struct OpenSsl {
    read: unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, usize, *mut usize) -> c_int,
    write: unsafe extern "C-unwind" fn(*mut c_void, *const c_void, usize, *mut usize) -> c_int,
    error: unsafe extern "C" fn(*const c_void, c_int) -> c_int,
    incoming: unsafe extern "C" fn(*const c_void) -> *mut c_void,
    outgoing: unsafe extern "C" fn(*const c_void) -> *mut c_void,
}

impl OpenSsl {
    fn get(py: Python<'_>) -> Option<&'static Self> {
        static FOUND: OnceLock<Option<OpenSsl>> = OnceLock::new();
        once(py, &FOUND, Self::find)
    }

    fn find(py: Python<'_>) -> PyResult<Option<Self>> {
        let size = calls::c_ssl_object(py)?.getattr("__basicsize__")?;
        if cfg!(Py_3_14) || size.extract::<usize>()? != size_of::<Layout>() {
            return Ok(None);
        }
        // SAFETY: the functions are declared as in OpenSSL's headers, of 1.1.1 or 3.
        Ok(Library::find(py)?.and_then(|library| unsafe { Self::of(library) }))
    }

    /// # Safety
    ///
    /// The library is an OpenSSL, of 1.1.1 or 3.
    unsafe fn of(library: Library) -> Option<Self> {
        // SAFETY: the functions are declared as in OpenSSL's headers.
        unsafe {
            Some(Self {
                read: library.function(c"SSL_read_ex")?,
                write: library.function(c"SSL_write_ex")?,
                error: library.function(c"SSL_get_error")?,
                incoming: library.function(c"SSL_get_rbio")?,
                outgoing: library.function(c"SSL_get_wbio")?,
            })
        }
    }
}
