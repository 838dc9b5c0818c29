//! The border between this library's Python code and its callers: errors cross it without the library's frames.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::gil::intern;
use crate::{calls, frames};

/// The decorator: errors of `function` won't show where in this library they passed.
#[pyfunction]
pub fn boundary<'py>(function: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = function.py();
    let behind = Boundary {
        function: function.clone().unbind(),
    };
    let boundary = uncollected(|| Bound::new(py, behind))?;
    calls::update_wrapper(py)?.call1((boundary, function))
}

/// What `make` makes, with the collector off.
///
/// CPython 3.11 gives a new object its `__dict__` when the collector knows the object already, but PyO3 hasn't written
/// what is in it. The dictionary may start a collection, which would visit a function that isn't there.
fn uncollected<T>(make: impl FnOnce() -> T) -> T {
    // SAFETY: the GIL is held.
    let collects = unsafe { ffi::PyGC_Disable() } != 0;
    let made = make();
    if collects {
        // SAFETY: as above.
        unsafe { ffi::PyGC_Enable() };
    }
    made
}

/// A function or method behind the border.
#[pyclass(frozen, dict, module = "asyncio_thread_loop._native")]
pub struct Boundary {
    function: Py<PyAny>,
}

#[pymethods]
impl Boundary {
    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        calls::call_user(self.function.bind(py), args, kwargs)
            .map_err(|error| frames::stripped(py, error))
    }

    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        calls::bind_as_method(slf, instance)
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        self.function.bind(py).repr()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.function)
    }
}

/// The same for an iterator: `next()` on it raises without this library's frames.
#[pyclass(frozen, module = "asyncio_thread_loop._native")]
pub struct BoundaryIterator {
    generator: Py<PyAny>,
}

#[pymethods]
impl BoundaryIterator {
    #[new]
    fn new(generator: Py<PyAny>) -> Self {
        Self { generator }
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.generator
            .bind(py)
            .try_iter()?
            .next()
            .transpose()
            .map_err(|error| frames::stripped(py, error))
    }

    /// Ends the iteration; what is still under way is cancelled.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.generator
            .bind(py)
            .call_method0(intern!(py, "close"))
            .map(drop)
            .map_err(|error| frames::stripped(py, error))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.generator)
    }
}
