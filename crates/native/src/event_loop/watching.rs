//! What native transports ask of the loop: to be told of descriptors, and to be run in the next turn.
//!
//! They are told in the order in which their events came, among the callbacks of Python code, and need no handle.

use std::os::fd::RawFd;

use asyncio_thread_loop_core::poller::Event;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::LoopCore;
use super::queue::{Ready, RunStep, Step};
use crate::calls;
use crate::descriptors::{Addressee, Direction, Watch, Watcher};
use crate::gil::intern;
use crate::sockets::wait;

impl LoopCore {
    /// Has `watcher` told whenever the descriptor is ready, instead of whoever was told before.
    pub fn watch_natively<T: Watch>(
        &self,
        fd: RawFd,
        direction: Direction,
        watcher: &Bound<'_, T>,
    ) -> PyResult<()> {
        let py = watcher.py();
        self.check_closed(py)?;
        let poller = self.own_poller(py);
        let watcher = Watcher::native(watcher);
        let mut descriptors = self.descriptors.borrow_mut(py);
        let replaced = descriptors.set(poller.as_deref(), fd, direction, watcher)?;
        drop(descriptors);
        if let Some(replaced) = replaced {
            replaced.cancel(py);
        }
        Ok(())
    }

    /// Ends that at once: what is queued isn't told any more. The poller is told only if the descriptor gets ready
    /// before it is watched again, so `unwatch_natively` has to follow before the descriptor is closed.
    pub fn pause_natively(&self, py: Python<'_>, fd: RawFd, direction: Direction) {
        let paused = self.descriptors.borrow_mut(py).pause(fd, direction);
        if let Some(paused) = paused {
            paused.cancel(py);
        }
    }

    /// Ends that at once, and tells the poller. Does nothing once the loop is closed.
    pub fn unwatch_natively(&self, py: Python<'_>, fd: RawFd, direction: Direction) {
        let poller = self.own_poller(py);
        let mut descriptors = self.descriptors.borrow_mut(py);
        let removed = descriptors.remove(poller.as_deref(), fd, direction);
        drop(descriptors);
        if let Some(removed) = removed {
            removed.cancel(py);
        }
    }

    /// Has a step of `object` run in the next turn, as `call_soon` would.
    pub fn soon<S: Step>(slf: &Bound<'_, Self>, object: &Bound<'_, S::Of>) -> PyResult<()> {
        let py = slf.py();
        slf.get().check_closed(py)?;
        if slf.get().debug.get(py) {
            slf.call_method0(intern!(py, "_check_thread"))?;
        }
        slf.get().push(py, Ready::native::<S>(object));
        Ok(())
    }

    pub fn collect_event(&self, py: Python<'_>, event: Event) {
        let mut descriptors = self.descriptors.borrow_mut(py);
        let mut ready = self.ready.borrow_mut(py);
        let mut is_for_nobody = false;
        let mut waiters = [None, None];
        for (direction, waiter) in Direction::BOTH.into_iter().zip(&mut waiters) {
            if !direction.is_in(event) {
                continue;
            }
            match descriptors.address(event.key, direction) {
                // A caller that ran the loop may have left before it came to the one from the last look.
                Addressee::Handle(handle) if handle.get().queue(py) => {
                    ready.push_back(Ready::Handle(handle.clone_ref(py)));
                }
                Addressee::Native => ready.push_back(Ready::Io(event.key, direction)),
                Addressee::Handle(_) | Addressee::Queued => {}
                Addressee::Waiter(told) => *waiter = Some(told),
                Addressee::Nobody => is_for_nobody = true,
            }
        }
        let is_told = waiters.iter().any(Option::is_some);
        if is_for_nobody || is_told && descriptors.is_to_correct(event.key) {
            descriptors.correct(self.own_poller(py).as_deref(), event.key);
        }
        drop((descriptors, ready));
        for waiter in waiters.into_iter().flatten() {
            // Its task becomes due in this turn.
            wait::tell(waiter.bind(py));
        }
    }

    /// Has the waiter of an operation told when its socket may be ready: see [`Descriptors::wait`].
    ///
    /// [`Descriptors::wait`]: crate::descriptors::Descriptors::wait
    pub fn wait(
        slf: &Bound<'_, Self>,
        fd: RawFd,
        direction: Direction,
        waiting: (&Bound<'_, PyAny>, Py<PyAny>),
        has_just_failed: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.check_closed(py)?;
        Self::check_no_transport(slf, fd)?;
        let poller = this.own_poller(py);
        let mut descriptors = this.descriptors.borrow_mut(py);
        let replaced =
            descriptors.wait(poller.as_deref(), fd, direction, waiting, has_just_failed)?;
        drop(descriptors);
        if let Some(replaced) = replaced {
            replaced.cancel(py);
        }
        Ok(())
    }

    /// Ends that, unless it was told, or somebody else waits there now.
    pub fn forget(&self, py: Python<'_>, fd: RawFd, direction: Direction, waiter: &Py<PyAny>) {
        let forgotten = self
            .descriptors
            .borrow_mut(py)
            .forget(fd, direction, waiter);
        drop(forgotten);
    }

    /// Tells a watcher that its descriptor is ready.
    pub fn tell(slf: &Bound<'_, Self>, key: u64, direction: Direction) -> PyResult<()> {
        let py = slf.py();
        let queued = slf
            .get()
            .descriptors
            .borrow_mut(py)
            .take_queued(py, key, direction);
        let Some((watcher, told)) = queued else {
            return Ok(());
        };
        let watcher = watcher.bind(py);
        told(watcher, slf, direction).or_else(|error| Self::report(slf, watcher, error))
    }

    pub fn run_native(
        slf: &Bound<'_, Self>,
        object: &Bound<'_, PyAny>,
        step: RunStep,
    ) -> PyResult<()> {
        step(object, slf).or_else(|error| Self::report(slf, object, error))
    }

    /// The watcher that is to be told, or None if it is not to be told any more.
    pub fn queued_watcher<'py>(
        &self,
        py: Python<'py>,
        key: u64,
        direction: Direction,
    ) -> Bound<'py, PyAny> {
        let mut descriptors = self.descriptors.borrow_mut(py);
        let watcher = descriptors.queued(key, direction);
        watcher.map_or_else(
            || py.None().into_bound(py),
            |watcher| watcher.bind(py).clone(),
        )
    }

    /// Tells the loop's exception handler what went wrong in an object of ours; what ends the program passes.
    fn report(slf: &Bound<'_, Self>, object: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
        if calls::ends_the_program(slf.py(), &error) {
            return Err(error);
        }
        let message = format!("Exception in callback {}", object.repr()?);
        Self::call_exception_handler(slf, message, error)
    }

    /// The same for a callback that a handle of asyncio would have run.
    pub fn report_callback<'py>(
        slf: &Bound<'py, Self>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        error: PyErr,
    ) -> PyResult<()> {
        let py = slf.py();
        let source = calls::format_callback_source(py)?.call1((callback, args))?;
        Self::call_exception_handler(slf, format!("Exception in callback {source}"), error)
    }

    fn call_exception_handler(
        slf: &Bound<'_, Self>,
        message: String,
        error: PyErr,
    ) -> PyResult<()> {
        let py = slf.py();
        let report = PyDict::new(py);
        report.set_item("message", message)?;
        report.set_item("exception", error.value(py))?;
        let handler = slf.getattr(intern!(py, "call_exception_handler"))?;
        calls::call_user(&handler, &(report,).into_pyobject(py)?, None).map(drop)
    }
}
