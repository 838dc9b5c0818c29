//! Writing: encrypted at once, and sent at once or when the application has been told of what came.

use pyo3::prelude::*;

use super::engine::Attempt;
use super::{Phase, TlsCore};
use crate::buffer::concatenate;
use crate::calls;
use crate::gil::intern;
use crate::transports::data::Data;
use crate::transports::stream::StreamTransport;

/// No more than this is gathered before it is sent.
const GATHERED: usize = 64 * 1024;

impl TlsCore {
    /// Encrypts and sends bytes, a bytearray or a memoryview.
    pub fn write_now(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.phase.get(py) != Phase::Wrapped || this.has_backlog(py)? {
            return Self::keep(slf, Data::of(data)?, 0);
        }
        let written = Self::encrypt_and_send(slf, data);
        Self::fatal_error(slf, written)
    }

    /// The same of several of them, as one.
    pub fn write_all_now(slf: &Bound<'_, Self>, list: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let data = calls::bytes(py, b"")?.call_method1(intern!(py, "join"), (list,))?;
        if data.len()? == 0 {
            return Ok(());
        }
        Self::write_now(slf, &data)
    }

    fn encrypt_and_send(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(engine) = this.engine(py) else {
            return Ok(());
        };
        let bytes = Data::of(data)?;
        let size = match engine.write(data, bytes.as_bytes())? {
            Attempt::Again => 0,
            Attempt::Done(size) => size,
        };
        if size < bytes.as_bytes().len() {
            return Self::keep(slf, bytes, size);
        }
        drop(bytes);
        if this.gathers.get(py) {
            let gathered = this.gathered.get(py) + size;
            this.gathered.set(py, gathered);
            if gathered < GATHERED {
                return Ok(());
            }
        }
        Self::send_now(slf)
    }

    /// Has what comes after the first `start` bytes written when it can be, or dropped when it is for nobody any more.
    fn keep(slf: &Bound<'_, Self>, data: Data<'_, '_>, start: usize) -> PyResult<()> {
        let py = slf.py();
        let (mut rest, start) = data.after(py, start)?;
        if start > 0 {
            rest = concatenate(py, &[&rest.as_bytes()[start..]])?;
        }
        slf.call_method1(intern!(py, "_keep_appdata"), (rest,))
            .map(drop)
    }

    pub fn has_backlog(&self, py: Python<'_>) -> PyResult<bool> {
        match self.backlog.bind(py) {
            Some(backlog) => backlog.is_truthy(),
            None => Ok(false),
        }
    }

    /// Sends what is encrypted, unless the transport below has enough, and tells the protocol if that is much.
    pub fn send_now(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.writing_is_paused.get(py) {
            this.outgoing.trim(py);
            let waiting = this.outgoing.pending(py)? as isize;
            return Self::control_protocol(slf, waiting);
        }
        this.gathered.set(py, 0);
        let data = this.outgoing.take(py)?;
        let data = data.as_bytes();
        if !data.is_empty()
            && let Some(transport) = this.transport.bind(py)
        {
            match transport.cast::<StreamTransport>() {
                Ok(transport) => StreamTransport::write_bytes(transport, data)?,
                Err(_) => transport
                    .call_method1(intern!(py, "write"), (calls::bytes(py, data)?,))
                    .map(drop)?,
            }
        }
        Self::control_protocol(slf, 0)
    }

    /// Pauses or resumes the application's writing.
    fn control_protocol(slf: &Bound<'_, Self>, waiting: isize) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let size = waiting + this.backlog_size.get(py);
        let is_paused = this.protocol_is_paused.get(py);
        if this.outgoing_limits.get(py).demand_change(size, is_paused) {
            slf.call_method0(intern!(py, "_control_app_writing"))?;
        }
        Ok(())
    }
}
