//! A caller runs the loop itself while it waits for a call of its own: no thread has to be woken for it.
//!
//! Who runs a loop is decided by [`Ownership`]. Here is what it takes to be the loop on somebody else's thread: asyncio
//! is told that the loop runs there, interrupts are kept out of the steps of others, and afterwards the thread is as it
//! was and the loop's own thread knows what is left to do.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use asyncio_thread_loop_core::ownership::{Descriptors, Ownership, Plan};
use asyncio_thread_loop_core::parking::Parked;
use asyncio_thread_loop_core::poller::{Events, Poller};
use asyncio_thread_loop_core::{clock, fork};
use pyo3::prelude::*;
use pyo3::{PyTraverseError, PyVisit, ffi};

use super::LoopCore;
use super::queue::{Bell, Ready};
use crate::future::{FutureCore, NAP, is_main_thread, runs_a_loop};
use crate::gil::intern;
use crate::interrupts::Shield;
use crate::portal::{Portal, Start};
use crate::thread_state::{Hooks, exchange_hooks};
use crate::{calls, room, waiting};

/// What a caller leaves undone waits so long for the next caller, and then for the loop's own thread.
const PATIENCE: Duration = Duration::from_micros(50);

/// What came of an attempt to run the loop for a call.
pub enum Driven {
    /// The loop wasn't to be had, or the caller isn't one to run it. The call hasn't begun.
    Busy(Start),
    /// The call has ended.
    Done,
    /// The loop's own thread goes on with it.
    Left,
    /// A signal handler raised this; the loop's own thread goes on.
    Interrupted(PyErr),
    /// This is a child that a step forked, and the step raised this.
    Forked(Option<PyErr>),
}

/// What callers need to run a loop.
pub struct Shared {
    pub ownership: Arc<Ownership<Poller>>,
    /// Number of the loop's own thread.
    pub thread: u64,
    /// Bytes of stack that a caller must have left: half of what the loop's own thread has.
    stack: usize,
    /// The hooks by which the loop knows of async generators.
    hooks: Hooks,
}

impl Shared {
    /// Of a loop that the calling thread runs.
    pub fn new(event_loop: &Bound<'_, LoopCore>, poller: Arc<Poller>) -> PyResult<Self> {
        Ok(Self {
            ownership: Arc::new(Ownership::new(poller)),
            thread: calls::thread_ident(),
            stack: room::stack_size() / 2,
            hooks: Hooks::new(
                event_loop.getattr("_asyncgen_firstiter_hook")?,
                event_loop.getattr("_asyncgen_finalizer_hook")?,
            ),
        })
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.hooks.visit(visit)
    }
}

/// A thread that may run the loop for a call.
pub struct Driver {
    shared: Arc<Shared>,
    on_main_thread: bool,
}

impl Driver {
    /// Whether the calling thread is one to run this loop. Not whether the loop is free.
    pub fn here(event_loop: &Bound<'_, LoopCore>) -> PyResult<Option<Self>> {
        let py = event_loop.py();
        let Some(shared) = event_loop.get().shared.peek(py, Clone::clone) else {
            return Ok(None);
        };
        // SAFETY: the GIL is held, and what is returned is ours or null.
        let handled = unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyErr_GetHandledException()) };
        // It would become the context of whatever is raised in steps of others.
        let suits = handled.is_none() && !runs_a_loop(py)? && room::is_enough(py, shared.stack)?;
        let on_main_thread = is_main_thread(py)?;
        Ok(suits.then_some(Self {
            shared,
            on_main_thread,
        }))
    }

    /// Runs the loop on this thread until the call has ended, if the loop is free.
    pub fn run(
        &self,
        event_loop: &Bound<'_, LoopCore>,
        portal: &Bound<'_, Portal>,
        start: Start,
    ) -> Driven {
        let py = event_loop.py();
        let future = start.future.clone_ref(py).into_bound(py);
        let mut start = Some(start);
        loop {
            // Too little memory for it is one more reason to leave the call to the loop's own thread.
            let Ok(Some(mut drive)) = Drive::begin(event_loop, portal, self, &future) else {
                return start.map_or(Driven::Left, Driven::Busy);
            };
            let ended = drive.run(&mut start).err().unwrap_or(Driven::Left);
            let looks_for_signals = drive.looks_for_signals;
            drop(drive);
            if !looks_for_signals || !matches!(ended, Driven::Left) {
                return ended;
            }
            // Not while we run the loop: a handler may wait for it.
            if let Err(raised) = py.check_signals() {
                return Driven::Interrupted(raised);
            }
            if future.get().is_done() {
                return Driven::Done;
            }
        }
    }
}

/// The calling thread runs the loop until this is dropped.
struct Drive<'a, 'py> {
    event_loop: &'a Bound<'py, LoopCore>,
    portal: &'a Bound<'py, Portal>,
    shared: &'a Shared,
    /// The call's.
    future: &'a Bound<'py, FutureCore>,
    /// The hooks that the thread had before, once it has the loop's.
    hooks: Option<Hooks>,
    /// On the main thread.
    shield: Option<Shield>,
    /// Descriptors are to be looked at though there is something else to do.
    look: bool,
    looks_for_signals: bool,
    events: Option<Events>,
}

impl<'a, 'py> Drive<'a, 'py> {
    /// None if the loop isn't free.
    fn begin(
        event_loop: &'a Bound<'py, LoopCore>,
        portal: &'a Bound<'py, Portal>,
        driver: &'a Driver,
        future: &'a Bound<'py, FutureCore>,
    ) -> PyResult<Option<Self>> {
        let py = event_loop.py();
        let this = event_loop.get();
        if this.stopping.get(py) {
            return Ok(None);
        }
        let Some(taken) = driver.shared.ownership.take() else {
            return Ok(None);
        };
        // From here on the loop is given back, whatever happens.
        let mut drive = Self {
            event_loop,
            portal,
            shared: &driver.shared,
            future,
            hooks: None,
            shield: driver.on_main_thread.then(Shield::default),
            look: taken.look,
            looks_for_signals: false,
            events: None,
        };
        let thread = calls::thread_ident();
        this.thread.set(py, thread);
        this.driven_for.set(py, Some(future.clone().unbind()));
        this.inbox.awake();
        waiting::runs_a_loop_now();
        calls::call_builtin(calls::set_running_loop(py)?, Some(event_loop.as_any()))?;
        drive.hooks = Some(exchange_hooks(py, driver.shared.hooks.clone_ref(py))?);
        if this.debug.get(py) {
            event_loop.setattr(intern!(py, "_thread_id"), thread)?;
        }
        Ok(Some(drive))
    }

    /// Runs the loop. The error is how it ended; without one, the loop's own thread has to go on.
    fn run(&mut self, start: &mut Option<Start>) -> Result<(), Driven> {
        let py = self.event_loop.py();
        let this = self.event_loop.get();
        if start.is_some() {
            self.collect_jobs()?;
        }
        if let Some(start) = start.take() {
            let eagerly = !self.look && this.has_nothing_due(py);
            this.heartbeat.beat();
            Portal::begin(py, start, eagerly);
            self.check_ended(None)?;
        }
        while !this.stopping.get(py) {
            let collected = self.sleep().and_then(|()| self.collect_jobs());
            if !matches!(collected, Err(Driven::Forked(_))) {
                // Whoever goes on with the loop: some events are told only once.
                for event in self.events.iter().flat_map(Events::iter) {
                    this.collect_event(py, event);
                }
            }
            collected?;
            this.collect_timers(py);
            self.run_due()?;
        }
        Ok(())
    }

    /// Starts what other threads have left for the loop.
    fn collect_jobs(&mut self) -> Result<(), Driven> {
        let this = self.event_loop.get();
        if this.inbox.is_empty() {
            return Ok(());
        }
        self.raise_shield()?;
        this.collect_jobs(self.event_loop.py());
        self.lower_shield();
        self.check_ended(None)
    }

    /// Runs the callbacks that are due now.
    fn run_due(&mut self) -> Result<(), Driven> {
        let py = self.event_loop.py();
        let this = self.event_loop.get();
        let due = this.ready.borrow_mut(py).len();
        for _ in 0..due {
            this.fire_wakes(py);
            let Some(ready) = this.ready.borrow_mut(py).pop_front() else {
                break;
            };
            let is_own = self.shield.is_none() || self.is_own(&ready);
            if !is_own && let Err(ended) = self.raise_shield() {
                this.ready.borrow_mut(py).push_front(ready);
                return Err(ended);
            }
            this.heartbeat.beat();
            let ran = LoopCore::run(self.event_loop, ready);
            if !is_own {
                self.lower_shield();
            }
            self.check_ended(ran.err())?;
            if self.looks_for_signals {
                return Err(Driven::Left);
            }
        }
        Ok(())
    }

    /// After something ran: whether the call has ended, or that was all for another reason.
    fn check_ended(&self, raised: Option<PyErr>) -> Result<(), Driven> {
        let py = self.event_loop.py();
        if self.event_loop.get().epoch.get(py) != fork::epoch() {
            return Err(Driven::Forked(raised));
        }
        if let Some(error) = raised
            && !calls::ends_the_program(py, &error)
        {
            // Not of a coroutine. The loop's own thread would not survive it; callers do.
            error.write_unraisable(py, Some(self.event_loop));
            return Err(Driven::Left);
        }
        // What ends the program went to whoever waits for the task that raised it.
        if self.future.get().is_done() {
            return Err(Driven::Done);
        }
        Ok(())
    }

    /// Sleeps until there is something to do.
    fn sleep(&mut self) -> Result<(), Driven> {
        let py = self.event_loop.py();
        let this = self.event_loop.get();
        let timeout = this.time_to_sleep(py);
        let is_watched = this.descriptors.borrow_mut(py).count() > 1;
        if let Some(events) = &mut self.events {
            events.clear();
        }
        if self.look && !is_watched {
            self.shared.ownership.looks(); // There is nothing to be looked at any more.
        }
        if timeout == Some(Duration::ZERO) && !(is_watched && self.look) {
            // Most calls have ended before a second turn, which looks at the descriptors.
            self.look = true;
            return Ok(());
        }
        let began = Instant::now();
        // The main thread must not sleep through a signal.
        let naps = self.shield.is_some() && timeout.is_none_or(|timeout| timeout > NAP);
        let timeout = if naps { Some(NAP) } else { timeout };
        let interrupted = if is_watched {
            let Some(poller) = this.poller.peek(py, Clone::clone) else {
                return Err(Driven::Left); // A step has closed the loop.
            };
            let events = self
                .events
                .get_or_insert_with(|| this.events.take(py).unwrap_or_default());
            self.look = true;
            self.shared.ownership.looks();
            match this.poll(py, &poller, events, timeout) {
                Ok(()) => false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    events.clear();
                    true
                }
                // The loop's own thread will meet it, too.
                Err(_) => return Err(Driven::Left),
            }
        } else {
            this.park(py, timeout) == Parked::Interrupted
        };
        if self.shield.is_some() && (interrupted || naps && began.elapsed() >= NAP) {
            self.looks_for_signals = true;
            return Err(Driven::Left);
        }
        Ok(())
    }

    fn raise_shield(&mut self) -> Result<(), Driven> {
        let Some(shield) = &mut self.shield else {
            return Ok(());
        };
        shield.raise();
        // One that came just before has its handler run now.
        let checked = self.event_loop.py().check_signals();
        checked.map_err(Driven::Interrupted)
    }

    fn lower_shield(&mut self) {
        if let Some(shield) = &mut self.shield {
            self.looks_for_signals |= shield.lower();
        }
    }

    /// Whether it is a step of the caller's own task.
    fn is_own(&self, ready: &Ready) -> bool {
        let py = self.event_loop.py();
        let task = self.future.get().task(py);
        task.is_some_and(|task| ready.is_step_of(task.bind(py)))
    }
}

impl Drop for Drive<'_, '_> {
    fn drop(&mut self) {
        let py = self.event_loop.py();
        let this = self.event_loop.get();
        this.driven_for.set(py, None);
        let restored = self.hooks.take().map(|hooks| exchange_hooks(py, hooks));
        let left = calls::set_running_loop(py)
            .and_then(|set| calls::call_builtin(set, Some(py.None().bind(py))));
        if let Err(error) = restored.transpose().and(left) {
            error.write_unraisable(py, Some(self.event_loop));
        }
        if self.event_loop.get().epoch.get(py) != fork::epoch() {
            // The loop is the parent's.
            this.thread.set(py, 0);
            return;
        }
        if this.debug.get(py)
            && let Err(error) = self
                .event_loop
                .setattr(intern!(py, "_thread_id"), self.shared.thread)
        {
            error.write_unraisable(py, Some(self.event_loop));
        }
        if self.events.is_some() {
            this.events.set(py, self.events.take());
        }
        this.fire_wakes(py);
        this.heartbeat.rest();
        let descriptors = || {
            if self.portal.get().has_unfinished(py) {
                Descriptors::Promptly
            } else {
                Descriptors::Lazily
            }
        };
        let plan = match this.plan(py, descriptors) {
            // Mostly the next caller is here before the loop's own thread would be.
            None if !this.stopping.get(py) => {
                Plan::new(Some(clock::now() + PATIENCE), Descriptors::None)
            }
            plan => plan.unwrap_or(Plan::NOTHING),
        };
        this.thread.set(py, self.shared.thread);
        let ownership = &self.shared.ownership;
        let hung = this.inbox.announce_sleep(Bell::Own(ownership.clone()));
        let called = ownership.give_back(plan);
        if !hung || this.stopping.get(py) || called && !this.inbox.is_empty() {
            ownership.ring();
        }
    }
}

impl LoopCore {
    /// What is to be watched while nobody runs the loop. None if there is something to do at once.
    pub fn plan(&self, py: Python<'_>, descriptors: impl FnOnce() -> Descriptors) -> Option<Plan> {
        if self.time_to_sleep(py) == Some(Duration::ZERO) {
            return None;
        }
        let deadline = self.timers.borrow_mut(py).next_deadline();
        let descriptors = match self.descriptors.borrow_mut(py).count() {
            0 | 1 => Descriptors::None,
            _ => descriptors(),
        };
        Some(Plan::new(deadline.map(clock::duration), descriptors))
    }

    /// Whether a new call may go first.
    fn has_nothing_due(&self, py: Python<'_>) -> bool {
        let due = |deadline| deadline <= clock::monotonic();
        self.ready.borrow_mut(py).is_empty()
            && !self.timers.borrow_mut(py).next_deadline().is_some_and(due)
    }
}
