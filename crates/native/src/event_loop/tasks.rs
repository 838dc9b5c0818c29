//! `create_task` and `create_future` without a Python frame.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::LoopCore;
use crate::calls;
use crate::gil::{GilOnceCell, intern};

/// `create_task(coro, *, name=None, context=None)`, and whatever else the standard library's tasks take.
pub fn create_task<'py>(
    event_loop: &Bound<'py, LoopCore>,
    args: &Bound<'py, PyTuple>,
    options: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let this = event_loop.get();
    let name = intern!(py, "loop");
    let given = match options {
        Some(options) => options.contains(name)?,
        None => false,
    };
    if given || args.len() != 1 || this.has_task_factory(py) || this.is_debugged(py) {
        // A factory has its own ideas of what it takes, and in debug mode a task remembers where it was made.
        let args = std::iter::once(event_loop.clone().into_any()).chain(args);
        let args = PyTuple::new(py, args.collect::<Vec<_>>())?;
        let create = calls::standard_loop(py)?.getattr(intern!(py, "create_task"))?;
        return calls::call_user(&create, &args, options);
    }
    this.check_closed(py)?;
    let options = match options {
        Some(options) => options.copy()?,
        None => PyDict::new(py),
    };
    options.set_item(name, event_loop)?;
    // Looked up each time, as the standard loop does: a program may have put another class there.
    let class = calls::asyncio_tasks(py)?.getattr(intern!(py, "Task"))?;
    calls::call_user(&class, args, Some(&options))
}

pub fn create_future<'py>(event_loop: &Bound<'py, LoopCore>) -> PyResult<Bound<'py, PyAny>> {
    static NAMES: GilOnceCell<Py<PyTuple>> = GilOnceCell::new();
    let py = event_loop.py();
    let names = NAMES.get_or_try_init(py, || {
        PyTuple::new(py, [intern!(py, "loop")]).map(Bound::unbind)
    })?;
    let class = calls::asyncio_futures(py)?.getattr(intern!(py, "Future"))?;
    let values = [event_loop.as_ptr()];
    // SAFETY: all are live; the one argument has the one name. The returned reference is ours.
    unsafe {
        let made = ffi::PyObject_Vectorcall(class.as_ptr(), values.as_ptr(), 0, names.as_ptr());
        Bound::from_owned_ptr_or_err(py, made)
    }
}
