//! `DatagramTransport`: a socket of datagrams, to one peer or to many.

use std::collections::VecDeque;

use libc::c_int;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use pyo3::{PyTraverseError, PyVisit};

use super::channel::{Channel, Kind};
use super::data::{Data, check_is_bytes};
use super::life::Lives;
use super::peers::Peers;
use super::reading::MAX_SIZE;
use super::writing::LOGGED_FROM;
use crate::buffer::receive_bytes;
use crate::calls;
use crate::descriptors::Direction;
use crate::event_loop::LoopCore;
use crate::gil::{GilCell, GilRefCell, intern};
use crate::sockets::{descriptor, family, system, would_block};

/// So many datagrams at most are received before others have their turn.
const MOST: usize = 32;

/// Where datagrams come one by one, it is seldom worth a system call to look for another one.
const SELDOM: usize = 8;

/// What a datagram that waits to be sent counts beyond its own bytes, towards the limits of flow control.
const HEADER: usize = if cfg!(Py_3_13) { 8 } else { 0 };

#[pyclass(frozen, subclass, extends = Channel, module = "asyncio_thread_loop._native")]
pub struct DatagramTransport {
    /// The only one that it sends to.
    address: GilCell<Option<Py<PyAny>>>,
    /// The socket knows whom it sends to.
    is_connected: bool,
    family: c_int,
    buffer: GilRefCell<VecDeque<Unsent>>,
    /// Bytes in the buffer, as flow control counts them.
    size: GilCell<usize>,
    peers: GilRefCell<Peers>,
    /// How much is likely to be received at once.
    expected: GilCell<usize>,
    /// So often from now on no second datagram is looked for after the first.
    singles: GilCell<usize>,
}

/// A datagram that can't be sent yet.
struct Unsent {
    data: Py<PyBytes>,
    to: Option<Py<PyAny>>,
}

static KIND: Kind = Kind {
    ready: |channel, direction| {
        // SAFETY: only a `DatagramTransport` has this kind.
        let slf = unsafe { channel.as_any().cast_unchecked::<DatagramTransport>() };
        match direction {
            Direction::Read => DatagramTransport::read_ready(slf),
            Direction::Write => DatagramTransport::write_ready(slf),
        }
    },
    write_ready: "_sendto_ready",
};

impl DatagramTransport {
    /// Hands datagrams that are there to the protocol, until it has enough.
    fn read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        match this.singles.get(py) {
            0 => {
                if Self::receive_at_most(slf, MOST)? < 2 {
                    this.singles.set(py, SELDOM);
                }
            }
            left => {
                this.singles.set(py, left - 1);
                Self::receive_at_most(slf, 1)?;
            }
        }
        Ok(())
    }

    /// Returns how many there were.
    fn receive_at_most(slf: &Bound<'_, Self>, most: usize) -> PyResult<usize> {
        let py = slf.py();
        let channel = slf.as_super().get();
        for count in 0..most {
            // After a datagram the protocol may have had enough.
            let goes_on = !channel.is_lost(py) && (count == 0 || channel.is_reading(py));
            let (true, Some(protocol)) = (goes_on, channel.protocol(py)) else {
                return Ok(count);
            };
            let (data, from) = match slf.get().receive(slf) {
                Ok(Some(received)) => received,
                Ok(None) => return Ok(count),
                Err(error) => {
                    Self::failed(slf, error, "Fatal read error on datagram transport")?;
                    return Ok(count);
                }
            };
            let received = intern!(py, "datagram_received");
            calls::call_user_method(received, [&protocol, data.as_any(), &from])?;
        }
        Ok(most)
    }

    /// None: nothing has come.
    fn receive<'py>(
        &self,
        slf: &Bound<'py, Self>,
    ) -> PyResult<Option<(Bound<'py, PyBytes>, Bound<'py, PyAny>)>> {
        let py = slf.py();
        let fd = match slf.as_super().get().file(py) {
            Some(socket) => descriptor(&socket)?,
            None => return Ok(None),
        };
        let mut from = None;
        let data = receive_bytes(py, &self.expected, MAX_SIZE, false, |into| {
            let received = system::receive_message(fd, into)?;
            Ok(received.map(|(size, address)| {
                from = Some(address);
                size
            }))
        })?;
        let (Some(data), Some(from)) = (data, from) else {
            return Ok(None);
        };
        let from = self.peers.borrow_mut(py).object_of(py, from)?;
        Ok(Some((data, from)))
    }

    /// Sends what is left in the buffer.
    fn write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let channel = slf.as_super();
        loop {
            let Some(unsent) = this.buffer.borrow_mut(py).pop_front() else {
                break;
            };
            let counted = unsent.data.as_bytes(py).len() + HEADER;
            this.size.set(py, this.size.get(py).saturating_sub(counted));
            let data = unsent.data.bind(py);
            let to = unsent.to.as_ref().map(|to| to.bind(py));
            match Self::send(slf, data.as_any(), data.as_bytes(), to) {
                Ok(true) => {}
                Ok(false) => {
                    this.buffer.borrow_mut(py).push_front(unsent);
                    this.size.set(py, this.size.get(py) + counted);
                    break;
                }
                Err(error) => {
                    return Self::failed(slf, error, "Fatal write error on datagram transport");
                }
            }
        }
        // This may send more.
        channel
            .get()
            .flow
            .resume_if_drained(channel, this.size.get(py))?;
        if !this.buffer.borrow_mut(py).is_empty() {
            return Ok(());
        }
        channel.get().stop_writing(py);
        if channel.get().is_closing(py) && !channel.get().is_lost(py) {
            channel.get().lost.set(py, 1);
            return Channel::lose_connection(channel, py.None().into_bound(py));
        }
        Ok(())
    }

    /// False: it can't be sent right now.
    fn send(
        slf: &Bound<'_, Self>,
        object: &Bound<'_, PyAny>,
        data: &[u8],
        to: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let py = slf.py();
        let this = slf.get();
        let Some(socket) = slf.as_super().get().file(py) else {
            return Ok(true);
        };
        let fd = descriptor(&socket)?;
        if this.is_connected {
            return Ok(system::send(fd, data)?.is_some());
        }
        let address = to.and_then(|to| this.peers.borrow_mut(py).address_of(this.family, to));
        if let Some(address) = address {
            return Ok(system::send_to(fd, data, &address)?.is_some());
        }
        // A name to be looked up, a path, or what no address is.
        let none = py.None().into_bound(py);
        let args = [&socket, object, to.unwrap_or(&none)];
        match calls::call_user_method(intern!(py, "sendto"), args) {
            Err(error) if would_block(py, &error) => Ok(false),
            sent => sent.map(|_| true),
        }
    }

    /// Tells the protocol what the system refuses; anything else ends the transport.
    fn failed(slf: &Bound<'_, Self>, error: PyErr, message: &str) -> PyResult<()> {
        let py = slf.py();
        if !error.is_instance_of::<PyOSError>(py) {
            return Channel::fatal_error(slf.as_super(), error, message);
        }
        let Some(protocol) = slf.as_super().get().protocol(py) else {
            return Ok(());
        };
        let received = intern!(py, "error_received");
        calls::call_user_method(received, [&protocol, error.value(py).as_any()]).map(drop)
    }

    /// The one to send to, if this is it.
    fn checked<'a, 'py>(
        to: Option<&'a Bound<'py, PyAny>>,
        fixed: Option<&'a Bound<'py, PyAny>>,
    ) -> PyResult<Option<&'a Bound<'py, PyAny>>> {
        let Some(fixed) = fixed else {
            return Ok(to);
        };
        if let Some(to) = to
            && !to.is(fixed)
            && !to.eq(fixed)?
        {
            return Err(calls::builtin_error::<PyValueError>(format!(
                "Invalid address: must be None or {}",
                fixed.str()?
            )));
        }
        Ok(Some(fixed))
    }
}

#[pymethods]
impl DatagramTransport {
    #[new]
    fn new(
        event_loop: &Bound<'_, LoopCore>,
        socket: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        address: Option<Bound<'_, PyAny>>,
        extra: &Bound<'_, PyDict>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let py = event_loop.py();
        let address = match address {
            Some(address) if address.is_truthy()? => Some(address.unbind()),
            _ => None,
        };
        let peer = extra.get_item(intern!(py, "peername"))?;
        let is_connected = peer.map_or(Ok(false), |peer| peer.is_truthy())?;
        let extra = extra.clone().unbind();
        let channel = Channel::new(event_loop, socket, protocol, extra, &KIND, true)?;
        Ok(PyClassInitializer::from(channel).add_subclass(Self {
            address: GilCell::new(address),
            is_connected,
            family: family(socket)?,
            buffer: GilRefCell::new(VecDeque::new()),
            size: GilCell::new(0),
            peers: GilRefCell::new(Peers::default()),
            expected: GilCell::new(0),
            singles: GilCell::new(0),
        }))
    }

    #[pyo3(signature = (data, addr=None))]
    fn sendto(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyAny>,
        addr: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        const FAILED: &str = "Fatal write error on datagram transport";
        let py = slf.py();
        let this = slf.get();
        let channel = slf.as_super();
        check_is_bytes(data)?;
        if cfg!(not(Py_3_13)) && data.len()? == 0 {
            return Ok(());
        }
        let fixed = this.address.bind(py);
        let to = Self::checked(addr, fixed.as_ref())?;
        let lost = channel.get().lost.get(py);
        if lost != 0 && (fixed.is_some() || channel.get().file(py).is_none()) {
            if lost >= LOGGED_FROM {
                calls::asyncio_logger(py)?
                    .call_method1("warning", ("socket.send() raised exception.",))?;
            }
            channel.get().lost.set(py, lost + 1);
            return Ok(());
        }
        let content = match Data::of(data) {
            Ok(content) => content,
            Err(error) => return Channel::fatal_error(channel, error, FAILED),
        };
        if this.buffer.borrow_mut(py).is_empty() {
            match Self::send(slf, data, content.as_bytes(), to) {
                Ok(true) => return Ok(()),
                Ok(false) => Channel::wait_to_write(channel)?,
                Err(error) => return Self::failed(slf, error, FAILED),
            }
        }
        let (kept, _) = content.after(py, 0)?;
        let counted = kept.as_bytes().len() + HEADER;
        let unsent = Unsent {
            data: kept.unbind(),
            to: to.map(|to| to.clone().unbind()),
        };
        this.buffer.borrow_mut(py).push_back(unsent);
        this.size.set(py, this.size.get(py) + counted);
        let flow = &channel.get().flow;
        flow.pause_if_full(channel, this.size.get(py))
    }

    fn is_reading(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().is_reading(slf.py())
    }

    fn pause_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Channel::pause_reading(slf.as_super())
    }

    fn resume_reading(slf: &Bound<'_, Self>) -> PyResult<()> {
        Channel::resume_reading(slf.as_super())
    }

    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.size.get(py)
    }

    fn get_write_buffer_limits(slf: &Bound<'_, Self>) -> (usize, usize) {
        slf.as_super().get().flow.limits(slf.py())
    }

    #[pyo3(signature = (high=None, low=None))]
    fn set_write_buffer_limits(
        slf: &Bound<'_, Self>,
        high: Option<isize>,
        low: Option<isize>,
    ) -> PyResult<()> {
        let flow = &slf.as_super().get().flow;
        flow.set_limits(slf.py(), high, low)?;
        flow.pause_if_full(slf.as_super(), slf.get().size.get(slf.py()))
    }

    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let is_written = slf.get().buffer.borrow_mut(slf.py()).is_empty();
        Channel::close_when_written(slf.as_super(), is_written)
    }

    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.call_method1(intern!(slf.py(), "_force_close"), (slf.py().None(),))
            .map(drop)
    }

    fn _force_close(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let unsent = std::mem::take(&mut *slf.get().buffer.borrow_mut(py));
        slf.get().size.set(py, 0);
        drop(unsent);
        Channel::force_close(slf.as_super(), exc)
    }

    fn _read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::read_ready(slf)
    }

    fn _sendto_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::write_ready(slf)
    }

    #[classattr]
    fn max_size() -> usize {
        MAX_SIZE
    }

    #[getter]
    fn _sock(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        slf.as_super().get().file(slf.py()).map(Bound::unbind)
    }

    #[getter]
    fn _sock_fd(slf: &Bound<'_, Self>) -> c_int {
        slf.as_super().get().fd
    }

    #[getter]
    fn _address(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.address.clone_ref(py)
    }

    /// What wasn't sent yet, to look at.
    #[getter]
    fn _buffer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let unsent: Vec<_> = self
            .buffer
            .borrow_mut(py)
            .iter()
            .map(|each| {
                let to = each.to.as_ref().map(|to| to.clone_ref(py));
                (each.data.clone_ref(py), to)
            })
            .collect();
        PyList::new(py, unsent)
    }

    #[getter]
    fn _buffer_size(&self, py: Python<'_>) -> usize {
        self.size.get(py)
    }

    #[getter]
    fn _conn_lost(slf: &Bound<'_, Self>) -> u64 {
        slf.as_super().get().lost.get(slf.py())
    }

    #[getter]
    fn _protocol_paused(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().flow.is_paused(slf.py())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.address.visit(|address| visit.call(address))?;
        self.peers.visit(|peers| peers.visit(&visit))?;
        self.buffer.visit(|buffer| {
            buffer.iter().try_for_each(|unsent| {
                visit.call(&unsent.data)?;
                visit.call(&unsent.to)
            })
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        let unsent = std::mem::take(&mut *this.buffer.borrow_mut(py));
        let peers = std::mem::take(&mut *this.peers.borrow_mut(py));
        drop((this.address.take(py), unsent, peers));
    }
}
