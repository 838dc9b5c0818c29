//! The way into one running loop: what was accepted and hasn't ended, who may still enter, which thread it is.
//!
//! A call arrives as a [`Start`]: a future with its coroutine, and the context to run it in. On the native loop it
//! travels in the loop's own inbox. For any other loop the portal keeps an inbox of its own, and asks for one
//! `call_soon_threadsafe` whenever a call finds it idle, so that a burst of calls wakes the loop once.

use asyncio_thread_loop_core::fork;
use asyncio_thread_loop_core::inbox::Inbox;
use asyncio_thread_loop_core::outcome::Wakes;
use asyncio_thread_loop_core::roster::Roster;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::calls;
use crate::event_loop::{Bell, Driven, Driver, LoopCore, Ready};
use crate::future::{End, FutureCore};
use crate::gil::{GilCell, GilRefCell, intern, visit_all};
use crate::waiting::{self, Wait};

#[pyclass(frozen, weakref, module = "asyncio_thread_loop._native")]
pub struct Portal {
    event_loop: Py<PyAny>,
    /// The loop once more, if it is the native one.
    native: Option<Py<LoopCore>>,
    /// Calls for a loop that isn't native.
    inbox: Inbox<Start, ()>,
    /// The futures of what was accepted and hasn't ended. They keep their tasks alive: asyncio itself doesn't.
    roster: GilRefCell<Roster<Py<FutureCore>>>,
    /// What tasks are made with, for reuse.
    task_arguments: GilCell<Option<TaskArguments>>,
    /// The same for tasks that take their first step at once.
    eager_arguments: GilCell<Option<TaskArguments>>,
    /// Whether a watchdog watches the loop.
    pub watched: GilCell<bool>,
    /// What the loop's thread waits for while it is blocked: another loop.
    pub waits: GilCell<Option<Wait>>,
    /// Threads that wait for something on this loop that isn't a single future, and for what.
    pub callers: GilRefCell<Vec<(u64, Py<PyAny>)>>,
    /// Number of the loop's own thread.
    thread: u64,
    epoch: u32,
    /// Whether the interpreter has tasks that take their first step while they are made, and survives them.
    has_eager_tasks: bool,
}

/// A call on its way to the loop.
pub struct Start {
    pub future: Py<FutureCore>,
    /// None: a copy of the one that the thread is in which begins it.
    pub context: Option<Py<PyAny>>,
}

/// What a task is made with: `Task(coroutine, loop=..., context=...)`. Between two tasks only the loop is in it.
struct TaskArguments {
    positional: Py<PyTuple>,
    options: Py<PyDict>,
}

impl Start {
    /// Whether its task can take the first step while it is made, which saves asyncio's bookkeeping for tasks that
    /// wait for one.
    pub fn may_be_eager(&self, py: Python<'_>) -> bool {
        let portal = self.future.get().portal(py);
        portal.is_some_and(|portal| portal.get().may_start_eagerly(py))
    }
}

/// A call that was accepted.
#[derive(Default)]
pub struct Sent {
    /// What wakes the loop, still to be rung.
    pub bell: Option<Bell>,
    /// What a signal handler raised meanwhile. The caller has to raise it, and to ask the call to stop.
    pub interrupt: Option<PyErr>,
}

impl TaskArguments {
    fn new(event_loop: &Bound<'_, PyAny>, eager: bool) -> PyResult<Self> {
        let py = event_loop.py();
        let options = [("loop", event_loop)].into_py_dict(py)?;
        if eager {
            options.set_item(intern!(py, "eager_start"), true)?;
        }
        Ok(Self {
            positional: (py.None(),).into_pyobject(py)?.unbind(),
            options: options.unbind(),
        })
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.positional)?;
        visit.call(&self.options)
    }
}

impl Portal {
    /// Whether this is a forked child, and the loop its parent's.
    pub fn is_stale(&self) -> bool {
        self.epoch != fork::epoch()
    }

    /// Whether calls are accepted; in a forked child they never are.
    pub fn is_open(&self, py: Python<'_>) -> bool {
        self.roster.borrow_mut(py).is_open() && !self.is_stale()
    }

    /// Whether the calling thread is the one that runs the loop.
    pub fn runs_here(&self, py: Python<'_>) -> bool {
        self.runner(py) == calls::thread_ident() && !self.is_stale()
    }

    /// Number of the thread that runs the loop right now: its own, unless a caller does.
    pub fn runner(&self, py: Python<'_>) -> u64 {
        let native = self.native.as_ref();
        native
            .and_then(|native| native.get().runner(py))
            .unwrap_or(self.thread)
    }

    /// Number of the thread that runs the loop to wait for this call.
    pub fn runner_for(&self, py: Python<'_>, future: &FutureCore) -> Option<u64> {
        self.native.as_ref()?.get().runner_for(py, future)
    }

    /// The task that runs right now. A call without a task that has begun is in its first step, if there is one at all.
    pub fn current_task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let current = calls::current_task(py).ok()?.call1((&self.event_loop,));
        current
            .ok()
            .filter(|task| !task.is_none())
            .map(Bound::unbind)
    }

    /// Whether there are calls that were accepted and haven't ended.
    pub fn has_unfinished(&self, py: Python<'_>) -> bool {
        self.roster.borrow_mut(py).iter().len() > 0
    }

    /// Accepts a call, unless the portal was closed meanwhile. The future must be new and belong to this portal. Without a
    /// context the call gets a copy of the caller's.
    pub fn send(
        slf: &Bound<'_, Self>,
        future: &Bound<'_, FutureCore>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Sent> {
        let start = Self::accept(slf, future, context)?;
        Self::leave_start(slf, start)
    }

    /// The calling thread, if it may run the loop for a call.
    pub fn driver(&self, py: Python<'_>) -> PyResult<Option<Driver>> {
        self.native
            .as_ref()
            .map_or(Ok(None), |native| Driver::here(native.bind(py)))
    }

    /// Runs the loop for a call on the calling thread, or sends the call; otherwise as `send`.
    pub fn drive(
        slf: &Bound<'_, Self>,
        driver: &Driver,
        future: &Bound<'_, FutureCore>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<(Option<Driven>, Sent)> {
        let start = Self::accept(slf, future, context)?;
        let driven = match &slf.get().native {
            Some(native) => driver.run(native.bind(slf.py()), slf, start),
            None => Driven::Busy(start),
        };
        match driven {
            Driven::Busy(start) => Ok((None, Self::leave_start(slf, start)?)),
            driven => Ok((Some(driven), Sent::default())),
        }
    }

    /// Puts a call on the roster.
    fn accept(
        slf: &Bound<'_, Self>,
        future: &Bound<'_, FutureCore>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Start> {
        let this = slf.get();
        if this.is_stale() {
            return Err(closed());
        }
        let accepted = this
            .roster
            .borrow_mut(slf.py())
            .accept(future.clone().unbind());
        accepted.map_err(|_| closed())?;
        Ok(Start {
            future: future.clone().unbind(),
            context: context.map(Bound::unbind),
        })
    }

    /// Leaves an accepted call for the loop.
    fn leave_start(slf: &Bound<'_, Self>, mut start: Start) -> PyResult<Sent> {
        let py = slf.py();
        let this = slf.get();
        let future = start.future.clone_ref(py);
        let context = start.context.take().map(|context| context.into_bound(py));
        let context = context.map_or_else(|| calls::copy_context(py), Ok);
        let sent = context.and_then(|context| {
            start.context = Some(context.unbind());
            match &this.native {
                Some(native) => {
                    LoopCore::leave(native.bind(py), Ready::Start(start)).map(|bell| Sent {
                        bell,
                        interrupt: None,
                    })
                }
                None => this.leave(slf, start),
            }
        });
        sent.inspect_err(|_| Self::forget(slf, future.get()))
    }

    /// Leaves a call for a loop that isn't native.
    fn leave(&self, slf: &Bound<'_, Self>, start: Start) -> PyResult<Sent> {
        let py = slf.py();
        let drain = slf.getattr(intern!(py, "_drain"))?;
        let wake = || {
            let name = intern!(py, "call_soon_threadsafe");
            calls::call_user_method(name, [self.event_loop.bind(py), &drain])
        };
        let interrupt = match self.inbox.push(start) {
            Err(_) => return Err(closed()),
            Ok(None) => None,
            Ok(Some(())) => match wake() {
                Ok(_) => None,
                Err(error) if error.is_instance_of::<PyRuntimeError>(py) => return Err(closed()),
                Err(interrupt) => {
                    // A signal handler raised in the middle of it. Whether the loop was woken is not known, and one
                    // drain too many does no harm.
                    wake().map_err(|_| closed())?;
                    Some(interrupt)
                }
            },
        };
        Ok(Sent {
            bell: None,
            interrupt,
        })
    }

    /// Begins the work of a call, on the loop's thread. Whatever goes wrong becomes the future's outcome.
    pub fn start(py: Python<'_>, start: Start) {
        Self::begin(py, start, false);
    }

    /// The same. `eagerly`: its first step is taken now, where that is possible.
    pub fn begin(py: Python<'_>, start: Start, eagerly: bool) {
        let future = start.future.into_bound(py);
        let this = future.get();
        let Some(coroutine) = this.start(py) else {
            return;
        };
        let begun = this.portal(py).map_or_else(
            || Err(closed()),
            |portal| {
                let this = portal.get();
                let context = start.context.map(|context| context.into_bound(py));
                let eagerly = eagerly && this.may_start_eagerly(py);
                let task = if eagerly {
                    this.create_eager_task(coroutine.bind(py), context.as_ref())?
                } else {
                    this.create_task(coroutine.bind(py), context.as_ref())?
                };
                if eagerly && (calls::has_visibly_ended(coroutine.bind(py)) || is_done(&task)?) {
                    return FutureCore::complete(&future, &task).map(|()| py.None().into_bound(py));
                }
                future.get().runs_as(py, &task)?;
                let callback = match this.native {
                    Some(_) => future.clone().into_any(),
                    None => Bound::new(py, Completion(future.clone().unbind()))?.into_any(),
                };
                let context = context.map_or_else(|| calls::copy_context(py), Ok)?;
                calls::call_method_with_context(
                    intern!(py, "add_done_callback"),
                    [&task, &callback, &context],
                )
            },
        );
        if let Err(error) = begun {
            let closed = calls::call_user_method(intern!(py, "close"), [coroutine.bind(py)]);
            let ended = closed.and_then(|_| {
                FutureCore::finish(&future, End::Error(error.into_value(py).into_any()))
            });
            if let Err(error) = ended {
                error.write_unraisable(py, Some(&future));
            }
        }
    }

    /// Makes a task. Without a context it gets a copy of the thread's.
    fn create_task<'py>(
        &self,
        coroutine: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        let event_loop = self.event_loop.bind(py);
        if let Some(native) = &self.native
            && !native.get().has_task_factory(py)
        {
            return self.with_arguments(false, coroutine, context, |args, options| {
                calls::asyncio_task(py)?.call(args, Some(options))
            });
        }
        let context = match context {
            Some(context) => context.clone(),
            None => calls::copy_context(py)?,
        };
        if event_loop
            .call_method0(intern!(py, "get_task_factory"))?
            .is_none()
        {
            return calls::call_method_with_context(
                intern!(py, "create_task"),
                [event_loop, coroutine, &context],
            );
        }
        // A task factory need not know about contexts.
        let create = event_loop.getattr(intern!(py, "create_task"))?;
        calls::call_user_method(intern!(py, "run"), [&context, &create, coroutine])
    }

    /// Whether tasks of this loop can take their first step while they are made.
    fn may_start_eagerly(&self, py: Python<'_>) -> bool {
        let native = self.native.as_ref().map(Py::get);
        self.has_eager_tasks
            && native.is_some_and(|native| !native.has_task_factory(py) && !native.is_debugged(py))
    }

    /// The same; it takes its first step meanwhile. What that raises is the task's, whatever it is.
    fn create_eager_task<'py>(
        &self,
        coroutine: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        self.with_arguments(true, coroutine, context, |args, options| {
            let task = calls::asyncio_task(py)?;
            let (task, initialized) = calls::construct_in_two_steps(task, args, options)?;
            match initialized {
                // Raised by the step: one of the two that asyncio stores and raises all the same.
                Err(error) if !(calls::ends_the_program(py, &error) && is_done(&task)?) => {
                    Err(error)
                }
                _ => Ok(task),
            }
        })
    }

    /// Makes a task with arguments that serve task after task. `eager`: it takes its first step meanwhile.
    fn with_arguments<'py>(
        &self,
        eager: bool,
        coroutine: &Bound<'py, PyAny>,
        context: Option<&Bound<'py, PyAny>>,
        make: impl FnOnce(&Bound<'py, PyTuple>, &Bound<'py, PyDict>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        let kept = match eager {
            true => &self.eager_arguments,
            false => &self.task_arguments,
        };
        let arguments = match kept.take(py) {
            Some(arguments) => arguments,
            None => TaskArguments::new(self.event_loop.bind(py), eager)?,
        };
        let mut positional = arguments.positional.into_bound(py);
        let options = arguments.options.into_bound(py);
        let name = intern!(py, "context");
        if calls::set_only_item(&positional, coroutine).is_err() {
            // Somebody found it among the collector's objects.
            positional = (coroutine,).into_pyobject(py)?;
        }
        if context.is_some() {
            options.set_item(name, context)?;
        }
        let task = make(&positional, &options);
        if context.is_some() {
            options.set_item(name, py.None())?;
        }
        if calls::set_only_item(&positional, py.None().bind(py)).is_ok() {
            let arguments = TaskArguments {
                positional: positional.unbind(),
                options: options.unbind(),
            };
            kept.set(py, Some(arguments));
        }
        task
    }

    /// The future ended; it needs no keeping any more.
    pub fn forget(slf: &Bound<'_, Self>, future: &FutureCore) {
        let forgotten = slf.get().roster.borrow_mut(slf.py()).forget(&future.slot);
        drop(forgotten);
    }

    /// Whether its loop is one of ours, which knows when to wake whom.
    pub fn is_native(&self) -> bool {
        self.native.is_some()
    }

    /// Wakes the callers of a future that ended: a loop that runs does it when it has let go of the GIL, anybody else now.
    pub fn wake(slf: &Bound<'_, Self>, wakes: Wakes) {
        if wakes.is_empty() {
            return;
        }
        let py = slf.py();
        match &slf.get().native {
            Some(native) if native.get().is_in_a_turn(py) => native.get().wake_later(py, wakes),
            _ => wakes.fire(),
        }
    }

    /// Asks a running task to stop.
    pub fn cancel_task(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<bool> {
        let cancel = task.getattr(intern!(slf.py(), "cancel"))?;
        slf.get().ask(&cancel, &[])
    }

    /// The same for a task that may be being cancelled already, which is then left to its cleanup.
    pub fn cancel_task_once(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        slf.get()
            .ask(calls::cancel_once(slf.py())?, &[task])
            .map(drop)
    }

    /// Has something called on the loop's thread, where nobody waits for it. A loop that has been closed doesn't.
    pub fn call_soon(slf: &Bound<'_, Self>, callback: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let name = intern!(py, "call_soon_threadsafe");
        match slf
            .get()
            .event_loop
            .bind(py)
            .call_method1(name, (callback,))
        {
            Err(error) if !error.is_instance_of::<PyRuntimeError>(py) => Err(error),
            _ => Ok(()),
        }
    }

    /// Calls `cancel(*args)` on the loop's thread. False if that can't be any more.
    fn ask(&self, cancel: &Bound<'_, PyAny>, args: &[&Bound<'_, PyAny>]) -> PyResult<bool> {
        let py = cancel.py();
        if self.runs_here(py) {
            return cancel.call1(PyTuple::new(py, args)?)?.is_truthy();
        }
        if self.is_stale() {
            return Ok(false);
        }
        let call = PyTuple::new(py, [&[cancel], args].concat())?;
        let call_soon = self
            .event_loop
            .bind(py)
            .getattr(intern!(py, "call_soon_threadsafe"))?;
        match calls::call_user(&call_soon, &call, None) {
            Ok(_) => Ok(true),
            // A loop that has been closed meanwhile ends the future itself.
            Err(error) if error.is_instance_of::<PyRuntimeError>(py) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Tells the loop's exception handler of an exception that nobody asked for: on the loop's thread while it
    /// runs, here otherwise.
    pub fn report_unretrieved(slf: &Bound<'_, Self>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let elsewhere = this.is_open(py) && !this.runs_here(py);
        // Through Python: in debug mode a loop looks for the frame that called it.
        calls::report_unretrieved(py)?
            .call1((&this.event_loop, exception, elsewhere))
            .map(drop)
    }
}

#[pymethods]
impl Portal {
    /// To be made on the thread that will run the loop.
    #[new]
    fn new(event_loop: Bound<'_, PyAny>) -> PyResult<Py<Self>> {
        let py = event_loop.py();
        let native = event_loop
            .cast::<LoopCore>()
            .ok()
            .map(|native| native.clone().unbind());
        let inbox = Inbox::new();
        // Idle from the start: the first call asks for a drain.
        let idle = inbox.announce_sleep(());
        debug_assert!(idle);
        let portal = Self {
            event_loop: event_loop.unbind(),
            native,
            inbox,
            roster: GilRefCell::new(Roster::new(|future: &Py<FutureCore>| &future.get().slot)),
            task_arguments: GilCell::new(None),
            eager_arguments: GilCell::new(None),
            watched: GilCell::new(false),
            waits: GilCell::new(None),
            callers: GilRefCell::new(Vec::new()),
            thread: calls::thread_ident(),
            epoch: fork::epoch(),
            // Before, asking one that ended in that step for its coroutine crashed the process.
            has_eager_tasks: py.version_info() >= (3, 12, 5),
        };
        let portal = Bound::new(py, portal)?;
        waiting::opened(&portal);
        Ok(portal.unbind())
    }

    /// Refuses further calls; what was accepted before is in the loop's queue.
    fn close(&self, py: Python<'_>) {
        self.roster.borrow_mut(py).close();
    }

    #[setter(_watched)]
    fn set_watched(&self, py: Python<'_>, watched: bool) {
        self.watched.set(py, watched);
    }

    /// Number of the thread that runs the loop right now.
    #[getter(runner)]
    fn get_runner(&self, py: Python<'_>) -> u64 {
        self.runner(py)
    }

    /// Whether the calling thread is that one; in a forked child, whether it was.
    #[getter]
    fn is_runner(&self, py: Python<'_>) -> bool {
        self.runner(py) == calls::thread_ident()
    }

    #[getter(is_stale)]
    fn get_is_stale(&self) -> bool {
        self.is_stale()
    }

    /// The unfinished futures.
    fn unfinished<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let unfinished: Vec<_> = self
            .roster
            .borrow_mut(py)
            .iter()
            .map(|future| future.clone_ref(py))
            .collect();
        PyList::new(py, unfinished)
    }

    /// Ends every unfinished future with an error of its own, which nobody needs to ask for. A signal handler may raise
    /// in the middle of it; that is raised when all have ended.
    fn give_up(slf: &Bound<'_, Self>, message: &str) -> PyResult<()> {
        let py = slf.py();
        waiting::ended(slf);
        // The roster is let go of before the future ends: other threads may have a turn then.
        let next = || slf.get().roster.borrow_mut(py).give_up();
        let mut result = Ok(());
        while let Some(future) = next() {
            let future = future.into_bound(py);
            let closed = future.get().close_unstarted(py);
            let error = calls::error(calls::closed_error(py), message)
                .into_value(py)
                .into_any();
            let finished = FutureCore::finish(&future, End::Error(error));
            if !matches!(finished, Ok(false)) {
                future.get().hush(py);
            }
            result = result.and(closed).and(finished.map(drop));
        }
        result
    }

    /// The threads that wait for something on this loop that isn't a single future, and for what.
    fn callers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let callers: Vec<_> = self
            .callers
            .borrow_mut(py)
            .iter()
            .map(|(thread, subject)| (*thread, subject.clone_ref(py)))
            .collect();
        PyList::new(py, callers)
    }

    /// Starts the calls that came for a loop that isn't native.
    fn _drain(&self, py: Python<'_>) {
        let mut starts = Vec::new();
        loop {
            self.inbox.drain(&mut starts);
            for start in starts.drain(..) {
                Self::start(py, start);
            }
            if self.inbox.announce_sleep(()) {
                return;
            }
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.native)?;
        for kept in [&self.task_arguments, &self.eager_arguments] {
            kept.visit(|kept| match kept {
                Some(arguments) => arguments.visit(&visit),
                None => Ok(()),
            })?;
        }
        self.waits
            .visit(|wait| wait.as_ref().map_or(Ok(()), |wait| wait.visit(&visit)))?;
        self.callers
            .visit(|callers| visit_all(&visit, callers.iter().map(|(_, subject)| subject)))?;
        self.roster.visit(|roster| visit_all(&visit, roster))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let unfinished = slf.get().roster.borrow_mut(slf.py()).clear();
        drop(unfinished);
    }
}

fn is_done(task: &Bound<'_, PyAny>) -> PyResult<bool> {
    task.call_method0(intern!(task.py(), "done"))?.is_truthy()
}

/// Ends a future when its task is done, on a loop that isn't native. (The native one knows futures.)
#[pyclass(frozen, module = "asyncio_thread_loop._native")]
struct Completion(Py<FutureCore>);

#[pymethods]
impl Completion {
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        FutureCore::complete(self.0.bind(task.py()), task)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.0)
    }
}

pub fn closed() -> PyErr {
    Python::attach(|py| {
        calls::error(
            calls::closed_error(py),
            "the AsyncioThreadLoop isn't running: call it inside its `with` block, or between start() and shutdown()",
        )
    })
}
