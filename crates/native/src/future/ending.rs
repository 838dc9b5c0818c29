//! How a future ends: once, with everybody told in the right order.

use asyncio_thread_loop_core::outcome::Wakes;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::{Condition, FutureCore};
use crate::calls;
use crate::frames;
use crate::gil::intern;
use crate::portal::Portal;

/// How work ends.
pub enum End {
    Value(Py<PyAny>),
    Error(Py<PyAny>),
    Cancelled,
}

impl FutureCore {
    /// Takes over the task's result if that runs no Python code: the task succeeded, and nobody installed a callback
    /// or asked for the condition. False: the loop has to call `complete` in its next turn.
    ///
    /// A failed task must wait for that in any case. It is still in the middle of its `set_exception`, which marks the
    /// exception as never retrieved after it has called us.
    pub fn complete_quietly(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = slf.py();
        if slf.get().has_extra(py) {
            return Ok(false);
        }
        if !task
            .getattr_opt(intern!(py, "_exception"))?
            .is_some_and(|exception| exception.is_none())
        {
            return Ok(false);
        }
        match calls::result_of(task) {
            Ok(value) => Self::finish(slf, End::Value(value.unbind())).map(|_| true),
            Err(_) => Ok(false),
        }
    }

    /// Takes over what came of the task, which is done.
    pub fn complete(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let end = match calls::result_of(task) {
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
        let told = match &end {
            End::Value(_) => intern!(py, "add_result"),
            End::Error(_) => intern!(py, "add_exception"),
            End::Cancelled => intern!(py, "add_cancelled"),
        };
        // From here until it is settled nothing may let go of the GIL: a waiter that came meanwhile would not be told.
        let (guard, interrupted) = match this.lock_condition(py) {
            Ok(guard) => (guard, Ok(())),
            // A signal handler raised while a user had the condition: what is known must not be lost for that.
            Err(interrupt) => (ConditionGuard(None), Err(interrupt)),
        };
        let Some((wakes, work)) = this.settle(py, end) else {
            return interrupted.and(guard.release()).map(|()| false);
        };
        if guard.is_held() || interrupted.is_err() {
            this.tell_waiters(slf, told);
        }
        // A signal handler may raise in the middle of it. The future has ended all the same.
        let notified = guard.notify_and_release();
        let called = Self::ended(slf, wakes, work);
        interrupted.and(notified).and(called).map(|()| true)
    }

    /// The one step from unfinished to finished; runs no Python code. Whom to wake, and the work, to be let go of when
    /// everybody knows. None if it is finished already.
    fn settle(&self, py: Python<'_>, end: End) -> Option<(Wakes, Option<Py<PyAny>>)> {
        if self.outcome.is_done() {
            return None;
        }
        let value = match end {
            End::Value(value) => value,
            End::Error(exception) => {
                let traceback = frames::traceback(exception.bind(py)).map(Bound::unbind);
                self.with_extra(py, |extra| {
                    extra.failed = true;
                    extra.traceback = traceback;
                });
                exception
            }
            End::Cancelled => {
                let wakes = self.outcome.settle_cancelled().ok()?;
                return Some((wakes, self.content.take(py)));
            }
        };
        let mut work = None;
        let store = || work = self.content.replace(py, Some(value));
        let wakes = self.outcome.settle(store).ok()?;
        Some((wakes, work))
    }

    /// What follows every end, in this order: forget, wake, call back, let go of the work.
    ///
    /// An error is a `KeyboardInterrupt` or the like out of a callback. The others were called all the same.
    pub(super) fn ended(
        slf: &Bound<'_, Self>,
        wakes: Wakes,
        work: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        match this.portal.bind(py) {
            Some(portal) => {
                Portal::forget(&portal, this);
                Portal::wake(&portal, wakes);
            }
            None => wakes.fire(),
        }
        let mut called = Ok(());
        if let Some(callbacks) = this.extra(py, |extra| std::mem::take(&mut extra.callbacks)) {
            for callback in callbacks {
                called = called.and(call_back(slf, callback.bind(py)));
            }
        }
        drop(work);
        if let Some(batch) = this.batch(py) {
            let failed = this.cancelled() || this.failed(py);
            called = called.and(batch.get().one_ended(py, failed));
        }
        called
    }

    /// Adds the note that says where the work was submitted.
    fn note_origin(&self, py: Python<'_>, exception: &Bound<'_, PyAny>) {
        if let Some(origin) = self.origin(py) {
            origin.note(py, exception);
        }
    }

    /// Acquires the condition, if anybody ever asked for it.
    pub(super) fn lock_condition<'py>(&self, py: Python<'py>) -> PyResult<ConditionGuard<'py>> {
        let made = self.extra(py, |extra| {
            extra
                .condition
                .as_ref()
                .map(|condition| condition.clone_ref(py))
        });
        let condition = made.flatten().map(|condition| condition.into_bound(py));
        if let Some(condition) = &condition {
            condition.get().lock(py, None)?;
        }
        Ok(ConditionGuard(condition))
    }

    /// Tells `concurrent.futures.wait` and its like; the condition is held.
    pub(super) fn tell_waiters(&self, slf: &Bound<'_, Self>, method: &Bound<'_, PyString>) {
        let py = slf.py();
        let made = self.extra(py, |extra| {
            extra.waiters.as_ref().map(|waiters| waiters.clone_ref(py))
        });
        let waiters = made.flatten();
        for waiter in waiters.iter().flat_map(|waiters| waiters.bind(py).iter()) {
            if let Err(error) = calls::call_user_method(method, [&waiter, slf.as_any()]) {
                error.write_unraisable(py, Some(slf));
            }
        }
    }

    /// Reports an exception that nobody ever asked for, when the future goes.
    pub(super) fn report_unretrieved(&self, py: Python<'_>) {
        let unretrieved = self.extra(py, |extra| {
            extra.failed && !std::mem::replace(&mut extra.retrieved, true)
        });
        let (Some(true), Some(portal)) = (unretrieved, self.portal.bind(py)) else {
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

/// The condition of a future, held if there is one.
pub(super) struct ConditionGuard<'py>(Option<Bound<'py, Condition>>);

impl ConditionGuard<'_> {
    pub(super) fn is_held(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn release(self) -> PyResult<()> {
        match &self.0 {
            Some(condition) => condition.get().unlock(),
            None => Ok(()),
        }
    }

    pub(super) fn notify_and_release(self) -> PyResult<()> {
        let notified = match &self.0 {
            Some(condition) => condition.get().tell_all(condition.py()),
            None => Ok(()),
        };
        self.release().and(notified)
    }
}

/// Calls a done-callback. What it raises is logged, as `concurrent.futures` does; but what is to end the program comes
/// out, unless this is a loop's thread, which lives on.
pub(super) fn call_back(
    future: &Bound<'_, FutureCore>,
    callback: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = future.py();
    let called = (future,)
        .into_pyobject(py)
        .and_then(|args| calls::call_user(callback, &args, None));
    let Err(error) = called else {
        return Ok(());
    };
    if !error.is_instance_of::<PyException>(py) && !future.get()._runs_here(py) {
        return Err(error);
    }
    let log = || -> PyResult<()> {
        let options = PyDict::new(py);
        options.set_item("exc_info", error.value(py))?;
        let tell = calls::futures_logger(py)?.getattr(intern!(py, "error"))?;
        let args = ("exception calling callback for %r", future).into_pyobject(py)?;
        calls::call_user(&tell, &args, Some(&options)).map(drop)
    };
    if let Err(trouble) = log() {
        trouble.write_unraisable(py, Some(future));
    }
    Ok(())
}
