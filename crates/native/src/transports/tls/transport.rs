//! What the application writes to.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::TlsCore;
use crate::calls;
use crate::gil::GilCell;
use crate::transports::data::is_bytes;

/// The part of the application's transport that is called per message; the rest is in `_tls.py`.
#[pyclass(frozen, subclass, module = "asyncio_thread_loop._native")]
pub struct TlsTransportCore {
    tls: GilCell<Option<Py<TlsCore>>>,
}

#[pymethods]
impl TlsTransportCore {
    #[new]
    fn new(tls: Py<TlsCore>) -> Self {
        Self {
            tls: GilCell::new(Some(tls)),
        }
    }

    fn write(&self, data: &Bound<'_, PyAny>) -> PyResult<()> {
        if !is_bytes(data) {
            return Err(calls::builtin_error::<PyTypeError>(format!(
                "data: expecting a bytes-like instance, got {}",
                data.get_type().name()?
            )));
        }
        match self.tls.bind(data.py()) {
            Some(tls) if data.len()? > 0 => TlsCore::write_now(&tls, data),
            _ => Ok(()),
        }
    }

    fn writelines(&self, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.tls.bind(list_of_data.py()) {
            Some(tls) => TlsCore::write_all_now(&tls, list_of_data),
            None => Ok(()),
        }
    }

    /// Drops the connection's writes from now on, and is no reason for it to stay.
    fn _let_go(&self, py: Python<'_>) {
        drop(self.tls.take(py));
    }

    #[getter]
    fn _ssl_protocol(&self, py: Python<'_>) -> Option<Py<TlsCore>> {
        self.tls.clone_ref(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.tls.visit(|tls| visit.call(tls))
    }

    fn __clear__(&self, py: Python<'_>) {
        drop(self.tls.take(py));
    }
}
