//! What an original gets for the arguments of a call.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict, PyFunction, PyTuple, PyType};
use pyo3::{IntoPyObjectExt, ffi};

use super::{BoundMethod, FaceCore, FacesCore, FunctionCore};
use crate::gil::intern;
use crate::{calls, frames};

type Arguments<'py> = (Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

/// Unwraps faces and wraps callbacks. `holder` is what is called; Python knows what its parameters are annotated with.
pub fn look_through<'py>(
    faces: &Bound<'py, FacesCore>,
    holder: &Bound<'py, PyAny>,
    args: Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Arguments<'py>> {
    Ok((
        positional(faces, holder, args)?,
        kwargs
            .map(|kwargs| named(faces, holder, kwargs))
            .transpose()?,
    ))
}

fn positional<'py>(
    faces: &Bound<'py, FacesCore>,
    holder: &Bound<'py, PyAny>,
    args: Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyTuple>> {
    let mut changed: Option<Vec<Bound<'py, PyAny>>> = None;
    for (position, value) in args.iter().enumerate() {
        if let Some(other) = replaced(faces, holder, &value, position)? {
            changed.get_or_insert_with(|| args.iter().collect())[position] = other;
        }
    }
    changed.map_or(Ok(args), |changed| PyTuple::new(faces.py(), changed))
}

fn named<'py>(
    faces: &Bound<'py, FacesCore>,
    holder: &Bound<'py, PyAny>,
    kwargs: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    let mut changed: Option<Bound<'py, PyDict>> = None;
    for (name, value) in kwargs.iter() {
        if let Some(other) = replaced(faces, holder, &value, name.clone())? {
            let changed = match &changed {
                Some(changed) => changed,
                None => changed.insert(kwargs.copy()?),
            };
            changed.set_item(name, other)?;
        }
    }
    Ok(changed.unwrap_or_else(|| kwargs.clone()))
}

/// What a value becomes at this position of the holder's parameters. None if it stays what it is.
fn replaced<'py>(
    faces: &Bound<'py, FacesCore>,
    holder: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
    position: impl IntoPyObjectExt<'py>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = faces.py();
    if is_plain(value) {
        return Ok(None);
    }
    let other = unwrapped(faces, value)?;
    if other.is_some() || !may_be_callback(value)? {
        return Ok(other);
    }
    faces
        .call_method1(intern!(py, "_callback"), (holder, value, position))
        .map(Some)
        .map_err(|error| frames::stripped(py, error))
}

/// The original of a face, of whatever kind. None if the value is none.
pub fn unwrapped<'py>(
    faces: &Bound<'py, FacesCore>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = faces.py();
    if let Ok(face) = value.cast::<FaceCore>() {
        if !face.get().belongs_to(faces) {
            return Err(calls::builtin_error::<PyValueError>(format!(
                "{} belongs to another loop",
                value.repr()?
            )));
        }
        return FaceCore::original(face).map(Some);
    }
    if let Ok(class) = value.cast::<PyType>() {
        if !class.is_subclass_of::<FaceCore>()? {
            return Ok(None);
        }
        return class.getattr_opt(intern!(py, "aio"));
    }
    if let Ok(method) = value.cast::<BoundMethod>() {
        return method.get().aio(py).map(Some);
    }
    if let Ok(function) = value.cast::<FunctionCore>() {
        return Ok(Some(function.get().aio(py)));
    }
    Ok(None)
}

/// Whether a value is of one of the types that most arguments are of, and that are never looked at.
fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    let class = value.get_type_ptr();
    class == &raw mut ffi::PyUnicode_Type
        || class == &raw mut ffi::PyLong_Type
        || class == &raw mut ffi::PyBytes_Type
        || class == &raw mut ffi::PyBool_Type
        || class == &raw mut ffi::PyFloat_Type
        || class == &raw mut ffi::PyDict_Type
        || class == &raw mut ffi::PyList_Type
        || class == &raw mut ffi::PyTuple_Type
        || value.is_none()
}

/// Functions, methods and partials of them. Classes and other callable objects are whatever the original takes them for.
fn may_be_callback(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = value.py();
    Ok(value.is_exact_instance_of::<PyFunction>()
        || value.is_exact_instance_of::<PyCFunction>()
        || value.get_type().is(calls::method_type(py)?)
        || value.get_type().is(calls::method_wrapper_type(py)?)
        || value.is_instance(calls::partial_type(py)?)?)
}
