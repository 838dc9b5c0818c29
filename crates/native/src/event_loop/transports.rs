//! Which transport uses which descriptor, for as long as it lives: such a descriptor is not for others.

use std::os::fd::RawFd;

use pyo3::PyTypeInfo;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyWeakrefMethods, PyWeakrefReference};

use super::LoopCore;
use crate::gil::{GilRefCell, intern};

/// What asyncio does with a `WeakValueDictionary`: the loop's `_transports`, by descriptor.
#[pyclass(frozen, mapping, module = "asyncio_thread_loop._native")]
#[derive(Default)]
pub struct Transports {
    /// Descriptors are small numbers. A reference has no callback, so dropping one runs no Python code.
    references: GilRefCell<Vec<Option<Py<PyWeakrefReference>>>>,
}

impl Transports {
    /// The transport that uses the descriptor, if there is one.
    pub fn of<'py>(&self, py: Python<'py>, fd: RawFd) -> Option<Bound<'py, PyAny>> {
        let references = self.references.borrow_mut(py);
        let reference = references.get(usize::try_from(fd).ok()?)?;
        reference.as_ref()?.bind(py).upgrade()
    }

    /// Notes who uses the descriptor from now on.
    pub fn note(&self, fd: RawFd, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let index = usize::try_from(fd)?;
        let reference = PyWeakrefReference::new(transport)?.unbind();
        let mut references = self.references.borrow_mut(transport.py());
        if references.len() <= index {
            references.resize_with(index + 1, || None);
        }
        references[index] = Some(reference);
        Ok(())
    }

    fn all<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let alive: Vec<_> = {
            let references = self.references.borrow_mut(py);
            let alive = references.iter().map(|reference| {
                let reference = reference.as_ref()?;
                reference.bind(py).upgrade()
            });
            alive.collect()
        };
        let all = PyDict::new(py);
        for (fd, transport) in alive.into_iter().enumerate() {
            if let Some(transport) = transport {
                all.set_item(fd, transport)?;
            }
        }
        Ok(all)
    }
}

#[pymethods]
impl Transports {
    #[pyo3(signature = (fd, default=None))]
    fn get<'py>(
        &self,
        fd: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> Option<Bound<'py, PyAny>> {
        let found = number(fd).and_then(|number| self.of(fd.py(), number));
        found.or(default)
    }

    fn __getitem__<'py>(&self, fd: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.get(fd, None).ok_or_else(|| absent(fd))
    }

    fn __contains__(&self, fd: &Bound<'_, PyAny>) -> bool {
        self.get(fd, None).is_some()
    }

    /// What has no descriptor, such as a mock of a socket, is in nobody's way and isn't noted.
    fn __setitem__(&self, fd: &Bound<'_, PyAny>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        match number(fd) {
            Some(number) => self.note(number, transport),
            None => Ok(()),
        }
    }

    fn __delitem__(&self, fd: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = fd.py();
        let transport = self.__getitem__(fd)?;
        if let Some(index) = number(fd).and_then(|number| usize::try_from(number).ok()) {
            self.references.borrow_mut(py)[index] = None;
        }
        drop(transport);
        Ok(())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(self.all(py)?.len())
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.all(py)?.call_method0("__iter__")
    }

    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.all(py)?.call_method0("keys")
    }

    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.all(py)?.call_method0("values")
    }

    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.all(py)?.call_method0("items")
    }
}

impl LoopCore {
    /// An error if a transport uses the descriptor that isn't about to end.
    pub fn check_no_transport(slf: &Bound<'_, Self>, fd: RawFd) -> PyResult<()> {
        let py = slf.py();
        if slf.get().transports.get().of(py, fd).is_none() {
            return Ok(());
        }
        let check = intern!(py, "_ensure_fd_no_transport");
        slf.call_method1(check, (fd,)).map(drop)
    }
}

fn number(fd: &Bound<'_, PyAny>) -> Option<RawFd> {
    let number = fd.cast::<PyInt>().ok()?.extract().ok()?;
    (number >= 0).then_some(number)
}

fn absent(fd: &Bound<'_, PyAny>) -> PyErr {
    match PyKeyError::type_object(fd.py()).call1((fd,)) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
