//! Who waits for whom: a loop's thread that waits for another loop can close a circle in which nobody goes on.
//!
//! A thread that runs no loop holds nobody up. So the circles are made of loops alone: each loop's portal remembers
//! which other loop its thread waits for, and before a thread begins to wait it follows these from loop to loop. If that
//! leads back to the loop it runs itself, waiting would be for ever. A thread notes down its own wait before it looks, so
//! of two threads that close a circle at least one finds it.

use std::cell::Cell;

use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit};

use crate::calls;
use crate::future::FutureCore;
use crate::gil::{GilCell, GilRefCell, intern};
use crate::portal::Portal;

thread_local! {
    /// Whether this thread has ever run a loop of ours. Most threads that wait haven't.
    static RUNS_LOOPS: Cell<bool> = const { Cell::new(false) };
}

/// The open portals, by the threads of their loops.
static PORTALS: GilRefCell<Vec<Py<Portal>>> = GilRefCell::new(Vec::new());

/// What the thread of a loop waits for.
pub struct Wait {
    /// The loop that is to do it.
    target: Py<Portal>,
    subject: Subject,
    /// It goes on by itself after a while.
    is_timed: bool,
}

enum Subject {
    Future(Py<FutureCore>),
    /// An object with a method `done`.
    Other(Py<PyAny>),
}

impl Subject {
    fn is_done(&self, py: Python<'_>) -> bool {
        match self {
            Subject::Future(future) => future.get().is_done(),
            Subject::Other(object) => object
                .call_method0(py, intern!(py, "done"))
                .and_then(|done| done.is_truthy(py))
                .unwrap_or(false),
        }
    }

    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Subject::Future(future) => Subject::Future(future.clone_ref(py)),
            Subject::Other(object) => Subject::Other(object.clone_ref(py)),
        }
    }
}

impl Wait {
    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.target)?;
        match &self.subject {
            Subject::Future(future) => visit.call(future),
            Subject::Other(object) => visit.call(object),
        }
    }
}

/// The calling thread is about to run a loop of ours.
pub fn runs_a_loop_now() {
    RUNS_LOOPS.set(true);
}

/// The portal was made on its loop's thread, which is the calling one.
pub fn opened(portal: &Bound<'_, Portal>) {
    runs_a_loop_now();
    PORTALS
        .borrow_mut(portal.py())
        .push(portal.clone().unbind());
}

/// The loop has ended, or was given up.
pub fn ended(portal: &Bound<'_, Portal>) {
    let py = portal.py();
    let removed = {
        let mut portals = PORTALS.borrow_mut(py);
        let index = portals.iter().position(|each| each.is(portal));
        index.map(|index| portals.swap_remove(index))
    };
    drop(removed);
}

/// The portal of the loop that the calling thread runs.
fn here(py: Python<'_>) -> Option<Bound<'_, Portal>> {
    if !RUNS_LOOPS.get() {
        return None;
    }
    let portals = PORTALS.borrow_mut(py);
    let here = portals.iter().find(|portal| portal.get().runs_here(py))?;
    Some(here.clone_ref(py).into_bound(py))
}

/// Raises `DeadlockError` if waiting for `target` would close a circle.
pub fn refuse_circle(target: &Bound<'_, Portal>) -> PyResult<()> {
    match here(target.py()) {
        Some(here) => refuse_circle_from(&here, target),
        None => Ok(()),
    }
}

fn refuse_circle_from(here: &Bound<'_, Portal>, target: &Bound<'_, Portal>) -> PyResult<()> {
    let py = here.py();
    let mut circle = vec![here.get().runner(py)];
    let mut at = target.clone();
    while !at.is(here) {
        circle.push(at.get().runner(py));
        let next = at.get().waits.peek(py, |wait| {
            wait.as_ref()
                .filter(|wait| !wait.is_timed)
                .map(|wait| (wait.target.clone_ref(py), wait.subject.clone_ref(py)))
        });
        let Some((next, subject)) = next else {
            return Ok(());
        };
        // Done, though its thread hasn't woken up yet. Nor is a circle without us any of our business.
        if subject.is_done(py) || circle.contains(&next.get().runner(py)) && !next.is(here) {
            return Ok(());
        }
        at = next.into_bound(py);
    }
    let message = calls::describe_circle(py)?.call1((circle,))?;
    Err(calls::error(calls::deadlock_error(py), message.to_string()))
}

/// Notes down that the calling thread, if it runs a loop, waits for a future; to be taken back by dropping what is
/// returned. Raises `DeadlockError` if that would be for ever.
pub fn wait_for<'py>(
    future: &Bound<'py, FutureCore>,
    is_timed: bool,
) -> PyResult<Option<Waits<'py>>> {
    let py = future.py();
    if !RUNS_LOOPS.get() || future.get().is_done() {
        return Ok(None);
    }
    let Some(target) = future.get().portal(py) else {
        return Ok(None);
    };
    note(&target, Subject::Future(future.clone().unbind()), is_timed)
}

fn note<'py>(
    target: &Bound<'py, Portal>,
    subject: Subject,
    is_timed: bool,
) -> PyResult<Option<Waits<'py>>> {
    let py = target.py();
    let Some(here) = here(py) else {
        return Ok(None);
    };
    let wait = Wait {
        target: target.clone().unbind(),
        subject,
        is_timed,
    };
    here.get().waits.set(py, Some(wait));
    let waits = Waits(here);
    // Only now: looking may run Python code, and meanwhile another thread may close the circle.
    refuse_circle_from(&waits.0, target)?;
    Ok(Some(waits))
}

/// The calling thread, which runs a loop, waits for another one.
pub struct Waits<'py>(Bound<'py, Portal>);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.get().waits.set(self.0.py(), None);
    }
}

/// `with Waiting(portal, subject, timed):` around a wait that isn't one for a future. The subject has a method
/// `done`, which says whether there is something to go on with. Raises `DeadlockError` if the wait would be for ever.
#[pyclass(frozen, module = "asyncio_thread_loop._native")]
pub struct Waiting {
    target: Option<Py<Portal>>,
    subject: Py<PyAny>,
    is_timed: bool,
    here: GilCell<Option<Py<Portal>>>,
}

#[pymethods]
impl Waiting {
    #[new]
    fn new(target: Option<Py<Portal>>, subject: Py<PyAny>, is_timed: bool) -> Self {
        Self {
            target,
            subject,
            is_timed,
            here: GilCell::new(None),
        }
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<()> {
        let Some(target) = &self.target else {
            return Ok(());
        };
        let target = target.bind(py);
        let subject = Subject::Other(self.subject.clone_ref(py));
        if let Some(waits) = note(target, subject, self.is_timed)? {
            self.here.set(py, Some(waits.0.clone().unbind()));
            std::mem::forget(waits);
        }
        let caller = (calls::thread_ident(), self.subject.clone_ref(py));
        target.get().callers.borrow_mut(py).push(caller);
        Ok(())
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _error: &Bound<'_, PyAny>,
        _traceback: &Bound<'_, PyAny>,
    ) {
        if let Some(here) = self.here.take(py) {
            here.get().waits.set(py, None);
        }
        let Some(target) = &self.target else {
            return;
        };
        let removed = {
            let mut callers = target.get().callers.borrow_mut(py);
            let index = callers.iter().position(|(thread, subject)| {
                *thread == calls::thread_ident() && subject.is(&self.subject)
            });
            index.map(|index| callers.swap_remove(index))
        };
        drop(removed);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.target)?;
        visit.call(&self.subject)
    }
}
