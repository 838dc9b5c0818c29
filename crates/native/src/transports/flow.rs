//! Flow control: a protocol is told when much waits to be written, and again when that has become little.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::life::Lives;
use crate::calls;
use crate::gil::{GilCell, intern};

/// How much may wait to be written before the protocol is paused, and when it is resumed.
#[derive(Clone, Copy)]
pub struct Limits {
    low: usize,
    high: usize,
}

/// Of a transport that can be written to.
#[derive(Default)]
pub struct FlowControl {
    limits: GilCell<Limits>,
    is_paused: GilCell<bool>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            low: 16 * 1024,
            high: 64 * 1024,
        }
    }
}

impl Limits {
    /// As asyncio fills in what isn't given.
    fn new(high: Option<isize>, low: Option<isize>) -> PyResult<Self> {
        let high = high.unwrap_or_else(|| low.map_or(64 * 1024, |low| low.saturating_mul(4)));
        let low = low.unwrap_or_else(|| high.div_euclid(4));
        match (usize::try_from(low), usize::try_from(high)) {
            (Ok(low), Ok(high)) if low <= high => Ok(Self { low, high }),
            _ => Err(calls::builtin_error::<PyValueError>(format!(
                "high ({high}) must be >= low ({low}) must be >= 0"
            ))),
        }
    }
}

impl FlowControl {
    /// The lower one, then the higher one.
    pub fn limits(&self, py: Python<'_>) -> (usize, usize) {
        let limits = self.limits.get(py);
        (limits.low, limits.high)
    }

    /// To be followed by `pause_if_full`.
    pub fn set_limits(
        &self,
        py: Python<'_>,
        high: Option<isize>,
        low: Option<isize>,
    ) -> PyResult<()> {
        self.limits.set(py, Limits::new(high, low)?);
        Ok(())
    }

    pub fn is_paused(&self, py: Python<'_>) -> bool {
        self.is_paused.get(py)
    }

    /// So many bytes wait to be written now.
    pub fn pause_if_full<T: Lives>(&self, transport: &Bound<'_, T>, size: usize) -> PyResult<()> {
        let py = transport.py();
        if size <= self.limits.get(py).high || self.is_paused.replace(py, true) {
            return Ok(());
        }
        let failed = "protocol.pause_writing() failed";
        tell(transport, intern!(py, "pause_writing"), failed)
    }

    /// So many bytes still wait.
    pub fn resume_if_drained<T: Lives>(
        &self,
        transport: &Bound<'_, T>,
        size: usize,
    ) -> PyResult<()> {
        let py = transport.py();
        if size > self.limits.get(py).low || !self.is_paused.replace(py, false) {
            return Ok(());
        }
        let failed = "protocol.resume_writing() failed";
        tell(transport, intern!(py, "resume_writing"), failed)
    }
}

/// What the protocol raises doesn't end the connection.
fn tell<T: Lives>(
    transport: &Bound<'_, T>,
    method: &Bound<'_, PyString>,
    failed: &str,
) -> PyResult<()> {
    let py = transport.py();
    let life = transport.get().life();
    let Some(protocol) = life.protocol.bind(py) else {
        return Ok(());
    };
    let error = match calls::call_user_method(method, [&protocol]) {
        Err(error) if !calls::ends_the_program(py, &error) => error,
        told => return told.map(drop),
    };
    let Some(event_loop) = life.event_loop.bind(py) else {
        return Ok(());
    };
    let context = PyDict::new(py);
    context.set_item("message", failed)?;
    context.set_item("exception", error.value(py))?;
    context.set_item("transport", transport)?;
    context.set_item("protocol", protocol)?;
    let handler = intern!(py, "call_exception_handler");
    calls::call_user_method(handler, [event_loop.as_any(), context.as_any()]).map(drop)
}
