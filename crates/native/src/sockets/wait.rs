//! An operation on a socket waits until it may try again.

use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{PyTraverseError, PyVisit};

use super::descriptor;
use crate::descriptors::Direction;
use crate::event_loop::{LoopCore, create_future};
use crate::gil::{GilCell, intern};

/// Awaited once, it ends when the socket may be ready. The operation is tried again then and not before, so a task that
/// is cancelled while it waits has taken nothing from the socket.
#[pyclass(frozen, module = "asyncio_thread_loop._native")]
pub struct Wait {
    event_loop: Py<LoopCore>,
    fd: RawFd,
    direction: Direction,
    future: Py<PyAny>,
    is_awaited: GilCell<bool>,
    /// What the operation has done so far, in bytes.
    #[pyo3(get)]
    done: usize,
}

impl Wait {
    /// Of an operation that has just failed for want of what it waits for.
    pub fn begin<'py>(
        event_loop: &Bound<'py, LoopCore>,
        socket: &Bound<'py, PyAny>,
        direction: Direction,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::begin_after(event_loop, socket, direction, 0, true)
    }

    /// Of one that may have done something, or begun to. The socket may be ready: then the wait is a short one.
    pub fn begin_after<'py>(
        event_loop: &Bound<'py, LoopCore>,
        socket: &Bound<'py, PyAny>,
        direction: Direction,
        done: usize,
        has_just_failed: bool,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        let fd = descriptor(socket)?;
        let future = create_future(event_loop)?.unbind();
        let waiting = (socket, future.clone_ref(py));
        LoopCore::wait(event_loop, fd, direction, waiting, has_just_failed)?;
        let wait = Self {
            event_loop: event_loop.clone().unbind(),
            fd,
            direction,
            future,
            is_awaited: GilCell::new(false),
            done,
        };
        Ok(Bound::new(py, wait)?.into_any())
    }

    fn forget(&self, py: Python<'_>) {
        let event_loop = self.event_loop.get();
        event_loop.forget(py, self.fd, self.direction, &self.future);
    }
}

#[pymethods]
impl Wait {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.is_awaited.replace(py, true) {
            return Ok(None);
        }
        // What `await` does with a future.
        let blocking = intern!(py, "_asyncio_future_blocking");
        self.future.bind(py).setattr(blocking, true)?;
        Ok(Some(self.future.clone_ref(py)))
    }

    /// The task is cancelled.
    #[pyo3(signature = (kind, value=None, _traceback=None))]
    fn throw(
        &self,
        kind: Bound<'_, PyAny>,
        value: Option<Bound<'_, PyAny>>,
        _traceback: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        self.forget(kind.py());
        let value = value.filter(|value| !value.is_none());
        Err(match kind.cast_into::<PyType>() {
            Ok(class) => PyErr::from_type(class, value.map(Bound::unbind)),
            Err(error) => PyErr::from_value(error.into_inner()),
        })
    }

    /// The coroutine is dropped.
    fn close(&self, py: Python<'_>) {
        self.forget(py);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.future)
    }
}

/// A socket may be ready.
pub fn tell(waiter: &Bound<'_, PyAny>) {
    let py = waiter.py();
    let told = || -> PyResult<()> {
        if !waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
            waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
        }
        Ok(())
    };
    if let Err(error) = told() {
        error.write_unraisable(py, Some(waiter));
    }
}
