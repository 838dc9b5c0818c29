//! Cells that only the holder of the GIL may open.
//!
//! Everything in this crate that belongs to Python is guarded by the GIL and by nothing else: a lock around
//! Python objects would be held while their destructors run. Two cells make that a type:
//!
//! - [`GilCell`] moves its value in and out, so no borrow can be alive while Python code runs.
//! - [`GilRefCell`] lends it; a borrow that is still alive when Python code comes back here is a panic, never
//!   two aliases.

use std::cell::{Cell, OnceCell, RefCell, RefMut};

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::{PyTraverseError, PyTypeCheck, PyVisit};

#[cfg(Py_GIL_DISABLED)]
compile_error!(
    "asyncio-thread-loop relies on the GIL: free-threaded builds of CPython are not supported"
);

/// A value that is replaced as a whole.
#[derive(Default)]
pub struct GilCell<T>(Cell<T>);

// SAFETY: every access but `visit` demands a `Python` token, which only the one thread that holds the GIL has;
// the collector calls `visit` while it holds the GIL itself. `T: Send` because that thread changes.
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub const fn new(value: T) -> Self {
        Self(Cell::new(value))
    }

    pub fn replace(&self, _py: Python<'_>, value: T) -> T {
        self.0.replace(value)
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// Drops the old value last, so that a destructor which comes back here finds the new one.
    pub fn set(&self, py: Python<'_>, value: T) {
        drop(self.replace(py, value));
    }
}

impl<T: Copy> GilCell<T> {
    pub fn get(&self, _py: Python<'_>) -> T {
        self.0.get()
    }
}

impl<T: Default> GilCell<T> {
    pub fn take(&self, py: Python<'_>) -> T {
        self.replace(py, T::default())
    }

    /// Looks at the value. `look` must not run Python code that stores into this cell: what it stored would be
    /// overwritten.
    pub fn peek<R>(&self, py: Python<'_>, look: impl FnOnce(&T) -> R) -> R {
        let value = self.take(py);
        let seen = look(&value);
        self.set(py, value);
        seen
    }
}

impl<T> GilCell<Option<Py<T>>> {
    pub fn clone_ref(&self, py: Python<'_>) -> Option<Py<T>> {
        // SAFETY: the GIL is held, and taking a reference runs no code that could move the value.
        let value = unsafe { &*self.0.as_ptr() };
        value.as_ref().map(|object| object.clone_ref(py))
    }

    pub fn bind<'py>(&self, py: Python<'py>) -> Option<Bound<'py, T>> {
        self.clone_ref(py).map(|object| object.into_bound(py))
    }
}

impl<T> GilCell<Option<T>> {
    pub fn is_some(&self, _py: Python<'_>) -> bool {
        // SAFETY: the GIL is held, and this runs no code that could move the value.
        unsafe { &*self.0.as_ptr() }.is_some()
    }
}

impl<T> GilCell<T> {
    /// For `__traverse__`, which has no token although it holds the GIL.
    pub fn visit(
        &self,
        look: impl FnOnce(&T) -> Result<(), PyTraverseError>,
    ) -> Result<(), PyTraverseError> {
        // SAFETY: the collector holds the GIL and runs no other code while `look` visits, so nobody moves the value.
        look(unsafe { &*self.0.as_ptr() })
    }
}

/// A collection that is worked on in place, for moments in which no Python code runs.
#[derive(Default)]
pub struct GilRefCell<T>(RefCell<T>);

// SAFETY: as for `GilCell`.
unsafe impl<T: Send> Sync for GilRefCell<T> {}

impl<T> GilRefCell<T> {
    pub const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    pub fn borrow_mut<'a>(&'a self, _py: Python<'a>) -> RefMut<'a, T> {
        self.0.borrow_mut()
    }

    /// For `__traverse__`. A collection in use is left out: what it holds counts as reachable this time.
    pub fn visit(
        &self,
        look: impl FnOnce(&T) -> Result<(), PyTraverseError>,
    ) -> Result<(), PyTraverseError> {
        self.0.try_borrow().map_or(Ok(()), |value| look(&value))
    }
}

/// A value that is made when it is first asked for.
///
/// Unlike PyO3's `PyOnceLock` (and its `intern!`) it takes no lock and doesn't let go of the GIL by itself: a fork while
/// another thread is making the value must not leave the child waiting for that thread.
pub struct GilOnceCell<T>(OnceCell<T>);

// SAFETY: as for `GilCell`; what `get_or_try_init` lends is never changed again.
unsafe impl<T: Send + Sync> Sync for GilOnceCell<T> {}

impl<T> GilOnceCell<T> {
    pub const fn new() -> Self {
        Self(OnceCell::new())
    }

    pub fn get_or_try_init(
        &self,
        _py: Python<'_>,
        make: impl FnOnce() -> PyResult<T>,
    ) -> PyResult<&T> {
        if let Some(value) = self.0.get() {
            return Ok(value);
        }
        // Making it may run Python code, in which another thread makes it, too: the first one stays.
        let value = make()?;
        Ok(self.0.get_or_init(|| value))
    }
}

impl<T> GilOnceCell<Py<T>>
where
    T: PyTypeCheck,
{
    /// The attribute of a module.
    pub fn import<'py>(
        &self,
        py: Python<'py>,
        module: &str,
        attribute: &str,
    ) -> PyResult<&Bound<'py, T>> {
        let make = || -> PyResult<Py<T>> {
            let object = py.import(module)?.getattr(attribute)?;
            Ok(object.cast_into::<T>()?.unbind())
        };
        Ok(self.get_or_try_init(py, make)?.bind(py))
    }
}

/// A string that is made once. A lack of memory for it is a panic.
impl GilOnceCell<Py<PyString>> {
    pub fn interned<'py>(&self, py: Python<'py>, text: &str) -> &Bound<'py, PyString> {
        self.0
            .get_or_init(|| PyString::intern(py, text).unbind())
            .bind(py)
    }
}

/// `intern!(py, "text")`: a Python string that is made once, without letting go of the GIL.
macro_rules! intern {
    ($py:expr, $text:expr) => {{
        static TEXT: $crate::gil::GilOnceCell<::pyo3::Py<::pyo3::types::PyString>> =
            $crate::gil::GilOnceCell::new();
        TEXT.interned($py, $text)
    }};
}

pub(crate) use intern;

/// Visits every object of a collection.
pub fn visit_all<'a, T: 'a>(
    visit: &PyVisit<'_>,
    objects: impl IntoIterator<Item = &'a Py<T>>,
) -> Result<(), PyTraverseError> {
    objects
        .into_iter()
        .try_for_each(|object| visit.call(object))
}
