//! Transports made without the detour of a class call, and how they end.

use pyo3::exceptions::PySystemError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::stream::StreamTransport;
use crate::allocation::Place;
use crate::calls;
use crate::gil::intern;

static PLACE: Place<StreamTransport> = Place::unknown();

/// Called once, with the class `SocketTransport`, before any is made.
#[pyfunction]
pub fn prepare_transport_type(class: &Bound<'_, PyType>) -> PyResult<()> {
    let sample = Bound::new(class.py(), StreamTransport::nothing(class.py()))?;
    PLACE.find(&sample, sample.get());
    if !PLACE.is_known() {
        let message = "StreamTransport is not laid out as this module needs it";
        return Err(calls::builtin_error::<PySystemError>(message));
    }
    // SAFETY: a live type, made for nobody else, and the slot is there to be set by whoever makes the type.
    unsafe { (*class.as_type_ptr()).tp_finalize = Some(finalize) };
    Ok(())
}

/// An object of the class `SocketTransport`.
pub fn make(py: Python<'_>, transport: StreamTransport) -> PyResult<Bound<'_, StreamTransport>> {
    let class = calls::socket_transport(py)?;
    // SAFETY: the class derives from `StreamTransport`, adds nothing to its layout but what Python code adds, and the
    // place was found before there was such a class to import.
    unsafe {
        let object = PLACE.make(class.as_type_ptr(), transport);
        Ok(Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked())
    }
}

/// `__del__`: a transport that nobody closed is warned of. Called for each, so what costs something is left to Python
/// code that few of them need.
unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
    // SAFETY: the interpreter calls this with the GIL held, and with a live object of the class it was set for.
    let transport: Borrowed<'_, '_, StreamTransport> = unsafe {
        let py = Python::assume_attached();
        Borrowed::from_ptr(py, object).cast_unchecked()
    };
    if !transport.get().is_open(transport.py()) {
        return;
    }
    Python::attach(|py| {
        // It may be dropped while an exception is on its way.
        let raised = PyErr::take(py);
        if let Err(error) = transport.call_method0(intern!(py, "_end_unclosed")) {
            error.write_unraisable(py, Some(&transport));
        }
        if let Some(raised) = raised {
            raised.restore(py);
        }
    });
}
