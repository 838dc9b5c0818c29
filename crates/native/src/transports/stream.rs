//! `StreamTransport`: a connection over TCP or a Unix socket.

use std::os::fd::RawFd;

use pyo3::exceptions::PyConnectionError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use pyo3::{PyTraverseError, PyVisit};

use super::buffer::WriteBuffer;
use super::endpoint::Endpoint;
use super::flow::FlowControl;
use super::life::{Begin, Life, Lives};
use super::reading::MAX_SIZE;
use super::server;
use super::socket;
use crate::address::Address;
use crate::calls;
use crate::descriptors::{Direction, Watch};
use crate::event_loop::LoopCore;
use crate::gil::{GilCell, GilRefCell, intern};
use crate::sockets::descriptor;

#[pyclass(frozen, subclass, module = "asyncio_thread_loop._native")]
pub struct StreamTransport {
    /// None once the protocol was told that the connection is lost, as is the protocol. The endpoint is closed then.
    pub event_loop: GilCell<Option<Py<LoopCore>>>,
    endpoint: Endpoint,
    protocol: GilCell<Option<Py<PyAny>>>,
    /// The number under which the loop knows it. The socket may have been closed by others since.
    pub fd: RawFd,
    /// Of a server's.
    server: GilCell<Option<Py<PyAny>>>,
    extra: Py<PyDict>,
    /// What `extra` is to have of the socket once somebody asks for it: mostly nobody does.
    addresses_later: GilCell<Option<Box<Addresses>>>,
    tells_socket_later: GilCell<bool>,
    /// The protocol is a `BufferedProtocol`.
    is_buffered: GilCell<bool>,
    /// That `connection_made` is called in, and then taken.
    context: GilCell<Option<Py<PyAny>>>,
    pub read_context: GilCell<Option<Py<PyAny>>>,
    pub write_context: GilCell<Option<Py<PyAny>>>,
    /// How much is likely to be read at once.
    pub expected: GilCell<usize>,
    pub buffer: GilRefCell<WriteBuffer>,
    pub flow: FlowControl,
    pub waits_to_write: GilCell<bool>,
    is_paused: GilCell<bool>,
    is_closing: GilCell<bool>,
    /// Nothing is to be written any more.
    is_at_eof: GilCell<bool>,
    /// Not 0 once the protocol is about to be told that the connection is lost; counts writes from then on.
    pub lost: GilCell<u64>,
    /// What it is about to be told.
    reason: GilCell<Option<Py<PyAny>>>,
    /// Of whoever opens the connection.
    waiter: GilCell<Option<Py<PyAny>>>,
    /// Of whoever sends a file: it waits until nothing is left in the buffer.
    pub empty_waiter: GilCell<Option<Py<PyAny>>>,
}

/// Of the two sides of a connection. None: the system doesn't tell.
pub struct Addresses {
    pub peer: Option<Address>,
    pub own: Option<Address>,
}

impl Addresses {
    fn tell(&self, extra: &Bound<'_, PyDict>) -> PyResult<()> {
        let py = extra.py();
        for (name, address) in [
            (intern!(py, "peername"), &self.peer),
            (intern!(py, "sockname"), &self.own),
        ] {
            let address = address.as_ref().map(|address| address.to_python(py));
            extra.set_item(name, address.transpose()?)?;
        }
        Ok(())
    }
}

impl StreamTransport {
    pub fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.protocol.bind(py)
    }

    pub fn is_buffered(&self, py: Python<'_>) -> bool {
        self.is_buffered.get(py)
    }

    pub fn is_at_eof(&self, py: Python<'_>) -> bool {
        self.is_at_eof.get(py)
    }

    /// The socket's descriptor, which is no more if the socket was closed behind our back.
    pub fn descriptor(&self, py: Python<'_>) -> PyResult<RawFd> {
        self.endpoint.descriptor(py)
    }

    /// Whether there is a socket to be closed.
    pub fn is_open(&self, py: Python<'_>) -> bool {
        self.endpoint.is_open(py)
    }

    /// A connection that a server accepted, which calls the methods of `protocol` in copies of the current context.
    pub fn accepted(
        event_loop: &Bound<'_, LoopCore>,
        endpoint: Endpoint,
        extra: Bound<'_, PyDict>,
        addresses: Option<Addresses>,
        protocol: Bound<'_, PyAny>,
        server: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        let fd = endpoint.descriptor(py)?;
        Ok(Self {
            event_loop: GilCell::new(Some(event_loop.clone().unbind())),
            is_buffered: GilCell::new(is_buffered(&protocol)?),
            protocol: GilCell::new(Some(protocol.unbind())),
            server: GilCell::new(server.map(Bound::unbind)),
            context: GilCell::new(Some(calls::copy_context(py)?.unbind())),
            addresses_later: GilCell::new(addresses.map(Box::new)),
            tells_socket_later: GilCell::new(true),
            ..Self::of(endpoint, fd, extra)
        })
    }

    /// Ends a connection that the protocol never heard of.
    pub fn drop_connection(&self, py: Python<'_>) {
        let _ = self.endpoint.close(py);
        drop(self.server.take(py));
    }

    /// One that is lost.
    pub fn nothing(py: Python<'_>) -> Self {
        Self::of(Endpoint::nothing(), -1, PyDict::new(py))
    }

    fn of(endpoint: Endpoint, fd: RawFd, extra: Bound<'_, PyDict>) -> Self {
        Self {
            event_loop: GilCell::new(None),
            endpoint,
            protocol: GilCell::new(None),
            fd,
            server: GilCell::new(None),
            extra: extra.unbind(),
            addresses_later: GilCell::new(None),
            tells_socket_later: GilCell::new(false),
            is_buffered: GilCell::new(false),
            context: GilCell::new(None),
            read_context: GilCell::new(None),
            write_context: GilCell::new(None),
            expected: GilCell::new(0),
            buffer: GilRefCell::new(WriteBuffer::default()),
            flow: FlowControl::default(),
            waits_to_write: GilCell::new(false),
            is_paused: GilCell::new(false),
            is_closing: GilCell::new(false),
            is_at_eof: GilCell::new(false),
            lost: GilCell::new(0),
            reason: GilCell::new(None),
            waiter: GilCell::new(None),
            empty_waiter: GilCell::new(None),
        }
    }

    fn tell_addresses(&self, py: Python<'_>) -> PyResult<()> {
        let Some(addresses) = self.addresses_later.take(py) else {
            return Ok(());
        };
        let told = addresses.tell(self.extra.bind(py));
        if told.is_err() {
            self.addresses_later.set(py, Some(addresses));
        }
        told
    }

    fn tell_socket(&self, py: Python<'_>) -> PyResult<()> {
        if self.tells_socket_later.get(py)
            && let Some(socket) = self.endpoint.object_or_closed(py)?
        {
            let socket = calls::transport_socket(py)?.call1((socket,))?;
            self.extra
                .bind(py)
                .set_item(intern!(py, "socket"), socket)?;
            self.tells_socket_later.set(py, false);
        }
        Ok(())
    }

    /// Makes the connection known to the loop, and to the protocol in the next turn.
    pub fn begin(slf: &Bound<'_, Self>, waiter: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(event_loop) = this.event_loop.bind(py) else {
            return Ok(());
        };
        if let Some(server) = this.server.bind(py) {
            server::attach(&server, slf)?;
        }
        event_loop.get().transports.get().note(this.fd, slf)?;
        this.waiter.set(py, waiter.map(Bound::unbind));
        LoopCore::soon::<Begin<Self>>(&event_loop, slf)
    }
}

#[pymethods]
impl StreamTransport {
    #[new]
    #[pyo3(signature = (event_loop, socket, protocol, extra=None, server=None, context=None))]
    fn new(
        event_loop: &Bound<'_, LoopCore>,
        socket: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        extra: Option<Bound<'_, PyDict>>,
        server: Option<Py<PyAny>>,
        context: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let py = event_loop.py();
        let context = match context {
            Some(context) => context,
            None => calls::copy_context(py)?,
        };
        let fd = descriptor(socket)?;
        let extra = extra.unwrap_or_else(|| PyDict::new(py));
        Ok(Self {
            event_loop: GilCell::new(Some(event_loop.clone().unbind())),
            is_buffered: GilCell::new(is_buffered(protocol)?),
            protocol: GilCell::new(Some(protocol.clone().unbind())),
            server: GilCell::new(server),
            context: GilCell::new(Some(context.unbind())),
            ..Self::of(Endpoint::of(socket.clone()), fd, extra)
        })
    }

    /// What the constructor of asyncio's does beyond making the object.
    #[pyo3(signature = (waiter=None))]
    fn _begin(slf: &Bound<'_, Self>, waiter: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        Self::begin(slf, waiter)
    }

    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_now(slf, data)
    }

    fn writelines(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_all_now(slf, list_of_data)
    }

    fn write_eof(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_closing.get(py) || self.is_at_eof.replace(py, true) {
            return Ok(());
        }
        if self.buffer.borrow_mut(py).is_empty() {
            return socket::shut_down_writing(py, self.descriptor(py)?);
        }
        Ok(())
    }

    fn can_write_eof(&self) -> bool {
        true
    }

    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.buffer.borrow_mut(py).size()
    }

    fn get_write_buffer_limits(&self, py: Python<'_>) -> (usize, usize) {
        self.flow.limits(py)
    }

    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<isize>,
        low: Option<isize>,
    ) -> PyResult<()> {
        slf.get().flow.set_limits(slf.py(), high, low)?;
        Self::pause_protocol_if_full(slf)
    }

    fn is_reading(&self, py: Python<'_>) -> bool {
        Lives::is_reading(self, py)
    }

    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Lives::pause_reading(slf)
    }

    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Lives::resume_reading(slf)
    }

    fn set_protocol(&self, protocol: Bound<'_, PyAny>) -> PyResult<()> {
        let py = protocol.py();
        self.is_buffered.set(py, is_buffered(&protocol)?);
        self.protocol.set(py, Some(protocol.unbind()));
        Ok(())
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
        let extra = self.extra.bind(name.py());
        if let Some(value) = extra.get_item(name)? {
            return Ok(Some(value));
        }
        self.tell_addresses(name.py())?;
        if name.eq("socket")? {
            self.tell_socket(name.py())?;
        }
        Ok(extra.get_item(name)?.or(default))
    }

    pub fn is_closing(&self, py: Python<'_>) -> bool {
        self.is_closing.get(py)
    }

    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let is_written = slf.get().buffer.borrow_mut(slf.py()).is_empty();
        Self::close_when_written(slf, is_written)
    }

    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.call_method1(intern!(slf.py(), "_force_close"), (slf.py().None(),))
            .map(drop)
    }

    fn _force_close(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        slf.get().buffer.borrow_mut(slf.py()).clear();
        Self::force_close(slf, exc)
    }

    /// To be called before a socket is closed without the protocol being told.
    fn _unwatch(&self, py: Python<'_>) {
        self.stop_writing(py);
        self.stop_reading(py);
    }

    fn _read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::read_ready(slf)
    }

    fn _write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::write_ready(slf)
    }

    #[classattr]
    fn max_size() -> usize {
        MAX_SIZE
    }

    #[getter]
    fn _loop(&self, py: Python<'_>) -> Option<Py<LoopCore>> {
        self.event_loop.clone_ref(py)
    }

    #[getter]
    fn _sock<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.endpoint.object(py)
    }

    #[getter]
    fn _sock_fd(&self) -> RawFd {
        self.fd
    }

    #[getter]
    fn _extra(&self, py: Python<'_>) -> PyResult<Py<PyDict>> {
        self.tell_addresses(py)?;
        self.tell_socket(py)?;
        Ok(self.extra.clone_ref(py))
    }

    #[getter]
    fn _server(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.server.clone_ref(py)
    }

    #[getter]
    fn _protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol.clone_ref(py)
    }

    /// What wasn't written yet, to look at.
    #[getter]
    fn _buffer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.buffer.borrow_mut(py).to_list(py)
    }

    #[getter]
    fn _conn_lost(&self, py: Python<'_>) -> u64 {
        self.lost.get(py)
    }

    #[getter]
    fn _closing(&self, py: Python<'_>) -> bool {
        self.is_closing.get(py)
    }

    #[getter]
    fn _paused(&self, py: Python<'_>) -> bool {
        self.is_paused.get(py)
    }

    #[getter]
    fn _eof(&self, py: Python<'_>) -> bool {
        self.is_at_eof.get(py)
    }

    #[getter]
    fn _protocol_paused(&self, py: Python<'_>) -> bool {
        self.flow.is_paused(py)
    }

    #[getter]
    fn _empty_waiter(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.empty_waiter.clone_ref(py)
    }

    #[setter(_empty_waiter)]
    fn set_empty_waiter(&self, py: Python<'_>, waiter: Option<Py<PyAny>>) {
        self.empty_waiter.set(py, waiter);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.extra)?;
        self.endpoint.visit(&visit)?;
        self.event_loop.visit(|object| visit.call(object))?;
        for object in [
            &self.protocol,
            &self.server,
            &self.context,
            &self.read_context,
            &self.write_context,
            &self.reason,
            &self.waiter,
            &self.empty_waiter,
        ] {
            object.visit(|object| visit.call(object))?;
        }
        Ok(())
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        this.endpoint.let_go(py);
        drop(this.event_loop.take(py));
        for object in [
            &this.protocol,
            &this.server,
            &this.context,
            &this.read_context,
            &this.write_context,
            &this.reason,
            &this.waiter,
            &this.empty_waiter,
        ] {
            drop(object.take(py));
        }
    }
}

impl Watch for StreamTransport {
    fn ready(
        slf: &Bound<'_, Self>,
        _event_loop: &Bound<'_, LoopCore>,
        direction: Direction,
    ) -> PyResult<()> {
        Self::run_ready(slf, direction, || match direction {
            Direction::Read => Self::read_ready(slf),
            Direction::Write => Self::write_ready(slf),
        })
    }
}

impl Lives for StreamTransport {
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

    fn close_file(&self, py: Python<'_>) -> PyResult<()> {
        self.endpoint.close(py)
    }

    fn lose_connection(slf: &Bound<'_, Self>, reason: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        // Before its number can be another's.
        let emptied = if this.empty_waiter.is_some(py) {
            let error = calls::builtin_error::<PyConnectionError>("Connection is closed by peer");
            this.tell_empty_waiter(py, Some(error.value(py).clone().into_any()))
        } else {
            Ok(())
        };
        let told = Self::end(slf, reason);
        let detached = match this.server.take(py) {
            Some(server) => server::detach(server.bind(py), slf),
            None => Ok(()),
        };
        told.and(detached).and(emptied)
    }
}

fn is_buffered(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    protocol.is_instance(calls::buffered_protocol(protocol.py())?)
}
