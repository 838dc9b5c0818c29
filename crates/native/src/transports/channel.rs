//! `Channel`: what transports of datagrams and of pipes have in common.

use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

use super::flow::FlowControl;
use super::life::{Begin, Life, Lives};
use crate::calls;
use crate::descriptors::{Direction, Watch};
use crate::event_loop::LoopCore;
use crate::gil::{GilCell, intern};
use crate::sockets::descriptor;

/// What one of them does.
pub struct Kind {
    /// Its descriptor is ready.
    pub ready: fn(&Bound<'_, Channel>, Direction) -> PyResult<()>,
    /// What asyncio calls what it does then.
    pub write_ready: &'static str,
}

#[pyclass(frozen, subclass, module = "asyncio_thread_loop._native")]
pub struct Channel {
    /// None once the protocol was told that the connection is lost, as are the next two.
    event_loop: GilCell<Option<Py<LoopCore>>>,
    file: GilCell<Option<Py<PyAny>>>,
    protocol: GilCell<Option<Py<PyAny>>>,
    /// The number under which the loop knows it. It may have been closed by others since.
    pub fd: RawFd,
    extra: Py<PyDict>,
    kind: &'static Kind,
    /// It has something to read, or an end to notice.
    is_readable: bool,
    context: GilCell<Option<Py<PyAny>>>,
    read_context: GilCell<Option<Py<PyAny>>>,
    write_context: GilCell<Option<Py<PyAny>>>,
    pub flow: FlowControl,
    is_paused: GilCell<bool>,
    is_closing: GilCell<bool>,
    waits_to_write: GilCell<bool>,
    pub lost: GilCell<u64>,
    reason: GilCell<Option<Py<PyAny>>>,
    waiter: GilCell<Option<Py<PyAny>>>,
}

impl Channel {
    pub fn new(
        event_loop: &Bound<'_, LoopCore>,
        file: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        extra: Py<PyDict>,
        kind: &'static Kind,
        is_readable: bool,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        Ok(Self {
            event_loop: GilCell::new(Some(event_loop.clone().unbind())),
            file: GilCell::new(Some(file.clone().unbind())),
            protocol: GilCell::new(Some(protocol.clone().unbind())),
            fd: descriptor(file)?,
            extra,
            kind,
            is_readable,
            context: GilCell::new(Some(calls::copy_context(py)?.unbind())),
            read_context: GilCell::new(None),
            write_context: GilCell::new(None),
            flow: FlowControl::default(),
            is_paused: GilCell::new(false),
            is_closing: GilCell::new(false),
            waits_to_write: GilCell::new(false),
            lost: GilCell::new(0),
            reason: GilCell::new(None),
            waiter: GilCell::new(None),
        })
    }

    pub fn file<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.file.bind(py)
    }

    pub fn set_file(&self, py: Python<'_>, file: Option<Py<PyAny>>) {
        self.file.set(py, file);
    }

    pub fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol.bind(py)
    }

    pub fn event_loop<'py>(&self, py: Python<'py>) -> Option<Bound<'py, LoopCore>> {
        self.event_loop.bind(py)
    }

    /// Returns whether it was closing already.
    pub fn set_closing(&self, py: Python<'_>) -> bool {
        self.is_closing.replace(py, true)
    }
}

#[pymethods]
impl Channel {
    /// What the constructor of asyncio's does beyond making the object.
    fn _begin(slf: &Bound<'_, Self>, waiter: Option<Py<PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.waiter.set(py, waiter);
        match this.event_loop.bind(py) {
            Some(event_loop) => LoopCore::soon::<Begin<Self>>(&event_loop, slf),
            None => Ok(()),
        }
    }

    fn set_protocol(&self, py: Python<'_>, protocol: Py<PyAny>) {
        self.protocol.set(py, Some(protocol));
    }

    fn get_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol.clone_ref(py)
    }

    #[pyo3(signature = (name, default=None))]
    fn get_extra_info<'py>(
        &self,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.extra.bind(name.py()).get_item(name)?.or(default))
    }

    pub fn is_closing(&self, py: Python<'_>) -> bool {
        self.is_closing.get(py)
    }

    /// To be called before the file is closed without the protocol being told.
    fn _unwatch(&self, py: Python<'_>) {
        self.stop_writing(py);
        self.stop_reading(py);
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<LoopCore>> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _extra(&self, py: Python<'_>) -> Py<PyDict> {
        self.extra.clone_ref(py)
    }

    #[getter]
    fn _protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol.clone_ref(py)
    }

    #[getter]
    fn _closing(&self, py: Python<'_>) -> bool {
        self.is_closing.get(py)
    }

    #[getter]
    fn _paused(&self, py: Python<'_>) -> bool {
        self.is_paused.get(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.extra)?;
        self.event_loop.visit(|object| visit.call(object))?;
        for object in self.objects() {
            object.visit(|object| visit.call(object))?;
        }
        Ok(())
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        drop(this.event_loop.take(py));
        for object in this.objects() {
            drop(object.take(py));
        }
    }
}

impl Channel {
    fn objects(&self) -> [&GilCell<Option<Py<PyAny>>>; 7] {
        [
            &self.file,
            &self.protocol,
            &self.context,
            &self.read_context,
            &self.write_context,
            &self.reason,
            &self.waiter,
        ]
    }
}

impl Lives for Channel {
    fn life(&self) -> Life<'_> {
        Life {
            event_loop: &self.event_loop,
            protocol: &self.protocol,
            fd: self.fd,
            context: &self.context,
            read_context: &self.read_context,
            write_context: &self.write_context,
            waiter: &self.waiter,
            lost: &self.lost,
            reason: &self.reason,
            is_paused: &self.is_paused,
            is_closing: &self.is_closing,
            waits_to_write: &self.waits_to_write,
        }
    }

    fn listens(&self, py: Python<'_>) -> bool {
        self.is_readable && self.is_reading(py)
    }

    fn close_file(&self, py: Python<'_>) -> PyResult<()> {
        match self.file.take(py) {
            Some(file) => file.call_method0(py, intern!(py, "close")).map(drop),
            None => Ok(()),
        }
    }
}

impl Watch for Channel {
    fn ready(
        slf: &Bound<'_, Self>,
        event_loop: &Bound<'_, LoopCore>,
        direction: Direction,
    ) -> PyResult<()> {
        let py = slf.py();
        let kind = slf.get().kind;
        match Self::run_ready(slf, direction, || (kind.ready)(slf, direction)) {
            Err(error) if !calls::ends_the_program(py, &error) => {
                let name = match direction {
                    Direction::Read => "_read_ready",
                    Direction::Write => kind.write_ready,
                };
                let callback = slf.getattr(calls::string(py, name)?)?;
                LoopCore::report_callback(event_loop, &callback, &PyTuple::empty(py), error)
            }
            done => done,
        }
    }
}
