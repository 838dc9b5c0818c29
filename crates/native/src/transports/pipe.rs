//! `ReadPipeTransport` and `WritePipeTransport`: an end of a pipe, or a socket or terminal in its place.
//!
//! Pipes are shared with other programs, which may have them block after all. So others may run during their system calls.

use std::io::IoSlice;
use std::os::fd::RawFd;

use pyo3::exceptions::PyBrokenPipeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::buffer::WriteBuffer;
use super::channel::{Channel, Kind};
use super::data::{Data, check_is_bytes};
use super::life::Lives;
use super::reading::MAX_SIZE;
use super::writing::LOGGED_FROM;
use crate::buffer::receive_bytes;
use crate::calls;
use crate::descriptors::Direction;
use crate::event_loop::{LoopCore, Step};
use crate::gil::{GilCell, GilRefCell, intern};
use crate::sockets::system;

#[pyclass(frozen, subclass, extends = Channel, module = "asyncio_thread_loop._native")]
pub struct ReadPipeTransport {
    /// How much is likely to be read at once.
    expected: GilCell<usize>,
}

static READING: Kind = Kind {
    ready: |channel, direction| {
        // SAFETY: only a `ReadPipeTransport` has this kind.
        let slf = unsafe { channel.as_any().cast_unchecked() };
        match direction {
            Direction::Read => ReadPipeTransport::read_ready(slf),
            Direction::Write => Ok(()),
        }
    },
    write_ready: "_write_ready",
};

impl ReadPipeTransport {
    fn read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let channel = slf.as_super();
        let this = channel.get();
        let Some(protocol) = this.protocol(py) else {
            return Ok(());
        };
        let read = receive_bytes(py, &slf.get().expected, MAX_SIZE, true, |into| {
            py.detach(|| system::read(this.fd, into))
        });
        let data = match read {
            Ok(Some(data)) => data,
            Ok(None) => return Ok(()),
            Err(error) => {
                let message = "Fatal read error on pipe transport";
                return Channel::fatal_error(channel, error, message);
            }
        };
        if data.as_bytes().is_empty() {
            return Self::end(channel);
        }
        let received = intern!(py, "data_received");
        calls::call_user_method(received, [&protocol, &data]).map(drop)
    }

    /// The other end is closed. The protocol is told of that and then, in the same turn, that the pipe is lost.
    fn end(channel: &Bound<'_, Channel>) -> PyResult<()> {
        let py = channel.py();
        let this = channel.get();
        let (false, Some(event_loop)) = (this.is_lost(py), this.event_loop(py)) else {
            return Ok(());
        };
        Channel::log(channel, "info", "%r was closed by peer")?;
        this.set_closing(py);
        this.stop_reading(py);
        LoopCore::soon::<End>(&event_loop, channel)?;
        Channel::lose_soon(channel, py.None().into_bound(py))
    }
}

/// The protocol is told that nothing more is to be read.
struct End;

impl Step for End {
    type Of = Channel;

    fn run(slf: &Bound<'_, Channel>, event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
        Channel::call_protocol(slf, event_loop, intern!(slf.py(), "eof_received"), None)
    }
}

#[pymethods]
impl ReadPipeTransport {
    #[new]
    fn new(
        event_loop: &Bound<'_, LoopCore>,
        pipe: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        extra: &Bound<'_, PyDict>,
    ) -> PyResult<PyClassInitializer<Self>> {
        let extra = extra.clone().unbind();
        let channel = Channel::new(event_loop, pipe, protocol, extra, &READING, true)?;
        Ok(PyClassInitializer::from(channel).add_subclass(Self {
            expected: GilCell::new(0),
        }))
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

    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        if slf.as_super().get().is_closing(py) {
            return Ok(());
        }
        let none = py.None();
        slf.call_method1(intern!(py, "_close"), (none,)).map(drop)
    }

    fn _close(slf: &Bound<'_, Self>, exc: Bound<'_, PyAny>) -> PyResult<()> {
        Channel::force_close(slf.as_super(), exc)
    }

    fn _read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::read_ready(slf)
    }

    #[classattr]
    fn max_size() -> usize {
        MAX_SIZE
    }

    #[getter]
    fn _pipe(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        slf.as_super().get().file(slf.py()).map(Bound::unbind)
    }

    #[setter(_pipe)]
    fn set_pipe(slf: &Bound<'_, Self>, pipe: Option<Py<PyAny>>) {
        slf.as_super().get().set_file(slf.py(), pipe);
    }

    #[getter]
    fn _fileno(slf: &Bound<'_, Self>) -> RawFd {
        slf.as_super().get().fd
    }
}

#[pyclass(frozen, subclass, extends = Channel, module = "asyncio_thread_loop._native")]
pub struct WritePipeTransport {
    buffer: GilRefCell<WriteBuffer>,
    /// How often was written what nobody will read.
    dropped: GilCell<u64>,
}

static WRITING: Kind = Kind {
    ready: |channel, direction| {
        // SAFETY: only a `WritePipeTransport` has this kind.
        let slf = unsafe { channel.as_any().cast_unchecked() };
        match direction {
            Direction::Read => WritePipeTransport::reader_is_gone(slf),
            Direction::Write => WritePipeTransport::write_ready(slf),
        }
    },
    write_ready: "_write_ready",
};

impl WritePipeTransport {
    /// Nobody reads any more: that is all there can be to read at this end.
    fn reader_is_gone(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        Channel::log(slf.as_super(), "info", "%r was closed by peer")?;
        let reason = if slf.get().buffer.borrow_mut(py).is_empty() {
            py.None().into_bound(py)
        } else {
            py.get_type::<PyBrokenPipeError>().call0()?
        };
        slf.call_method1(intern!(py, "_close"), (reason,)).map(drop)
    }

    /// The pipe takes more.
    fn write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let channel = slf.as_super();
        // It may be changed while others run: what is written from stays.
        let front = this.buffer.borrow_mut(py).front(py);
        let fd = channel.get().fd;
        let written = front.with_front(py, |chunks, _| py.detach(|| system::write(fd, chunks)));
        drop(front);
        match written {
            Ok(size) => this.buffer.borrow_mut(py).consume(py, size.unwrap_or(0)),
            Err(error) => return Self::failed(slf, error),
        }
        let size = this.buffer.borrow_mut(py).size();
        if size == 0 {
            channel.get().stop_writing(py);
        }
        // This may write more.
        channel.get().flow.resume_if_drained(channel, size)?;
        let is_done = this.buffer.borrow_mut(py).is_empty();
        if is_done && channel.get().is_closing(py) && !channel.get().is_lost(py) {
            channel.get().stop_reading(py);
            channel.get().lost.set(py, 1);
            return Channel::lose_connection(channel, py.None().into_bound(py));
        }
        Ok(())
    }

    /// What is in the buffer will not be written.
    fn failed(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if calls::ends_the_program(py, &error) {
            return Err(error);
        }
        this.buffer.borrow_mut(py).clear();
        this.dropped.set(py, this.dropped.get(py) + 1);
        let message = "Fatal write error on pipe transport";
        Channel::fatal_error(slf.as_super(), error, message)
    }

    fn size(&self, py: Python<'_>) -> usize {
        self.buffer.borrow_mut(py).size()
    }
}

#[pymethods]
impl WritePipeTransport {
    #[new]
    fn new(
        event_loop: &Bound<'_, LoopCore>,
        pipe: &Bound<'_, PyAny>,
        protocol: &Bound<'_, PyAny>,
        extra: &Bound<'_, PyDict>,
        notices_its_reader: bool,
    ) -> PyResult<PyClassInitializer<Self>> {
        let extra = extra.clone().unbind();
        let channel = Channel::new(
            event_loop,
            pipe,
            protocol,
            extra,
            &WRITING,
            notices_its_reader,
        )?;
        Ok(PyClassInitializer::from(channel).add_subclass(Self {
            buffer: GilRefCell::new(WriteBuffer::default()),
            dropped: GilCell::new(0),
        }))
    }

    fn write(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let channel = slf.as_super();
        check_is_bytes(data)?;
        let data = Data::of(data)?;
        let slice = data.as_bytes();
        if slice.is_empty() {
            return Ok(());
        }
        let dropped = this.dropped.get(py);
        if dropped > 0 || channel.get().is_closing(py) {
            if dropped >= LOGGED_FROM {
                let message = "pipe closed by peer or os.write(pipe, data) raised exception.";
                calls::asyncio_logger(py)?.call_method1("warning", (message,))?;
            }
            this.dropped.set(py, dropped + 1);
            return Ok(());
        }
        let mut written = 0;
        if this.buffer.borrow_mut(py).is_empty() {
            let fd = channel.get().fd;
            match py.detach(|| system::write(fd, &[IoSlice::new(slice)])) {
                Ok(Some(size)) if size == slice.len() => return Ok(()),
                Ok(size) => written = size.unwrap_or(0),
                Err(error) => return Self::failed(slf, error),
            }
        }
        let (bytes, start) = data.after(py, written)?;
        this.buffer.borrow_mut(py).push(&bytes, start);
        Channel::wait_to_write(channel)?;
        channel.get().flow.pause_if_full(channel, this.size(py))
    }

    fn can_write_eof(&self) -> bool {
        true
    }

    /// What is in the buffer is written first.
    fn write_eof(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let channel = slf.as_super();
        if channel.get().set_closing(py) || slf.get().size(py) > 0 {
            return Ok(());
        }
        channel.get().stop_reading(py);
        Channel::lose_soon(channel, py.None().into_bound(py))
    }

    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.as_super().get().is_closing(slf.py()) {
            return Ok(());
        }
        // That is all there is to closing it.
        slf.call_method0(intern!(slf.py(), "write_eof")).map(drop)
    }

    fn abort(slf: &Bound<'_, Self>) -> PyResult<()> {
        let none = slf.py().None();
        slf.call_method1(intern!(slf.py(), "_close"), (none,))
            .map(drop)
    }

    #[pyo3(signature = (exc=None))]
    fn _close(slf: &Bound<'_, Self>, exc: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        slf.get().buffer.borrow_mut(py).clear();
        let reason = exc.unwrap_or_else(|| py.None().into_bound(py));
        Channel::force_close(slf.as_super(), reason)
    }

    fn get_write_buffer_size(&self, py: Python<'_>) -> usize {
        self.size(py)
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
        flow.pause_if_full(slf.as_super(), slf.get().size(slf.py()))
    }

    fn _read_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::reader_is_gone(slf)
    }

    fn _write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::write_ready(slf)
    }

    #[getter]
    fn _pipe(slf: &Bound<'_, Self>) -> Option<Py<PyAny>> {
        slf.as_super().get().file(slf.py()).map(Bound::unbind)
    }

    #[setter(_pipe)]
    fn set_pipe(slf: &Bound<'_, Self>, pipe: Option<Py<PyAny>>) {
        slf.as_super().get().set_file(slf.py(), pipe);
    }

    #[getter]
    fn _fileno(slf: &Bound<'_, Self>) -> RawFd {
        slf.as_super().get().fd
    }

    /// What wasn't written yet, to look at.
    #[getter]
    fn _buffer<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.buffer.borrow_mut(py).to_list(py)
    }

    #[getter]
    fn _conn_lost(&self, py: Python<'_>) -> u64 {
        self.dropped.get(py)
    }

    #[getter]
    fn _protocol_paused(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().flow.is_paused(slf.py())
    }
}
