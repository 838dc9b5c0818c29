//! What has been made for an object before, found again as long as it is alive.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use crate::gil::GilRefCell;

/// Finds an object by one or two addresses, and keeps it no longer than others do.
///
/// The object has to keep alive what has these addresses, so that nothing else gets them meanwhile. Two threads that make
/// one for the same key both get the first.
#[pyclass(frozen, module = "asyncio_thread_loop._native")]
pub struct Registry {
    entries: GilRefCell<Entries>,
}

#[derive(Default)]
struct Entries {
    references: HashMap<(usize, usize), Py<PyWeakrefReference>>,
    /// When there are so many, those to the dead are thrown away.
    full: usize,
}

/// Few enough to go through at any time.
const FEW: usize = 64;

impl Entries {
    fn find<'py>(&self, py: Python<'py>, key: (usize, usize)) -> Option<Bound<'py, PyAny>> {
        self.references.get(&key)?.bind(py).upgrade()
    }

    fn keep(
        &mut self,
        py: Python<'_>,
        key: (usize, usize),
        reference: Bound<'_, PyWeakrefReference>,
    ) {
        if self.references.len() >= self.full {
            self.references
                .retain(|_, reference| reference.bind(py).upgrade().is_some());
            self.full = FEW.max(2 * self.references.len());
        }
        self.references.insert(key, reference.unbind());
    }
}

#[pymethods]
impl Registry {
    #[new]
    fn new() -> Self {
        Self {
            entries: GilRefCell::new(Entries::default()),
        }
    }

    /// The object, None if there is none any more.
    #[pyo3(signature = (first, second=0))]
    fn get<'py>(&self, py: Python<'py>, first: usize, second: usize) -> Option<Bound<'py, PyAny>> {
        self.entries.borrow_mut(py).find(py, (first, second))
    }

    /// The object, which is `value` if there was none before.
    #[pyo3(signature = (value, first, second=0))]
    fn setdefault<'py>(
        &self,
        value: Bound<'py, PyAny>,
        first: usize,
        second: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = value.py();
        // Made before looking: the collector may run here.
        let reference = PyWeakrefReference::new(&value)?;
        let mut entries = self.entries.borrow_mut(py);
        if let Some(found) = entries.find(py, (first, second)) {
            return Ok(found);
        }
        entries.keep(py, (first, second), reference);
        Ok(value)
    }

    /// Has `value` found from now on, whatever was before.
    #[pyo3(signature = (value, first, second=0))]
    fn replace(&self, value: &Bound<'_, PyAny>, first: usize, second: usize) -> PyResult<()> {
        let reference = PyWeakrefReference::new(value)?;
        let py = value.py();
        self.entries
            .borrow_mut(py)
            .keep(py, (first, second), reference);
        Ok(())
    }
}
