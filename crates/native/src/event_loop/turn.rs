//! One turn of a loop: sleep until something is due, collect what is, run it.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use asyncio_thread_loop_core::outcome::Wakes;
use asyncio_thread_loop_core::ownership::{Descriptors, Ownership, Watch};
use asyncio_thread_loop_core::parking::{self, Parked};
use asyncio_thread_loop_core::poller::{Events, Poller};
use asyncio_thread_loop_core::{clock, fork, spin};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::LoopCore;
use super::queue::{Bell, Ready};
use crate::calls;
use crate::future::{FutureCore, is_main_thread};
use crate::gil::intern;
use crate::handle::Handle;
use crate::portal::Portal;

impl LoopCore {
    /// What `_run_once` repeats until the loop is stopped.
    pub fn turn(slf: &Bound<'_, Self>, events: &mut Events) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // A signal that came while no Python code ran has its handler run before the loop sleeps over it.
        py.check_signals()?;
        let poller = Self::poller(slf)?;
        if this.has_just_looked(py) {
            events.clear();
        } else {
            this.sleep(py, &poller, events)?;
        }
        // In the order of the standard loop: other threads' calls, descriptors, timers.
        this.collect_jobs(py);
        for event in events.iter() {
            this.looked.set(py, true);
            this.collect_event(py, event);
        }
        this.collect_timers(py);
        // What these callbacks schedule runs in the next turn, after another look at the descriptors.
        let due = this.ready.borrow_mut(py).len();
        for _ in 0..due {
            this.fire_wakes(py);
            let Some(ready) = this.ready.borrow_mut(py).pop_front() else {
                break;
            };
            this.heartbeat.beat();
            Self::run(slf, ready)?;
            if this.epoch.get(py) != fork::epoch() {
                // It has forked, and this is the child. What else was due may be the parent's alone.
                break;
            }
        }
        Ok(())
    }

    /// Whether the last turn came from the poller with something, and made something due, mostly the task that had waited
    /// for it: that is run without another look. Every second turn looks, whatever is due.
    fn has_just_looked(&self, py: Python<'_>) -> bool {
        self.looked.replace(py, false)
            && !self.stopping.get(py)
            && !self.ready.borrow_mut(py).is_empty()
    }

    /// Blocks, detached from the interpreter, until a descriptor, a timer or another thread needs the loop.
    fn sleep(&self, py: Python<'_>, poller: &Arc<Poller>, events: &mut Events) -> PyResult<()> {
        let mut timeout = self.time_to_sleep(py);
        if timeout != Some(Duration::ZERO)
            && let Some(shared) = self.shared.peek(py, Clone::clone)
        {
            self.rest(py, &shared.ownership);
            timeout = Some(Duration::ZERO);
        }
        if timeout.is_none_or(|timeout| timeout > spin::MOMENT) && self.is_called_soon(py) {
            timeout = Some(Duration::ZERO);
        }
        let waited = if self.may_park(py)? {
            events.clear();
            self.park(py, timeout);
            Ok(())
        } else {
            self.poll(py, poller, events, timeout)
        };
        match waited {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                events.clear();
                py.check_signals()
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whoever was just given a result may be back with the next call before this thread could go to sleep. Looks for that
    /// for a moment, as long as it pays; says whether there is a call.
    ///
    /// Not by looking at the inbox: who is about to call keeps the interpreter until the call is there, and the bell is
    /// rung without it.
    fn is_called_soon(&self, py: Python<'_>) -> bool {
        if !self.has_answered.replace(py, false) || !spin::pays() {
            return false;
        }
        let wakes = self.prepare_to_sleep(py, None);
        parking::with_current(|parker| {
            if !self.inbox.announce_sleep(Bell::Parked(parker.unparker())) {
                fire_detached(py, wakes);
                return true;
            }
            let is_called = py.detach(|| {
                wakes.fire();
                let is_called = spin::look(|| parker.has_token());
                if is_called {
                    parker.park(None); // takes the token
                }
                is_called
            });
            self.inbox.awake();
            is_called
        })
    }

    /// Whether there is nothing to poll for but the pipe through which signals come, and they don't come: a thread
    /// that is parked is woken at two thirds of the price. The main thread polls, as parking may miss a signal.
    fn may_park(&self, py: Python<'_>) -> PyResult<bool> {
        let nothing_to_poll = self.descriptors.borrow_mut(py).count() <= 1;
        Ok(nothing_to_poll && !self.minds_signals.get(py) && !is_main_thread(py)?)
    }

    /// Sleeps with an eye on the descriptors.
    pub fn poll(
        &self,
        py: Python<'_>,
        poller: &Arc<Poller>,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        self.polls.set(py, self.polls.get(py) + 1);
        let wakes = self.prepare_to_sleep(py, timeout);
        if timeout != Some(Duration::ZERO)
            && self.inbox.announce_sleep(Bell::Polling(poller.clone()))
        {
            // A caller waits for this one thing, a server is there for many.
            let may_look =
                self.shared.is_some(py) && timeout.is_none_or(|timeout| timeout > spin::MOMENT);
            let waited = py.detach(|| {
                wakes.fire();
                if may_look && spin::pays() {
                    spin::look(|| poller.wait_until_ready(Some(Duration::ZERO)));
                }
                poller.wait(events, timeout)
            });
            self.inbox.awake();
            return waited;
        }
        fire_detached(py, wakes);
        poller.wait(events, Some(Duration::ZERO))
    }

    /// Sleeps without polling.
    pub fn park(&self, py: Python<'_>, timeout: Option<Duration>) -> Parked {
        let wakes = self.prepare_to_sleep(py, timeout);
        if timeout == Some(Duration::ZERO) {
            fire_detached(py, wakes);
            return Parked::TimedOut;
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        parking::with_current(|parker| {
            let asleep = self.inbox.announce_sleep(Bell::Parked(parker.unparker()));
            let parked = py.detach(|| {
                wakes.fire();
                if asleep {
                    parker.park(deadline)
                } else {
                    Parked::Notified
                }
            });
            self.inbox.awake();
            parked
        })
    }

    /// Sleeps, and lets a caller run the loop meanwhile.
    fn rest(&self, py: Python<'_>, ownership: &Arc<Ownership<Poller>>) {
        let Some(plan) = self.plan(py, || Descriptors::Promptly) else {
            return;
        };
        let wakes = self.prepare_to_sleep(py, None);
        if !self.inbox.announce_sleep(Bell::Own(ownership.clone())) {
            return fire_detached(py, wakes);
        }
        ownership.let_go(plan);
        py.detach(|| {
            wakes.fire();
            ownership.rest();
        });
        self.inbox.awake();
    }

    /// Between two callbacks, of which the next may block: nobody whose result is there waits for that.
    pub fn fire_wakes(&self, py: Python<'_>) {
        let wakes = self.wakes.take(py);
        if self.shared.is_some(py) {
            // Who came at once would find the loop taken and leave the next call to it, too, and so it would go on.
            wakes.fire();
        } else {
            // Who comes at once finds the GIL free.
            fire_detached(py, wakes);
        }
    }

    /// Returns who is to be woken then.
    fn prepare_to_sleep(&self, py: Python<'_>, timeout: Option<Duration>) -> Wakes {
        if timeout != Some(Duration::ZERO) {
            self.heartbeat.rest();
        }
        self.wakes.take(py)
    }

    /// None: until something happens.
    pub fn time_to_sleep(&self, py: Python<'_>) -> Option<Duration> {
        if self.stopping.get(py) || !self.ready.borrow_mut(py).is_empty() {
            return Some(Duration::ZERO);
        }
        self.drop_cancelled_timers(py);
        let deadline = self.timers.borrow_mut(py).next_deadline()?;
        Some(clock::duration(deadline - clock::monotonic()))
    }

    /// Cancelled timers at the head of the queue must not wake the loop.
    fn drop_cancelled_timers(&self, py: Python<'_>) {
        loop {
            let mut timers = self.timers.borrow_mut(py);
            if !timers.peek().is_some_and(|timer| timer.is_cancelled(py)) {
                return;
            }
            let cancelled = timers.pop_due(f64::INFINITY);
            timers.forget_cancelled();
            drop(timers);
            drop(cancelled);
        }
    }

    pub fn collect_timers(&self, py: Python<'_>) {
        let mut timers = self.timers.borrow_mut(py);
        if timers.is_empty() {
            return;
        }
        let mut ready = self.ready.borrow_mut(py);
        let now = clock::monotonic();
        while let Some(timer) = timers.pop_due(now) {
            if timer.is_cancelled(py) {
                timers.forget_cancelled();
            }
            timer.leaves_the_queue(py);
            ready.push_back(timer.into_ready(py));
        }
    }

    pub fn collect_jobs(&self, py: Python<'_>) {
        if self.inbox.is_empty() {
            return;
        }
        let mut jobs = self.jobs.take(py);
        self.inbox.drain(&mut jobs);
        self.arrivals.are(py, jobs.len());
        for job in jobs.drain(..) {
            self.heartbeat.beat();
            match job {
                Ready::Start(start) if !start.may_be_eager(py) => Portal::start(py, start),
                ready => self.push(py, ready),
            }
        }
        self.jobs.set(py, jobs);
    }

    pub fn run(slf: &Bound<'_, Self>, ready: Ready) -> PyResult<()> {
        if slf.get().debug.get(slf.py()) {
            return Self::run_watched(slf, ready);
        }
        Self::run_unwatched(slf, ready)
    }

    fn run_unwatched(slf: &Bound<'_, Self>, ready: Ready) -> PyResult<()> {
        let py = slf.py();
        match ready {
            Ready::Handle(handle) => Handle::run(handle.bind(py), slf),
            Ready::Step(step, context) => Handle::run_step(step.bind(py), context.bind(py), slf),
            Ready::Standard(handle) => {
                let handle = handle.bind(py);
                if !handle.getattr(intern!(py, "_cancelled"))?.is_truthy()? {
                    calls::call_user_plainly(&handle.getattr(intern!(py, "_run"))?)?;
                }
                Ok(())
            }
            Ready::Completion(future, task) => FutureCore::complete(future.bind(py), task.bind(py)),
            Ready::Io(key, direction) => Self::tell(slf, key, direction),
            Ready::Native(object, step) => Self::run_native(slf, object.bind(py), step),
            Ready::Start(start) => {
                Portal::begin(py, start, true);
                Ok(())
            }
        }
    }

    /// Debug mode: tells which callback runs, and warns of one that takes long.
    fn run_watched(slf: &Bound<'_, Self>, ready: Ready) -> PyResult<()> {
        let py = slf.py();
        let current = intern!(py, "_current_handle");
        let object = ready.as_object(py, slf.get());
        let is_handle = ready.is_handle();
        if is_handle {
            slf.setattr(current, &object)?;
        }
        let began = clock::monotonic();
        let ran = Self::run_unwatched(slf, ready);
        let took = clock::monotonic() - began;
        slf.setattr(current, py.None())?;
        ran?;
        match Self::warn_if_slow(slf, object, is_handle, took) {
            // What can't be shown must not end the loop.
            Err(error) if !calls::ends_the_program(py, &error) => {
                error.write_unraisable(py, Some(slf));
                Ok(())
            }
            warned => warned,
        }
    }

    fn warn_if_slow(
        slf: &Bound<'_, Self>,
        object: Bound<'_, PyAny>,
        is_handle: bool,
        took: f64,
    ) -> PyResult<()> {
        let py = slf.py();
        let limit: f64 = slf
            .getattr(intern!(py, "slow_callback_duration"))?
            .extract()?;
        if took >= limit {
            let what = if is_handle {
                calls::format_handle(py)?.call1((object,))?
            } else {
                object
            };
            let logger = py.import("asyncio.base_events")?.getattr("logger")?;
            let tell = logger.getattr(intern!(py, "warning"))?;
            let args = ("Executing %s took %.3f seconds", what, took).into_pyobject(py)?;
            calls::call_user(&tell, &args, None)?;
        }
        Ok(())
    }

    /// The poller to wait in. A loop that goes on in a forked child gets its own there, and its own pipe for signals.
    pub fn poller(slf: &Bound<'_, Self>) -> PyResult<Arc<Poller>> {
        let py = slf.py();
        let this = slf.get();
        let poller = this.poller.peek(py, Clone::clone);
        let poller =
            poller.ok_or_else(|| calls::builtin_error::<PyRuntimeError>("Event loop is closed"))?;
        if this.epoch.get(py) == fork::epoch() {
            return Ok(poller);
        }
        let poller = Arc::new(Poller::new()?);
        this.descriptors.borrow_mut(py).register_all(&poller);
        this.poller.set(py, Some(poller.clone()));
        this.epoch.set(py, fork::epoch());
        slf.call_method0(intern!(py, "_close_self_pipe"))?;
        slf.call_method0(intern!(py, "_make_self_pipe"))?;
        Ok(poller)
    }
}

fn fire_detached(py: Python<'_>, wakes: Wakes) {
    if !wakes.is_empty() {
        py.detach(|| wakes.fire());
    }
}
