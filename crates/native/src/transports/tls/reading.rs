//! Reading: what was received, decrypted, to the application's protocol.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::engine::{Attempt, Engine};
use super::records::MAX_RECORD;
use super::{Phase, TlsCore};
use crate::buffer::{NewBytes, concatenate};
use crate::calls;
use crate::gil::intern;
use crate::transports::reading::{MAX_SIZE, Memory};

/// What was read.
struct Read<T> {
    what: T,
    /// The other side has said that these were all.
    is_end: bool,
}

impl TlsCore {
    pub fn read_now(slf: &Bound<'_, Self>) -> PyResult<()> {
        let phase = slf.get().phase.get(slf.py());
        if !matches!(phase, Phase::Wrapped | Phase::Flushing) {
            return Ok(());
        }
        let read = Self::read_and_answer(slf);
        Self::fatal_error(slf, read)
    }

    fn read_and_answer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if !this.reading_is_paused.get(py) {
            // The beginning of a record counts as not yet read, until OpenSSL has taken it: it must not be what nothing
            // more is received for.
            let high = this.incoming_limits.get(py).high;
            if this.receiving_is_paused.get(py) || high <= MAX_RECORD as isize {
                this.records.borrow_mut(py).are_unsure();
            }
            let is_first = !this.gathers.replace(py, true);
            let read = if this.is_buffered.get(py) {
                Self::read_into_protocol(slf)
            } else {
                Self::read_for_protocol(slf)
            };
            if is_first {
                this.gathers.set(py, false);
            }
            read?;
            if this.has_backlog(py)? {
                slf.call_method0(intern!(py, "_do_write"))?;
            } else {
                Self::send_now(slf)?;
            }
        }
        Self::control_receiving(slf)
    }

    /// `Protocol`: it is handed all that there is at once.
    fn read_for_protocol(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let Some(engine) = this.engine(py) else {
            return Ok(());
        };
        let known = this.records.borrow_mut(py).readable();
        let Read { what: data, is_end } = match known {
            None => return Ok(()),
            Some(0) => this.read_chunks(&engine)?,
            Some(size) => this.read_records(&engine, size)?,
        };
        if let (Some(data), Some(protocol)) = (data, this.protocol.bind(py)) {
            calls::call_user_method(intern!(py, "data_received"), [&protocol, data.as_any()])?;
        }
        if is_end { Self::end(slf) } else { Ok(()) }
    }

    /// Reads what is known to be there, which is no longer than `size`, without putting it together afterwards.
    fn read_records<'py>(
        &self,
        engine: &Engine<'py>,
        size: usize,
    ) -> PyResult<Read<Option<Bound<'py, PyBytes>>>> {
        let py = engine.object.py();
        let mut bytes = NewBytes::new(py, size as isize)?;
        // It has as much room as was asked for.
        let place = bytes.as_mut_slice().as_mut_ptr().cast();
        // SAFETY: nobody else has a reference to the new object, and it outlives this.
        let Read {
            what: count,
            is_end,
        } = unsafe { self.fill(engine, place, size)? };
        let bytes = bytes.shrink(count)?.cast_into::<PyBytes>()?;
        if count == size && !is_end {
            // There may be more of the last record.
            let Read { what, is_end } = self.read_chunks(engine)?;
            let all = match what {
                Some(more) => concatenate(py, &[bytes.as_bytes(), more.as_bytes()])?,
                None => bytes,
            };
            return Ok(Read {
                what: Some(all),
                is_end,
            });
        }
        let what = (count > 0).then_some(bytes);
        Ok(Read { what, is_end })
    }

    /// Reads all that there is, however much that may be.
    fn read_chunks<'py>(
        &self,
        engine: &Engine<'py>,
    ) -> PyResult<Read<Option<Bound<'py, PyBytes>>>> {
        let py = engine.object.py();
        let mut chunks = Vec::new();
        let mut is_end = false;
        loop {
            match engine.read(MAX_SIZE)? {
                Attempt::Done(data) if data.as_bytes().is_empty() => {
                    is_end = true;
                    break;
                }
                Attempt::Done(data) => chunks.push(data),
                Attempt::Again => {
                    self.records.borrow_mut(py).were_all_read();
                    break;
                }
            }
        }
        let what = match chunks.len() {
            0 | 1 => chunks.pop(),
            _ => {
                let parts: Vec<_> = chunks.iter().map(|chunk| chunk.as_bytes()).collect();
                Some(concatenate(py, &parts)?)
            }
        };
        Ok(Read { what, is_end })
    }

    /// Reads into memory what is there, or as much as there is room for.
    ///
    /// # Safety
    ///
    /// As of `Engine::read_into`.
    unsafe fn fill(
        &self,
        engine: &Engine<'_>,
        place: *mut u8,
        size: usize,
    ) -> PyResult<Read<usize>> {
        let py = engine.object.py();
        let mut count = 0;
        let mut is_end = false;
        while count < size && self.records.borrow_mut(py).readable().is_some() {
            let room = size - count;
            // SAFETY: the caller's; what is left of the memory begins there.
            match unsafe { engine.read_into(place.add(count), room)? } {
                Attempt::Done(0) => {
                    is_end = true;
                    break;
                }
                Attempt::Done(read) => {
                    self.records.borrow_mut(py).was_read(read == room);
                    count += read.min(room);
                }
                Attempt::Again => {
                    self.records.borrow_mut(py).were_all_read();
                    break;
                }
            }
        }
        Ok(Read {
            what: count,
            is_end,
        })
    }

    /// `BufferedProtocol`: it provides the memory.
    fn read_into_protocol(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let (Some(engine), Some(protocol)) = (this.engine(py), this.protocol.bind(py)) else {
            return Ok(());
        };
        if this.records.borrow_mut(py).readable().is_none() {
            return Ok(());
        }
        let hint = calls::size(py, this.incoming.pending(py)?)?;
        let buffer = calls::call_user_method(intern!(py, "get_buffer"), [&protocol, &hint])?;
        let memory = Memory::of(&buffer)?;
        drop(buffer);
        let size = memory.size();
        if size == 0 {
            return Err(calls::builtin_error::<PyRuntimeError>(
                "get_buffer() returned an empty buffer",
            ));
        }
        // SAFETY: the memory is writable and stays as long as `memory` does.
        let filled = unsafe { this.fill(&engine, memory.start(), size) };
        drop(memory);
        let Read {
            what: count,
            is_end,
        } = filled?;
        if count == size && !is_end {
            let go_on = slf.getattr(intern!(py, "_do_read"))?;
            slf.getattr(intern!(py, "_loop"))?
                .call_method1(intern!(py, "call_soon"), (go_on,))?;
        }
        if count > 0 {
            let count = calls::size(py, count)?;
            calls::call_user_method(intern!(py, "buffer_updated"), [&protocol, &count])?;
        }
        if is_end { Self::end(slf) } else { Ok(()) }
    }

    /// The other side has sent its last.
    fn end(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        slf.call_method0(intern!(py, "_call_eof_received"))?;
        slf.call_method0(intern!(py, "_start_shutdown")).map(drop)
    }

    /// Nothing more is received as long as much is there that the application doesn't want to have.
    fn control_receiving(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let size = this.incoming.pending(py)? as isize;
        let is_paused = this.receiving_is_paused.get(py);
        if this.incoming_limits.get(py).demand_change(size, is_paused) {
            slf.call_method0(intern!(py, "_control_ssl_reading"))?;
        }
        Ok(())
    }
}
