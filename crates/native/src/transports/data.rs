//! What is handed to a transport to be sent.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};

use super::reading::Memory;
use crate::buffer::concatenate;
use crate::calls;

/// Bytes, or memory of another kind: that may be changed as soon as Python code runs.
pub enum Data<'a, 'py> {
    Bytes(&'a Bound<'py, PyBytes>),
    Memory(Memory),
}

impl<'a, 'py> Data<'a, 'py> {
    pub fn of(object: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        match object.cast_exact() {
            Ok(bytes) => Ok(Self::Bytes(bytes)),
            Err(_) => Memory::get(object, ffi::PyBUF_SIMPLE).map(Self::Memory),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.as_bytes(),
            Self::Memory(memory) => memory.as_bytes(),
        }
    }

    /// What comes after the first `start` bytes, to be kept: bytes that nobody can change, and where in them it begins.
    /// Memory is let go of.
    pub fn after(self, py: Python<'py>, start: usize) -> PyResult<(Bound<'py, PyBytes>, usize)> {
        match self {
            Self::Bytes(bytes) => Ok((bytes.clone(), start)),
            Self::Memory(memory) => Ok((concatenate(py, &[&memory.as_bytes()[start..]])?, 0)),
        }
    }
}

/// Whether asyncio would send it.
pub fn is_bytes(data: &Bound<'_, PyAny>) -> bool {
    data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>()
}

/// Refuses what asyncio refuses to send.
pub fn check_is_bytes(data: &Bound<'_, PyAny>) -> PyResult<()> {
    if is_bytes(data) {
        return Ok(());
    }
    Err(calls::builtin_error::<PyTypeError>(format!(
        "data argument must be a bytes-like object, not {}",
        data.get_type().name()?.repr()?
    )))
}
