//! Writing: at once what the socket takes, the rest when it takes more.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::data::{Data, check_is_bytes};
use super::life::Lives;
use super::socket::{self, Outcome};
use super::stream::StreamTransport;
use crate::calls;
use crate::gil::intern;

const FAILED: &str = "Fatal write error on socket transport";

/// After so many writes to a connection that is lost, each further one is logged.
pub const LOGGED_FROM: u64 = 5;

impl StreamTransport {
    pub fn write_now(slf: &Bound<'_, Self>, object: &Bound<'_, PyAny>) -> PyResult<()> {
        check_is_bytes(object)?;
        let data = match Data::of(object) {
            Ok(data) => data,
            Err(error) => return Self::fatal_error(slf, error, FAILED),
        };
        let Some(written) = Self::write_first(slf, "write", data.as_bytes())? else {
            return Ok(());
        };
        let (bytes, start) = data.after(slf.py(), written)?;
        slf.get().buffer.borrow_mut(slf.py()).push(&bytes, start);
        Self::write_later(slf)
    }

    /// The same of memory that is used for something else afterwards.
    pub fn write_bytes(slf: &Bound<'_, Self>, data: &[u8]) -> PyResult<()> {
        let Some(written) = Self::write_first(slf, "write", data)? else {
            return Ok(());
        };
        let rest = calls::bytes(slf.py(), &data[written..])?;
        slf.get().buffer.borrow_mut(slf.py()).push(&rest, 0);
        Self::write_later(slf)
    }

    pub fn write_all_now(slf: &Bound<'_, Self>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.check_may_write(py, "writelines")?;
        let mut lines = Vec::new();
        for line in data.try_iter()? {
            let (bytes, _) = Data::of(&line?)?.after(py, 0)?;
            lines.push(bytes);
        }
        if lines.is_empty() || this.drops_write(py)? {
            return Ok(());
        }
        let waits = {
            let mut buffer = this.buffer.borrow_mut(py);
            let waits = !buffer.is_empty();
            for line in &lines {
                buffer.push(line, 0);
            }
            waits || buffer.is_empty()
        };
        drop(lines);
        if !waits && let Err(error) = this.flush(py) {
            return Self::lose_buffer(slf, error);
        }
        Self::write_later(slf)
    }

    /// Writes what the socket takes at once and returns how much that was. None if there is nothing left to do.
    fn write_first(slf: &Bound<'_, Self>, method: &str, data: &[u8]) -> PyResult<Option<usize>> {
        let py = slf.py();
        let this = slf.get();
        this.check_may_write(py, method)?;
        if data.is_empty() || this.drops_write(py)? {
            return Ok(None);
        }
        if !this.buffer.borrow_mut(py).is_empty() {
            return Ok(Some(0));
        }
        let sent = this.descriptor(py).map(|fd| socket::send(fd, data));
        let error = match sent {
            Ok(Outcome::Moved(size)) => return Ok((size < data.len()).then_some(size)),
            Ok(Outcome::Later) => return Ok(Some(0)),
            Ok(Outcome::Failed(number)) => socket::os_error(py, number),
            Err(error) => error,
        };
        Self::fatal_error(slf, error, FAILED)?;
        Ok(None)
    }

    /// What is in the buffer is written when the socket takes it; the protocol is told if that is much.
    fn write_later(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.get().buffer.borrow_mut(slf.py()).is_empty() {
            return Ok(());
        }
        Self::wait_to_write(slf)?;
        Self::pause_protocol_if_full(slf)
    }

    /// The socket takes more.
    pub fn write_ready(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if this.is_lost(py) {
            return Ok(());
        }
        if let Err(error) = this.flush(py) {
            return Self::lose_buffer(slf, error);
        }
        // This may write more.
        Self::resume_protocol_if_drained(slf)?;
        if !this.buffer.borrow_mut(py).is_empty() || this.is_lost(py) {
            return Ok(());
        }
        this.stop_writing(py);
        this.tell_empty_waiter(py, None)?;
        if this.is_closing(py) {
            return Self::lose_connection(slf, py.None().into_bound(py));
        }
        if this.is_at_eof(py) {
            return socket::shut_down_writing(py, this.descriptor(py)?);
        }
        Ok(())
    }

    /// Writes from the buffer what the socket takes.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let fd = self.descriptor(py)?;
        let mut buffer = self.buffer.borrow_mut(py);
        while !buffer.is_empty() {
            let (outcome, offered, is_all) = buffer.with_front(py, |chunks, is_all| {
                let offered: usize = chunks.iter().map(|chunk| chunk.len()).sum();
                let outcome = match chunks {
                    [one] => socket::send(fd, one),
                    several => socket::send_vectored(fd, several),
                };
                (outcome, offered, is_all)
            });
            match outcome {
                Outcome::Moved(size) => {
                    buffer.consume(py, size);
                    if is_all || size < offered {
                        break;
                    }
                }
                Outcome::Later => break,
                Outcome::Failed(number) => return Err(socket::os_error(py, number)),
            }
        }
        Ok(())
    }

    /// What is in the buffer will not be written.
    fn lose_buffer(slf: &Bound<'_, Self>, error: PyErr) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.stop_writing(py);
        this.buffer.borrow_mut(py).clear();
        let exception = error.value(py).clone().into_any();
        Self::fatal_error(slf, error, FAILED)?;
        this.tell_empty_waiter(py, Some(exception))
    }

    /// Nothing is left in the buffer, or never will be written. Who waits for that may have been told before, or have
    /// given up.
    pub fn tell_empty_waiter(
        &self,
        py: Python<'_>,
        error: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let Some(waiter) = self.empty_waiter.bind(py) else {
            return Ok(());
        };
        if waiter.call_method0(intern!(py, "done"))?.is_truthy()? {
            return Ok(());
        }
        let told = match error {
            Some(error) => waiter.call_method1(intern!(py, "set_exception"), (error,)),
            None => waiter.call_method1(intern!(py, "set_result"), (py.None(),)),
        };
        told.map(drop)
    }

    /// Whether it is for nobody any more, which is logged when it happens often.
    fn drops_write(&self, py: Python<'_>) -> PyResult<bool> {
        let lost = self.lost.get(py);
        if lost == 0 {
            return Ok(false);
        }
        if lost >= LOGGED_FROM {
            calls::asyncio_logger(py)?
                .call_method1("warning", ("socket.send() raised exception.",))?;
        }
        self.lost.set(py, lost + 1);
        Ok(true)
    }

    /// Refuses to write after the end, or into a file that is being sent.
    fn check_may_write(&self, py: Python<'_>, method: &str) -> PyResult<()> {
        if self.is_at_eof(py) {
            return Err(calls::builtin_error::<PyRuntimeError>(format!(
                "Cannot call {method}() after write_eof()"
            )));
        }
        if self.empty_waiter.is_some(py) {
            return Err(calls::builtin_error::<PyRuntimeError>(format!(
                "unable to {method}; sendfile is in progress"
            )));
        }
        Ok(())
    }

    pub fn pause_protocol_if_full(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let size = this.buffer.borrow_mut(slf.py()).size();
        this.flow.pause_if_full(slf, size)
    }

    pub fn resume_protocol_if_drained(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let size = this.buffer.borrow_mut(slf.py()).size();
        this.flow.resume_if_drained(slf, size)
    }
}
