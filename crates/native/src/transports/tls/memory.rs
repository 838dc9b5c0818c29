//! The `ssl.MemoryBIO` of one direction.

use std::ffi::c_void;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::bio::Bio;
use super::queue::Queue;
use crate::calls;
use crate::gil::{GilCell, GilRefCell, intern};

#[derive(Default)]
pub struct MemoryBio {
    object: GilCell<Option<Py<PyAny>>>,
    /// What is in it. None: nobody but the object knows.
    bio: GilRefCell<Option<Bio>>,
}

impl MemoryBio {
    pub fn set(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = object.py();
        let bio = Bio::of(object)?;
        *self.bio.borrow_mut(py) = bio;
        self.object.set(py, Some(object.clone().unbind()));
        Ok(())
    }

    pub fn object(&self) -> &GilCell<Option<Py<PyAny>>> {
        &self.object
    }

    /// These bytes follow.
    pub fn append(&self, py: Python<'_>, bytes: Queue) -> PyResult<()> {
        if let Some(bio) = &*self.bio.borrow_mut(py) {
            bio.append(bytes);
            return Ok(());
        }
        let Some(object) = self.object.bind(py) else {
            return Ok(());
        };
        let bytes = calls::bytes(py, bytes.as_bytes())?;
        object
            .call_method1(intern!(py, "write"), (bytes,))
            .map(drop)
    }

    /// All there is.
    pub fn take(&self, py: Python<'_>) -> PyResult<Queue> {
        if let Some(bio) = &*self.bio.borrow_mut(py) {
            return Ok(bio.take());
        }
        let mut taken = Queue::default();
        if let Some(object) = self.object.bind(py) {
            let bytes = object.call_method0(intern!(py, "read"))?;
            taken.push(bytes.cast::<PyBytes>()?.as_bytes());
        }
        Ok(taken)
    }

    pub fn pending(&self, py: Python<'_>) -> PyResult<usize> {
        if let Some(bio) = &*self.bio.borrow_mut(py) {
            return Ok(bio.size());
        }
        match self.object.bind(py) {
            Some(object) => object.getattr(intern!(py, "pending"))?.extract(),
            None => Ok(0),
        }
    }

    /// Whether it is what OpenSSL reads from, or writes to, by this `BIO`.
    ///
    /// # Safety
    ///
    /// `bio` is a `BIO`, or null.
    pub unsafe fn is_of(&self, py: Python<'_>, bio: *mut c_void) -> bool {
        // SAFETY: the caller's.
        (self.bio.borrow_mut(py).as_ref()).is_some_and(|ours| unsafe { ours.is_of(bio) })
    }

    /// To be called when what is there will stay for a while.
    pub fn trim(&self, py: Python<'_>) {
        if let Some(bio) = &*self.bio.borrow_mut(py) {
            bio.trim();
        }
    }
}
