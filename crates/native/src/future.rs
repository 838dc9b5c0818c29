//! The Rust half of `asyncio_thread_loop.Future`: a `concurrent.futures.Future` whose expensive parts (a condition
//! variable, a list of waiters, a list of callbacks) are made when somebody first asks for them.
//!
//! What several threads do to a future at once is decided by [`Outcome`]; every transition is made under the GIL
//! and runs no Python code between looking and acting.

use std::cell::Cell;
use std::time::{Duration, Instant};

use asyncio_thread_loop_core::outcome::{Outcome, State, Wakes};
use asyncio_thread_loop_core::{clock, fork, parking};
use pyo3::exceptions::{
    PyBaseException, PyRuntimeError, PyTimeoutError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit, intern};

use crate::calls;
use crate::frames::{self, Origin};
use crate::gil::{GilCell, visit_all};
use crate::portal::Portal;

/// The main thread looks for signals at least this often while it waits: one that arrives between the last look
/// and the moment the thread really sleeps would go unnoticed otherwise.
const NAP: Duration = Duration::from_millis(100);

#[pyclass(frozen, subclass, module = "asyncio_thread_loop._native")]
pub struct FutureCore {
    /// The result, or the exception if `Extra::failed`.
    outcome: Outcome<Py<PyAny>>,
    /// The coroutine while it waits to be started, then its task.
    work: GilCell<Option<Py<PyAny>>>,
    /// Where the work runs. None for a future that a user made.
    portal: GilCell<Option<Py<Portal>>>,
    extra: GilCell<Option<Box<Extra>>>,
    /// Where the work came from, taken apart to save eight bytes: the code, and the instruction in it.
    origin: GilCell<Option<Py<PyAny>>>,
    instruction: GilCell<i32>,
    /// Index among the portal's unfinished futures.
    pub slot: GilCell<Slot>,
}

/// An index, or none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Slot(u32);

impl Slot {
    pub const NONE: Slot = Slot(u32::MAX);

    pub fn new(index: usize) -> Self {
        u32::try_from(index).map_or(Self::NONE, Slot)
    }

    pub fn index(self) -> Option<usize> {
        (self != Self::NONE).then_some(self.0 as usize)
    }
}

impl Default for FutureCore {
    /// A pending future that belongs to nobody.
    fn default() -> Self {
        Self {
            outcome: Outcome::new(),
            work: GilCell::new(None),
            portal: GilCell::new(None),
            extra: GilCell::new(None),
            origin: GilCell::new(None),
            instruction: GilCell::new(0),
            slot: GilCell::new(Slot::NONE),
        }
    }
}

/// What few futures need.
#[derive(Default)]
struct Extra {
    condition: Option<Py<PyAny>>,
    /// Objects of `concurrent.futures.wait` and `as_completed`, to be told under the condition.
    waiters: Option<Py<PyList>>,
    callbacks: Vec<Py<PyAny>>,
    failed: bool,
    /// The traceback the exception came with: each `result()` raises it anew with this one, so that frames of
    /// earlier callers don't pile up.
    traceback: Option<Py<PyAny>>,
    /// Somebody asked for the exception.
    retrieved: bool,
    /// Somebody cancelled the work while its task was being made.
    cancel_asked: bool,
}

/// How work ends.
pub enum End {
    Value(Py<PyAny>),
    Error(Py<PyAny>),
    Cancelled,
}

#[derive(PartialEq, Eq)]
pub enum Waited {
    Done,
    TimedOut,
}

impl FutureCore {
    /// Makes a future that was created empty belong to a portal.
    pub fn belong(
        &self,
        py: Python<'_>,
        work: Py<PyAny>,
        portal: Py<Portal>,
        origin: Option<Origin>,
    ) {
        self.work.set(py, Some(work));
        self.portal.set(py, Some(portal));
        if let Some(Origin { code, instruction }) = origin {
            self.origin.set(py, Some(code));
            self.instruction.set(py, instruction);
        }
    }

    /// Takes the coroutine to start it. None if the future was cancelled meanwhile.
    pub fn start(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.outcome.start().ok()?;
        self.work.take(py)
    }

    /// The task that now runs the coroutine. A task that ended within its first step is not kept, one whose
    /// cancellation was asked for while it was being made is cancelled.
    pub fn runs_as(&self, py: Python<'_>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.outcome.is_done() {
            return Ok(());
        }
        self.work.set(py, Some(task.clone().unbind()));
        if self.extra.is_some(py) && self.with_extra(py, |extra| extra.cancel_asked) {
            task.call_method0(intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// Closes the coroutine if nobody started it.
    pub fn close_unstarted(&self, py: Python<'_>) -> PyResult<()> {
        if self.outcome.state() == State::Pending
            && let Some(coroutine) = self.work.take(py)
        {
            coroutine.call_method0(py, intern!(py, "close"))?;
        }
        Ok(())
    }

    pub fn portal<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Portal>> {
        self.portal
            .clone_ref(py)
            .map(|portal| portal.into_bound(py))
    }

    /// Takes over the task's result if that runs no Python code: the task succeeded, and nobody installed a callback
    /// or asked for the condition. False: the loop has to call `complete` in its next turn.
    ///
    /// A failed task must wait for that in any case. It is still in the middle of its `set_exception`, which marks the
    /// exception as never retrieved after it has called us.
    pub fn complete_quietly(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = slf.py();
        if slf.get().extra.is_some(py) {
            return Ok(false);
        }
        if !task
            .getattr_opt(intern!(py, "_exception"))?
            .is_some_and(|exception| exception.is_none())
        {
            return Ok(false);
        }
        match task.call_method0(intern!(py, "result")) {
            Ok(value) => Self::finish(slf, End::Value(value.unbind())).map(|_| true),
            Err(_) => Ok(false),
        }
    }

    /// Takes over what came of the task, which is done.
    pub fn complete(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let end = match task.call_method0(intern!(py, "result")) {
            Ok(value) => End::Value(value.unbind()),
            Err(_) if task.call_method0(intern!(py, "cancelled"))?.is_truthy()? => End::Cancelled,
            Err(error) => {
                let error = frames::stripped(py, error);
                let exception = error.value(py);
                slf.get().note_origin(py, exception);
                End::Error(exception.clone().into_any().unbind())
            }
        };
        Self::finish(slf, end)?;
        Ok(())
    }

    /// Ends the future. False if it had ended already.
    pub fn finish(slf: &Bound<'_, Self>, end: End) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let guard = this.lock_condition(py)?;
        let told = match &end {
            End::Value(_) => intern!(py, "add_result"),
            End::Error(_) => intern!(py, "add_exception"),
            End::Cancelled => intern!(py, "add_cancelled"),
        };
        let Some(wakes) = this.settle(py, end) else {
            return guard.release().map(|()| false);
        };
        if guard.is_held() {
            this.tell_waiters(slf, told);
        }
        guard.notify_and_release()?;
        Self::ended(slf, wakes);
        Ok(true)
    }

    /// The one step from unfinished to finished; runs no Python code. None if it is finished already.
    fn settle(&self, py: Python<'_>, end: End) -> Option<Wakes> {
        if self.outcome.is_done() {
            return None;
        }
        match end {
            End::Value(value) => self.outcome.settle(value).ok(),
            End::Error(exception) => {
                let traceback = frames::traceback(exception.bind(py)).map(Bound::unbind);
                self.with_extra(py, |extra| {
                    extra.failed = true;
                    extra.traceback = traceback;
                });
                self.outcome.settle(exception).ok()
            }
            End::Cancelled => self.outcome.settle_cancelled().ok(),
        }
    }

    /// What follows every end, in this order: forget, wake, call back, let go of the work.
    fn ended(slf: &Bound<'_, Self>, wakes: Wakes) {
        let py = slf.py();
        let this = slf.get();
        match this.portal.bind(py) {
            Some(portal) => {
                Portal::forget(&portal, this);
                Portal::wake(&portal, wakes);
            }
            None => wakes.fire(),
        }
        if this.extra.is_some(py) {
            let callbacks = this.with_extra(py, |extra| std::mem::take(&mut extra.callbacks));
            for callback in callbacks {
                call_back(slf, callback.bind(py));
            }
        }
        drop(this.work.take(py));
    }

    /// Waits on the calling thread, detached from the interpreter. `detached` runs once it is.
    ///
    /// An error comes from a signal handler.
    pub fn wait(
        slf: &Bound<'_, Self>,
        deadline: Option<Instant>,
        detached: impl FnOnce() + Send,
    ) -> PyResult<Waited> {
        let py = slf.py();
        let outcome = &slf.get().outcome;
        let mut detached = Some(detached);
        parking::with_current(|parker| {
            let Some(ticket) = outcome.subscribe(parker.unparker()) else {
                py.detach(|| detached.take().map(|detached| detached()));
                return Ok(Waited::Done);
            };
            let on_main_thread = is_main_thread(py)?;
            let waited = loop {
                let nap = on_main_thread.then(|| Instant::now() + NAP);
                let until = [deadline, nap].into_iter().flatten().min();
                py.detach(|| {
                    if let Some(detached) = detached.take() {
                        detached();
                    }
                    parker.park(until);
                });
                if outcome.is_done() {
                    return Ok(Waited::Done);
                }
                if on_main_thread && let Err(error) = py.check_signals() {
                    break Err(error);
                }
                if outcome.is_done() {
                    break Ok(Waited::Done);
                }
                if let Err(error) = slf.get().check_fork(py) {
                    break Err(error);
                }
                if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    break Ok(Waited::TimedOut);
                }
            };
            outcome.unsubscribe(ticket);
            waited
        })
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

    pub fn is_done(&self) -> bool {
        self.outcome.is_done()
    }

    /// Nobody will ask for this one's exception, and nobody is to be told.
    pub fn hush(&self, py: Python<'_>) {
        self.with_extra(py, |extra| extra.retrieved = true);
    }

    /// Blocks until done, for the methods that take a `timeout`.
    fn block(
        slf: &Bound<'_, Self>,
        timeout: Option<&Bound<'_, PyAny>>,
        what: &str,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_done() {
            return Ok(());
        }
        let timeout = match timeout {
            None => None,
            Some(timeout) => Some(seconds(timeout)?),
        };
        this.check_fork(py)?;
        if timeout.is_some_and(|timeout| timeout <= 0.0) {
            return Err(PyTimeoutError::new_err(()));
        }
        if this
            .portal
            .bind(py)
            .is_some_and(|portal| portal.get().runs_here(py))
        {
            return Err(calls::error(
                calls::deadlock_error(py),
                format!(
                    "{what} of an unfinished future was called on the thread of the loop that is to finish it, \
                     and would wait for ever; in a coroutine, `await asyncio.wrap_future(future)`"
                ),
            ));
        }
        match Self::wait(slf, timeout.and_then(deadline), || ())? {
            Waited::Done => Ok(()),
            Waited::TimedOut => Err(PyTimeoutError::new_err(())),
        }
    }

    /// In the child of a fork nobody finishes what the parent began.
    fn check_fork(&self, py: Python<'_>) -> PyResult<()> {
        match self.portal.bind(py) {
            Some(portal) if portal.get().epoch() != fork::epoch() => Err(calls::error(
                calls::forked_error(py),
                "this future belongs to the process that forked this one, which alone will finish it",
            )),
            _ => Ok(()),
        }
    }

    /// Adds the note that says where the work was submitted.
    fn note_origin(&self, py: Python<'_>, exception: &Bound<'_, PyAny>) {
        if let Some(code) = self.origin.take(py) {
            let instruction = self.instruction.get(py);
            Origin { code, instruction }.note(py, exception);
        }
    }

    fn value(&self, py: Python<'_>) -> Py<PyAny> {
        self.outcome
            .read(|value| value.clone_ref(py))
            .unwrap_or_else(|| py.None())
    }

    /// The exception and its own traceback; it counts as asked for.
    fn exception_of(&self, py: Python<'_>) -> Option<(Py<PyAny>, Option<Py<PyAny>>)> {
        if !self.extra.is_some(py) {
            return None;
        }
        let traceback = self.with_extra(py, |extra| {
            extra.retrieved = true;
            extra.failed.then(|| {
                extra
                    .traceback
                    .as_ref()
                    .map(|traceback| traceback.clone_ref(py))
            })
        })?;
        Some((self.value(py), traceback))
    }

    /// Works on the rare parts, making them if need be. `work` must run no Python code.
    fn with_extra<R>(&self, py: Python<'_>, work: impl FnOnce(&mut Extra) -> R) -> R {
        let mut extra = self.extra.take(py).unwrap_or_default();
        let result = work(&mut extra);
        self.extra.set(py, Some(extra));
        result
    }

    /// Acquires the condition, if anybody ever asked for it.
    fn lock_condition<'py>(&self, py: Python<'py>) -> PyResult<ConditionGuard<'py>> {
        let condition = if self.extra.is_some(py) {
            self.with_extra(py, |extra| {
                extra
                    .condition
                    .as_ref()
                    .map(|condition| condition.clone_ref(py))
            })
        } else {
            None
        };
        let condition = condition.map(|condition| condition.into_bound(py));
        if let Some(condition) = &condition {
            condition.call_method0(intern!(py, "acquire"))?;
        }
        Ok(ConditionGuard(condition))
    }

    /// Tells `concurrent.futures.wait` and its like; the condition is held.
    fn tell_waiters(&self, slf: &Bound<'_, Self>, method: &Bound<'_, pyo3::types::PyString>) {
        let py = slf.py();
        let waiters = self.with_extra(py, |extra| {
            extra.waiters.as_ref().map(|waiters| waiters.clone_ref(py))
        });
        for waiter in waiters.iter().flat_map(|waiters| waiters.bind(py).iter()) {
            if let Err(error) = waiter.call_method1(method, (slf,)) {
                error.write_unraisable(py, Some(slf));
            }
        }
    }

    fn state_name(&self) -> &'static str {
        match self.outcome.state() {
            State::Pending => "PENDING",
            State::Running => "RUNNING",
            State::Cancelled => "CANCELLED",
            State::CancelledAndNotified => "CANCELLED_AND_NOTIFIED",
            State::Finished => "FINISHED",
        }
    }

    fn invalid_state(slf: &Bound<'_, Self>) -> PyErr {
        let state = slf.get().state_name();
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
    fn cancel(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let guard = this.lock_condition(py)?;
        let Ok(wakes) = this.outcome.cancel() else {
            guard.release()?;
            return match (
                this.outcome.state(),
                this.portal.bind(py),
                this.work.bind(py),
            ) {
                (State::Cancelled | State::CancelledAndNotified, _, _) => Ok(true),
                (State::Running, Some(portal), Some(task)) => Portal::cancel_task(&portal, &task),
                (State::Running, Some(_), None) => {
                    this.with_extra(py, |extra| extra.cancel_asked = true);
                    Ok(true)
                }
                _ => Ok(false),
            };
        };
        if this.portal.is_some(py) {
            this.outcome.notify_cancelled();
            if guard.is_held() {
                this.tell_waiters(slf, intern!(py, "add_cancelled"));
            }
        }
        guard.notify_and_release()?;
        if let Some(coroutine) = this.work.bind(py) {
            coroutine.call_method0(intern!(py, "close"))?;
        }
        Self::ended(slf, wakes);
        Ok(true)
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
    /// submitted work), or here and now if it is done already. What a callback raises is logged.
    fn add_done_callback(slf: &Bound<'_, Self>, r#fn: &Bound<'_, PyAny>) {
        let this = slf.get();
        if this.is_done() {
            call_back(slf, r#fn);
        } else {
            this.with_extra(slf.py(), |extra| {
                extra.callbacks.push(r#fn.clone().unbind())
            });
        }
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
            Err(_) => Err(PyRuntimeError::new_err(format!(
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
            return Err(PyTypeError::new_err(format!(
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
    fn _state(&self) -> &'static str {
        self.state_name()
    }

    #[getter]
    fn _condition(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if !self.is_done() {
            // `concurrent.futures.wait` asks for it, and would wait for what never happens here.
            self.check_fork(py)?;
        }
        let fresh = calls::condition(py)?.call0()?.unbind();
        // Making it ran Python code: another thread may have been faster, and its condition counts.
        Ok(self.with_extra(py, |extra| {
            extra.condition.get_or_insert(fresh).clone_ref(py)
        }))
    }

    #[getter]
    fn _waiters(&self, py: Python<'_>) -> Py<PyList> {
        let fresh = PyList::empty(py).unbind();
        self.with_extra(py, |extra| extra.waiters.get_or_insert(fresh).clone_ref(py))
    }

    /// The task that runs the work, once there is one and until it is done.
    #[getter]
    fn _task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        match self.outcome.state() {
            State::Running => self.work.clone_ref(py),
            _ => None,
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let this = slf.get();
        let py = slf.py();
        let class = slf.get_type().name()?;
        let state = match this.outcome.state() {
            State::Finished => {
                let failed = this.extra.is_some(py) && this.with_extra(py, |extra| extra.failed);
                let verb = if failed { "raised" } else { "returned" };
                format!(
                    "finished {verb} {}",
                    this.value(py).bind(py).get_type().name()?
                )
            }
            State::CancelledAndNotified => "cancelled".to_owned(),
            _ => this.state_name().to_lowercase(),
        };
        Ok(format!("<{class} at {:p} state={state}>", slf.as_ptr()))
    }

    fn __reduce__(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        Err(PyTypeError::new_err(format!(
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
        self.outcome
            .read(|value| visit.call(value))
            .unwrap_or(Ok(()))?;
        self.work.visit(|work| visit.call(work))?;
        self.portal.visit(|portal| visit.call(portal))?;
        self.origin.visit(|code| visit.call(code))?;
        self.extra.visit(|extra| {
            let Some(extra) = extra else {
                return Ok(());
            };
            visit.call(&extra.condition)?;
            visit.call(&extra.waiters)?;
            visit.call(&extra.traceback)?;
            visit_all(&visit, &extra.callbacks)
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        if this.extra.is_some(py) {
            this.report_unretrieved(py);
        }
        drop((
            this.work.take(py),
            this.extra.take(py),
            this.outcome.clear(),
        ));
    }
}

impl FutureCore {
    /// Reports an exception that nobody ever asked for, when the future goes.
    fn report_unretrieved(&self, py: Python<'_>) {
        let unretrieved = self.with_extra(py, |extra| {
            extra.failed && !std::mem::replace(&mut extra.retrieved, true)
        });
        let (true, Some(portal)) = (unretrieved, self.portal.bind(py)) else {
            return;
        };
        // A destructor may run while an error is on its way through the interpreter.
        let passing = PyErr::take(py);
        if let Err(error) = Portal::report_unretrieved(&portal, self.value(py).bind(py)) {
            error.write_unraisable(py, None);
        }
        if let Some(passing) = passing {
            passing.restore(py);
        }
    }
}

impl Drop for FutureCore {
    fn drop(&mut self) {
        if self.extra.get_mut().is_some() {
            // None when the interpreter has ended: then there is nobody to tell.
            Python::try_attach(|py| self.report_unretrieved(py));
        }
    }
}

/// The condition of a future, held if there is one.
struct ConditionGuard<'py>(Option<Bound<'py, PyAny>>);

impl ConditionGuard<'_> {
    fn is_held(&self) -> bool {
        self.0.is_some()
    }

    fn release(self) -> PyResult<()> {
        match &self.0 {
            Some(condition) => condition
                .call_method0(intern!(condition.py(), "release"))
                .map(drop),
            None => Ok(()),
        }
    }

    fn notify_and_release(self) -> PyResult<()> {
        let notified = match &self.0 {
            Some(condition) => condition
                .call_method0(intern!(condition.py(), "notify_all"))
                .map(drop),
            None => Ok(()),
        };
        self.release().and(notified)
    }
}

/// Calls a done-callback; what it raises is logged, as `concurrent.futures` does.
fn call_back(future: &Bound<'_, FutureCore>, callback: &Bound<'_, PyAny>) {
    let py = future.py();
    let Err(error) = callback.call1((future,)) else {
        return;
    };
    let log = || -> PyResult<()> {
        let options = PyDict::new(py);
        options.set_item("exc_info", error.value(py))?;
        calls::futures_logger(py)?.call_method(
            intern!(py, "error"),
            ("exception calling callback for %r", future),
            Some(&options),
        )?;
        Ok(())
    };
    if let Err(trouble) = log() {
        trouble.write_unraisable(py, Some(future));
    }
}

/// A number of seconds that isn't NaN.
pub fn seconds(timeout: &Bound<'_, PyAny>) -> PyResult<f64> {
    let seconds: f64 = timeout.extract().map_err(|_| {
        PyTypeError::new_err(format!(
            "timeout must be a number of seconds or None, not {}",
            timeout
                .get_type()
                .name()
                .map_or_else(|_| "?".to_owned(), |name| name.to_string())
        ))
    })?;
    if seconds.is_nan() {
        return Err(PyValueError::new_err("timeout must not be NaN"));
    }
    Ok(seconds)
}

/// A number of seconds that isn't negative either.
pub fn not_negative(timeout: &Bound<'_, PyAny>) -> PyResult<f64> {
    let seconds = seconds(timeout)?;
    if seconds < 0.0 {
        return Err(PyValueError::new_err(format!(
            "timeout must not be negative, got {seconds}"
        )));
    }
    Ok(seconds)
}

/// The moment so many seconds from now; None if that is for ever.
pub fn deadline(seconds: f64) -> Option<Instant> {
    Instant::now().checked_add(clock::duration(seconds))
}

/// Whether this is the thread that runs Python's signal handlers.
pub fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    thread_local! {
        /// The answer, and the fork epoch it was found in: the thread that forks is the child's main thread.
        static ANSWER: Cell<Option<(u32, bool)>> = const { Cell::new(None) };
    }
    match ANSWER.get() {
        Some((epoch, answer)) if epoch == fork::epoch() => Ok(answer),
        _ => {
            let main = calls::main_thread(py)?
                .call0()?
                .getattr(intern!(py, "ident"))?;
            let answer = main.extract::<u64>()? == calls::thread_ident();
            ANSWER.set(Some((fork::epoch(), answer)));
            Ok(answer)
        }
    }
}
