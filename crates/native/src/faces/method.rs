//! The methods of faces.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi};

use super::{FaceCore, FacesCore, arguments};
use crate::gil::intern;
use crate::{calls, frames};

unsafe extern "C" {
    /// Lends the function of a bound method. Public in CPython; PyO3 doesn't declare it.
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

/// A method of the original's class, as its face's class has it.
// No `dict` of its own, which CPython 3.11 would make before there is anything in it: that comes with the class that
// Python derives from it.
#[pyclass(frozen, subclass, weakref, module = "asyncio_thread_loop._native")]
pub struct MethodCore {
    faces: Py<FacesCore>,
    /// The class that defines it.
    owner: Py<PyType>,
    name: Py<PyString>,
    /// As it stood in the class when the face was made.
    function: Py<PyAny>,
    /// Whether calling it runs none of its code, so that any thread may: a coroutine function.
    is_direct: bool,
}

impl MethodCore {
    fn call<'py>(
        slf: &Bound<'py, Self>,
        face: &Bound<'py, FaceCore>,
        args: Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let faces = this.faces.bind(py);
        let original = FaceCore::enter(face, faces)?;
        let (args, kwargs) = arguments::look_through(faces, slf.as_any(), args, kwargs)?;
        if this.is_direct
            && let Some(bound) = this.unchanged(&original)?
        {
            let made = calls::call_user(&bound, &args, kwargs.as_ref())?;
            return FacesCore::finish(faces, made);
        }
        let kwargs = kwargs.unwrap_or_else(|| PyDict::new(py));
        let coroutine = calls::call_member(py)?
            .call1((slf, face, original, args, kwargs))
            .map_err(|error| frames::stripped(py, error))?;
        FacesCore::evaluate(faces, &coroutine)
    }

    /// The original's method, if it is the one that was there when the face was made: not overridden by a subclass, not
    /// replaced since. Looking for it runs no code.
    fn unchanged<'py>(&self, original: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = original.py();
        if !reads_attributes_plainly(original)? {
            return Ok(None);
        }
        let Ok(bound) = original.getattr(self.name.bind(py)) else {
            return Ok(None);
        };
        if !bound.get_type().is(calls::method_type(py)?) {
            return Ok(None);
        }
        // SAFETY: it is a bound method, as was just checked.
        let function = unsafe { PyMethod_Function(bound.as_ptr()) };
        Ok((function == self.function.as_ptr()).then_some(bound))
    }
}

/// Whether an object's class leaves it to Python to find its attributes.
fn reads_attributes_plainly(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    let class = object.get_type();
    // SAFETY: reads a slot of a live type.
    let read = unsafe { (*class.as_type_ptr()).tp_getattro };
    if read.is_some_and(|read| {
        std::ptr::fn_addr_eq(read, ffi::PyObject_GenericGetAttr as ffi::getattrofunc)
    }) {
        return Ok(true);
    }
    // A class with a `__getattr__` has another slot, but may have nothing else.
    let name = intern!(py, "__getattribute__");
    Ok(class
        .getattr(name)?
        .is(py.get_type::<PyAny>().getattr(name)?))
}

#[pymethods]
impl MethodCore {
    #[new]
    fn new(
        faces: Py<FacesCore>,
        owner: Py<PyType>,
        name: Py<PyString>,
        function: Py<PyAny>,
        is_direct: bool,
    ) -> Self {
        Self {
            faces,
            owner,
            name,
            function,
            is_direct,
        }
    }

    /// The asynchronous original.
    #[getter]
    fn aio(&self, py: Python<'_>) -> Py<PyAny> {
        self.function.clone_ref(py)
    }

    #[getter]
    fn owner(&self, py: Python<'_>) -> Py<PyType> {
        self.owner.clone_ref(py)
    }

    #[getter]
    fn name(&self, py: Python<'_>) -> Py<PyString> {
        self.name.clone_ref(py)
    }

    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: &Bound<'py, PyAny>,
        _owner: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if instance.is_none() {
            return Ok(slf.clone().into_any());
        }
        let method = BoundMethod {
            method: slf.clone().unbind(),
            face: instance.cast::<FaceCore>()?.clone().unbind(),
        };
        Ok(Bound::new(slf.py(), method)?.into_any())
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let first = args.get_item(0).ok();
        let Some(face) = first.as_ref().and_then(|face| face.cast().ok()) else {
            return Err(calls::builtin_error::<PyTypeError>(format!(
                "{} needs a face as its first argument",
                slf.repr()?
            )));
        };
        Self::call(slf, face, args.get_slice(1, args.len()), kwargs)
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let function = self.function.bind(py).repr()?;
        calls::string(py, format!("<synchronous face of {function}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.faces)?;
        visit.call(&self.owner)?;
        visit.call(&self.function)
    }
}

// A method with the face it was taken from. (In a docstring this would hide the getter of `__doc__`.)
#[pyclass(frozen, weakref, module = "asyncio_thread_loop._native")]
pub struct BoundMethod {
    method: Py<MethodCore>,
    face: Py<FaceCore>,
}

#[pymethods]
impl BoundMethod {
    /// The original's own bound method.
    #[getter]
    pub fn aio<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        FaceCore::original(self.face.bind(py))?.getattr(&self.method.get().name)
    }

    #[getter]
    fn __self__(&self, py: Python<'_>) -> Py<FaceCore> {
        self.face.clone_ref(py)
    }

    #[getter]
    fn __func__(&self, py: Python<'_>) -> Py<MethodCore> {
        self.method.clone_ref(py)
    }

    #[getter]
    fn __doc__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.method.bind(py).getattr(intern!(py, "__doc__"))
    }

    #[getter]
    fn __module__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.method.bind(py).getattr(intern!(py, "__module__"))
    }

    #[getter]
    fn __signature__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        calls::synchronous_signature(py)?.call1((&self.method.get().function, true))
    }

    /// `__name__` and its like.
    fn __getattr__<'py>(
        &self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.method.bind(py).getattr(name)
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__<'py>(
        &self,
        args: Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = args.py();
        MethodCore::call(self.method.bind(py), self.face.bind(py), args, kwargs)
    }

    /// As a bound method of Python does, it stays bound to what it was bound to.
    fn __get__(slf: Py<Self>, _instance: &Bound<'_, PyAny>, _owner: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<Self>().is_ok_and(|other| {
            self.method.is(&other.get().method) && self.face.is(&other.get().face)
        })
    }

    fn __hash__(&self) -> usize {
        // Objects are aligned: the low bits say nothing.
        (self.method.as_ptr().addr() >> 4) ^ (self.face.as_ptr().addr() >> 4).rotate_left(17)
    }

    fn __repr__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        let function = self.method.get().function.bind(py).repr()?;
        let face = self.face.bind(py).repr()?;
        calls::string(py, format!("<synchronous face of {function} of {face}>"))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        calls::refused_pickling(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.method)?;
        visit.call(&self.face)
    }
}
