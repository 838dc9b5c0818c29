//! The watchdog of one loop: a thread that says what holds the loop while it is held.
//!
//! The native loop counts its callbacks, so watching it takes no interpreter until there is something to say. Any
//! other loop is looked at through Python, from this same thread. That of a loop which is opened when the interpreter exits
//! already may still be at it when the interpreter ends, hence `call_user`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use asyncio_thread_loop_core::watchdog::{Heartbeat, Subject, watch};
use asyncio_thread_loop_core::{clock, fork};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyFloat;

use crate::calls;
use crate::event_loop::LoopCore;
use crate::gil::GilCell;
use crate::room;

/// What an attach to the interpreter may take. After longer than that it is not certain that the loop had its turns.
const PROMPT: Duration = Duration::from_millis(25);

/// How long it may take to end.
const PATIENCE: Duration = Duration::from_secs(1);

#[pyclass(frozen, module = "asyncio_thread_loop._native")]
pub struct Watchdog {
    heartbeat: Arc<Heartbeat>,
    thread: GilCell<Option<Thread>>,
    epoch: u32,
}

struct Thread {
    handle: JoinHandle<()>,
    /// Disconnected when it ends.
    life: Receiver<()>,
}

#[pymethods]
impl Watchdog {
    /// Watches `event_loop` from a new thread, and calls `report(seconds)` there while a callback holds the loop for longer
    /// than `limit()` says; that must not take long. A loop that isn't native is seen through `look()`: it returns a number for the callback
    /// that runs, or None.
    #[new]
    fn new(
        event_loop: &Bound<'_, PyAny>,
        limit: Py<PyAny>,
        look: Py<PyAny>,
        report: Py<PyAny>,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        let native = event_loop.cast::<LoopCore>().ok();
        let heartbeat = native.map_or_else(Arc::default, |native| native.get().heartbeat.clone());
        let reporter = Reporter {
            heartbeat: heartbeat.clone(),
            report,
            was_late: false,
        };
        let thread = if native.is_some() {
            start(py, heartbeat.clone(), Counted(reporter))
        } else {
            start(
                py,
                heartbeat.clone(),
                LookedAt {
                    limit,
                    look,
                    reporter,
                },
            )
        };
        let thread = thread.map_err(|error| {
            calls::builtin_error::<PyRuntimeError>(format!(
                "the watchdog's thread could not be started: {error}"
            ))
        })?;
        Ok(Self {
            heartbeat,
            thread: GilCell::new(Some(thread)),
            epoch: fork::epoch(),
        })
    }

    /// Ends the watching; the thread has ended when this returns, unless what it asked of another loop doesn't answer. Not
    /// to be called by `report` itself.
    fn stop(&self, py: Python<'_>) {
        let Some(thread) = self.thread.take(py) else {
            return;
        };
        if self.epoch != fork::epoch() {
            // The thread is the parent's; here there is none to be joined or let go of.
            std::mem::forget(thread);
            return;
        }
        self.heartbeat.stop();
        // It had better not be in the interpreter when that ends. It can't have panicked: what it calls returns errors.
        py.detach(move || match thread.life.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => drop(thread.handle.join()),
        });
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.get_mut().take() {
            if self.epoch == fork::epoch() {
                self.heartbeat.stop();
            } else {
                std::mem::forget(thread);
            }
        }
    }
}

/// What a thread can do nothing but die of. One that blocks them dies without a word, faulthandler's included.
const FAULTS: [libc::c_int; 6] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
    libc::SIGTRAP,
];

/// Starts the thread, deaf to signals that others send: they are for threads that run Python.
///
/// It has as much stack as the calling thread. Whatever this one leaves behind may be collected on that one, and a deep
/// chain of coroutines is taken down level by level.
fn start(
    py: Python<'_>,
    heartbeat: Arc<Heartbeat>,
    subject: impl Subject + Send + 'static,
) -> std::io::Result<Thread> {
    let (attached, has_attached) = channel();
    let (alive, life) = channel();
    let mut builder = std::thread::Builder::new().name("loop watchdog".to_owned());
    let stack = room::stack_size();
    if stack > 0 {
        builder = builder.stack_size(stack);
    }
    // SAFETY: both masks are valid for writes, and the first is filled before it is used; a thread may set its own mask.
    let before = unsafe {
        let (mut deaf, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut deaf);
        for fault in FAULTS {
            libc::sigdelset(&raw mut deaf, fault);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const deaf, &raw mut before);
        before
    };
    // The new thread inherits the mask.
    let handle = builder.spawn(move || {
        let _alive: Sender<()> = alive;
        // Attached once for good, as making a thread known to the interpreter takes a lock that CPython 3.11 doesn't
        // expect to be held when another thread forks.
        let mut subject = Some(subject);
        Python::try_attach(|py| {
            let _ = attached.send(());
            let mut subject = subject.take();
            py.detach(|| subject.iter_mut().for_each(|each| watch(&heartbeat, each)));
            drop(subject);
        });
        // An interpreter that has ended needs nothing back.
        std::mem::forget(subject);
    });
    // SAFETY: `before` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    let handle = handle?;
    // An error means that there was nothing to attach to any more.
    let _ = py.detach(move || has_attached.recv());
    Ok(Thread { handle, life })
}

/// Tells Python.
struct Reporter {
    heartbeat: Arc<Heartbeat>,
    report: Py<PyAny>,
    /// The last time, the interpreter was not to be had at once.
    was_late: bool,
}

impl Reporter {
    /// False if somebody else may have kept the loop from its turn, by keeping the interpreter to himself.
    fn stuck(&mut self, time: Duration, still: impl FnOnce() -> bool) -> bool {
        let asked = Instant::now();
        Python::try_attach(|py| {
            if asked.elapsed() > PROMPT && !self.was_late {
                self.was_late = true;
                return false;
            }
            self.was_late = false;
            if still()
                && let Err(error) = self.tell(py, time)
            {
                error.write_unraisable(py, None);
            }
            true
        })
        .unwrap_or(true)
    }

    fn tell(&self, py: Python<'_>, time: Duration) -> PyResult<()> {
        let time = PyFloat::new(py, time.as_secs_f64());
        calls::call_user_with(self.report.bind(py), &time).map(drop)
    }
}

/// A native loop: it counts its callbacks.
struct Counted(Reporter);

impl Subject for Counted {
    fn limit(&mut self) -> Duration {
        clock::duration(self.0.heartbeat.limit())
    }

    fn running(&mut self) -> Option<u64> {
        self.0.heartbeat.running()
    }

    fn doze(&mut self) {
        self.0.heartbeat.doze();
    }

    fn stuck(&mut self, callback: u64, time: Duration) -> bool {
        let heartbeat = self.0.heartbeat.clone();
        self.0.stuck(time, || heartbeat.running() == Some(callback))
    }
}

/// Any other loop: Python looks.
struct LookedAt {
    limit: Py<PyAny>,
    look: Py<PyAny>,
    reporter: Reporter,
}

impl LookedAt {
    fn ask<'py, T: FromPyObjectOwned<'py>>(py: Python<'py>, question: &Py<PyAny>) -> Option<T> {
        let answer = calls::call_user_plainly(question.bind(py)).ok()?;
        answer.extract().ok()
    }
}

impl Subject for LookedAt {
    fn limit(&mut self) -> Duration {
        let limit = Python::try_attach(|py| Self::ask(py, &self.limit)).flatten();
        limit.map_or(Duration::MAX, clock::duration)
    }

    fn running(&mut self) -> Option<u64> {
        Python::try_attach(|py| Self::ask::<Option<u64>>(py, &self.look))??
    }

    fn doze(&mut self) {
        // Nothing tells us when it goes on.
        let limit = self.limit();
        self.reporter
            .heartbeat
            .nap(limit.min(Duration::from_secs(1)));
    }

    fn stuck(&mut self, _callback: u64, time: Duration) -> bool {
        self.reporter.stuck(time, || true)
    }
}
