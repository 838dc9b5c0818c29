//! The face of a function.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::{FacesCore, arguments};
use crate::{calls, frames};

#[pyclass(frozen, subclass, weakref, module = "asyncio_thread_loop._native")]
pub struct FunctionCore {
    faces: Py<FacesCore>,
    function: Py<PyAny>,
    /// Whether calling it runs none of its code, so that any thread may: a coroutine function.
    is_direct: bool,
}

#[pymethods]
impl FunctionCore {
    #[new]
    fn new(faces: Py<FacesCore>, function: Py<PyAny>, is_direct: bool) -> Self {
        Self {
            faces,
            function,
            is_direct,
        }
    }

    /// The asynchronous original.
    #[getter]
    pub fn aio<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.function.bind(py).clone()
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let faces = this.faces.bind(py);
        let (args, kwargs) = arguments::look_through(faces, slf.as_any(), args, kwargs)?;
        if !this.is_direct {
            let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py));
            let coroutine = calls::call_function(py)?
                .call1((&this.function, args, kwargs))
                .map_err(|error| frames::stripped(py, error))?;
            return FacesCore::evaluate(faces, &coroutine);
        }
        let made = calls::call_user(this.function.bind(py), &args, kwargs.as_ref())?;
        FacesCore::finish(faces, made)
    }

    /// In a class body it becomes a method, as any function does.
    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        calls::bind_as_method(slf, instance)
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let function = self.function.bind(py).repr()?;
        calls::string(py, format!("<synchronous face of {function}>"))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        calls::refused_pickling(slf)
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        calls::generic_alias(class.py())?.call1((class, item))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.faces)?;
        visit.call(&self.function)
    }
}
