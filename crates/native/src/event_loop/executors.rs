//! What ties work in an executor to the future that stands for it on the loop.
//!
//! `asyncio.wrap_future` does this with closures, a handle and a few frames for each; here it is one object, which goes
//! through the inbox by itself.

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use super::LoopCore;
use super::queue::{Ready, Step};
use crate::calls;
use crate::gil::{GilCell, intern};

/// The done callback of both: what the work gave goes to the future, on the loop, and a cancellation to the work.
#[pyclass(frozen, module = "asyncio_thread_loop._native")]
pub struct WorkLink {
    /// The work and the future. None once it is over: the work keeps its callbacks, and would keep itself.
    ends: GilCell<Option<(Py<PyAny>, Py<PyAny>)>>,
    event_loop: Py<LoopCore>,
}

impl WorkLink {
    /// A new future of the loop for work, which is a `concurrent.futures.Future`.
    pub fn future_for<'py>(
        event_loop: &Bound<'py, LoopCore>,
        work: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = event_loop.py();
        let future = super::tasks::create_future(event_loop)?;
        let link = Self {
            ends: GilCell::new(Some((work.clone().unbind(), future.clone().unbind()))),
            event_loop: event_loop.clone().unbind(),
        };
        let link = Bound::new(py, link)?;
        let add = intern!(py, "add_done_callback");
        future.call_method1(add, (&link,))?;
        work.call_method1(add, (&link,))?;
        Ok(future)
    }

    fn ends<'py>(&self, py: Python<'py>) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        self.ends.peek(py, |ends| {
            let (work, future) = ends.as_ref()?;
            Some((work.bind(py).clone(), future.bind(py).clone()))
        })
    }
}

fn is_cancelled(future: &Bound<'_, PyAny>) -> PyResult<bool> {
    let cancelled = future.call_method0(intern!(future.py(), "cancelled"))?;
    cancelled.is_truthy()
}

#[pymethods]
impl WorkLink {
    /// On the loop if it is the future that has ended, else on whichever thread ended the work.
    fn __call__(slf: &Bound<'_, Self>, ended: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some((work, future)) = this.ends(py) else {
            return Ok(());
        };
        if ended.is(&work) {
            let event_loop = this.event_loop.bind(py);
            if event_loop.get().is_closed.get(py) {
                // Nobody waits on it any more, and it is no error of the work.
                drop(this.ends.take(py));
                return Ok(());
            }
            LoopCore::push_threadsafe(event_loop, Ready::native::<Self>(slf))?;
        } else if is_cancelled(&future)? {
            work.call_method0(intern!(py, "cancel"))?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.ends.visit(|ends| match ends {
            Some((work, future)) => visit.call(work).and_then(|()| visit.call(future)),
            None => Ok(()),
        })?;
        visit.call(&self.event_loop)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        drop(slf.get().ends.take(slf.py()));
    }
}

impl Step for WorkLink {
    type Of = Self;

    /// The work has ended: so does the future.
    fn run(slf: &Bound<'_, Self>, _event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        let Some((work, future)) = slf.get().ends.take(py) else {
            return Ok(());
        };
        if is_cancelled(future.bind(py))? {
            return Ok(());
        }
        calls::copy_future_state(py)?
            .call1((work, future))
            .map(drop)
    }
}
