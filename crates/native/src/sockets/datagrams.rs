//! What a datagram transport does for each datagram. Whatever is rarer is asyncio's own.

use std::os::fd::RawFd;

use pyo3::exceptions::PyOSError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView};

use super::{family, system};
use crate::address::Address;
use crate::buffer::fill_scratch;
use crate::calls;
use crate::gil::intern;
use crate::transports::Memory;

/// So many datagrams at most are received before others have their turn.
const MOST: usize = 32;

/// Where datagrams come one by one, it is seldom worth a system call to look for another one.
const SELDOM: usize = 8;

/// Hands datagrams that are there to the protocol, until it has enough.
#[pyfunction]
pub fn receive_datagrams(transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = transport.py();
    let singles = intern!(py, "_singles");
    match transport.getattr(singles)?.extract::<usize>()? {
        0 => {
            if receive_at_most(transport, MOST)? < 2 {
                transport.setattr(singles, SELDOM)?;
            }
        }
        left => {
            transport.setattr(singles, left - 1)?;
            receive_at_most(transport, 1)?;
        }
    }
    Ok(())
}

/// Returns how many there were.
fn receive_at_most(transport: &Bound<'_, PyAny>, most: usize) -> PyResult<usize> {
    let py = transport.py();
    for count in 0..most {
        // After a datagram the protocol may have had enough.
        let had_enough = count > 0
            && (is_true(transport.getattr(intern!(py, "_closing"))?)?
                || is_true(transport.getattr(intern!(py, "_paused"))?)?);
        if had_enough || is_true(transport.getattr(intern!(py, "_conn_lost"))?)? {
            return Ok(count);
        }
        let fd = descriptor(&transport.getattr(intern!(py, "_sock"))?)?;
        let size = transport.getattr(intern!(py, "max_size"))?.extract()?;
        let received = fill_scratch(py, size, |memory| system::receive_from(fd, memory));
        let protocol = transport.getattr(intern!(py, "_protocol"))?;
        let (data, from) = match received {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(count),
            Err(error) if !error.is_instance_of::<PyOSError>(py) => {
                let args = (error.value(py), "Fatal read error on datagram transport");
                transport.call_method1(intern!(py, "_fatal_error"), args)?;
                return Ok(count);
            }
            Err(error) => {
                let args = [&protocol, error.value(py).as_any()];
                calls::call_user_method(intern!(py, "error_received"), args)?;
                return Ok(count);
            }
        };
        let args = [&protocol, data.as_any(), &from.to_python(py)?];
        calls::call_user_method(intern!(py, "datagram_received"), args)?;
    }
    Ok(most)
}

/// Sends a datagram. False if the transport has to do it: it can't be sent right now, or isn't an ordinary one.
#[pyfunction]
pub fn send_datagram(
    transport: &Bound<'_, PyAny>,
    data: &Bound<'_, PyAny>,
    to: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let py = transport.py();
    if is_true(transport.getattr(intern!(py, "_conn_lost"))?)?
        || is_true(transport.getattr(intern!(py, "_buffer"))?)?
        || !is_bytes(data)
    {
        return Ok(false);
    }
    let socket = transport.getattr(intern!(py, "_sock"))?;
    let fixed = transport.getattr(intern!(py, "_address"))?;
    let to = if is_true(fixed.clone())? {
        if !to.is_none() && !to.eq(&fixed)? {
            return Ok(false);
        }
        &fixed
    } else {
        to
    };
    let extra = transport.getattr(intern!(py, "_extra"))?;
    let peer = extra.cast::<PyDict>()?.get_item(intern!(py, "peername"))?;
    let is_connected = peer.map_or(Ok(false), is_true)?;
    let address = match is_connected {
        true => None,
        false => Address::numeric(family(&socket)?, to),
    };
    let Ok(memory) = Memory::get(data, ffi::PyBUF_SIMPLE) else {
        return Ok(false);
    };
    let fd = descriptor(&socket)?;
    let sent = match (memory.as_bytes(), address) {
        // CPythons differ in whether they send nothing at all.
        ([], _) => return Ok(false),
        (data, None) if is_connected => system::send(fd, data)?,
        (_, None) => return Ok(false),
        (data, Some(address)) => system::send_to(fd, data, &address)?,
    };
    Ok(sent.is_some())
}

fn descriptor(socket: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let fd = socket.call_method0(intern!(socket.py(), "fileno"))?;
    fd.extract()
}

fn is_true(value: Bound<'_, PyAny>) -> PyResult<bool> {
    value.is_truthy()
}

fn is_bytes(data: &Bound<'_, PyAny>) -> bool {
    data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>()
}
