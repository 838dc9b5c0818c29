//! What every transport goes through: it begins and ends, each in a turn of the loop that is its own, and in between it
//! is told what there is to read and when it may write, unless that is paused.

use std::marker::PhantomData;
use std::os::fd::RawFd;

use pyo3::PyClass;
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::{PyString, PyTuple};

use crate::calls;
use crate::descriptors::{Direction, Watch};
use crate::event_loop::{LoopCore, Step};
use crate::gil::{GilCell, intern};
use crate::handle::run_in_context;

type Object = GilCell<Option<Py<PyAny>>>;

/// What a transport keeps for that, and to be told in between.
pub struct Life<'a> {
    /// None once the protocol was told that the connection is lost, as are the next two.
    pub event_loop: &'a GilCell<Option<Py<LoopCore>>>,
    pub protocol: &'a Object,
    /// The number under which the loop knows it.
    pub fd: RawFd,
    /// That `connection_made` is called in, and then taken; later that of the end.
    pub context: &'a Object,
    pub read_context: &'a Object,
    pub write_context: &'a Object,
    /// Of whoever opens it.
    pub waiter: &'a Object,
    /// Not 0 once the protocol is about to be told that the connection is lost.
    pub lost: &'a GilCell<u64>,
    /// What it is about to be told.
    pub reason: &'a Object,
    /// The protocol doesn't want to be told of more.
    pub is_paused: &'a GilCell<bool>,
    pub is_closing: &'a GilCell<bool>,
    pub waits_to_write: &'a GilCell<bool>,
}

pub trait Lives: PyClass<Frozen = True> + Sync + Watch {
    fn life(&self) -> Life<'_>;

    /// Whether it is to be told of what comes.
    fn listens(&self, py: Python<'_>) -> bool {
        self.is_reading(py)
    }

    /// Closes its socket or pipe.
    fn close_file(&self, py: Python<'_>) -> PyResult<()>;

    fn is_lost(&self, py: Python<'_>) -> bool {
        self.life().lost.get(py) != 0
    }

    fn is_reading(&self, py: Python<'_>) -> bool {
        let life = self.life();
        !life.is_closing.get(py) && !life.is_paused.get(py)
    }

    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.is_reading(py) {
            return Ok(());
        }
        let life = this.life();
        life.is_paused.set(py, true);
        if let Some(event_loop) = life.event_loop.bind(py) {
            event_loop
                .get()
                .pause_natively(py, life.fd, Direction::Read);
        }
        Self::log(slf, "debug", "%r pauses reading")
    }

    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let life = slf.get().life();
        if life.is_closing.get(py) || !life.is_paused.replace(py, false) {
            return Ok(());
        }
        if let Some(event_loop) = life.event_loop.bind(py) {
            Self::start_reading(slf, &event_loop)?;
        }
        Self::log(slf, "debug", "%r resumes reading")
    }

    fn stop_reading(&self, py: Python<'_>) {
        let life = self.life();
        if let Some(event_loop) = life.event_loop.bind(py) {
            event_loop
                .get()
                .unwatch_natively(py, life.fd, Direction::Read);
        }
    }

    /// Has itself told when it takes more, in a copy of the current context.
    fn wait_to_write(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let life = slf.get().life();
        if !life.waits_to_write.get(py)
            && let Some(event_loop) = life.event_loop.bind(py)
        {
            let context = calls::copy_context(py)?;
            life.write_context.set(py, Some(context.unbind()));
            event_loop
                .get()
                .watch_natively(life.fd, Direction::Write, slf)?;
            life.waits_to_write.set(py, true);
        }
        Ok(())
    }

    fn stop_writing(&self, py: Python<'_>) {
        let life = self.life();
        if life.waits_to_write.replace(py, false)
            && let Some(event_loop) = life.event_loop.bind(py)
        {
            event_loop
                .get()
                .unwatch_natively(py, life.fd, Direction::Write);
            life.write_context.set(py, None);
        }
    }

    /// Ends it in the next turn, or once all is written.
    fn close_when_written(slf: &Bound<'_, Self>, is_written: bool) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.life().is_closing.replace(py, true) {
            return Ok(());
        }
        this.stop_reading(py);
        if !is_written {
            return Ok(());
        }
        this.stop_writing(py);
        Self::lose_soon(slf, py.None().into_bound(py))
    }

    /// Ends it in the next turn, unless it is about to end.
    fn force_close(slf: &Bound<'_, Self>, reason: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_lost(py) {
            return Ok(());
        }
        this.life().is_closing.set(py, true);
        this.stop_writing(py);
        this.stop_reading(py);
        Self::lose_soon(slf, reason)
    }

    /// Ends it because of an error. What ends the program passes.
    fn fatal_error(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if calls::ends_the_program(py, &error) {
            return Err(error);
        }
        let message = calls::string(py, message)?;
        let args = [slf.as_any(), error.value(py).as_any(), message.as_any()];
        calls::call_user_method(intern!(py, "_fatal_error"), args).map(drop)
    }

    /// Debug mode: tells what it does.
    fn log(slf: &Bound<'_, Self>, level: &str, message: &str) -> PyResult<()> {
        let py = slf.py();
        if let Some(event_loop) = slf.get().life().event_loop.bind(py)
            && event_loop.get().is_debugged(py)
        {
            calls::asyncio_logger(py)?.call_method1(level, (message, slf))?;
        }
        Ok(())
    }

    /// Tells the protocol that the connection is lost, and lets go of everything.
    fn lose_connection(slf: &Bound<'_, Self>, reason: Bound<'_, PyAny>) -> PyResult<()> {
        Self::end(slf, reason)
    }

    /// As much of that as is the same for all.
    fn end(slf: &Bound<'_, Self>, reason: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let life = slf.get().life();
        let told = match life.protocol.bind(py) {
            Some(protocol) => {
                let lost = intern!(py, "connection_lost");
                calls::call_user_method(lost, [&protocol, &reason]).map(drop)
            }
            None => Ok(()),
        };
        let closed = slf.get().close_file(py);
        drop((life.protocol.take(py), life.event_loop.take(py)));
        drop((life.read_context.take(py), life.write_context.take(py)));
        told.and(closed)
    }

    /// Has itself told of what comes, in a copy of the current context.
    fn start_reading(slf: &Bound<'_, Self>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.listens(py) {
            let context = calls::copy_context(py)?;
            let life = this.life();
            life.read_context.set(py, Some(context.unbind()));
            event_loop
                .get()
                .watch_natively(life.fd, Direction::Read, slf)?;
        }
        Ok(())
    }

    /// Does what is to be done once its descriptor is ready, in the context of whoever had it told.
    fn run_ready(
        slf: &Bound<'_, Self>,
        direction: Direction,
        run: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        let py = slf.py();
        let life = slf.get().life();
        let context = match direction {
            Direction::Read => life.read_context,
            Direction::Write => life.write_context,
        };
        let Some(context) = context.bind(py) else {
            return Ok(());
        };
        run_in_context(&context, || {
            run()?;
            Ok(py.None().into_bound(py))
        })
    }

    /// Has the protocol told in the next turn that the connection is lost.
    fn lose_soon(slf: &Bound<'_, Self>, reason: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let life = slf.get().life();
        life.lost.set(py, life.lost.get(py) + 1);
        life.context
            .set(py, Some(calls::copy_context(py)?.unbind()));
        life.reason.set(py, Some(reason.unbind()));
        match life.event_loop.bind(py) {
            Some(event_loop) => LoopCore::soon::<Lose<Self>>(&event_loop, slf),
            None => Ok(()),
        }
    }

    /// Calls a method of the protocol, and tells the loop's exception handler what it raises.
    fn call_protocol(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, LoopCore>,
        name: &Bound<'_, PyString>,
        arg: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let life = slf.get().life();
        let (Some(protocol), Some(context)) = (life.protocol.bind(py), life.context.bind(py))
        else {
            return Ok(());
        };
        // What it changes in the context is not seen by what follows.
        let own = calls::copy_of_context(&context)?;
        let called = run_in_context(&own, || match arg {
            Some(arg) => calls::call_user_method(name, [&protocol, arg]),
            None => calls::call_user_method(name, [&protocol]),
        });
        match called {
            Err(error) if !calls::ends_the_program(py, &error) => {
                let method = protocol.getattr(name)?;
                let args = PyTuple::new(py, arg)?;
                LoopCore::report_callback(event_loop, &method, &args, error)
            }
            called => called,
        }
    }
}

/// The protocol is told of its connection, and then of what comes.
pub struct Begin<T>(PhantomData<T>);

/// Only the latter.
struct Read<T>(PhantomData<T>);

/// The protocol is told that the connection is lost.
pub struct Lose<T>(PhantomData<T>);

impl<T: Lives> Step for Begin<T> {
    type Of = T;

    fn run(slf: &Bound<'_, T>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let made = intern!(slf.py(), "connection_made");
        if let Err(error) = T::call_protocol(slf, event_loop, made, Some(slf.as_any())) {
            LoopCore::soon::<Read<T>>(event_loop, slf)?;
            return Err(error);
        }
        Read::run(slf, event_loop)
    }
}

impl<T: Lives> Step for Read<T> {
    type Of = T;

    fn run(slf: &Bound<'_, T>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        let life = slf.get().life();
        // Whoever waits for the connection goes on, whether it can be read or not.
        let reads = match life.context.bind(py) {
            Some(context) => run_in_context(&context, || {
                T::start_reading(slf, event_loop)?;
                Ok(py.None().into_bound(py))
            }),
            None => Ok(()),
        };
        if life.lost.get(py) == 0 {
            drop(life.context.take(py));
        }
        if let Some(waiter) = life.waiter.take(py) {
            let waiter = waiter.bind(py);
            if !waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
                waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
            }
        }
        reads
    }
}

impl<T: Lives> Step for Lose<T> {
    type Of = T;

    fn run(slf: &Bound<'_, T>, _event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        let py = slf.py();
        let life = slf.get().life();
        let (Some(reason), Some(context)) = (life.reason.take(py), life.context.take(py)) else {
            return Ok(());
        };
        run_in_context(context.bind(py), || {
            T::lose_connection(slf, reason.into_bound(py))?;
            Ok(py.None().into_bound(py))
        })
    }
}
