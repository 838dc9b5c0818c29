//! What waits in a loop: callbacks that are ready, timers, calls from other threads, and the bell that ends a sleep.

use std::sync::Arc;

use asyncio_thread_loop_core::ownership::Ownership;
use asyncio_thread_loop_core::parking::Unparker;
use asyncio_thread_loop_core::poller::Poller;
use asyncio_thread_loop_core::timers::Placed;
use pyo3::prelude::*;
use pyo3::{PyClass, PyTraverseError, PyVisit};

use super::LoopCore;
use crate::descriptors::Direction;
use crate::future::FutureCore;
use crate::gil::{GilCell, intern};
use crate::handle::{Handle, TimerHandle};
use crate::portal::Start;

/// What the loop runs in its next turn.
pub enum Ready {
    Handle(Py<Handle>),
    /// An `asyncio.Handle`: debug mode, and signal handlers.
    Standard(Py<PyAny>),
    /// A task's step, and its context.
    Step(Py<PyAny>, Py<PyAny>),
    /// A future whose task is done.
    Completion(Py<FutureCore>, Py<PyAny>),
    /// A native watcher is to be told that its descriptor is ready: the event's key.
    Io(u64, Direction),
    /// A step of an object of ours, see [`Step`].
    Native(Py<PyAny>, RunStep),
    /// A call whose task is made, and takes its first step, when its turn comes.
    Start(Start),
}

/// What an object of ours does in the loop's next turn. What it raises goes to the loop's exception handler.
pub trait Step {
    type Of: PyClass;

    fn run(slf: &Bound<'_, Self::Of>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()>;
}

pub type RunStep = fn(&Bound<'_, PyAny>, &Bound<'_, LoopCore>) -> PyResult<()>;

/// What the loop runs when its time has come.
pub enum Timer {
    Handle(Py<TimerHandle>),
    Standard(Py<PyAny>),
}

/// What ends a sleep of the loop, with or without an interpreter.
pub enum Bell {
    Parked(Unparker),
    Polling(Arc<Poller>),
    /// For the loop's own thread, if callers may run the loop.
    Own(Arc<Ownership<Poller>>),
}

impl Bell {
    /// Rings the bell that an inbox gave, if it did.
    pub fn ring(bell: Option<Self>) {
        match bell {
            None => {}
            Some(Bell::Parked(unparker)) => unparker.unpark(),
            Some(Bell::Polling(poller)) => poller.wake(),
            Some(Bell::Own(ownership)) => ownership.ring(),
        }
    }
}

/// How callbacks come from other threads, which says how to wake the loop for them.
///
/// Rung without the GIL the loop runs at once: best for a thread that waits for what it called, two thread switches instead of six.
/// Rung with it the thread goes on, and calls many more before the loop has its turn: best for one that does. So now and then
/// the GIL is kept, and what comes until the loop has it says how to go on.
#[derive(Default)]
pub struct Arrivals {
    come_one_by_one: GilCell<bool>,
    rings: GilCell<u8>,
    /// The GIL was kept for the last ring.
    kept: GilCell<bool>,
}

impl Arrivals {
    /// How many rings pass until the GIL is kept again.
    const PATIENCE: u8 = 32;

    /// Rings the bell that the inbox gave for a callback.
    pub fn ring(&self, py: Python<'_>, bell: Option<Bell>) {
        if bell.is_none() {
            return;
        }
        let rings = self.rings.get(py).wrapping_add(1);
        self.rings.set(py, rings);
        if self.come_one_by_one.get(py) && !rings.is_multiple_of(Self::PATIENCE) {
            py.detach(|| Bell::ring(bell));
        } else {
            self.kept.set(py, true);
            Bell::ring(bell);
        }
    }

    /// So many have come since the loop last looked.
    pub fn are(&self, py: Python<'_>, many: usize) {
        if self.kept.replace(py, false) {
            self.come_one_by_one.set(py, many == 1);
        }
    }
}

impl Ready {
    pub fn native<S: Step>(object: &Bound<'_, S::Of>) -> Self {
        Ready::Native(object.clone().into_any().unbind(), |object, event_loop| {
            // SAFETY: it is run with the object it stands beside, an `S::Of`.
            S::run(unsafe { object.cast_unchecked() }, event_loop)
        })
    }

    pub fn as_object<'py>(&self, py: Python<'py>, event_loop: &LoopCore) -> Bound<'py, PyAny> {
        match self {
            Ready::Handle(handle) => handle.bind(py).clone().into_any(),
            Ready::Standard(handle) => handle.bind(py).clone(),
            Ready::Step(step, _) => step.bind(py).clone(),
            Ready::Completion(future, _) => future.bind(py).clone().into_any(),
            Ready::Io(key, direction) => event_loop.queued_watcher(py, *key, *direction),
            Ready::Native(object, _) => object.bind(py).clone(),
            Ready::Start(start) => start.future.bind(py).clone().into_any(),
        }
    }

    /// Whether that object is what debug mode calls a handle.
    pub fn is_handle(&self) -> bool {
        matches!(
            self,
            Ready::Handle(_) | Ready::Standard(_) | Ready::Step(..)
        )
    }

    /// Whether it is a step of this task.
    pub fn is_step_of(&self, task: &Bound<'_, PyAny>) -> bool {
        let py = task.py();
        let step = match self {
            Ready::Handle(handle) => handle.get().callback(py),
            Ready::Step(step, _) => Some(step.bind(py).clone()),
            Ready::Standard(_)
            | Ready::Completion(..)
            | Ready::Io(..)
            | Ready::Native(..)
            | Ready::Start(_) => None,
        };
        step.is_some_and(|step| {
            step.getattr_opt(intern!(py, "__self__"))
                .is_ok_and(|of| of.is_some_and(|of| of.is(task)))
        })
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Ready::Handle(handle) => visit.call(handle),
            Ready::Standard(handle) => visit.call(handle),
            Ready::Step(step, context) => {
                visit.call(step)?;
                visit.call(context)
            }
            Ready::Completion(future, task) => {
                visit.call(future)?;
                visit.call(task)
            }
            Ready::Io(..) => Ok(()),
            Ready::Native(object, _) => visit.call(object),
            Ready::Start(start) => {
                visit.call(&start.future)?;
                visit.call(&start.context)
            }
        }
    }
}

impl Placed for Timer {
    fn placed(&self, place: usize) {
        match self {
            Timer::Handle(handle) => handle.get().placed(place),
            // One of debug mode keeps no place: it says when it is cancelled.
            Timer::Standard(_) => {}
        }
    }
}

impl Timer {
    /// Of an `asyncio.TimerHandle`, which is told that it is in the queue.
    pub fn standard(handle: &Bound<'_, PyAny>) -> PyResult<Self> {
        handle.setattr(intern!(handle.py(), "_scheduled"), true)?;
        Ok(Timer::Standard(handle.clone().unbind()))
    }

    pub fn is_cancelled(&self, py: Python<'_>) -> bool {
        match self {
            // It would not be here.
            Timer::Handle(_) => false,
            // `_cancelled` is a slot of a class of the standard library: reading it runs no Python code.
            Timer::Standard(handle) => handle
                .bind(py)
                .getattr(intern!(py, "_cancelled"))
                .and_then(|cancelled| cancelled.is_truthy())
                .unwrap_or(false),
        }
    }

    pub fn leaves_the_queue(&self, py: Python<'_>) {
        match self {
            Timer::Handle(_) => {}
            Timer::Standard(handle) => {
                // A slot again: it can't fail on a handle that asyncio made.
                let _ = handle.bind(py).setattr(intern!(py, "_scheduled"), false);
            }
        }
    }

    pub fn into_ready(self, py: Python<'_>) -> Ready {
        match self {
            Timer::Handle(handle) => Ready::Handle(handle.into_bound(py).into_super().unbind()),
            Timer::Standard(handle) => Ready::Standard(handle),
        }
    }

    pub fn as_object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match self {
            Timer::Handle(handle) => handle.bind(py).clone().into_any(),
            Timer::Standard(handle) => handle.bind(py).clone(),
        }
    }

    pub fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Timer::Handle(handle) => visit.call(handle),
            Timer::Standard(handle) => visit.call(handle),
        }
    }
}
