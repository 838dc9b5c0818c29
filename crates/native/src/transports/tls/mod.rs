//! TLS: what of asyncio's `SSLProtocol` is paid per message, with the OpenSSL of the standard `ssl`.
//!
//! `TlsProtocol` (`_tls.py`) derives from this class first and from asyncio's second. Handshake, shutdown, timeouts and
//! errors are those of the CPython that runs it; what they store under asyncio's names lands in here, since a
//! descriptor of a class comes before what is in an instance. It stands between a transport and the application's
//! protocol, of any kind both; a `StreamTransport` hands it what it receives without a Python object in between.

mod bio;
mod connection;
mod engine;
mod memory;
mod openssl;
mod queue;
mod reading;
mod records;
mod transport;
mod writing;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit, ffi};

use self::connection::Connection;
use self::engine::Engine;
use self::memory::MemoryBio;
pub use self::queue::Queue;
use self::records::Records;
pub use self::transport::TlsTransportCore;
use super::reading::Memory;
use crate::gil::{GilCell, GilRefCell, intern};

#[pyclass(frozen, subclass, module = "asyncio_thread_loop._native")]
pub struct TlsCore {
    /// The `ssl.SSLObject`, and what does its work.
    ssl_object: GilCell<Option<Py<PyAny>>>,
    engine: GilCell<Option<Py<PyAny>>>,
    /// Of the engine.
    connection: GilCell<Option<Connection>>,
    incoming: MemoryBio,
    outgoing: MemoryBio,
    /// The one below.
    transport: GilCell<Option<Py<PyAny>>>,
    /// The application's.
    protocol: GilCell<Option<Py<PyAny>>>,
    is_buffered: GilCell<bool>,
    /// The member of asyncio's enumeration, and what it means here.
    state: GilCell<Option<Py<PyAny>>>,
    phase: GilCell<Phase>,
    /// Not yet encrypted, as a deque: only while there is no handshake yet, or a new one.
    backlog: GilCell<Option<Py<PyAny>>>,
    backlog_size: GilCell<isize>,
    outgoing_limits: GilCell<Limits>,
    incoming_limits: GilCell<Limits>,
    /// By the transport below.
    writing_is_paused: GilCell<bool>,
    protocol_is_paused: GilCell<bool>,
    /// By the application.
    reading_is_paused: GilCell<bool>,
    /// Of the transport below, by this.
    receiving_is_paused: GilCell<bool>,
    records: GilRefCell<Records>,
    /// The application is being told of what came; what it writes meanwhile is sent at the end.
    gathers: GilCell<bool>,
    /// So much has been encrypted since then.
    gathered: GilCell<usize>,
}

/// What there is to be done with bytes that come.
#[derive(Clone, Copy, Default, PartialEq)]
enum Phase {
    #[default]
    Unwrapped,
    Handshake,
    Wrapped,
    Flushing,
    Shutdown,
}

/// As asyncio has them: reached at `high`, not above it.
#[derive(Clone, Copy, Default)]
struct Limits {
    low: isize,
    high: isize,
}

impl Limits {
    /// Whether it is time to pause because of so much, or to resume.
    fn demand_change(self, size: isize, is_paused: bool) -> bool {
        if is_paused {
            size <= self.low
        } else {
            size >= self.high
        }
    }
}

impl TlsCore {
    /// Takes what was received, and does what is to be done with it.
    pub fn receive(slf: &Bound<'_, Self>, bytes: Queue) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.records.borrow_mut(py).follow(bytes.as_bytes());
        this.incoming.append(py, bytes)?;
        let done = Self::go_on(slf);
        this.incoming.trim(py);
        done
    }

    fn go_on(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let step = match slf.get().phase.get(py) {
            Phase::Unwrapped => return Ok(()),
            Phase::Wrapped => return Self::read_now(slf),
            Phase::Handshake => intern!(py, "_do_handshake"),
            Phase::Flushing => intern!(py, "_do_flush"),
            Phase::Shutdown => intern!(py, "_do_shutdown"),
        };
        slf.call_method0(step).map(drop)
    }

    /// An `Exception` ends the connection, as in asyncio; others pass.
    fn fatal_error(slf: &Bound<'_, Self>, result: PyResult<()>) -> PyResult<()> {
        let py = slf.py();
        match result {
            Err(error) if error.is_instance_of::<PyException>(py) => slf
                .call_method1(
                    intern!(py, "_fatal_error"),
                    (error.value(py), intern!(py, "Fatal error on SSL protocol")),
                )
                .map(drop),
            result => result,
        }
    }
}

#[pymethods]
impl TlsCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            ssl_object: GilCell::new(None),
            engine: GilCell::new(None),
            connection: GilCell::new(None),
            incoming: MemoryBio::default(),
            outgoing: MemoryBio::default(),
            transport: GilCell::new(None),
            protocol: GilCell::new(None),
            is_buffered: GilCell::new(false),
            state: GilCell::new(None),
            phase: GilCell::new(Phase::Unwrapped),
            backlog: GilCell::new(None),
            backlog_size: GilCell::new(0),
            outgoing_limits: GilCell::new(Limits::default()),
            incoming_limits: GilCell::new(Limits::default()),
            writing_is_paused: GilCell::new(false),
            protocol_is_paused: GilCell::new(false),
            reading_is_paused: GilCell::new(false),
            receiving_is_paused: GilCell::new(false),
            records: GilRefCell::new(Records::NONE),
            gathers: GilCell::new(false),
            gathered: GilCell::new(0),
        }
    }

    /// From a transport that isn't native.
    fn buffer_updated(slf: &Bound<'_, Self>, nbytes: usize) -> PyResult<()> {
        let py = slf.py();
        let memory = Memory::get(&slf.getattr(intern!(py, "_ssl_buffer"))?, ffi::PyBUF_SIMPLE)?;
        let bytes = memory.as_bytes();
        let mut received = Queue::default();
        received.push(&bytes[..nbytes.min(bytes.len())]);
        drop(memory);
        Self::receive(slf, received)
    }

    fn _do_read(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::read_now(slf)
    }

    fn _process_outgoing(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::send_now(slf)
    }

    fn _write_appdata(slf: &Bound<'_, Self>, list_of_data: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::write_all_now(slf, list_of_data)
    }

    #[getter]
    fn _sslobj(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.ssl_object.clone_ref(py)
    }

    #[setter(_sslobj)]
    fn set_ssl_object(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = object.py();
        let engine = engine::of(object)?;
        let connection = Connection::of(&engine, &self.incoming, &self.outgoing)?;
        // No code runs between the two.
        let old = self.engine.replace(py, Some(engine.unbind()));
        self.connection.set(py, connection);
        drop(old);
        self.ssl_object.set(py, Some(object.clone().unbind()));
        self.records.borrow_mut(py).are_unsure();
        Ok(())
    }

    #[getter]
    fn _incoming(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.incoming.object().clone_ref(py)
    }

    #[setter(_incoming)]
    fn set_incoming(&self, bio: &Bound<'_, PyAny>) -> PyResult<()> {
        self.incoming.set(bio)
    }

    #[getter]
    fn _outgoing(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.outgoing.object().clone_ref(py)
    }

    #[setter(_outgoing)]
    fn set_outgoing(&self, bio: &Bound<'_, PyAny>) -> PyResult<()> {
        self.outgoing.set(bio)
    }

    #[getter]
    fn _transport(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.transport.clone_ref(py)
    }

    #[setter(_transport)]
    fn set_transport(&self, py: Python<'_>, transport: Option<Py<PyAny>>) {
        self.transport.set(py, transport);
    }

    #[getter]
    fn _app_protocol(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.protocol.clone_ref(py)
    }

    #[setter(_app_protocol)]
    fn set_app_protocol(&self, py: Python<'_>, protocol: Option<Py<PyAny>>) {
        self.protocol.set(py, protocol);
    }

    #[getter]
    fn _app_protocol_is_buffer(&self, py: Python<'_>) -> bool {
        self.is_buffered.get(py)
    }

    #[setter(_app_protocol_is_buffer)]
    fn set_app_protocol_is_buffer(&self, py: Python<'_>, is_buffered: bool) {
        self.is_buffered.set(py, is_buffered);
    }

    #[getter]
    fn _state(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.state.clone_ref(py)
    }

    #[setter(_state)]
    fn set_state(&self, state: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = state.py();
        let name = state.getattr(intern!(py, "name"))?;
        let phase = match name.extract::<&str>()? {
            "DO_HANDSHAKE" => Phase::Handshake,
            "WRAPPED" => Phase::Wrapped,
            "FLUSHING" => Phase::Flushing,
            "SHUTDOWN" => Phase::Shutdown,
            _ => Phase::Unwrapped,
        };
        // A handshake and a shutdown read, too.
        self.records.borrow_mut(py).are_unsure();
        self.phase.set(py, phase);
        self.state.set(py, Some(state.clone().unbind()));
        Ok(())
    }

    #[getter]
    fn _write_backlog(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.backlog.clone_ref(py)
    }

    #[setter(_write_backlog)]
    fn set_write_backlog(&self, py: Python<'_>, backlog: Py<PyAny>) {
        self.backlog.set(py, Some(backlog));
    }

    #[getter]
    fn _write_buffer_size(&self, py: Python<'_>) -> isize {
        self.backlog_size.get(py)
    }

    #[setter(_write_buffer_size)]
    fn set_write_buffer_size(&self, py: Python<'_>, size: isize) {
        self.backlog_size.set(py, size);
    }

    #[getter]
    fn _outgoing_high_water(&self, py: Python<'_>) -> isize {
        self.outgoing_limits.get(py).high
    }

    #[setter(_outgoing_high_water)]
    fn set_outgoing_high_water(&self, py: Python<'_>, high: isize) {
        let Limits { low, .. } = self.outgoing_limits.get(py);
        self.outgoing_limits.set(py, Limits { low, high });
    }

    #[getter]
    fn _outgoing_low_water(&self, py: Python<'_>) -> isize {
        self.outgoing_limits.get(py).low
    }

    #[setter(_outgoing_low_water)]
    fn set_outgoing_low_water(&self, py: Python<'_>, low: isize) {
        let Limits { high, .. } = self.outgoing_limits.get(py);
        self.outgoing_limits.set(py, Limits { low, high });
    }

    #[getter]
    fn _incoming_high_water(&self, py: Python<'_>) -> isize {
        self.incoming_limits.get(py).high
    }

    #[setter(_incoming_high_water)]
    fn set_incoming_high_water(&self, py: Python<'_>, high: isize) {
        let Limits { low, .. } = self.incoming_limits.get(py);
        self.incoming_limits.set(py, Limits { low, high });
    }

    #[getter]
    fn _incoming_low_water(&self, py: Python<'_>) -> isize {
        self.incoming_limits.get(py).low
    }

    #[setter(_incoming_low_water)]
    fn set_incoming_low_water(&self, py: Python<'_>, low: isize) {
        let Limits { high, .. } = self.incoming_limits.get(py);
        self.incoming_limits.set(py, Limits { low, high });
    }

    #[getter]
    fn _ssl_writing_paused(&self, py: Python<'_>) -> bool {
        self.writing_is_paused.get(py)
    }

    #[setter(_ssl_writing_paused)]
    fn set_ssl_writing_paused(&self, py: Python<'_>, is_paused: bool) {
        self.writing_is_paused.set(py, is_paused);
    }

    #[getter]
    fn _app_writing_paused(&self, py: Python<'_>) -> bool {
        self.protocol_is_paused.get(py)
    }

    #[setter(_app_writing_paused)]
    fn set_app_writing_paused(&self, py: Python<'_>, is_paused: bool) {
        self.protocol_is_paused.set(py, is_paused);
    }

    #[getter]
    fn _app_reading_paused(&self, py: Python<'_>) -> bool {
        self.reading_is_paused.get(py)
    }

    #[setter(_app_reading_paused)]
    fn set_app_reading_paused(&self, py: Python<'_>, is_paused: bool) {
        self.reading_is_paused.set(py, is_paused);
    }

    #[getter]
    fn _ssl_reading_paused(&self, py: Python<'_>) -> bool {
        self.receiving_is_paused.get(py)
    }

    #[setter(_ssl_reading_paused)]
    fn set_ssl_reading_paused(&self, py: Python<'_>, is_paused: bool) {
        self.receiving_is_paused.set(py, is_paused);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for object in self.objects() {
            object.visit(|object| visit.call(object))?;
        }
        Ok(())
    }

    fn __clear__(&self, py: Python<'_>) {
        for object in self.objects() {
            drop(object.take(py));
        }
    }
}

impl TlsCore {
    fn engine<'py>(&self, py: Python<'py>) -> Option<Engine<'py>> {
        Some(Engine {
            object: self.engine.bind(py)?,
            connection: self.connection.get(py),
        })
    }

    fn objects(&self) -> [&GilCell<Option<Py<PyAny>>>; 8] {
        [
            &self.ssl_object,
            &self.engine,
            self.incoming.object(),
            self.outgoing.object(),
            &self.transport,
            &self.protocol,
            &self.state,
            &self.backlog,
        ]
    }
}
