//! What `call_soon` and `call_at` give back: `asyncio.Handle` and `asyncio.TimerHandle`, without their cost.
//!
//! In debug mode the loop makes the standard classes instead, which also remember where they were created.

use pyo3::basic::CompareOp;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi};

use crate::calls;
use crate::event_loop::LoopCore;
use crate::gil::{GilCell, intern};

#[pyclass(frozen, subclass, weakref, module = "asyncio_thread_loop._native")]
pub struct Handle {
    /// None once cancelled.
    callback: GilCell<Option<Py<PyAny>>>,
    args: GilCell<Option<Py<PyTuple>>>,
    context: Py<PyAny>,
    /// Of a descriptor's: it is to be run already, and need not be because the descriptor is still ready.
    is_queued: GilCell<bool>,
}

impl Handle {
    pub fn new(
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
        context: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let context = match context {
            Some(context) => context.clone(),
            None => calls::copy_context(callback.py())?,
        };
        Ok(Self {
            callback: GilCell::new(Some(callback.clone().unbind())),
            args: GilCell::new(Some(args.clone().unbind())),
            context: context.unbind(),
            is_queued: GilCell::new(false),
        })
    }

    /// Marks it as one that is to be run because a descriptor is ready. False if it was one before.
    pub fn queue(&self, py: Python<'_>) -> bool {
        !self.is_queued.replace(py, true)
    }

    /// None once cancelled.
    pub fn callback<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.callback.bind(py)
    }

    pub fn is_cancelled(&self, py: Python<'_>) -> bool {
        !self.callback.is_some(py)
    }

    /// Runs the callback in its context. An error goes to the loop's exception handler; only `SystemExit` and
    /// `KeyboardInterrupt` come out, as in asyncio.
    pub fn run(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.is_queued.set(py, false);
        let (Some(callback), Some(args)) = (this.callback.bind(py), this.args.bind(py)) else {
            return Ok(());
        };
        match run_in_context(this.context.bind(py), || {
            calls::call_user(&callback, &args, None)
        }) {
            Ok(()) => Ok(()),
            Err(error) => report(event_loop, &callback, &args, slf.as_any(), error),
        }
    }

    /// The same for a task's step, which has no handle.
    pub fn run_step(
        step: &Bound<'_, PyAny>,
        context: &Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        match run_in_context(context, || calls::call_user_plainly(step)) {
            Ok(()) => Ok(()),
            Err(error) => report(event_loop, step, &PyTuple::empty(step.py()), step, error),
        }
    }

    fn describe(&self, py: Python<'_>) -> PyResult<String> {
        match (self.callback.bind(py), self.args.bind(py)) {
            (Some(callback), Some(args)) => calls::format_callback_source(py)?
                .call1((callback, args))?
                .extract(),
            _ => Ok("cancelled".to_owned()),
        }
    }

    fn clear(&self, py: Python<'_>) -> bool {
        drop(self.args.take(py));
        self.callback.take(py).is_some()
    }
}

#[pymethods]
impl Handle {
    pub fn cancel(&self, py: Python<'_>) {
        self.clear(py);
    }

    fn cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    fn get_context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    #[getter]
    fn _cancelled(&self, py: Python<'_>) -> bool {
        self.is_cancelled(py)
    }

    #[getter]
    fn _callback(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.callback.clone_ref(py)
    }

    #[getter]
    fn _args(&self, py: Python<'_>) -> Option<Py<PyTuple>> {
        self.args.clone_ref(py)
    }

    #[getter]
    fn _context(&self, py: Python<'_>) -> Py<PyAny> {
        self.context.clone_ref(py)
    }

    #[getter]
    fn _source_traceback(&self) -> Option<Py<PyAny>> {
        None
    }

    /// Makes `isinstance(handle, asyncio.Handle)` true.
    #[getter]
    fn __class__<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyType>> {
        calls::asyncio_handle(py)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        Ok(format!("<Handle {}>", slf.get().describe(slf.py())?))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.callback.visit(|callback| visit.call(callback))?;
        self.args.visit(|args| visit.call(args))?;
        visit.call(&self.context)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().clear(slf.py());
    }
}

#[pyclass(frozen, extends = Handle, module = "asyncio_thread_loop._native")]
pub struct TimerHandle {
    /// Seconds on the loop's clock.
    when: f64,
    event_loop: Py<LoopCore>,
    /// In the loop's queue of timers, as opposed to run or removed.
    scheduled: GilCell<bool>,
}

impl TimerHandle {
    pub fn create(
        event_loop: &Bound<'_, LoopCore>,
        when: f64,
        handle: Handle,
    ) -> PyResult<Py<TimerHandle>> {
        let timer = Self {
            when,
            event_loop: event_loop.clone().unbind(),
            scheduled: GilCell::new(true),
        };
        Py::new(
            event_loop.py(),
            PyClassInitializer::from(handle).add_subclass(timer),
        )
    }

    pub fn leaves_the_queue(&self, py: Python<'_>) {
        self.scheduled.set(py, false);
    }
}

#[pymethods]
impl TimerHandle {
    fn cancel(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        if slf.as_super().get().clear(py) && this.scheduled.get(py) {
            LoopCore::note_cancelled_timer(this.event_loop.bind(py));
        }
    }

    fn when(&self) -> f64 {
        self.when
    }

    #[getter]
    fn _when(&self) -> f64 {
        self.when
    }

    #[getter]
    fn _scheduled(&self, py: Python<'_>) -> bool {
        self.scheduled.get(py)
    }

    #[getter]
    fn __class__<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyType>> {
        calls::asyncio_timer_handle(py)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let handle = slf.as_super().get();
        let when = slf.get().when.into_pyobject(py)?.str()?;
        let what = handle.describe(py)?;
        Ok(if handle.is_cancelled(py) {
            format!("<TimerHandle {what} when={when}>")
        } else {
            format!("<TimerHandle when={when} {what}>")
        })
    }

    fn __hash__(slf: &Bound<'_, Self>) -> PyResult<isize> {
        slf.get().when.into_pyobject(slf.py())?.hash()
    }

    /// As asyncio's timers compare: by time, and equal if everything is.
    fn __richcmp__<'py>(
        slf: &Bound<'py, Self>,
        other: &Bound<'py, PyAny>,
        operation: CompareOp,
    ) -> PyResult<Bound<'py, PyAny>> {
        let name = match operation {
            CompareOp::Lt => "__lt__",
            CompareOp::Le => "__le__",
            CompareOp::Eq => "__eq__",
            CompareOp::Ne => "__ne__",
            CompareOp::Gt => "__gt__",
            CompareOp::Ge => "__ge__",
        };
        calls::asyncio_timer_handle(slf.py())?.call_method1(name, (slf, other))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)
    }
}

/// `context.run(call)` without a Python frame of its own.
pub fn run_in_context<'py>(
    context: &Bound<'py, PyAny>,
    call: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> PyResult<()> {
    let py = context.py();
    // SAFETY: `context` is alive until it is left again below; entering checks its type.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let returned = call();
    // SAFETY: it was entered on this thread just above. The error of the call, if any, is held by `returned`.
    let left = unsafe { ffi::PyContext_Exit(context.as_ptr()) };
    returned?;
    if left != 0 {
        return Err(PyErr::fetch(py));
    }
    Ok(())
}

/// Tells the loop's exception handler what a callback raised; what ends the program passes.
fn report(
    event_loop: &Bound<'_, PyAny>,
    callback: &Bound<'_, PyAny>,
    args: &Bound<'_, PyTuple>,
    handle: &Bound<'_, PyAny>,
    error: PyErr,
) -> PyResult<()> {
    let py = event_loop.py();
    if calls::ends_the_program(py, &error) {
        return Err(error);
    }
    let source = calls::format_callback_source(py)?.call1((callback, args))?;
    let report = PyDict::new(py);
    report.set_item("message", format!("Exception in callback {source}"))?;
    report.set_item("exception", error.value(py))?;
    report.set_item("handle", handle)?;
    let handler = event_loop.getattr(intern!(py, "call_exception_handler"))?;
    calls::call_user(&handler, &(report,).into_pyobject(py)?, None).map(drop)
}
