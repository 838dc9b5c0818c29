//! The scheduling half of `EventLoop`: ready queue, timers, descriptors, calls from other threads.
//!
//! `EventLoop` derives from this class first and from asyncio's selector loop second, so subprocesses,
//! signals and executors are the standard library's, and everything they ask of a loop lands here, as does what native
//! transports ask of it.
//! One call of `_run_once` stays in here until the loop is stopped.

mod drive;
mod executors;
mod queue;
mod shortcuts;
mod tasks;
mod transports;
mod turn;
mod watching;

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

use asyncio_thread_loop_core::inbox::Inbox;
use asyncio_thread_loop_core::outcome::Wakes;
use asyncio_thread_loop_core::poller::{Events, Poller};
use asyncio_thread_loop_core::timers::Timers;
use asyncio_thread_loop_core::watchdog::Heartbeat;
use asyncio_thread_loop_core::{clock, fork};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use self::drive::Shared;
pub use self::drive::{Driven, Driver};
use self::executors::WorkLink;
use self::queue::{Arrivals, Timer};
pub use self::queue::{Bell, Ready, Step};
pub use self::shortcuts::prepare as prepare_shortcuts;
pub use self::tasks::create_future;
pub use self::transports::Transports;
use crate::calls;
use crate::descriptors::{Descriptors, Direction, Watcher, file_descriptor};
use crate::future::FutureCore;
use crate::gil::{GilCell, GilRefCell, intern};
use crate::handle::{Args, Handle, TimerHandle};
use crate::portal::closed;

#[pyclass(frozen, subclass, module = "asyncio_thread_loop._native")]
pub struct LoopCore {
    ready: GilRefCell<VecDeque<Ready>>,
    timers: GilRefCell<Timers<Timer>>,
    descriptors: GilRefCell<Descriptors>,
    pub transports: Py<Transports>,
    inbox: Inbox<Ready, Bell>,
    /// The inbox's other buffer, empty between two looks.
    jobs: GilCell<Vec<Ready>>,
    /// None once closed.
    poller: GilCell<Option<Arc<Poller>>>,
    /// What the watchdog sees of it.
    pub heartbeat: Arc<Heartbeat>,
    arrivals: Arrivals,
    /// Callers whose futures ended, to be woken when the loop lets go of the GIL.
    wakes: GilCell<Wakes>,
    /// Somebody has waited for a result and was given it, since the loop last slept.
    has_answered: GilCell<bool>,
    /// The last turn looked at the descriptors, and found some ready.
    looked: GilCell<bool>,
    /// How often it has looked.
    polls: GilCell<u64>,
    /// Signals arrive through a descriptor, so the loop must poll even if there is no other.
    minds_signals: GilCell<bool>,
    task_factory: GilCell<Option<Py<PyAny>>>,
    stopping: GilCell<bool>,
    is_closed: GilCell<bool>,
    debug: GilCell<bool>,
    thread_id: GilCell<Option<Py<PyAny>>>,
    /// Number of the thread that runs the loop, or 0 if none is in `_run_once`.
    thread: GilCell<u64>,
    /// What callers need to run the loop, if they may.
    shared: GilCell<Option<Arc<Shared>>>,
    /// The call for which a caller runs the loop.
    driven_for: GilCell<Option<Py<FutureCore>>>,
    /// The buffer of callers that run the loop.
    events: GilCell<Option<Events>>,
    /// The process whose poller it is. In a forked child it is the parent's: nothing may be changed in it, nor may
    /// it be polled.
    epoch: GilCell<u32>,
}

impl LoopCore {
    /// Leaves a job, from any thread. The bell is to be rung by the caller, when it suits.
    pub fn leave(slf: &Bound<'_, Self>, job: Ready) -> PyResult<Option<Bell>> {
        slf.get().inbox.push(job).map_err(|_| closed())
    }

    pub fn has_task_factory(&self, py: Python<'_>) -> bool {
        self.task_factory.is_some(py)
    }

    pub fn is_debugged(&self, py: Python<'_>) -> bool {
        self.debug.get(py)
    }

    /// Whether the calling thread is running this loop right now, rather than about to start or to close it.
    pub fn is_in_a_turn(&self, py: Python<'_>) -> bool {
        self.thread.get(py) == calls::thread_ident() && self.epoch.get(py) == fork::epoch()
    }

    /// Number of the thread that runs this loop right now. None while it doesn't run, and if only its own thread may.
    pub fn runner(&self, py: Python<'_>) -> Option<u64> {
        let thread = self.thread.get(py);
        (thread != 0 && self.shared.is_some(py)).then_some(thread)
    }

    /// Number of the thread that runs the loop to wait for this call.
    pub fn runner_for(&self, py: Python<'_>, future: &FutureCore) -> Option<u64> {
        let call = self.driven_for.clone_ref(py)?;
        std::ptr::eq(call.get(), future).then(|| self.thread.get(py))
    }

    /// Wakes callers once the GIL is free: a caller that is woken earlier only runs into it.
    pub fn wake_later(&self, py: Python<'_>, wakes: Wakes) {
        if !wakes.is_empty() {
            self.has_answered.set(py, true);
        }
        let mut waiting = self.wakes.take(py);
        waiting.append(wakes);
        self.wakes.set(py, waiting);
    }

    /// A timer was cancelled that is at this place in the queue.
    pub fn remove_timer(&self, py: Python<'_>, place: usize) {
        let removed = self.timers.borrow_mut(py).remove(place);
        drop(removed);
    }

    /// A timer of debug mode was cancelled that is still in the queue.
    fn note_cancelled_timer(&self, py: Python<'_>) {
        let swept = self
            .timers
            .borrow_mut(py)
            .note_cancelled(|timer| timer.is_cancelled(py));
        for timer in &swept {
            timer.leaves_the_queue(py);
        }
        drop(swept);
    }

    fn check_closed(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_closed.get(py) {
            return Err(calls::builtin_error::<PyRuntimeError>(
                "Event loop is closed",
            ));
        }
        Ok(())
    }

    fn push(&self, py: Python<'_>, ready: Ready) {
        self.ready.borrow_mut(py).push_back(ready);
    }

    /// The same from any thread.
    fn push_threadsafe(slf: &Bound<'_, Self>, ready: Ready) -> PyResult<()> {
        let py = slf.py();
        let thread = slf.get().thread.get(py);
        if thread == 0 || thread == calls::thread_ident() {
            // Nobody sleeps, and calls made one after the other run in that order, whichever method made them.
            slf.get().push(py, ready);
        } else {
            let bell = Self::leave(slf, ready)?;
            slf.get().arrivals.ring(py, bell);
        }
        Ok(())
    }

    /// The checks of debug mode, which are asyncio's.
    fn check_callback(
        slf: &Bound<'_, Self>,
        callback: &Bound<'_, PyAny>,
        method: &str,
        any_thread: bool,
    ) -> PyResult<()> {
        let py = slf.py();
        if !any_thread {
            slf.call_method0(intern!(py, "_check_thread"))?;
        }
        slf.call_method1(intern!(py, "_check_callback"), (callback, method))?;
        Ok(())
    }

    fn handle<'py>(
        slf: &Bound<'py, Self>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<(Ready, Bound<'py, PyAny>)> {
        let py = slf.py();
        if slf.get().debug.get(py) {
            // asyncio's own remembers where it was created.
            let handle = calls::asyncio_handle(py)?.call1((callback, args, slf, context))?;
            return Ok((Ready::Standard(handle.clone().unbind()), handle));
        }
        let handle = Handle::create(callback, Args::from_tuple(args)?, context)?;
        Ok((Ready::Handle(handle.clone().unbind()), handle.into_any()))
    }

    fn watch(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        direction: Direction,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        let py = slf.py();
        let this = slf.get();
        this.check_closed(py)?;
        let fd = file_descriptor(fd)?;
        let handle = Handle::create(callback, Args::from_tuple(args)?, None)?.unbind();
        let poller = this.own_poller(py);
        let replaced = this.descriptors.borrow_mut(py).set(
            poller.as_deref(),
            fd,
            direction,
            Watcher::Handle(handle.clone_ref(py)),
        )?;
        if let Some(replaced) = replaced {
            replaced.cancel(py);
        }
        Ok(handle)
    }

    fn unwatch(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        direction: Direction,
    ) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        if this.is_closed.get(py) {
            return Ok(false);
        }
        let fd = file_descriptor(fd)?;
        let poller = this.own_poller(py);
        let removed = this
            .descriptors
            .borrow_mut(py)
            .remove(poller.as_deref(), fd, direction);
        Ok(removed.inspect(|watcher| watcher.cancel(py)).is_some())
    }

    /// The poller, if it is this process's to change.
    fn own_poller(&self, py: Python<'_>) -> Option<Arc<Poller>> {
        (self.epoch.get(py) == fork::epoch())
            .then(|| self.poller.peek(py, Clone::clone))
            .flatten()
    }
}

#[pymethods]
impl LoopCore {
    #[new]
    #[pyo3(signature = (*args, **_kwargs))]
    fn new(args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Ok(Self {
            ready: GilRefCell::new(VecDeque::new()),
            timers: GilRefCell::new(Timers::new()),
            descriptors: GilRefCell::new(Descriptors::default()),
            transports: Py::new(args.py(), Transports::default())?,
            inbox: Inbox::new(),
            jobs: GilCell::default(),
            poller: GilCell::new(Some(Arc::new(Poller::new()?))),
            heartbeat: Arc::default(),
            arrivals: Arrivals::default(),
            wakes: GilCell::new(Wakes::none()),
            has_answered: GilCell::new(false),
            looked: GilCell::new(false),
            polls: GilCell::new(0),
            minds_signals: GilCell::new(false),
            task_factory: GilCell::new(None),
            thread_id: GilCell::new(None),
            stopping: GilCell::new(false),
            is_closed: GilCell::new(false),
            debug: GilCell::new(false),
            thread: GilCell::new(0),
            shared: GilCell::new(None),
            driven_for: GilCell::new(None),
            events: GilCell::new(None),
            epoch: GilCell::new(fork::epoch()),
        })
    }

    /// The loop's clock, in seconds: `time.monotonic()`.
    fn time(&self) -> f64 {
        clock::monotonic()
    }

    /// Schedules `callback(*args)` for the loop's next turn. On the loop's own thread only.
    #[pyo3(signature = (callback, *args, context=None))]
    fn call_soon<'py>(
        slf: &Bound<'py, Self>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        let this = slf.get();
        this.check_closed(py)?;
        // A task that is done calls its callbacks like this. One of ours needs no handle and, mostly, no turn.
        if let Some(future) = calls::as_future(callback)
            && let Ok(task) = args.get_item(0)
        {
            if !FutureCore::complete_quietly(future, &task)? {
                this.push(
                    py,
                    Ready::Completion(future.clone().unbind(), task.unbind()),
                );
            }
            return Ok(None);
        }
        if this.debug.get(py) {
            Self::check_callback(slf, callback, "call_soon", false)?;
        } else if let Some(context) = context
            && calls::is_task_step(callback)
        {
            // Only a task makes these, and it doesn't keep what it gets back.
            let (step, context) = (callback.clone().unbind(), context.clone().unbind());
            this.push(py, Ready::Step(step, context));
            return Ok(None);
        }
        let (ready, handle) = Self::handle(slf, callback, args, context)?;
        this.push(py, ready);
        Ok(Some(handle))
    }

    /// Schedules `callback(*args)` from any thread; a sleeping loop is woken.
    #[pyo3(signature = (callback, *args, context=None))]
    fn call_soon_threadsafe<'py>(
        slf: &Bound<'py, Self>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        slf.get().check_closed(py)?;
        if slf.get().debug.get(py) {
            Self::check_callback(slf, callback, "call_soon_threadsafe", true)?;
        }
        let (ready, handle) = Self::handle(slf, callback, args, context)?;
        Self::push_threadsafe(slf, ready)?;
        Ok(handle)
    }

    /// Schedules `callback(*args)` for `delay` seconds from now.
    #[pyo3(signature = (delay, callback, *args, context=None))]
    fn call_later<'py>(
        slf: &Bound<'py, Self>,
        delay: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if delay.is_none() {
            return Err(calls::builtin_error::<PyTypeError>(
                "delay must not be None",
            ));
        }
        let when = clock::monotonic() + delay.extract::<f64>()?;
        Self::schedule(slf, when, callback, args, context)
    }

    /// Schedules `callback(*args)` for the moment `when` of the loop's clock.
    #[pyo3(signature = (when, callback, *args, context=None))]
    fn call_at<'py>(
        slf: &Bound<'py, Self>,
        when: &Bound<'py, PyAny>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if when.is_none() {
            return Err(calls::builtin_error::<PyTypeError>("when cannot be None"));
        }
        Self::schedule(slf, when.extract::<f64>()?, callback, args, context)
    }

    /// Makes a task of a coroutine; the loop runs it.
    #[pyo3(
        signature = (*args, **options),
        text_signature = "($self, coro, *, name=None, context=None)"
    )]
    fn create_task<'py>(
        slf: &Bound<'py, Self>,
        args: &Bound<'py, PyTuple>,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        tasks::create_task(slf, args, options)
    }

    /// Makes a future of asyncio's that belongs to the loop.
    fn create_future<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        tasks::create_future(slf)
    }

    /// Makes a future for work of an executor: `asyncio.wrap_future`.
    fn _future_for<'py>(
        slf: &Bound<'py, Self>,
        work: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        WorkLink::future_for(slf, work)
    }

    /// Stops the loop at the end of its current turn.
    fn stop(&self, py: Python<'_>) {
        self.stopping.set(py, true);
    }

    /// Whether the loop runs, on whichever thread. Here as each task asks.
    fn is_running(&self, py: Python<'_>) -> bool {
        self.thread_id.is_some(py)
    }

    /// The number of the thread that runs the loop, None if none does: asyncio's own methods say so.
    #[getter(_thread_id)]
    fn get_thread_id(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.thread_id.clone_ref(py)
    }

    #[setter(_thread_id)]
    fn set_thread_id(&self, py: Python<'_>, thread_id: Option<Py<PyAny>>) {
        self.thread_id.set(py, thread_id);
    }

    /// Whether the loop is in debug mode. Here for the same reason.
    fn get_debug(&self, py: Python<'_>) -> bool {
        self.debug.get(py)
    }

    /// Runs turns until the loop is stopped.
    fn _run_once(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let mut events = Events::new();
        this.thread.set(py, calls::thread_ident());
        let ended = loop {
            let turned = Self::turn(slf, &mut events);
            if turned.is_err() || this.stopping.get(py) {
                break turned;
            }
        };
        this.thread.set(py, 0);
        this.heartbeat.rest();
        this.wakes.take(py).fire();
        ended
    }

    /// Lets callers run the loop while it has nothing to do. On the thread that will run it.
    fn _share(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let poller = Self::poller(slf)?;
        let shared = Shared::new(slf, poller)?;
        slf.get().shared.set(py, Some(Arc::new(shared)));
        Ok(())
    }

    #[getter]
    fn _is_shared(&self, py: Python<'_>) -> bool {
        self.shared.is_some(py)
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn _add_reader(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        Self::watch(slf, fd, Direction::Read, callback, args)
    }

    fn _remove_reader(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Read)
    }

    #[pyo3(signature = (fd, callback, *args))]
    fn _add_writer(
        slf: &Bound<'_, Self>,
        fd: &Bound<'_, PyAny>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<Py<Handle>> {
        Self::watch(slf, fd, Direction::Write, callback, args)
    }

    fn _remove_writer(slf: &Bound<'_, Self>, fd: &Bound<'_, PyAny>) -> PyResult<bool> {
        Self::unwatch(slf, fd, Direction::Write)
    }

    /// How often it has looked at the descriptors so far: one that sleeps doesn't, one that is busy for nothing does.
    #[getter]
    fn _polls(&self, py: Python<'_>) -> u64 {
        self.polls.get(py)
    }

    /// Whether a descriptor has a reader and a writer.
    fn _watched(&self, py: Python<'_>, fd: RawFd) -> (bool, bool) {
        self.descriptors.borrow_mut(py).watched(fd)
    }

    #[getter]
    fn _transports(&self, py: Python<'_>) -> Py<Transports> {
        self.transports.clone_ref(py)
    }

    #[setter(_transports)]
    fn set_transports(&self, _transports: &Bound<'_, PyAny>) {}

    /// Schedules a handle that asyncio made itself, unless it is cancelled.
    fn _add_callback(&self, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = handle.py();
        if !handle.getattr(intern!(py, "_cancelled"))?.is_truthy()? {
            self.push(py, Ready::Standard(handle.clone().unbind()));
        }
        Ok(())
    }

    /// The same from a signal handler: it runs between two instructions of the loop's own thread, or while that
    /// thread sleeps.
    fn _add_callback_signalsafe(slf: &Bound<'_, Self>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        let ready = Ready::Standard(handle.clone().unbind());
        Bell::ring(Self::leave(slf, ready)?);
        Ok(())
    }

    /// Wakes the loop, from any thread.
    fn _write_to_self(&self) {
        Bell::ring(self.inbox.take_bell());
    }

    /// A timer of debug mode was cancelled.
    fn _timer_handle_cancelled(slf: &Bound<'_, Self>, handle: &Bound<'_, PyAny>) -> PyResult<()> {
        if handle
            .getattr(intern!(handle.py(), "_scheduled"))?
            .is_truthy()?
        {
            slf.get().note_cancelled_timer(slf.py());
        }
        Ok(())
    }

    /// Lets go of everything that is still scheduled, and of the poller's descriptors.
    fn _release(&self, py: Python<'_>) -> PyResult<()> {
        let ready = std::mem::take(&mut *self.ready.borrow_mut(py));
        let timers = self.timers.borrow_mut(py).clear();
        let descriptors = std::mem::take(&mut *self.descriptors.borrow_mut(py));
        drop((timers, descriptors));
        for job in ready.into_iter().chain(self.inbox.close()) {
            if let Ready::Start(start) = job {
                // Its portal tells the caller; here is the last chance to close the coroutine.
                start.future.get().close_unstarted(py)?;
            }
        }
        drop((self.shared.take(py), self.events.take(py)));
        drop(self.poller.take(py));
        Ok(())
    }

    /// A view of what is ready, for those who look.
    #[getter]
    fn _ready<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let ready: Vec<_> = self
            .ready
            .borrow_mut(py)
            .iter()
            .map(|ready| ready.as_object(py, self).unbind())
            .collect();
        PyList::new(py, ready)
    }

    #[setter(_ready)]
    fn set_ready(&self, _ready: &Bound<'_, PyAny>) {}

    /// A view of the timers, in no order.
    #[getter]
    fn _scheduled<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let timers: Vec<_> = self
            .timers
            .borrow_mut(py)
            .iter()
            .map(|timer| timer.as_object(py).unbind())
            .collect();
        PyList::new(py, timers)
    }

    #[setter(_scheduled)]
    fn set_scheduled(&self, _scheduled: &Bound<'_, PyAny>) {}

    /// Whether it sleeps or doesn't run at all, as opposed to being in a callback.
    #[getter]
    fn _rests(&self) -> bool {
        self.heartbeat.running().is_none()
    }

    /// How many seconds a callback may run without being mentioned: by the watchdog, and in debug mode by the loop.
    #[getter]
    fn slow_callback_duration(&self) -> f64 {
        self.heartbeat.limit()
    }

    #[setter]
    fn set_slow_callback_duration(&self, seconds: f64) {
        self.heartbeat.set_limit(seconds);
    }

    #[getter]
    fn _stopping(&self, py: Python<'_>) -> bool {
        self.stopping.get(py)
    }

    #[setter(_stopping)]
    fn set_stopping(&self, py: Python<'_>, stopping: bool) {
        self.stopping.set(py, stopping);
    }

    #[getter]
    fn _closed(&self, py: Python<'_>) -> bool {
        self.is_closed.get(py)
    }

    #[setter(_closed)]
    fn set_closed(&self, py: Python<'_>, is_closed: bool) {
        self.is_closed.set(py, is_closed);
    }

    #[getter]
    fn _task_factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task_factory.clone_ref(py)
    }

    #[setter(_task_factory)]
    fn set_task_factory(&self, py: Python<'_>, factory: Option<Py<PyAny>>) {
        self.task_factory.set(py, factory);
    }

    #[setter(_minds_signals)]
    fn set_minds_signals(&self, py: Python<'_>, minds: bool) {
        self.minds_signals.set(py, minds);
    }

    #[getter]
    fn _debug(&self, py: Python<'_>) -> bool {
        self.debug.get(py)
    }

    #[setter(_debug)]
    fn set_debug(&self, debug: &Bound<'_, PyAny>) -> PyResult<()> {
        self.debug.set(debug.py(), debug.is_truthy()?);
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.task_factory.visit(|factory| visit.call(factory))?;
        self.thread_id.visit(|thread_id| visit.call(thread_id))?;
        self.shared.visit(|shared| {
            shared
                .as_ref()
                .map_or(Ok(()), |shared| shared.visit(&visit))
        })?;
        self.driven_for.visit(|future| visit.call(future))?;
        self.ready
            .visit(|ready| ready.iter().try_for_each(|ready| ready.visit(&visit)))?;
        self.timers
            .visit(|timers| timers.iter().try_for_each(|timer| timer.visit(&visit)))?;
        self.descriptors.visit(|descriptors| {
            descriptors
                .watchers()
                .try_for_each(|watcher| watcher.visit(&visit))
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        let ready = std::mem::take(&mut *this.ready.borrow_mut(py));
        let timers = this.timers.borrow_mut(py).clear();
        let descriptors = std::mem::take(&mut *this.descriptors.borrow_mut(py));
        drop((ready, timers, descriptors));
        drop((this.task_factory.take(py), this.shared.take(py)));
    }
}

impl LoopCore {
    fn schedule<'py>(
        slf: &Bound<'py, Self>,
        when: f64,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        this.check_closed(py)?;
        if when.is_nan() {
            return Err(calls::builtin_error::<PyValueError>(
                "a timer can't be scheduled for NaN",
            ));
        }
        let (timer, handle) = if this.debug.get(py) {
            Self::check_callback(slf, callback, "call_at", false)?;
            let handle =
                calls::asyncio_timer_handle(py)?.call1((when, callback, args, slf, context))?;
            (Timer::standard(&handle)?, handle)
        } else {
            let args = Args::from_tuple(args)?;
            let handle = TimerHandle::create(slf, when, callback, args, context)?;
            (Timer::Handle(handle.clone().unbind()), handle.into_any())
        };
        this.timers.borrow_mut(py).insert(when, timer);
        Ok(handle)
    }
}
