//! `asyncio_thread_loop._native`: the Python objects of asyncio-thread-loop.
//!
//! | module | what it holds |
//! |---|---|
//! | `bridge`, `batch` | `submit` and `evaluate`, of one call and of many |
//! | `portal` | the way into one running loop |
//! | `future` | the Rust half of `Future` |
//! | `allocation` | how to make many objects of a class |
//! | `faces` | what the synchronous faces of `to_sync` do at every call |
//! | `event_loop`, `handle`, `descriptors` | the scheduling half of `EventLoop` |
//! | `transports` | what stands between sockets or pipes and protocols, TLS included |
//! | `sockets` | its `sock_*` operations |
//! | `free_list` | the memory of handles, from one callback to the next |
//! | `interrupts`, `room` | what a caller needs that runs the loop itself |
//! | `waiting` | which loop's thread waits for which loop, and what would be a deadlock |
//! | `watchdog` | a thread that says what holds the loop |
//! | `boundary`, `frames` | where calls came from, tracebacks without this library |
//! | `address`, `buffer` | addresses of sockets, memory of Python objects |
//! | `gil`, `calls`, `shortcuts` | cells under the GIL, cheap calls into Python and from it |
//!
//! No protocol between threads lives here: those are in `asyncio-thread-loop-core`.

mod address;
mod allocation;
mod batch;
mod boundary;
mod bridge;
mod buffer;
mod calls;
mod descriptors;
mod event_loop;
mod faces;
mod frames;
mod free_list;
mod future;
mod gil;
mod handle;
mod interrupts;
mod portal;
mod room;
mod shortcuts;
mod sockets;
mod thread_state;
mod transports;
mod waiting;
mod watchdog;

use pyo3::prelude::*;

#[pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use crate::allocation::prepare_future_type;
    #[pymodule_export]
    use crate::boundary::{Boundary, BoundaryIterator, boundary};
    #[pymodule_export]
    use crate::bridge::{BridgeCore, check_timeout};
    #[pymodule_export]
    use crate::event_loop::{LoopCore, Transports};
    #[pymodule_export]
    use crate::faces::{
        BoundMethod, FaceCore, FacesCore, FunctionCore, MethodCore, Registry, contexts_of,
        has_original, is_current, let_go, original_of,
    };
    #[pymodule_export]
    use crate::frames::awaited_by;
    #[pymodule_export]
    use crate::future::FutureCore;
    #[pymodule_export]
    use crate::handle::{Handle, TimerHandle};
    #[pymodule_export]
    use crate::portal::Portal;
    #[pymodule_export]
    use crate::sockets::{
        Wait, accept, check_connected, connect, is_to_be_resolved, receive, receive_from,
        receive_from_into, receive_into, send, send_to,
    };
    #[pymodule_export]
    use crate::transports::{
        Channel, Clients, DatagramTransport, Listener, ReadPipeTransport, StreamTransport, TlsCore,
        TlsTransportCore, WritePipeTransport, prepare_transport_type,
    };
    #[pymodule_export]
    use crate::waiting::Waiting;
    #[pymodule_export]
    use crate::watchdog::Watchdog;

    use pyo3::prelude::*;

    use crate::event_loop::prepare_shortcuts;
    use crate::free_list::FreeList;
    use crate::shortcuts;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        FreeList::prepare::<Handle>(py);
        FreeList::prepare::<TimerHandle>(py);
        shortcuts::prepare(py)?;
        prepare_shortcuts(py)?;
        asyncio_thread_loop_core::fork::watch();
        Ok(())
    }
}
