//! The rest of a future: where its work came from, which is asked when something goes wrong, and what few futures
//! need at all. Together they take one word of it.

use std::mem::{self, ManuallyDrop};

use pyo3::prelude::*;
use pyo3::types::PyList;
use pyo3::{PyTraverseError, PyVisit};

use super::Condition;
use crate::gil::visit_all;

/// What few futures need.
#[derive(Default)]
pub struct Extra {
    pub condition: Option<Py<Condition>>,
    /// Objects of `concurrent.futures.wait` and `as_completed`, to be told under the condition.
    pub waiters: Option<Py<PyList>>,
    pub callbacks: Vec<Py<PyAny>>,
    pub failed: bool,
    /// The traceback the exception came with: each `result()` raises it anew with this one, so that frames of
    /// earlier callers don't pile up.
    pub traceback: Option<Py<PyAny>>,
    /// Somebody asked for the exception.
    pub retrieved: bool,
    /// Somebody cancelled the work while its task was being made.
    pub cancel_asked: bool,
    /// The future's own place for it leads here.
    origin: Option<Py<PyAny>>,
}

/// A reference to the origin or, marked in its lowest bit, the address of an [`Extra`] that has it: objects and boxes
/// lie at even addresses.
#[repr(C)]
pub union Rest {
    origin: ManuallyDrop<Option<Py<PyAny>>>,
    marked: *mut Extra,
}

const MARK: usize = 1;

const _: () = assert!(align_of::<Extra>() > MARK && size_of::<Rest>() == size_of::<usize>());

// SAFETY: both of what it may own are.
unsafe impl Send for Rest where (Extra, Py<PyAny>): Send {}

impl Rest {
    pub fn extra(&self) -> Option<&Extra> {
        // SAFETY: it is a box of ours, lent as long as we are.
        self.boxed().map(|extra| unsafe { &*extra })
    }

    pub fn extra_mut(&mut self) -> Option<&mut Extra> {
        // SAFETY: as above.
        self.boxed().map(|extra| unsafe { &mut *extra })
    }

    /// Makes it if need be.
    pub fn need_extra(&mut self) -> &mut Extra {
        if self.boxed().is_none() {
            let extra = Box::new(Extra {
                origin: self.replace_origin(None),
                ..Extra::default()
            });
            self.marked = Box::into_raw(extra).map_addr(|address| address | MARK);
        }
        self.extra_mut().expect("there is one now")
    }

    /// Takes it out; the origin stays.
    pub fn take_extra(&mut self) -> Option<Box<Extra>> {
        let extra = self.boxed()?;
        // SAFETY: it is a box of ours, which is forgotten in the next line.
        let mut extra = unsafe { Box::from_raw(extra) };
        self.origin = ManuallyDrop::new(extra.origin.take());
        Some(extra)
    }

    pub fn origin(&self) -> Option<&Py<PyAny>> {
        match self.extra() {
            Some(extra) => extra.origin.as_ref(),
            // SAFETY: it isn't the other.
            None => unsafe { &self.origin }.as_ref(),
        }
    }

    /// Returns the old one.
    pub fn replace_origin(&mut self, origin: Option<Py<PyAny>>) -> Option<Py<PyAny>> {
        match self.extra_mut() {
            Some(extra) => mem::replace(&mut extra.origin, origin),
            None => {
                // SAFETY: it isn't the other.
                let place = unsafe { &mut self.origin };
                ManuallyDrop::into_inner(mem::replace(place, ManuallyDrop::new(origin)))
            }
        }
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self.origin())?;
        let Some(extra) = self.extra() else {
            return Ok(());
        };
        visit.call(&extra.condition)?;
        visit.call(&extra.waiters)?;
        visit.call(&extra.traceback)?;
        visit_all(visit, &extra.callbacks)
    }

    fn boxed(&self) -> Option<*mut Extra> {
        // SAFETY: it is a pointer, whichever it is.
        let marked = unsafe { self.marked };
        (marked.addr() & MARK != 0).then(|| marked.map_addr(|address| address & !MARK))
    }
}

impl Default for Rest {
    fn default() -> Self {
        Self {
            origin: ManuallyDrop::new(None),
        }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        drop(self.take_extra());
        drop(self.replace_origin(None));
    }
}
