//! The condition variable of a future, as far as `concurrent.futures` asks for it.
//!
//! `wait` and `as_completed` ask every future for its condition, to lock it and let go of it again, and a
//! `threading.Condition` is made by a hundred lines of Python. This one is a lock, and becomes the rest when a thread
//! first waits or tells of something.

use std::time::{Duration, Instant};

use parking_lot::lock_api::RawReentrantMutex;
use parking_lot::{RawMutex, RawThreadId};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::waiting::{NAP, is_main_thread};
use crate::calls;
use crate::gil::{GilCell, intern};

/// Behaves as a `threading.Condition` over a reentrant lock.
#[pyclass(frozen, module = "asyncio_thread_loop._native")]
pub struct Condition {
    lock: RawReentrantMutex<RawMutex, RawThreadId>,
    /// A `threading.Condition` over this one's lock, once a thread has waited.
    waiting: GilCell<Option<Py<PyAny>>>,
}

impl Condition {
    pub fn new() -> Self {
        Self {
            lock: RawReentrantMutex::INIT,
            waiting: GilCell::new(None),
        }
    }

    /// Acquires the lock, detached from the interpreter if somebody else has it. False if that takes too long.
    ///
    /// An error comes from a signal handler.
    pub fn lock(&self, py: Python<'_>, deadline: Option<Instant>) -> PyResult<bool> {
        if self.lock.try_lock() {
            return Ok(true);
        }
        let naps = is_main_thread(py)?;
        loop {
            let nap = naps.then(|| Instant::now() + NAP);
            let acquired = match [deadline, nap].into_iter().flatten().min() {
                None => {
                    py.detach(|| self.lock.lock());
                    true
                }
                Some(until) => py.detach(|| self.lock.try_lock_until(until)),
            };
            if acquired {
                return Ok(true);
            }
            py.check_signals()?;
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(false);
            }
        }
    }

    /// Lets go of the lock once. An error if the calling thread doesn't have it.
    pub fn unlock(&self) -> PyResult<()> {
        self.check_owned("cannot release un-acquired lock")?;
        // SAFETY: this thread has the lock, as was just checked.
        unsafe { self.lock.unlock() };
        Ok(())
    }

    /// Wakes those who wait; the lock is held.
    pub fn tell_all(&self, py: Python<'_>) -> PyResult<()> {
        match self.waiting.bind(py) {
            Some(waiting) => waiting.call_method0(intern!(py, "notify_all")).map(drop),
            None => Ok(()),
        }
    }

    fn check_owned(&self, message: &str) -> PyResult<()> {
        if self.lock.is_owned_by_current_thread() {
            return Ok(());
        }
        Err(calls::builtin_error::<PyRuntimeError>(message))
    }

    /// What waits and tells, over this lock.
    fn waiting<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        slf.get().check_owned("cannot wait on un-acquired lock")?;
        // Nobody else makes one meanwhile: that takes the lock.
        if let Some(waiting) = slf.get().waiting.bind(py) {
            return Ok(waiting);
        }
        let waiting = calls::condition(py)?.call1((slf,))?;
        slf.get().waiting.set(py, Some(waiting.clone().unbind()));
        Ok(waiting)
    }
}

#[pymethods]
impl Condition {
    #[pyo3(signature = (blocking=true, timeout=-1.0))]
    fn acquire(&self, py: Python<'_>, blocking: bool, timeout: f64) -> PyResult<bool> {
        let refuse = |message| Err(calls::builtin_error::<PyValueError>(message));
        if !blocking {
            return match timeout {
                -1.0 => Ok(self.lock.try_lock()),
                _ => refuse("can't specify a timeout for a non-blocking call"),
            };
        }
        let deadline = match timeout {
            -1.0 => None,
            _ if timeout.is_nan() || timeout < 0.0 => {
                return refuse("timeout value must be a non-negative number");
            }
            // Longer than anybody lives is as good as for ever.
            _ => Duration::try_from_secs_f64(timeout)
                .ok()
                .and_then(|timeout| Instant::now().checked_add(timeout)),
        };
        self.lock(py, deadline)
    }

    fn release(&self) -> PyResult<()> {
        self.unlock()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.lock(py, None)
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.unlock()
    }

    #[pyo3(signature = (timeout=None))]
    fn wait<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::waiting(slf)?.call_method1(intern!(slf.py(), "wait"), (timeout,))
    }

    #[pyo3(signature = (predicate, timeout=None))]
    fn wait_for<'py>(
        slf: &Bound<'py, Self>,
        predicate: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Self::waiting(slf)?.call_method1(intern!(slf.py(), "wait_for"), (predicate, timeout))
    }

    #[pyo3(signature = (n=1))]
    fn notify(&self, py: Python<'_>, n: i64) -> PyResult<()> {
        self.check_owned("cannot notify on un-acquired lock")?;
        match self.waiting.bind(py) {
            Some(waiting) => waiting.call_method1(intern!(py, "notify"), (n,)).map(drop),
            None => Ok(()),
        }
    }

    fn notify_all(&self, py: Python<'_>) -> PyResult<()> {
        self.check_owned("cannot notify on un-acquired lock")?;
        self.tell_all(py)
    }

    // What `threading.Condition` asks of a reentrant lock.

    fn _is_owned(&self) -> bool {
        self.lock.is_owned_by_current_thread()
    }

    /// Lets go of the lock however often it was acquired. Returns how often.
    fn _release_save(&self) -> PyResult<usize> {
        let mut times = 0;
        self.check_owned("cannot release un-acquired lock")?;
        while self.lock.is_owned_by_current_thread() {
            self.unlock()?;
            times += 1;
        }
        Ok(times)
    }

    fn _acquire_restore(&self, py: Python<'_>, times: usize) -> PyResult<()> {
        // Whoever waited has the lock afterwards, whatever a signal handler raises meanwhile.
        let mut interrupted = Ok(());
        for _ in 0..times {
            while let Err(error) = self.lock(py, None) {
                interrupted = interrupted.and(Err(error));
            }
        }
        interrupted
    }

    /// Makes `isinstance(condition, threading.Condition)` true.
    #[getter]
    fn __class__<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyType>> {
        calls::condition(py)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        let state = if slf.get().lock.is_locked() {
            "locked"
        } else {
            "unlocked"
        };
        format!("<{state} condition of a future at {:p}>", slf.as_ptr())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.waiting.visit(|waiting| visit.call(waiting))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().waiting.take(slf.py());
    }
}
