//! What `call_soon` and `call_at` give back: `asyncio.Handle` and `asyncio.TimerHandle`, without their cost.
//!
//! In debug mode the loop makes the standard classes instead, which also remember where they were created.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use asyncio_thread_loop_core::timers::{NOWHERE, Placed};
use pyo3::basic::CompareOp;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, ffi};

use crate::calls;
use crate::event_loop::LoopCore;
use crate::free_list::{FreeList, Reused};
use crate::gil::{GilCell, intern};

#[pyclass(frozen, subclass, weakref, module = "asyncio_thread_loop._native")]
#[derive(Default)]
pub struct Handle {
    /// None once cancelled, and in the free list.
    callback: GilCell<Option<Py<PyAny>>>,
    args: GilCell<Args>,
    /// None only in the free list.
    context: GilCell<Option<Py<PyAny>>>,
    /// Of a descriptor's: it is to be run already, and need not be because the descriptor is still ready.
    is_queued: GilCell<bool>,
}

/// The arguments of a callback, which mostly has one or none.
#[derive(Default)]
pub enum Args {
    #[default]
    None,
    One(Py<PyAny>),
    Many(Py<PyTuple>),
}

impl Handle {
    pub fn create<'py>(
        callback: &Bound<'py, PyAny>,
        args: Args,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = callback.py();
        let context = context_or_copy(py, context)?;
        FreeList::make(py, |slf| Self::fill(slf, callback, args, context))
    }

    fn fill(slf: &Bound<'_, Self>, callback: &Bound<'_, PyAny>, args: Args, context: Py<PyAny>) {
        let py = slf.py();
        let this = slf.get();
        this.callback.set(py, Some(callback.clone().unbind()));
        this.args.set(py, args);
        this.context.set(py, Some(context));
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
        let (Some(callback), Some(context)) = (this.callback.bind(py), this.context.bind(py))
        else {
            return Ok(());
        };
        // They are its own: it may cancel itself meanwhile.
        let args = this.args.peek(py, |args| args.clone_ref(py));
        let returned = run_in_context(&context, || match &args {
            Args::None => calls::call_user_plainly(&callback),
            Args::One(arg) => calls::call_user_with(&callback, arg.bind(py)),
            Args::Many(args) => calls::call_user(&callback, args.bind(py), None),
        });
        match returned {
            Ok(()) => Ok(()),
            Err(error) => {
                let args = args.as_tuple(py)?;
                report(event_loop, &callback, &args, slf.as_any(), error)
            }
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
        match self.callback.bind(py) {
            Some(callback) => calls::format_callback_source(py)?
                .call1((callback, self.args(py)?))?
                .extract(),
            None => Ok("cancelled".to_owned()),
        }
    }

    /// Of one that isn't cancelled.
    fn args<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        self.args.peek(py, |args| args.clone_ref(py)).as_tuple(py)
    }

    /// What it would have called is let go, with the arguments. False if it was cancelled before.
    fn clear(&self, py: Python<'_>) -> bool {
        // As references that are dropped at once, whoever asks: `Py` waits for a caller of PyO3's.
        let callback = self.callback.take(py).map(|it| it.into_bound(py));
        self.args.take(py).drop_now(py);
        callback.is_some()
    }
}

impl Reused for Handle {
    fn free_list() -> &'static FreeList {
        // As many as another thread may schedule before it has to let go of the GIL.
        static LIST: FreeList = FreeList::new(16 * 1024);
        &LIST
    }

    fn fresh(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        Bound::new(py, Self::default())
    }

    fn empty(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        this.clear(py);
        drop(this.context.take(py).map(|it| it.into_bound(py)));
        this.is_queued.set(py, false);
    }
}

impl Args {
    pub fn new<'py>(py: Python<'py>, args: &[Bound<'py, PyAny>]) -> PyResult<Self> {
        Ok(match args {
            [] => Self::None,
            [arg] => Self::One(arg.clone().unbind()),
            _ => Self::Many(PyTuple::new(py, args)?.unbind()),
        })
    }

    pub fn from_tuple(args: &Bound<'_, PyTuple>) -> PyResult<Self> {
        Ok(match args.len() {
            0 => Self::None,
            1 => Self::One(args.get_item(0)?.unbind()),
            _ => Self::Many(args.clone().unbind()),
        })
    }

    fn as_tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        match self {
            Self::None => Ok(PyTuple::empty(py)),
            Self::One(arg) => PyTuple::new(py, [arg]),
            Self::Many(args) => Ok(args.bind(py).clone()),
        }
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::None => Self::None,
            Self::One(arg) => Self::One(arg.clone_ref(py)),
            Self::Many(args) => Self::Many(args.clone_ref(py)),
        }
    }

    fn drop_now(self, py: Python<'_>) {
        match self {
            Self::None => {}
            Self::One(arg) => drop(arg.into_bound(py)),
            Self::Many(args) => drop(args.into_bound(py)),
        }
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::None => Ok(()),
            Self::One(arg) => visit.call(arg),
            Self::Many(args) => visit.call(args),
        }
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

    fn get_context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
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
    fn _args<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        (!self.is_cancelled(py)).then(|| self.args(py)).transpose()
    }

    #[getter]
    fn _context(&self, py: Python<'_>) -> Option<Py<PyAny>> {
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
        self.args.visit(|args| args.visit(&visit))?;
        self.context.visit(|context| visit.call(context))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().clear(slf.py());
    }
}

#[pyclass(frozen, extends = Handle, module = "asyncio_thread_loop._native")]
pub struct TimerHandle {
    /// Seconds on the loop's clock.
    when: GilCell<f64>,
    /// None only in the free list.
    event_loop: GilCell<Option<Py<LoopCore>>>,
    /// Where it is among the loop's timers.
    // ORDERING: always Relaxed. Whoever reads or writes it holds the GIL.
    place: AtomicUsize,
}

impl TimerHandle {
    pub fn create<'py>(
        event_loop: &Bound<'py, LoopCore>,
        when: f64,
        callback: &Bound<'py, PyAny>,
        args: Args,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let context = context_or_copy(py, context)?;
        FreeList::make(py, |slf: &Bound<'_, Self>| {
            Handle::fill(slf.as_super(), callback, args, context);
            let this = slf.get();
            this.when.set(py, when);
            this.event_loop.set(py, Some(event_loop.clone().unbind()));
        })
    }
}

impl Reused for TimerHandle {
    fn free_list() -> &'static FreeList {
        static LIST: FreeList = FreeList::new(1024);
        &LIST
    }

    fn fresh(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        let timer = Self {
            when: GilCell::new(0.0),
            event_loop: GilCell::new(None),
            place: AtomicUsize::new(NOWHERE),
        };
        Bound::new(
            py,
            PyClassInitializer::from(Handle::default()).add_subclass(timer),
        )
    }

    fn empty(slf: &Bound<'_, Self>) {
        let py = slf.py();
        Handle::empty(slf.as_super());
        drop(slf.get().event_loop.take(py).map(|it| it.into_bound(py)));
    }
}

impl Placed for TimerHandle {
    fn placed(&self, place: usize) {
        self.place.store(place, Relaxed);
    }
}

#[pymethods]
impl TimerHandle {
    fn cancel(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        let place = this.place.load(Relaxed);
        if place != NOWHERE
            && let Some(event_loop) = this.event_loop.bind(py)
        {
            event_loop.get().remove_timer(py, place);
        }
        slf.as_super().get().clear(py);
    }

    fn when(&self, py: Python<'_>) -> f64 {
        self.when.get(py)
    }

    #[getter]
    fn _when(&self, py: Python<'_>) -> f64 {
        self.when.get(py)
    }

    #[getter]
    fn _scheduled(&self) -> bool {
        self.place.load(Relaxed) != NOWHERE
    }

    #[getter]
    fn __class__<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyType>> {
        calls::asyncio_timer_handle(py)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let handle = slf.as_super().get();
        let when = slf.get().when(py).into_pyobject(py)?.str()?;
        let what = handle.describe(py)?;
        Ok(if handle.is_cancelled(py) {
            format!("<TimerHandle {what} when={when}>")
        } else {
            format!("<TimerHandle when={when} {what}>")
        })
    }

    fn __hash__(slf: &Bound<'_, Self>) -> PyResult<isize> {
        let py = slf.py();
        slf.get().when(py).into_pyobject(py)?.hash()
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
        self.event_loop.visit(|event_loop| visit.call(event_loop))
    }
}

/// What runs later runs in the given context, or in a copy of the caller's.
fn context_or_copy(py: Python<'_>, context: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
    match context {
        Some(context) => Ok(context.clone().unbind()),
        None => calls::copy_context(py).map(Bound::unbind),
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
