//! Calls that were handed over together, for one caller who waits for all of them: counted as they end, so that nobody
//! has to be told of each.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::frames::Origin;
use crate::future::{End, FutureCore};
use crate::gil::GilCell;

#[pyclass(frozen, module = "asyncio_thread_loop._native")]
pub struct Batch {
    /// Ends with all of them, or with the first that fails. Its result is whether that was it.
    ended: Py<FutureCore>,
    unfinished: GilCell<usize>,
    stops_at_failure: bool,
    /// Where they came from.
    origin: Option<Origin>,
}

impl Batch {
    pub fn new(
        ended: Py<FutureCore>,
        calls: usize,
        stops_at_failure: bool,
        origin: Option<Origin>,
    ) -> Self {
        Self {
            ended,
            unfinished: GilCell::new(calls),
            stops_at_failure,
            origin,
        }
    }

    pub fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// One of them has ended.
    pub fn one_ended(&self, py: Python<'_>, failed: bool) -> PyResult<()> {
        let left = self.unfinished.get(py) - 1;
        self.unfinished.set(py, left);
        let stops = failed && self.stops_at_failure;
        if left > 0 && !stops {
            return Ok(());
        }
        let stops = stops.into_pyobject(py)?.to_owned().into_any().unbind();
        FutureCore::finish(self.ended.bind(py), End::Value(stops)).map(drop)
    }
}

#[pymethods]
impl Batch {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.ended)?;
        visit.call(self.origin.as_ref().map(|origin| &origin.code))
    }
}
