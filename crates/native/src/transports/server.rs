//! What a server knows of its connections: how many there are and, since CPython 3.13, which.
//!
//! asyncio's own server is told without its `_attach` and `_detach`, which are called only when they have more to do
//! than to remember: at an error, and when the last connection of a closed server ends. Any other server is called.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PySet, PyString, PyWeakrefMethods, PyWeakrefReference};

use super::stream::StreamTransport;
use crate::calls;
use crate::gil::{GilRefCell, intern};

/// Before, it only counts them.
const KNOWS_WHICH: bool = cfg!(Py_3_13);

/// Tells the server of its new connection.
pub fn attach(server: &Bound<'_, PyAny>, transport: &Bound<'_, StreamTransport>) -> PyResult<()> {
    if is_standard(server)? && is_serving(server)? && remember(server, transport)? {
        return Ok(());
    }
    tell(server, intern!(server.py(), "_attach"), transport)
}

/// Tells it that the connection has ended.
pub fn detach(server: &Bound<'_, PyAny>, transport: &Bound<'_, StreamTransport>) -> PyResult<()> {
    if is_standard(server)? && forget(server, transport)? {
        return Ok(());
    }
    tell(server, intern!(server.py(), "_detach"), transport)
}

fn tell(
    server: &Bound<'_, PyAny>,
    method: &Bound<'_, PyString>,
    transport: &Bound<'_, StreamTransport>,
) -> PyResult<()> {
    if KNOWS_WHICH {
        server.call_method1(method, (transport,)).map(drop)
    } else {
        server.call_method0(method).map(drop)
    }
}

fn is_standard(server: &Bound<'_, PyAny>) -> PyResult<bool> {
    Ok(server.get_type().is(calls::asyncio_server(server.py())?))
}

fn is_serving(server: &Bound<'_, PyAny>) -> PyResult<bool> {
    let sockets = server.getattr(intern!(server.py(), "_sockets"))?;
    Ok(!sockets.is_none())
}

/// What `_attach` of a server does that is open. False if it is to do that itself.
fn remember(server: &Bound<'_, PyAny>, transport: &Bound<'_, StreamTransport>) -> PyResult<bool> {
    let py = server.py();
    if !KNOWS_WHICH {
        let active = active(server)?;
        server.setattr(intern!(py, "_active_count"), active + 1)?;
        return Ok(true);
    }
    let name = intern!(py, "_clients");
    let clients = server.getattr(name)?;
    if let Ok(clients) = clients.cast_exact::<Clients>() {
        clients.get().add(transport)?;
        return Ok(true);
    }
    if !clients.get_type().is(calls::weak_set(py)?) {
        return Ok(false);
    }
    let ours = Bound::new(py, Clients::default())?;
    for client in clients.try_iter()? {
        ours.get().add(&client?)?;
    }
    ours.get().add(transport)?;
    server.setattr(name, ours)?;
    Ok(true)
}

/// What `_detach` does. False if it is to do that itself, as there is more for the server to do.
fn forget(server: &Bound<'_, PyAny>, transport: &Bound<'_, StreamTransport>) -> PyResult<bool> {
    let py = server.py();
    if !KNOWS_WHICH {
        let active = active(server)?;
        if active == 0 || active == 1 && !is_serving(server)? {
            return Ok(false);
        }
        server.setattr(intern!(py, "_active_count"), active - 1)?;
        return Ok(true);
    }
    let clients = server.getattr(intern!(py, "_clients"))?;
    let Ok(clients) = clients.cast_exact::<Clients>() else {
        return Ok(false);
    };
    clients.get().discard(transport);
    Ok(is_serving(server)? || clients.get().has_any(py))
}

fn active(server: &Bound<'_, PyAny>) -> PyResult<usize> {
    let count = server.getattr(intern!(server.py(), "_active_count"))?;
    count.extract()
}

/// Transports that live: what asyncio's server does with its `WeakSet`, without the Python code of one.
#[pyclass(frozen, module = "asyncio_thread_loop._native")]
#[derive(Default)]
pub struct Clients {
    /// By the address of the object. One that dies tells its server; should it not, its place is taken by the next one
    /// there, or it goes when somebody counts.
    members: GilRefCell<HashMap<usize, Py<PyWeakrefReference>>>,
}

impl Clients {
    fn has_any(&self, py: Python<'_>) -> bool {
        let members = self.members.borrow_mut(py);
        let mut alive = members.values().map(|member| member.bind(py).upgrade());
        alive.any(|member| member.is_some())
    }
}

#[pymethods]
impl Clients {
    fn add(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let reference = PyWeakrefReference::new(transport)?.unbind();
        let mut members = self.members.borrow_mut(transport.py());
        // What is replaced is a reference without a callback: no Python code runs.
        members.insert(address(transport), reference);
        Ok(())
    }

    fn discard(&self, transport: &Bound<'_, PyAny>) {
        let mut members = self.members.borrow_mut(transport.py());
        members.remove(&address(transport));
    }

    /// Those that live now, held.
    fn copy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PySet>> {
        let members = self.members.borrow_mut(py);
        let alive = members
            .values()
            .filter_map(|member| member.bind(py).upgrade());
        let alive: Vec<_> = alive.collect();
        drop(members);
        PySet::new(py, alive)
    }

    fn __contains__(&self, transport: &Bound<'_, PyAny>) -> bool {
        let py = transport.py();
        let members = self.members.borrow_mut(py);
        let member = members.get(&address(transport));
        let alive = member.and_then(|member| member.bind(py).upgrade());
        alive.is_some_and(|member| member.is(transport))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.copy(py)?.call_method0("__iter__")
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        let mut members = self.members.borrow_mut(py);
        members.retain(|_, member| member.bind(py).upgrade().is_some());
        members.len()
    }
}

fn address(transport: &Bound<'_, PyAny>) -> usize {
    transport.as_ptr().addr()
}
