//! The memory between OpenSSL and the transport below.
//!
//! The standard library has an `ssl.MemoryBIO` in each direction, and so have we: but the `BIO` of OpenSSL in it is
//! exchanged for one of our own. OpenSSL's memory is cleared before it is written to, and all bytes are copied in and out
//! of it; ours is received into, and sent from, where they are. Everybody else uses the object as before.
//!
//! It stays as it was where the functions of the OpenSSL that `_ssl` uses can't be found, as when it is part of the
//! program, or where the object isn't laid out as expected.

use std::ffi::{c_char, c_int, c_long, c_void};
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, OnceLock, TryLockError};

use pyo3::ffi;
use pyo3::prelude::*;

use super::openssl::{Library, once};
use super::queue::Queue;
use crate::calls;

/// What is in an `ssl.MemoryBIO`, which lasts as long as either.
pub struct Bio(Arc<Mutex<Contents>>);

struct Contents {
    queue: Queue,
    /// What OpenSSL is told when there is nothing to be read: 0, that there won't be any more, or -1, that there will.
    when_empty: c_int,
}

impl Bio {
    /// The memory of an `ssl.MemoryBIO` from now on. None: it stays as it is.
    pub fn of(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = object.py();
        if !object.get_type().is(calls::memory_bio(py)?) {
            return Ok(None);
        }
        let Some(openssl) = OpenSsl::get(py) else {
            return Ok(None);
        };
        let place = object.as_ptr().cast::<Layout>();
        let contents = Arc::new(Mutex::new(Contents {
            queue: Queue::default(),
            when_empty: -1,
        }));
        // SAFETY: it is an `ssl.MemoryBIO`, laid out as `OpenSsl::find` has seen, and owns its `BIO`. The GIL is held, so
        // nobody uses it now, and whoever was given the old one has a reference of his own to that. The new one has the
        // data that its functions expect.
        unsafe {
            let old = (*place).bio;
            if (openssl.control)(old, PENDING, 0, ptr::null_mut()) != 0 {
                return Ok(None);
            }
            let Some(new) = NonNull::new((openssl.new)(openssl.method)) else {
                return Ok(None);
            };
            let data = Arc::into_raw(contents.clone()).cast_mut();
            (openssl.set_data)(new.as_ptr(), data.cast());
            (*place).bio = new.as_ptr();
            (openssl.free)(old);
        }
        Ok(Some(Self(contents)))
    }

    /// These bytes follow.
    pub fn append(&self, bytes: Queue) {
        with(&self.0, |contents| contents.queue.append(bytes));
    }

    /// All there is.
    pub fn take(&self) -> Queue {
        with(&self.0, |contents| mem::take(&mut contents.queue)).unwrap_or_default()
    }

    /// Keeps no more memory than it needs.
    pub fn trim(&self) {
        with(&self.0, |contents| contents.queue.trim());
    }

    pub fn size(&self) -> usize {
        with(&self.0, |contents| contents.queue.as_bytes().len()).unwrap_or(0)
    }

    /// Whether it is what OpenSSL reads from, or writes to, by this `BIO`.
    ///
    /// # Safety
    ///
    /// `bio` is a `BIO`, or null.
    pub unsafe fn is_of(&self, bio: *mut c_void) -> bool {
        let Some(Some(openssl)) = OPENSSL.get() else {
            return false;
        };
        // SAFETY: the caller's.
        !bio.is_null() && ptr::eq(unsafe { (openssl.data)(bio) }.cast(), Arc::as_ptr(&self.0))
    }
}

/// None: another thread is here. OpenSSL comes without the GIL, so that is who uses a connection from two threads, which
/// OpenSSL itself can't bear, or one that was left behind when the process was forked. Nobody waits for it.
fn with<R>(contents: &Mutex<Contents>, work: impl FnOnce(&mut Contents) -> R) -> Option<R> {
    match contents.try_lock() {
        Ok(mut contents) => Some(work(&mut contents)),
        Err(TryLockError::Poisoned(poisoned)) => Some(work(&mut poisoned.into_inner())),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The object of the standard library: `PySSLMemoryBIO`, the same in CPython 3.11 to 3.13.
#[repr(C)]
struct Layout {
    head: ffi::PyObject,
    bio: *mut c_void,
    has_eof: c_int,
}

// Of OpenSSL's bio.h.
const MEMORY: c_int = 0x0401;
const SOURCE_OR_SINK: c_int = 0x0400;
const SHOULD_RETRY: c_int = 0x08;
const READ_LATER: c_int = SHOULD_RETRY | 0x01;
const ALL_RETRIES: c_int = SHOULD_RETRY | 0x07;
const EOF: c_int = 2;
const PENDING: c_int = 10;
const FLUSH: c_int = 11;
const SET_WHEN_EMPTY: c_int = 130;

type Read = unsafe extern "C" fn(*mut c_void, *mut c_char, c_int) -> c_int;
type Write = unsafe extern "C" fn(*mut c_void, *const c_char, c_int) -> c_int;
type Control = unsafe extern "C" fn(*mut c_void, c_int, c_long, *mut c_void) -> c_long;
type Destroy = unsafe extern "C" fn(*mut c_void) -> c_int;

/// Functions of the OpenSSL that `_ssl` uses, and what our kind of `BIO` does.
struct OpenSsl {
    new: unsafe extern "C" fn(*const c_void) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void) -> c_int,
    control: Control,
    data: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
    set_data: unsafe extern "C" fn(*mut c_void, *mut c_void),
    set_flags: unsafe extern "C" fn(*mut c_void, c_int),
    clear_flags: unsafe extern "C" fn(*mut c_void, c_int),
    method: *mut c_void,
}

// SAFETY: functions, and a table that isn't changed any more.
unsafe impl Send for OpenSsl {}
// SAFETY: see above.
unsafe impl Sync for OpenSsl {}

static OPENSSL: OnceLock<Option<OpenSsl>> = OnceLock::new();

impl OpenSsl {
    fn get(py: Python<'_>) -> Option<&'static Self> {
        once(py, &OPENSSL, Self::find)
    }

    fn find(py: Python<'_>) -> PyResult<Option<Self>> {
        let kind = calls::memory_bio(py)?;
        let size: usize = kind.getattr("__basicsize__")?.extract()?;
        let object = kind.call0()?;
        let Some(library) = Library::find(py)? else {
            return Ok(None);
        };
        if size != size_of::<Layout>() {
            return Ok(None);
        }
        // SAFETY: an `ssl.MemoryBIO` of this size has nothing but its `BIO` and a number after its head.
        unsafe { Ok(Self::of(library, (*object.as_ptr().cast::<Layout>()).bio)) }
    }

    /// # Safety
    ///
    /// The library is an OpenSSL, of 1.1.1 or 3. `bio` is one of its own, or null.
    unsafe fn of(library: Library, bio: *mut c_void) -> Option<Self> {
        // SAFETY: the functions are declared as in OpenSSL's headers, and called as these demand.
        unsafe {
            let kind: unsafe extern "C" fn(*const c_void) -> c_int =
                library.function(c"BIO_method_type")?;
            let new_kind: unsafe extern "C" fn() -> c_int =
                library.function(c"BIO_get_new_index")?;
            let new_method: unsafe extern "C" fn(c_int, *const c_char) -> *mut c_void =
                library.function(c"BIO_meth_new")?;
            let set_read: unsafe extern "C" fn(*mut c_void, Read) -> c_int =
                library.function(c"BIO_meth_set_read")?;
            let set_write: unsafe extern "C" fn(*mut c_void, Write) -> c_int =
                library.function(c"BIO_meth_set_write")?;
            let set_control: unsafe extern "C" fn(*mut c_void, Control) -> c_int =
                library.function(c"BIO_meth_set_ctrl")?;
            let set_destroy: unsafe extern "C" fn(*mut c_void, Destroy) -> c_int =
                library.function(c"BIO_meth_set_destroy")?;
            let mut found = Self {
                new: library.function(c"BIO_new")?,
                free: library.function(c"BIO_free")?,
                control: library.function(c"BIO_ctrl")?,
                data: library.function(c"BIO_get_data")?,
                set_data: library.function(c"BIO_set_data")?,
                set_flags: library.function(c"BIO_set_flags")?,
                clear_flags: library.function(c"BIO_clear_flags")?,
                method: ptr::null_mut(),
            };
            if bio.is_null() || kind(bio) != MEMORY {
                return None;
            }
            let name = c"memory of asyncio_thread_loop";
            found.method = new_method(new_kind() | SOURCE_OR_SINK, name.as_ptr());
            if found.method.is_null() {
                return None;
            }
            set_read(found.method, read);
            set_write(found.method, write);
            set_control(found.method, control);
            set_destroy(found.method, destroy);
            Some(found)
        }
    }
}

/// # Safety
///
/// `bio` is one that [`Bio::of`] made, and isn't destroyed as long as this is used.
unsafe fn ours<'a>(bio: *mut c_void) -> Option<(&'static OpenSsl, &'a Mutex<Contents>)> {
    let openssl = OPENSSL.get()?.as_ref()?;
    // SAFETY: the caller's. Its data is what `Arc::into_raw` said, or null before that is set.
    let contents = unsafe { (openssl.data)(bio).cast::<Mutex<Contents>>().as_ref()? };
    Some((openssl, contents))
}

unsafe extern "C" fn read(bio: *mut c_void, into: *mut c_char, size: c_int) -> c_int {
    // SAFETY: OpenSSL calls this with one of ours.
    let Some((openssl, contents)) = (unsafe { ours(bio) }) else {
        return -1;
    };
    // SAFETY: it is a `BIO`.
    unsafe { (openssl.clear_flags)(bio, ALL_RETRIES) };
    let read = with(contents, |contents| {
        let bytes = contents.queue.pull(usize::try_from(size).unwrap_or(0));
        if bytes.is_empty() {
            return contents.when_empty;
        }
        // SAFETY: OpenSSL has memory of that size for them, which isn't ours.
        unsafe {
            into.cast::<u8>()
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
        bytes.len() as c_int
    });
    if read.is_some_and(|read| read < 0) {
        // SAFETY: it is a `BIO`.
        unsafe { (openssl.set_flags)(bio, READ_LATER) };
    }
    read.unwrap_or(-1)
}

unsafe extern "C" fn write(bio: *mut c_void, bytes: *const c_char, size: c_int) -> c_int {
    // SAFETY: OpenSSL calls this with one of ours.
    let Some((openssl, contents)) = (unsafe { ours(bio) }) else {
        return -1;
    };
    let Ok(length @ 1..) = usize::try_from(size) else {
        return 0;
    };
    // SAFETY: it is a `BIO`.
    unsafe { (openssl.clear_flags)(bio, ALL_RETRIES) };
    // SAFETY: OpenSSL says that there are so many, and keeps them as they are meanwhile.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) };
    with(contents, |contents| contents.queue.push(bytes)).map_or(-1, |()| size)
}

unsafe extern "C" fn control(
    bio: *mut c_void,
    command: c_int,
    number: c_long,
    _: *mut c_void,
) -> c_long {
    // Most of what OpenSSL asks for is nothing to us.
    match command {
        FLUSH => return 1,
        EOF | PENDING | SET_WHEN_EMPTY => {}
        _ => return 0,
    }
    // SAFETY: OpenSSL calls this with one of ours.
    let Some((_, contents)) = (unsafe { ours(bio) }) else {
        return 0;
    };
    let answer = with(contents, |contents| {
        let size = contents.queue.as_bytes().len();
        match command {
            PENDING => return size as c_long,
            SET_WHEN_EMPTY => contents.when_empty = number as c_int,
            _ => return (size == 0).into(),
        }
        1
    });
    answer.unwrap_or(0)
}

unsafe extern "C" fn destroy(bio: *mut c_void) -> c_int {
    // SAFETY: OpenSSL calls this once, with one of ours.
    if let Some((_, contents)) = unsafe { ours(bio) } {
        // SAFETY: this is the reference that was given away with the data.
        drop(unsafe { Arc::from_raw(contents) });
    }
    1
}
