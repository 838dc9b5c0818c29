//! The Rust half of `asyncio_thread_loop.Future`: a `concurrent.futures.Future` whose expensive parts (a condition
//! variable, a list of waiters, a list of callbacks) are made when somebody first asks for them.
//!
//! What several threads do to a future at once is decided by [`Outcome`]; every transition is made under the GIL
//! and runs no Python code between looking and acting.

mod condition;
mod ending;
mod rest;
mod waiting;

use std::sync::atomic::Ordering::Relaxed;

use asyncio_thread_loop_core::clock;
use asyncio_thread_loop_core::outcome::{Outcome, State};
use asyncio_thread_loop_core::roster::Slot;
use pyo3::exceptions::{PyBaseException, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};
use pyo3::{Borrowed, PyTraverseError, PyVisit, ffi};

pub use self::condition::Condition;
pub use self::ending::End;
use self::ending::call_back;
use self::rest::{Extra, Rest};
pub use self::waiting::{NAP, Waited, deadline, is_main_thread, not_negative, runs_a_loop};
use crate::batch::Batch;
use crate::calls;
use crate::frames::{self, Origin};
use crate::gil::{GilCell, intern};
use crate::portal::Portal;

#[pyclass(frozen, subclass, module = "asyncio_thread_loop._native")]
pub struct FutureCore {
    outcome: Outcome,
    /// What there is to hold, as the outcome's state says: the coroutine while it waits to be started, then its task,
    /// and in the end the result, or the exception if `Extra::failed`. It changes together with the state.
    content: GilCell<Option<Py<PyAny>>>,
    /// Where the work runs. None for a future that a user made.
    portal: GilCell<Option<Py<Portal>>>,
    /// Where the work came from, taken apart to save eight bytes: here the code, and below the instruction in it. Of
    /// one of many calls that somebody waits for together it is their `Batch`, which knows more.
    rest: GilCell<Rest>,
    instruction: GilCell<i32>,
    /// Its place on the portal's roster.
    pub slot: Slot,
}

impl Default for FutureCore {
    /// A pending future that belongs to nobody.
    fn default() -> Self {
        Self {
            outcome: Outcome::new(),
            content: GilCell::new(None),
            portal: GilCell::new(None),
            rest: GilCell::new(Rest::default()),
            instruction: GilCell::new(0),
            slot: Slot::new(),
        }
    }
}

const TICKS_PER_SECOND: u128 = 100;

/// A coarse clock that goes on for more than a year before it starts again. Never 0.
fn ticks() -> u32 {
    let ticks = clock::recently().as_millis() * TICKS_PER_SECOND / 1000;
    (ticks as u32).max(1)
}

impl FutureCore {
    /// Makes a future that was created empty belong to a portal.
    pub fn belong(
        &self,
        py: Python<'_>,
        coroutine: Option<Py<PyAny>>,
        portal: Py<Portal>,
        origin: Option<Origin>,
    ) {
        self.outcome.note.store(ticks(), Relaxed);
        self.content.set(py, coroutine);
        self.portal.set(py, Some(portal));
        if let Some(Origin { code, instruction }) = origin {
            self.set_origin(py, code);
            self.instruction.set(py, instruction);
        }
    }

    /// Makes it one of many that somebody waits for together.
    pub fn join(&self, py: Python<'_>, batch: &Bound<'_, Batch>) {
        self.set_origin(py, batch.clone().into_any().unbind());
    }

    fn set_origin(&self, py: Python<'_>, origin: Py<PyAny>) {
        let old = self.with_rest(py, |rest| rest.replace_origin(Some(origin)));
        drop(old);
    }

    fn batch<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Batch>> {
        let origin = self.with_rest(py, |rest| rest.origin().map(|origin| origin.clone_ref(py)))?;
        origin.into_bound(py).cast_into_exact().ok()
    }

    /// Where the work came from.
    fn origin(&self, py: Python<'_>) -> Option<Origin> {
        match self.batch(py) {
            Some(batch) => batch.get().origin().map(|origin| origin.clone_ref(py)),
            None => Some(Origin {
                code: self.with_rest(py, |rest| rest.origin().map(|code| code.clone_ref(py)))?,
                instruction: self.instruction.get(py),
            }),
        }
    }

    /// Takes the coroutine to start it. None if the future was cancelled meanwhile.
    pub fn start(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.outcome.start().ok()?;
        self.content.take(py)
    }

    /// The task that now runs the coroutine. A task that ended within its first step is not kept, one whose
    /// cancellation was asked for while it was being made is cancelled.
    pub fn runs_as(&self, py: Python<'_>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.outcome.is_done() {
            return Ok(());
        }
        self.content.set(py, Some(task.clone().unbind()));
        if self.extra(py, |extra| extra.cancel_asked) == Some(true) {
            task.call_method0(intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// The task that runs the work, once it has been made and until it is done.
    pub fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.outcome.state() {
            State::Running => self.content.clone_ref(py),
            _ => None,
        }
    }

    /// Closes the coroutine if nobody started it.
    pub fn close_unstarted(&self, py: Python<'_>) -> PyResult<()> {
        if self.outcome.state() == State::Pending
            && let Some(coroutine) = self.content.take(py)
        {
            calls::call_user_method(intern!(py, "close"), [coroutine.bind(py)])?;
        }
        Ok(())
    }

    pub fn portal<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Portal>> {
        self.portal
            .clone_ref(py)
            .map(|portal| portal.into_bound(py))
    }

    /// What `result()` gives once the future is done.
    pub fn outcome(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.outcome.state() {
            State::Cancelled | State::CancelledAndNotified => {
                Err(PyErr::from_type(calls::cancelled_error(py)?.clone(), ()))
            }
            _ => match self.exception_of(py) {
                None => Ok(self.value(py)),
                Some((exception, traceback)) => {
                    let exception = exception.into_bound(py);
                    frames::set_traceback(&exception, traceback.as_ref().map(|it| it.bind(py)));
                    Err(PyErr::from_value(exception))
                }
            },
        }
    }

    /// The result of a future that succeeded and never needed more than one. Does nothing that could fail.
    pub fn plain_value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        (self.outcome.state() == State::Finished && !self.has_extra(py)).then(|| self.value(py))
    }

    pub fn is_done(&self) -> bool {
        self.outcome.is_done()
    }

    /// Nobody will ask for this one's exception, and nobody is to be told.
    pub fn hush(&self, py: Python<'_>) {
        self.with_extra(py, |extra| extra.retrieved = true);
    }

    fn failed(&self, py: Python<'_>) -> bool {
        self.extra(py, |extra| extra.failed) == Some(true)
    }

    /// The result or the exception of a future that is finished.
    fn value(&self, py: Python<'_>) -> Py<PyAny> {
        self.content.clone_ref(py).unwrap_or_else(|| py.None())
    }

    /// The exception and its own traceback; it counts as asked for.
    fn exception_of(&self, py: Python<'_>) -> Option<(Py<PyAny>, Option<Py<PyAny>>)> {
        let traceback = self.extra(py, |extra| {
            extra.retrieved = true;
            extra.failed.then(|| {
                extra
                    .traceback
                    .as_ref()
                    .map(|traceback| traceback.clone_ref(py))
            })
        })??;
        Some((self.value(py), traceback))
    }

    /// Works on the rare parts, making them if need be. `work` must run no Python code.
    fn with_extra<R>(&self, py: Python<'_>, work: impl FnOnce(&mut Extra) -> R) -> R {
        self.with_rest(py, |rest| work(rest.need_extra()))
    }

    /// The same if there are any. None if not.
    fn extra<R>(&self, py: Python<'_>, work: impl FnOnce(&mut Extra) -> R) -> Option<R> {
        self.with_rest(py, |rest| rest.extra_mut().map(work))
    }

    fn has_extra(&self, py: Python<'_>) -> bool {
        self.extra(py, |_| ()).is_some()
    }

    fn with_rest<R>(&self, py: Python<'_>, work: impl FnOnce(&mut Rest) -> R) -> R {
        let mut rest = self.rest.take(py);
        let result = work(&mut rest);
        std::mem::forget(self.rest.replace(py, rest)); // nothing, as `take` left it: no need to look
        result
    }

    fn invalid_state(slf: &Bound<'_, Self>) -> PyErr {
        let state = slf.get()._state(slf.py());
        match slf.repr() {
            Ok(repr) => calls::error(
                calls::invalid_state_error(slf.py()),
                format!("{state}: {repr}"),
            ),
            Err(error) => error,
        }
    }
}

#[pymethods]
impl FutureCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self::default() // A subclass may have an `__init__` with arguments.
    }

    /// Cancels the work, and returns whether it could be asked to stop.
    ///
    /// Work that hasn't begun is cancelled at once and its coroutine closed unrun. Running work has its task
    /// cancelled: True only means that it was asked. The future is done when the task is, its cleanup included, and
    /// a task that refuses delivers its result. False if the future is finished. A future that was made by hand
    /// behaves like `concurrent.futures.Future`: it can't be cancelled once it runs.
    ///
    /// May be called from any thread.
    ///
    /// >>> import asyncio
    /// >>> with AsyncioThreadLoop() as loop:
    /// ...     future = loop.submit(asyncio.sleep(60))
    /// ...     future.cancel(), future.cancel_and_wait(), future.cancelled()
    /// (True, True, True)
    pub fn cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let guard = this.lock_condition(py)?;
        let Ok(wakes) = this.outcome.cancel() else {
            guard.release()?;
            return match (this.outcome.state(), this.portal.bind(py), this.task(py)) {
                (State::Cancelled | State::CancelledAndNotified, _, _) => Ok(true),
                (_, Some(portal), Some(task)) => Portal::cancel_task(&portal, task.bind(py)),
                (State::Running, Some(_), None) => {
                    this.with_extra(py, |extra| extra.cancel_asked = true);
                    Ok(true)
                }
                _ => Ok(false),
            };
        };
        let work = this.content.take(py);
        if this.portal.is_some(py) {
            this.outcome.notify_cancelled();
            if guard.is_held() {
                this.tell_waiters(slf, intern!(py, "add_cancelled"));
            }
        }
        // A signal handler may raise in the middle of it. The future has ended all the same.
        let notified = guard.notify_and_release();
        let closed = match &work {
            Some(coroutine) => {
                calls::call_user_method(intern!(py, "close"), [coroutine.bind(py)]).map(drop)
            }
            None => Ok(()),
        };
        let called = Self::ended(slf, wakes, work);
        notified.and(closed).and(called).map(|()| true)
    }

    /// Cancels the work and waits for its end, cleanup included.
    ///
    /// `timeout` is in seconds; None waits for ever. Returns True if it ended cancelled and False if it had
    /// finished before or refused to be cancelled: then `result()` has what it delivered.
    ///
    /// Raises `TimeoutError` if it is neither in time, and `DeadlockError` on the loop's own thread while it is
    /// unfinished.
    #[pyo3(signature = (timeout=None))]
    fn cancel_and_wait(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        if let Some(timeout) = timeout {
            not_negative(timeout)?;
        }
        Self::cancel(slf)?;
        Self::block(slf, timeout, "cancel_and_wait()")?;
        Ok(slf.get().cancelled())
    }

    /// Cancels the work, but a task that is being cancelled already is left to its cleanup.
    fn _cancel_once(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        match (this.portal.bind(py), this.task(py)) {
            (Some(portal), Some(task)) => Portal::cancel_task_once(&portal, task.bind(py)),
            _ => Self::cancel(slf).map(drop),
        }
    }

    /// Whether the work is done within so many seconds; asks for neither its result nor its error.
    fn _wait(slf: &Bound<'_, Self>, seconds: f64) -> PyResult<bool> {
        Self::wait(slf, deadline(seconds), || ()).map(|waited| waited == Waited::Done)
    }

    /// Whether the work was cancelled.
    fn cancelled(&self) -> bool {
        matches!(
            self.outcome.state(),
            State::Cancelled | State::CancelledAndNotified
        )
    }

    /// Whether the work has begun and isn't done.
    fn running(&self) -> bool {
        self.outcome.state() == State::Running
    }

    /// Whether the work finished or was cancelled.
    fn done(&self) -> bool {
        self.outcome.is_done()
    }

    /// Waits for the work and returns its result, or raises what it raised.
    ///
    /// `timeout` is in seconds; None waits for ever, 0 or less not at all, so that the usual `deadline - now` works as
    /// with `concurrent.futures.Future`. Raises `TimeoutError` when it passes, and the work goes on;
    /// `concurrent.futures.CancelledError` if the work was cancelled; `DeadlockError` on the loop's own thread while
    /// the work isn't done; `ForkedError` in a forked child for work that the parent began.
    ///
    /// The coroutine's exception carries the coroutine's frames and the caller's, none of this library, and a note
    /// that says where the work was submitted.
    #[pyo3(signature = (timeout=None))]
    fn result(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        Self::block(slf, timeout, "result()")?;
        slf.get().outcome(slf.py())
    }

    /// Waits for the work and returns its exception, None if it succeeded.
    ///
    /// `timeout` and what it raises are as for `result()`.
    #[pyo3(signature = (timeout=None))]
    fn exception(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Option<Py<PyAny>>> {
        Self::block(slf, timeout, "exception()")?;
        let this = slf.get();
        let py = slf.py();
        if this.cancelled() {
            return Err(PyErr::from_type(calls::cancelled_error(py)?.clone(), ()));
        }
        Ok(this.exception_of(py).map(|(exception, _)| exception))
    }

    /// Has `fn(future)` called when the work is done: on the thread that finishes it (the loop's thread for
    /// submitted work), or here and now if it is done already. What a callback raises is logged; what isn't an
    /// `Exception` comes out of the call that finished the work, or of this one.
    ///
    /// Raises `ForkedError` in a forked child for work that the parent hadn't finished.
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = slf.get();
        if this.is_done() {
            return call_back(slf, r#fn);
        }
        this.check_fork(slf.py())?;
        this.with_extra(slf.py(), |extra| {
            extra.callbacks.push(r#fn.clone().unbind())
        });
        Ok(())
    }

    /// For executors: marks the work as begun. False if it was cancelled before.
    fn set_running_or_notify_cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let guard = this.lock_condition(py)?;
        if this.outcome.notify_cancelled() {
            if guard.is_held() {
                this.tell_waiters(slf, intern!(py, "add_cancelled"));
            }
            return guard.release().map(|()| false);
        }
        let started = this.outcome.start();
        guard.release()?;
        match started {
            Ok(()) => Ok(true),
            Err(_) => Err(calls::builtin_error::<PyRuntimeError>(format!(
                "Future in unexpected state: {}",
                slf.repr()?
            ))),
        }
    }

    /// For executors: finishes the work with a result.
    fn set_result(slf: &Bound<'_, Self>, result: Py<PyAny>) -> PyResult<()> {
        if !Self::finish(slf, End::Value(result))? {
            return Err(Self::invalid_state(slf));
        }
        Ok(())
    }

    /// For executors: finishes the work with an exception.
    fn set_exception(slf: &Bound<'_, Self>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let exception = match exception.cast::<PyType>() {
            Ok(class) => class.call0()?,
            Err(_) => exception.clone(),
        };
        if !exception.is_instance_of::<PyBaseException>() {
            return Err(calls::builtin_error::<PyTypeError>(format!(
                "an exception was expected, got {}",
                exception.repr()?
            )));
        }
        if !Self::finish(slf, End::Error(exception.unbind()))? {
            return Err(Self::invalid_state(slf));
        }
        Ok(())
    }

    #[getter]
    fn _state<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        // The very strings that `concurrent.futures` compares it with.
        match self.outcome.state() {
            State::Pending => intern!(py, "PENDING"),
            State::Running => intern!(py, "RUNNING"),
            State::Cancelled => intern!(py, "CANCELLED"),
            State::CancelledAndNotified => intern!(py, "CANCELLED_AND_NOTIFIED"),
            State::Finished => intern!(py, "FINISHED"),
        }
    }

    #[getter]
    fn _condition(&self, py: Python<'_>) -> PyResult<Py<Condition>> {
        if !self.is_done() {
            // `concurrent.futures.wait` asks for it, and would wait for what never happens here.
            self.check_fork(py)?;
            self.check_thread(py, "a wait (`concurrent.futures.wait`, `as_completed`)")?;
        }
        let made = self.with_extra(py, |extra| {
            extra
                .condition
                .as_ref()
                .map(|condition| condition.clone_ref(py))
        });
        if let Some(condition) = made {
            return Ok(condition);
        }
        let fresh = Py::new(py, Condition::new())?;
        // Making it may have run the garbage collector, and that anything: the first condition counts.
        Ok(self.with_extra(py, |extra| {
            extra.condition.get_or_insert(fresh).clone_ref(py)
        }))
    }

    #[getter]
    fn _waiters(&self, py: Python<'_>) -> Py<PyList> {
        let made = self.with_extra(py, |extra| {
            extra.waiters.as_ref().map(|waiters| waiters.clone_ref(py))
        });
        made.unwrap_or_else(|| {
            let fresh = PyList::empty(py).unbind();
            self.with_extra(py, |extra| extra.waiters.get_or_insert(fresh).clone_ref(py))
        })
    }

    /// The exception of failed work, without asking for it: if nobody does, it will be reported.
    #[getter]
    fn _failure(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        (self.failed(py) && self.is_done()).then(|| self.value(py))
    }

    /// How long ago the work was submitted, in seconds to a hundredth or two. None if it never was.
    #[getter]
    fn _age(&self) -> Option<f64> {
        match self.outcome.note.load(Relaxed) {
            0 => None,
            submitted => Some(f64::from(ticks().wrapping_sub(submitted)) / TICKS_PER_SECOND as f64),
        }
    }

    /// Where the work was submitted. None for `evaluate`, which is still there.
    #[getter]
    fn _origin(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.origin(py)
            .map(|origin| origin.describe(py))
            .transpose()
    }

    /// Whether the calling thread is the one that is to finish it.
    #[getter]
    pub fn _runs_here(&self, py: Python<'_>) -> bool {
        let portal = self.portal.bind(py);
        portal.is_some_and(|portal| portal.get().runs_here(py))
    }

    /// The threads that wait for it, by their numbers.
    fn _waiting(&self, py: Python<'_>) -> Vec<u64> {
        let mut threads = self.outcome.waiting();
        let portal = self.portal.bind(py);
        threads.extend(portal.and_then(|portal| portal.get().runner_for(py, self)));
        threads
    }

    /// The task that runs the work, once there is one and until it is done.
    #[getter]
    fn _task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let task = self.task(py);
        if task.is_none() && self.outcome.state() == State::Running {
            // It may be in its first step, and that be taken while the task is made.
            let portal = self.portal.bind(py)?;
            return portal.get().current_task(py);
        }
        task
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyString>> {
        let this = slf.get();
        let py = slf.py();
        let class = slf.get_type().name()?;
        let state = match this.outcome.state() {
            State::Finished => {
                let verb = if this.failed(py) {
                    "raised"
                } else {
                    "returned"
                };
                format!(
                    "finished {verb} {}",
                    this.value(py).bind(py).get_type().name()?
                )
            }
            State::CancelledAndNotified => "cancelled".to_owned(),
            _ => this._state(py).to_string().to_lowercase(),
        };
        let text = format!("<{class} at {:p} state={state}>", slf.as_ptr());
        calls::string(py, text)
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(calls::builtin_error::<PyTypeError>(format!(
            "cannot pickle '{}' object: it stands for work in this process",
            slf.get_type().name()?
        )))
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        calls::generic_alias(class.py())?.call1((class, item))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.content.visit(|content| visit.call(content))?;
        self.portal.visit(|portal| visit.call(portal))?;
        self.rest.visit(|rest| rest.visit(&visit))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        drop((this.content.take(py), this.with_rest(py, Rest::take_extra)));
    }
}

/// Has futures of this class finalized: before the collector takes apart what they are part of, their exceptions
/// included, and otherwise when they are dropped.
pub fn prepare_finalizer(class: &Bound<'_, PyType>) {
    /// # Safety
    ///
    /// The GIL is held, and `object` is a live instance of a class that derives from `FutureCore`.
    unsafe extern "C" fn finalize(object: *mut ffi::PyObject) {
        // SAFETY: by the above.
        let future: Borrowed<'_, '_, FutureCore> = unsafe {
            let py = Python::assume_attached();
            Borrowed::from_ptr(py, object).cast_unchecked()
        };
        if future.get().has_extra(future.py()) {
            // What Python code drops meanwhile it drops at once, which takes a proper attachment.
            Python::attach(|py| future.get().report_unretrieved(py));
        }
    }
    // SAFETY: `class` is a live type of ours, and the slot is there to be set by whoever makes the type.
    unsafe { (*class.as_type_ptr()).tp_finalize = Some(finalize) };
}

impl Drop for FutureCore {
    fn drop(&mut self) {
        if self.rest.get_mut().extra().is_some() {
            // None when the interpreter has ended: then there is nobody to tell.
            Python::try_attach(|py| self.report_unretrieved(py));
        }
    }
}
