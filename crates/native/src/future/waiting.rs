//! Waiting for a future: detached from the interpreter, within a time, and so that Ctrl-C gets through.

use std::cell::Cell;
use std::time::{Duration, Instant};

use asyncio_thread_loop_core::{clock, fork, parking, spin};
use pyo3::exceptions::{PyTimeoutError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use super::FutureCore;
use crate::gil::intern;
use crate::{calls, waiting};

/// The main thread looks for signals at least this often while it waits: one that arrives between the last look
/// and the moment the thread really sleeps would go unnoticed otherwise.
pub const NAP: Duration = Duration::from_millis(100);

/// After so many naps the watchdog has a look at what is waited for.
const LOOK_AFTER: u32 = 10;

#[derive(PartialEq, Eq)]
pub enum Waited {
    Done,
    TimedOut,
}

impl FutureCore {
    /// Waits on the calling thread, detached from the interpreter. `detached` runs once it is, and in any case: it
    /// may have to wake the loop.
    ///
    /// An error comes from a signal handler.
    pub fn wait(
        slf: &Bound<'_, Self>,
        deadline: Option<Instant>,
        detached: impl FnOnce() + Send,
    ) -> PyResult<Waited> {
        let py = slf.py();
        let outcome = &slf.get().outcome;
        // The first time this is Python code, in which a signal handler may raise.
        let on_main_thread = match is_main_thread(py) {
            Ok(answer) => answer,
            Err(error) => {
                detached();
                return Err(error);
            }
        };
        let noted = waiting::wait_for(slf, deadline.is_some()).and_then(|waits| {
            // Most threads that run a loop of their own are main threads.
            Ok((waits, on_main_thread || runs_a_loop(py)?))
        });
        let (_waits, naps) = match noted {
            Ok(noted) => noted,
            Err(error) => {
                detached();
                return Err(error);
            }
        };
        // Any other loop wakes while it holds the GIL: who comes at once runs into that.
        let may_spin = slf.get().portal.peek(py, |portal| {
            portal
                .as_ref()
                .is_some_and(|portal| portal.get().is_native())
        });
        let mut looks = Some(LOOK_AFTER);
        let mut detached = Some(detached);
        parking::with_current(|parker| {
            let Some(ticket) = outcome.subscribe(parker.unparker()) else {
                py.detach(|| detached.take().map(|detached| detached()));
                return Ok(Waited::Done);
            };
            let waited = loop {
                py.detach(|| {
                    if let Some(detached) = detached.take() {
                        detached();
                    }
                    if may_spin && spin::pays() {
                        spin::look(|| parker.has_token());
                    }
                    match naps && deadline.is_none_or(|it| it > Instant::now() + NAP) {
                        true => parker.nap(NAP),
                        false => parker.park(deadline),
                    };
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
                looks = match looks.map(|left| left - 1).filter(|_| naps) {
                    Some(0) => match slf.get().look_around(slf) {
                        Ok(told) => (!told).then_some(LOOK_AFTER),
                        Err(error) => break Err(error),
                    },
                    looks => looks,
                };
            };
            outcome.unsubscribe(ticket);
            waited
        })
    }

    /// Blocks until done, for the methods that take a `timeout`.
    pub(super) fn block(
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
        this.check_thread(py, what)?;
        match Self::wait(slf, timeout.and_then(deadline), || ())? {
            Waited::Done => Ok(()),
            Waited::TimedOut => Err(PyTimeoutError::new_err(())),
        }
    }

    /// The thread that is to finish it can't wait for it.
    pub(super) fn check_thread(&self, py: Python<'_>, what: &str) -> PyResult<()> {
        if !self._runs_here(py) {
            return Ok(());
        }
        Err(calls::error(
            calls::deadlock_error(py),
            format!(
                "{what} of an unfinished future was called on the thread of the loop that is to finish it, and would \
                 wait for ever; in a coroutine, `await asyncio.wrap_future(future)`"
            ),
        ))
    }

    /// A wait that takes a while may block a loop which the awaited work needs. Says so, and whether it did.
    fn look_around(&self, slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let watched = self
            .portal
            .bind(py)
            .is_some_and(|portal| portal.get().watched.get(py));
        if watched && runs_a_loop(py)? {
            return calls::tell_of_blocked_loop(py)?.call1((slf,))?.is_truthy();
        }
        Ok(false)
    }

    /// In the child of a fork nobody finishes what the parent began.
    pub(super) fn check_fork(&self, py: Python<'_>) -> PyResult<()> {
        match self.portal.bind(py) {
            Some(portal) if portal.get().is_stale() => Err(calls::error(
                calls::forked_error(py),
                "this future belongs to the process that forked this one, which alone will finish it",
            )),
            _ => Ok(()),
        }
    }
}

/// Whether an event loop runs on the calling thread, below the frames of the caller.
pub fn runs_a_loop(py: Python<'_>) -> PyResult<bool> {
    Ok(!calls::call_builtin(calls::running_loop(py)?, None)?.is_none())
}

/// A number of seconds that isn't NaN.
pub fn seconds(timeout: &Bound<'_, PyAny>) -> PyResult<f64> {
    let seconds: f64 = timeout.extract().map_err(|_| {
        calls::builtin_error::<PyTypeError>(format!(
            "timeout must be a number of seconds or None, not {}",
            timeout
                .get_type()
                .name()
                .map_or_else(|_| "?".to_owned(), |name| name.to_string())
        ))
    })?;
    if seconds.is_nan() {
        return Err(calls::builtin_error::<PyValueError>(
            "timeout must not be NaN",
        ));
    }
    Ok(seconds)
}

/// A number of seconds that isn't negative either.
pub fn not_negative(timeout: &Bound<'_, PyAny>) -> PyResult<f64> {
    let seconds = seconds(timeout)?;
    if seconds < 0.0 {
        return Err(calls::builtin_error::<PyValueError>(format!(
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
