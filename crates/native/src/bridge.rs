//! `submit` and `evaluate`: the calls that every program makes all the time, so they have no Python of their own.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use crate::allocation::new_future;
use crate::batch::Batch;
use crate::calls;
use crate::event_loop::{Bell, Driven};
use crate::frames::{self, Origin};
use crate::future::{self, End, FutureCore, Waited};
use crate::gil::{GilCell, intern};
use crate::portal::{Portal, closed};
use crate::waiting;

#[pyclass(frozen, subclass, module = "asyncio_thread_loop._native")]
pub struct BridgeCore {
    /// The running loop. None before it starts and after it ends.
    portal: GilCell<Option<Py<Portal>>>,
    /// `propagate_context="both"`
    carries_context_back: GilCell<bool>,
}

impl BridgeCore {
    /// The portal to send a call through, from this process and this thread.
    pub fn open_portal<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Portal>> {
        let py = slf.py();
        match slf.get().portal.bind(py) {
            Some(portal) if portal.get().is_open(py) => Ok(portal),
            Some(portal) if portal.get().is_stale() => {
                slf.call_method0(intern!(py, "_after_fork"))?;
                slf.get().portal.bind(py).ok_or_else(closed)
            }
            _ => Err(closed()),
        }
    }

    /// The portal of the loop as it runs now, or of the parent's in a forked child. None before it starts and after it ends.
    pub fn portal<'py>(slf: &Bound<'py, Self>) -> Option<Bound<'py, Portal>> {
        slf.get().portal.bind(slf.py())
    }

    /// `evaluate`, which says `deadlock` on the loop's own thread.
    pub fn wait_for<'py>(
        slf: &Bound<'py, Self>,
        coro: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
        deadlock: &str,
    ) -> PyResult<Py<PyAny>> {
        let py = slf.py();
        let mut work = Work::new(coro);
        let deadline = match timeout {
            Some(timeout) => future::deadline(future::not_negative(timeout)?),
            None => None,
        };
        let portal = Self::open_portal(slf).map_err(|error| frames::stripped(py, error))?;
        if portal.get().runs_here(py) {
            return Err(calls::error(calls::deadlock_error(py), deadlock));
        }
        waiting::refuse_circle(&portal)?;
        work.resolve_awaitable()?;
        let future = new_future(&py.get_type::<FutureCore>())?;
        // A timeout is kept by the caller, which must not be inside the coroutine then.
        let driver = match timeout {
            None => portal.get().driver(py)?,
            Some(_) => None,
        };
        Self::prepare(&portal, &future, work.coroutine(), None);
        let context = match slf.get().carries_context_back.get(py) {
            true => Some(calls::copy_context(py)?),
            false => None,
        };
        let (driven, sent) = match &driver {
            Some(driver) => Portal::drive(&portal, driver, &future, context.clone())?,
            None => (None, Portal::send(&portal, &future, context.clone())?),
        };
        work.accepted();
        let waited = match (driven, sent.interrupt) {
            (Some(Driven::Done), _) => Ok(Waited::Done),
            (Some(Driven::Interrupted(interrupt)), _) | (_, Some(interrupt)) => Err(interrupt),
            (Some(Driven::Forked(raised)), _) => {
                slf.call_method1(intern!(py, "_end_forked_child"), (raised,))?;
                return Err(closed());
            }
            _ => FutureCore::wait(&future, deadline, move || Bell::ring(sent.bell)),
        };
        let ended = match waited {
            Ok(Waited::Done) => Ok(()),
            Ok(Waited::TimedOut) => slf
                .call_method1(intern!(py, "_evaluate_timed_out"), (&future, timeout))
                .map(drop),
            Err(interrupt) => slf
                .call_method1(
                    intern!(py, "_evaluate_interrupted"),
                    (&future, interrupt.value(py)),
                )
                .and(Err(interrupt)),
        };
        if let Some(context) = context {
            slf.call_method1(intern!(py, "_adopt_context"), (context,))?;
        }
        ended.map_err(|error| frames::stripped(py, error))?;
        let outcome = future.get().outcome(py);
        if let Err(error) = &outcome
            && let Some(origin) = Origin::of_caller(py)
        {
            // The caller is still where it was: nothing had to be remembered.
            origin.note(py, error.value(py));
        }
        outcome
    }

    /// Hands over one call, and returns its future.
    fn send_one<'py>(
        slf: &Bound<'py, Self>,
        mut work: Work<'py>,
        resolve: impl FnOnce(&mut Work<'py>) -> PyResult<()>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let portal = Self::open_portal(slf).map_err(|error| frames::stripped(py, error))?;
        resolve(&mut work)?;
        let future = new_future(calls::future_type(py)?)?;
        let origin = Origin::of_caller(py);
        Self::prepare(&portal, &future, work.coroutine(), origin);
        let sent = Portal::send(&portal, &future, None)?;
        work.accepted();
        Bell::ring(sent.bell);
        if let Some(interrupt) = sent.interrupt {
            FutureCore::cancel(&future)?;
            future.get().hush(py);
            return Err(frames::stripped(py, interrupt));
        }
        Ok(future.into_any())
    }

    /// Hands over many calls, of which none may be refused: then all are. Their futures are in `futures` before the first
    /// is handed over.
    fn send_all<'py>(
        slf: &Bound<'py, Self>,
        mut works: Works<'py>,
        futures: &Bound<'py, PyList>,
        begin: impl FnOnce(&Bound<'py, Portal>, usize) -> PyResult<Option<Bound<'py, Batch>>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let portal = Self::open_portal(slf).map_err(|error| frames::stripped(py, error))?;
        works.resolve()?;
        let batch = begin(&portal, works.0.len())?;
        let mut prepared = Vec::with_capacity(works.0.len());
        for work in &works.0 {
            let future = new_future(calls::future_type(py)?)?;
            let origin = match &batch {
                Some(_) => None,
                None => Origin::of_caller(py),
            };
            Self::prepare(&portal, &future, work.coroutine(), origin);
            if let Some(batch) = &batch {
                future.get().join(py, batch);
            }
            futures.append(&future)?;
            prepared.push((future, calls::copy_context(py)?));
        }
        let mut bell = None;
        let mut interrupt = None;
        let mut calls = works.0.iter_mut().zip(prepared);
        let sent = calls.try_for_each(|(work, (future, context))| -> PyResult<()> {
            let sent = Portal::send(&portal, &future, Some(context))?;
            work.accepted();
            bell = bell.take().or(sent.bell);
            interrupt = interrupt.take().or(sent.interrupt);
            Ok(())
        });
        Bell::ring(bell); // also if not all were sent: some were
        sent?;
        match interrupt {
            None => Ok(()),
            Some(interrupt) => Err(frames::stripped(py, interrupt)),
        }
    }

    /// Makes `future` that of `coroutine`, on its way through the portal.
    fn prepare(
        portal: &Bound<'_, Portal>,
        future: &Bound<'_, FutureCore>,
        coroutine: &Bound<'_, PyAny>,
        origin: Option<Origin>,
    ) {
        future.get().belong(
            portal.py(),
            Some(coroutine.clone().unbind()),
            portal.clone().unbind(),
            origin,
        );
    }
}

#[pymethods]
impl BridgeCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            portal: GilCell::new(None),
            carries_context_back: GilCell::new(false),
        }
    }

    /// Hands work to the loop and returns a future at once, from any thread.
    ///
    /// The work is a coroutine or any other awaitable, or, as with `ThreadPoolExecutor.submit`, a coroutine function
    /// (a partial of one, an object whose `__call__` is async) with its arguments. It runs on the loop's thread, in a
    /// copy of the caller's context, as an `asyncio.Task`. The loop keeps it alive until it ends.
    ///
    /// Raises `LoopClosedError` when the loop isn't running, `ForkedError` in a forked child under
    /// `on_fork="raise"`, `TypeError` for anything else than the above (a plain function belongs to `call`) and
    /// `RuntimeError` for a coroutine that has been awaited. A coroutine that is refused is closed.
    ///
    /// >>> import asyncio
    /// >>> async def double(number):
    /// ...     return 2 * number
    /// >>> with AsyncioThreadLoop() as loop:
    /// ...     loop.submit(double(1)).result(), loop.submit(double, number=2).result()
    /// (2, 4)
    #[pyo3(signature = (coro_or_async_fn, /, *args, **kwargs))]
    fn submit<'py>(
        slf: &Bound<'py, Self>,
        coro_or_async_fn: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let work = Work::new(coro_or_async_fn);
        Self::send_one(slf, work, |work| work.resolve(args, kwargs))
    }

    /// `submit` of a coroutine, or of a coroutine function that takes no arguments: see [`shortcuts`](crate::shortcuts).
    #[pyo3(signature = (coro_or_async_fn, /))]
    fn _submit_one<'py>(
        slf: &Bound<'py, Self>,
        coro_or_async_fn: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let work = Work::new(coro_or_async_fn);
        Self::send_one(slf, work, Work::resolve_alone)
    }

    /// Hands many coroutines or other awaitables to the loop at once and returns their futures, in order.
    ///
    /// As `submit` for each of them, at less than the price: the loop is woken once, when all are there. They are
    /// taken from the iterable first, on the calling thread; if one of them is refused, or the iterable fails, none
    /// is submitted, and their coroutines are closed.
    ///
    /// Raises what `submit` does, and what the iterable does.
    ///
    /// >>> async def double(number):
    /// ...     return 2 * number
    /// >>> with AsyncioThreadLoop() as loop:
    /// ...     [future.result() for future in loop.submit_many([double(1), double(2)])]
    /// [2, 4]
    #[pyo3(signature = (coros, /))]
    fn submit_many<'py>(
        slf: &Bound<'py, Self>,
        coros: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let works = Works::of(coros)?;
        let futures = calls::list(slf.py())?;
        if let Err(error) = Self::send_all(slf, works, &futures, |_, _| Ok(None)) {
            for future in futures.iter() {
                let future = future.cast::<FutureCore>()?;
                FutureCore::cancel(future)?;
                future.get().hush(slf.py());
            }
            return Err(error);
        }
        Ok(futures)
    }

    /// The same for a caller who waits for all of them, or, if `stops_at_failure`, for the first failure. Puts their
    /// futures into `futures`, and returns one that ends then: its result is whether it was a failure.
    fn _submit_together<'py>(
        slf: &Bound<'py, Self>,
        coros: &Bound<'py, PyAny>,
        stops_at_failure: bool,
        futures: &Bound<'py, PyList>,
    ) -> PyResult<Bound<'py, FutureCore>> {
        let py = slf.py();
        let works = Works::of(coros)?;
        let ended = new_future(calls::future_type(py)?)?;
        Self::send_all(slf, works, futures, |portal, many| {
            let portal = portal.clone().unbind();
            ended.get().belong(py, None, portal, None);
            let origin = Origin::of_caller(py);
            let batch = Batch::new(ended.clone().unbind(), many, stops_at_failure, origin);
            Bound::new(py, batch).map(Some)
        })?;
        if futures.is_empty() {
            FutureCore::finish(&ended, End::Value(py.None()))?;
        }
        Ok(ended)
    }

    /// Runs a coroutine, or any other awaitable, on the loop and returns its result, or raises what it raised.
    ///
    /// May be called from any thread but the loop's own, also inside another running event loop. `timeout` is in
    /// seconds, None waits for ever. It is kept by the caller, so it holds even while the loop is blocked: when it
    /// passes, the coroutine is cancelled, its cleanup gets a grace of 1 second (or `exit_timeout`, if that is
    /// shorter), and `TimeoutError` is raised. Ctrl-C does the same and raises `KeyboardInterrupt`; a second Ctrl-C
    /// abandons the cleanup.
    ///
    /// Raises `LoopClosedError` when the loop isn't running, `DeadlockError` on the loop's own thread,
    /// `concurrent.futures.CancelledError` if the coroutine was cancelled, `ValueError` for a negative timeout, and
    /// otherwise as `submit` does. The coroutine's exception carries the coroutine's frames and the caller's, none of
    /// this library.
    ///
    /// >>> import asyncio
    /// >>> with AsyncioThreadLoop() as loop:
    /// ...     loop.evaluate(asyncio.sleep(0.01, "done"))
    /// 'done'
    #[pyo3(signature = (coro, timeout=None))]
    fn evaluate<'py>(
        slf: &Bound<'py, Self>,
        coro: &Bound<'py, PyAny>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Self::wait_for(
            slf,
            coro,
            timeout,
            "evaluate() was called on the loop's own thread and would wait for ever: `await` the coroutine \
             instead, or call from another thread (`await asyncio.to_thread(...)`)",
        )
    }

    #[getter]
    fn _portal(&self, py: Python<'_>) -> Option<Py<Portal>> {
        self.portal.clone_ref(py)
    }

    #[setter(_portal)]
    fn set_portal(&self, py: Python<'_>, portal: Option<Py<Portal>>) {
        self.portal.set(py, portal);
    }

    #[getter(_carries_context_back)]
    fn get_carries_context_back(&self, py: Python<'_>) -> bool {
        self.carries_context_back.get(py)
    }

    #[setter(_carries_context_back)]
    fn set_carries_context_back(&self, py: Python<'_>, carries: bool) {
        self.carries_context_back.set(py, carries);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.portal.visit(|portal| visit.call(portal))
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().portal.take(slf.py());
    }
}

/// What a caller gave us to run. Unless it is accepted, its coroutine is closed, so that a refusal leaves no
/// "never awaited" behind.
struct Work<'py> {
    given: Bound<'py, PyAny>,
    accepted: bool,
}

impl<'py> Work<'py> {
    fn new(given: &Bound<'py, PyAny>) -> Self {
        Self {
            given: given.clone(),
            accepted: false,
        }
    }

    /// Makes a coroutine of what was given, for `submit`.
    fn resolve(
        &mut self,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<()> {
        let py = self.given.py();
        if !(calls::is_coroutine(&self.given) && args.is_empty() && kwargs.is_none()) {
            let kwargs = kwargs.map_or_else(|| PyDict::new(py), Bound::clone);
            let coroutine = calls::as_coroutine(py)?
                .call1((&self.given, args, kwargs))
                .map_err(|error| frames::stripped(py, error))?;
            self.given = coroutine;
        }
        self.check_fresh()
    }

    /// The same if nothing else was given.
    fn resolve_alone(&mut self) -> PyResult<()> {
        if calls::is_coroutine(&self.given) {
            return self.check_fresh();
        }
        self.resolve(&PyTuple::empty(self.given.py()), None)
    }

    /// The same for `evaluate`, which takes no arguments for a function.
    fn resolve_awaitable(&mut self) -> PyResult<()> {
        if calls::is_coroutine(&self.given) {
            return self.check_fresh();
        }
        let py = self.given.py();
        let coroutine = calls::await_in_coroutine(py)?
            .call1((&self.given,))
            .map_err(|error| frames::stripped(py, error))?;
        self.given = coroutine;
        Ok(())
    }

    fn check_fresh(&mut self) -> PyResult<()> {
        if !calls::is_coroutine(&self.given) || calls::is_fresh(&self.given)? {
            return Ok(());
        }
        // It is somebody else's: closing it would end their work.
        self.accepted = true;
        Err(calls::builtin_error::<PyRuntimeError>(format!(
            "{} has already been awaited, submitted or closed",
            self.given.repr()?
        )))
    }

    fn coroutine(&self) -> &Bound<'py, PyAny> {
        &self.given
    }

    fn accepted(&mut self) {
        self.accepted = true;
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if self.accepted || !calls::is_coroutine(&self.given) {
            return;
        }
        if let Ok(true) = calls::is_fresh(&self.given)
            && let Err(error) =
                calls::call_user_method(intern!(self.given.py(), "close"), [&self.given])
        {
            error.write_unraisable(self.given.py(), Some(&self.given));
        }
    }
}

/// What a caller gave us to run together: likewise.
struct Works<'py>(Vec<Work<'py>>);

impl<'py> Works<'py> {
    fn of(coros: &Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(coros) = coros.cast_exact::<PyList>() {
            return Ok(Self(coros.iter().map(|coro| Work::new(&coro)).collect()));
        }
        let mut works = Self(Vec::new());
        for coro in coros.try_iter()? {
            works.0.push(Work::new(&coro?));
        }
        Ok(works)
    }

    fn resolve(&mut self) -> PyResult<()> {
        self.0.iter_mut().try_for_each(Work::resolve_awaitable)
    }
}

/// For the Python half: checks a timeout before anything is submitted.
#[pyfunction]
pub fn check_timeout<'py>(
    timeout: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    timeout
        .map(|timeout| calls::float(timeout.py(), future::not_negative(timeout)?))
        .transpose()
}
