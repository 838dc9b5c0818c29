//! What `call_soon` and its like mostly do, and what each new task asks, without PyO3's way of being called, which costs as
//! much as they do.
//!
//! Whatever is out of the ordinary is left to the methods as PyO3 has them: a closed loop, debug mode, odd arguments,
//! errors.

use asyncio_thread_loop_core::clock;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

use super::LoopCore;
use super::queue::{Ready, Timer};
use crate::calls;
use crate::gil::{GilCell, intern};
use crate::handle::{Args, Handle, TimerHandle};
use crate::shortcuts::{self, Method};

/// Has the methods take their shortcuts.
pub fn prepare(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<LoopCore>();
    let methods: [(_, &'static GilCell<Option<Method>>, Method); 4] = [
        ("call_soon", &SOON, call_soon),
        ("call_soon_threadsafe", &THREADSAFE, call_soon_threadsafe),
        ("call_later", &LATER, call_later),
        ("call_at", &AT, call_at),
    ];
    for (name, whole, shortcut) in methods {
        shortcuts::put_before(&class, name, whole, shortcut)?;
    }
    let answers: [(_, ffi::PyCFunction); 2] =
        [("is_running", is_running), ("get_debug", get_debug)];
    for (name, answer) in answers {
        let method = class.getattr(name)?;
        let Some(def) = calls::method_definition(&method) else {
            continue;
        };
        // SAFETY: as above.
        unsafe {
            if (*def).ml_flags == ffi::METH_NOARGS {
                (*def).ml_meth.PyCFunction = answer;
            }
        }
    }
    Ok(())
}

/// Defines a method that answers a question with yes or no, from what the loop itself knows.
macro_rules! answer {
    ($name:ident) => {
        unsafe extern "C" fn $name(
            event_loop: *mut ffi::PyObject,
            _: *mut ffi::PyObject,
        ) -> *mut ffi::PyObject {
            // SAFETY: the interpreter calls this with the GIL held and with a `LoopCore`.
            unsafe {
                let py = Python::assume_attached();
                let event_loop = Bound::ref_from_ptr(py, &event_loop).cast_unchecked::<LoopCore>();
                ffi::PyBool_FromLong(event_loop.get().$name(py).into())
            }
        }
    };
}

answer!(is_running);
answer!(get_debug);

/// Defines a shortcut, and where the whole method is kept.
macro_rules! shortcut {
    ($name:ident, $whole:ident, $short:expr) => {
        static $whole: GilCell<Option<Method>> = GilCell::new(None);

        unsafe extern "C" fn $name(
            event_loop: *mut ffi::PyObject,
            args: *const *mut ffi::PyObject,
            count: ffi::Py_ssize_t,
            names: *mut ffi::PyObject,
        ) -> *mut ffi::PyObject {
            // SAFETY: the interpreter calls this with the GIL held, by its protocol, and with a `LoopCore`, as it does
            // the whole method.
            unsafe {
                let py = Python::assume_attached();
                let call = Call::ordinary(py, &event_loop, args, count, names);
                match call.and_then($short) {
                    Some(Ok(made)) => made.into_ptr(),
                    Some(Err(error)) => {
                        error.restore(py);
                        std::ptr::null_mut()
                    }
                    None => match $whole.get(py) {
                        Some(whole) => whole(event_loop, args, count, names),
                        None => std::ptr::null_mut(), // this function was set together with it
                    },
                }
            }
        }
    };
}

shortcut!(call_soon, SOON, |call| {
    let (callback, args) = call.args.split_first()?;
    if calls::as_future(callback).is_some() {
        return None;
    }
    let py = call.py;
    if let Some(context) = call.context
        && calls::is_task_step(callback)
    {
        // Only a task makes these, and it doesn't keep what it gets back.
        let (step, context) = (callback.clone().unbind(), context.clone().unbind());
        call.event_loop.get().push(py, Ready::Step(step, context));
        return Some(Ok(py.None().into_bound(py)));
    }
    Some(call.handle(callback, args).map(|handle| {
        let ready = Ready::Handle(handle.clone().unbind());
        call.event_loop.get().push(py, ready);
        handle.into_any()
    }))
});

shortcut!(call_soon_threadsafe, THREADSAFE, |call| {
    let (callback, args) = call.args.split_first()?;
    let made = call.handle(callback, args).and_then(|handle| {
        let ready = Ready::Handle(handle.clone().unbind());
        LoopCore::push_threadsafe(call.event_loop, ready)?;
        Ok(handle.into_any())
    });
    Some(made)
});

shortcut!(call_later, LATER, |call| {
    let (delay, args) = call.args.split_first()?;
    call.timer(clock::monotonic() + number(delay)?, args)
});

shortcut!(call_at, AT, |call| {
    let (when, args) = call.args.split_first()?;
    call.timer(number(when)?, args)
});

/// A call with nothing unusual about it.
struct Call<'a, 'py> {
    py: Python<'py>,
    event_loop: &'a Bound<'py, LoopCore>,
    args: &'a [Bound<'py, PyAny>],
    context: Option<&'a Bound<'py, PyAny>>,
}

impl<'a, 'py> Call<'a, 'py> {
    /// None if it is better left to the whole method.
    ///
    /// # Safety
    ///
    /// The arguments are those that a method of `LoopCore` gets.
    unsafe fn ordinary(
        py: Python<'py>,
        event_loop: &'a *mut ffi::PyObject,
        args: *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        names: *mut ffi::PyObject,
    ) -> Option<Self> {
        // SAFETY: by the above. A `Bound` is a pointer to an object; these are lent, and nobody drops what a slice or a
        // reference lends. The values of arguments with names follow the others.
        unsafe {
            let event_loop = Bound::ref_from_ptr(py, event_loop).cast_unchecked::<LoopCore>();
            let this = event_loop.get();
            if this.is_closed.get(py) || this.debug.get(py) {
                return None;
            }
            let count = count as usize;
            let context = if names.is_null() {
                None
            } else {
                if ffi::PyTuple_GET_SIZE(names) != 1
                    || !is_context(py, ffi::PyTuple_GET_ITEM(names, 0))
                {
                    return None;
                }
                let context = Bound::ref_from_ptr(py, &*args.add(count));
                (!context.is_none()).then_some(context)
            };
            Some(Self {
                py,
                event_loop,
                args: std::slice::from_raw_parts(args.cast(), count),
                context,
            })
        }
    }

    fn handle(
        &self,
        callback: &Bound<'py, PyAny>,
        args: &[Bound<'py, PyAny>],
    ) -> PyResult<Bound<'py, Handle>> {
        Handle::create(callback, Args::new(self.py, args)?, self.context)
    }

    fn timer(&self, when: f64, args: &[Bound<'py, PyAny>]) -> Option<PyResult<Bound<'py, PyAny>>> {
        let (callback, args) = args.split_first()?;
        if when.is_nan() {
            return None;
        }
        let made = Args::new(self.py, args).and_then(|args| {
            TimerHandle::create(self.event_loop, when, callback, args, self.context)
        });
        Some(made.map(|handle| {
            let timer = Timer::Handle(handle.clone().unbind());
            self.event_loop
                .get()
                .timers
                .borrow_mut(self.py)
                .insert(when, timer);
            handle.into_any()
        }))
    }
}

/// Whether it is the string `context`.
///
/// # Safety
///
/// It is a live string.
unsafe fn is_context(py: Python<'_>, name: *mut ffi::PyObject) -> bool {
    // That of Python code is interned, that of `_asyncio` isn't.
    name == intern!(py, "context").as_ptr()
        // SAFETY: by the above.
        || unsafe { ffi::PyUnicode_CompareWithASCIIString(name, c"context".as_ptr()) == 0 }
}

/// A number of which no Python code tells what it is. None for others.
fn number(object: &Bound<'_, PyAny>) -> Option<f64> {
    if object.is_exact_instance_of::<PyFloat>() || object.is_exact_instance_of::<PyInt>() {
        // One that is too large is an error again where the whole method reads it.
        return object.extract().ok();
    }
    None
}
