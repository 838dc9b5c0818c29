//! Cheap calls into Python, and the handful of Python objects this crate calls.

use std::ffi::{CStr, c_int};
use std::hint::black_box;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PySystemExit};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple, PyType};

use crate::future::FutureCore;
use crate::gil::{GilOnceCell, intern};

/// `args[0].name(*args[1:-1], context=args[-1])`
pub fn call_method_with_context<'py, const N: usize>(
    name: &Bound<'py, PyString>,
    args: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    static NAMES: GilOnceCell<Py<PyTuple>> = GilOnceCell::new();
    let py = name.py();
    let pointers = args.map(Bound::as_ptr);
    let names = NAMES.get_or_try_init(py, || {
        PyTuple::new(py, [intern!(py, "context")]).map(Bound::unbind)
    })?;
    // SAFETY: N live references follow each other, the receiver first; the last is the one named; the returned
    // reference is ours.
    unsafe {
        let returned =
            ffi::PyObject_VectorcallMethod(name.as_ptr(), pointers.as_ptr(), N - 1, names.as_ptr());
        Bound::from_owned_ptr_or_err(py, returned)
    }
}

/// `callable(*args, **kwargs)`, for a user's function, or any other that may still run when the interpreter ends.
///
/// Before 3.14 a thread that comes back to the interpreter then, from a call that blocks or because it was another thread's
/// turn, is ended by unwinding its stack, which aborts the process when it comes to code of Rust. Here the thread is stopped
/// for good instead; the process ends without it.
pub fn call_user<'py>(
    callable: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let kwargs = kwargs.map_or(std::ptr::null_mut(), Bound::as_ptr);
    type Call = unsafe extern "C-unwind" fn(
        *mut ffi::PyObject,
        *mut ffi::PyObject,
        *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
    // The compiler must not see which function it is: that one is declared elsewhere as never unwinding.
    let call = black_box(ffi::PyObject_Call as *const ());
    // SAFETY: the types differ in nothing but in that it may unwind. The GIL is held, all references are live, and the one
    // that is returned is ours.
    let returned = stop_if_unwound(|| unsafe {
        let call = std::mem::transmute::<*const (), Call>(call);
        call(callable.as_ptr(), args.as_ptr(), kwargs)
    });
    // SAFETY: see above.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), returned) }
}

/// `callable()`, likewise.
pub fn call_user_plainly<'py>(callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    type Call = unsafe extern "C-unwind" fn(*mut ffi::PyObject) -> *mut ffi::PyObject;
    let call = black_box(ffi::PyObject_CallNoArgs as *const ());
    // SAFETY: as in `call_user`.
    let returned = stop_if_unwound(|| unsafe {
        let call = std::mem::transmute::<*const (), Call>(call);
        call(callable.as_ptr())
    });
    // SAFETY: as in `call_user`.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), returned) }
}

/// `args[0].name(*args[1:])`, likewise, without making a method object.
pub fn call_user_method<'py, const N: usize>(
    name: &Bound<'py, PyString>,
    args: [&Bound<'py, PyAny>; N],
) -> PyResult<Bound<'py, PyAny>> {
    type Call = unsafe extern "C-unwind" fn(
        *mut ffi::PyObject,
        *const *mut ffi::PyObject,
        usize,
        *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
    let call = black_box(ffi::PyObject_VectorcallMethod as *const ());
    let pointers = args.map(Bound::as_ptr);
    // SAFETY: N live references follow each other, the receiver first. Otherwise as in `call_user`.
    let returned = stop_if_unwound(|| unsafe {
        let call = std::mem::transmute::<*const (), Call>(call);
        call(name.as_ptr(), pointers.as_ptr(), N, std::ptr::null_mut())
    });
    // SAFETY: as in `call_user`.
    unsafe { Bound::from_owned_ptr_or_err(name.py(), returned) }
}

/// `callable(arg)`, likewise.
pub fn call_user_with<'py>(
    callable: &Bound<'py, PyAny>,
    arg: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    type Call = unsafe extern "C-unwind" fn(
        *mut ffi::PyObject,
        *const *mut ffi::PyObject,
        usize,
        *mut ffi::PyObject,
    ) -> *mut ffi::PyObject;
    let call = black_box(ffi::PyObject_Vectorcall as *const ());
    // The place before the first argument is the callee's to use: a method puts its object there.
    let args = [std::ptr::null_mut(), arg.as_ptr()];
    let count = 1 | ffi::PY_VECTORCALL_ARGUMENTS_OFFSET;
    // SAFETY: as in `call_user`; the one argument is in the second place of `args`.
    let returned = stop_if_unwound(|| unsafe {
        let call = std::mem::transmute::<*const (), Call>(call);
        call(
            callable.as_ptr(),
            args.as_ptr().add(1),
            count,
            std::ptr::null_mut(),
        )
    });
    // SAFETY: as in `call_user`.
    unsafe { Bound::from_owned_ptr_or_err(callable.py(), returned) }
}

/// `class(*args, **kwargs)`, but the object comes back as well if its `__init__` fails: that may have run a user's code,
/// as in `call_user`.
pub fn construct_in_two_steps<'py>(
    class: &Bound<'py, PyType>,
    args: &Bound<'py, PyTuple>,
    kwargs: &Bound<'py, PyDict>,
) -> PyResult<(Bound<'py, PyAny>, PyResult<()>)> {
    type Init = unsafe extern "C-unwind" fn(
        *mut ffi::PyObject,
        *mut ffi::PyObject,
        *mut ffi::PyObject,
    ) -> c_int;
    let py = class.py();
    let type_object = class.as_type_ptr();
    // SAFETY: `type_object` is a live, ready type. The GIL is held, all references are live, and the one that `tp_new`
    // returns is ours. For the other type of `tp_init` see `call_user`.
    unsafe {
        let (Some(new), Some(init)) = ((*type_object).tp_new, (*type_object).tp_init) else {
            return Ok((class.call(args, Some(kwargs))?, Ok(())));
        };
        let object = new(type_object, args.as_ptr(), kwargs.as_ptr());
        let object = Bound::from_owned_ptr_or_err(py, object)?;
        let init = std::mem::transmute::<*const (), Init>(black_box(init as *const ()));
        let failed = stop_if_unwound(|| init(object.as_ptr(), args.as_ptr(), kwargs.as_ptr()) != 0);
        let initialized = if failed {
            Err(PyErr::fetch(py))
        } else {
            Ok(())
        };
        Ok((object, initialized))
    }
}

/// `function(arg)` or `function()` of one that C code gave to a module, for a third of what calling any object costs. It
/// must not let go of the GIL.
pub fn call_builtin<'py>(
    function: &Bound<'py, PyAny>,
    arg: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the type is checked before the object is read as one. See also `call_definition`.
    unsafe {
        if ffi::PyCFunction_CheckExact(function.as_ptr()) != 0 {
            let object = function.as_ptr().cast::<ffi::PyCFunctionObject>();
            let called = call_definition(function.py(), (*object).m_ml, (*object).m_self, arg);
            if let Some(returned) = called {
                return returned;
            }
        }
    }
    match arg {
        Some(arg) => function.call1((arg,)),
        None => function.call0(),
    }
}

/// `task.result()`, likewise if it is a task of asyncio's own.
pub fn result_of<'py>(task: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static RESULT: GilOnceCell<Py<PyAny>> = GilOnceCell::new();
    let py = task.py();
    let class = asyncio_task(py)?;
    if task.get_type_ptr() == class.as_type_ptr() {
        let find = || Ok(class.getattr(intern!(py, "result"))?.unbind());
        let method = RESULT.get_or_try_init(py, find)?;
        // SAFETY: the task is of the type whose method it is.
        let called = method_definition(method.bind(py))
            .and_then(|method| unsafe { call_definition(py, method, task.as_ptr(), None) });
        if let Some(returned) = called {
            return returned;
        }
    }
    task.call_method0(intern!(py, "result"))
}

/// What a method of a class of C code, or of PyO3's, is described by. It lives as long as the class. None if it isn't one.
pub fn method_definition(method: &Bound<'_, PyAny>) -> Option<*mut ffi::PyMethodDef> {
    // SAFETY: the type is checked before the object is read as one.
    unsafe {
        (ffi::Py_TYPE(method.as_ptr()) == &raw mut ffi::PyMethodDescr_Type)
            .then(|| (*method.as_ptr().cast::<ffi::PyMethodDescrObject>()).d_method)
    }
}

/// Calls what is defined so. None, and nothing happened, if that takes its arguments in another way.
///
/// # Safety
///
/// It is a live definition of a function for `of`, its module or its object.
unsafe fn call_definition<'py>(
    py: Python<'py>,
    definition: *const ffi::PyMethodDef,
    of: *mut ffi::PyObject,
    arg: Option<&Bound<'py, PyAny>>,
) -> Option<PyResult<Bound<'py, PyAny>>> {
    let flags = if arg.is_some() {
        ffi::METH_O
    } else {
        ffi::METH_NOARGS
    };
    // SAFETY: by the above, the GIL is held, the flags say which function it is, and what is returned is ours or null and an
    // exception.
    unsafe {
        ((*definition).ml_flags == flags).then(|| {
            let arg = arg.map_or(std::ptr::null_mut(), Bound::as_ptr);
            let returned = ((*definition).ml_meth.PyCFunction)(of, arg);
            Bound::from_owned_ptr_or_err(py, returned)
        })
    }
}

/// Makes a call that may unwind the stack to end the thread: it stays here instead. See `call_user`.
pub fn stop_if_unwound<R>(call: impl FnOnce() -> R) -> R {
    struct StopThread;

    impl Drop for StopThread {
        fn drop(&mut self) {
            loop {
                std::thread::park();
            }
        }
    }

    let unwound = StopThread;
    let returned = call();
    std::mem::forget(unwound);
    returned
}

/// Defines a function that gives a Python object, imported at its first use.
macro_rules! imported {
    ($($name:ident: $kind:ty = $module:literal, $attribute:literal;)*) => {
        $(pub fn $name<'py>(py: Python<'py>) -> PyResult<&'py Bound<'py, $kind>> {
            static OBJECT: GilOnceCell<Py<$kind>> = GilOnceCell::new();
            OBJECT.import(py, $module, $attribute)
        })*
    };
}

imported! {
    asyncio_task: PyType = "asyncio", "Task";
    asyncio_tasks: PyAny = "asyncio", "tasks";
    copy_future_state: PyAny = "asyncio.futures", "_copy_future_state";
    asyncio_futures: PyAny = "asyncio", "futures";
    standard_loop: PyType = "asyncio", "BaseEventLoop";
    asyncio_server: PyType = "asyncio.base_events", "Server";
    weak_set: PyType = "weakref", "WeakSet";
    asyncio_handle: PyType = "asyncio", "Handle";
    asyncio_timer_handle: PyType = "asyncio", "TimerHandle";
    asyncio_logger: PyAny = "asyncio.log", "logger";
    buffered_protocol: PyType = "asyncio", "BufferedProtocol";
    socket_transport: PyType = "asyncio_thread_loop._transports", "SocketTransport";
    transport_socket: PyType = "asyncio.trsock", "TransportSocket";
    format_callback_source: PyAny = "asyncio.format_helpers", "_format_callback_source";
    format_handle: PyAny = "asyncio.base_events", "_format_handle";
    cancelled_error: PyType = "concurrent.futures", "CancelledError";
    invalid_state_error: PyType = "concurrent.futures", "InvalidStateError";
    futures_logger: PyAny = "concurrent.futures._base", "LOGGER";
    condition: PyType = "threading", "Condition";
    main_thread: PyAny = "threading", "main_thread";
    generic_alias: PyType = "types", "GenericAlias";
    method_type: PyType = "types", "MethodType";
    method_wrapper_type: PyType = "types", "MethodWrapperType";
    partial_type: PyType = "functools", "partial";
    closed_error: PyType = "asyncio_thread_loop._errors", "LoopClosedError";
    deadlock_error: PyType = "asyncio_thread_loop._errors", "DeadlockError";
    forked_error: PyType = "asyncio_thread_loop._errors", "ForkedError";
    report_unretrieved: PyAny = "asyncio_thread_loop._errors", "report_unretrieved";
    errors_file: PyAny = "asyncio_thread_loop._errors", "__file__";
    as_coroutine: PyAny = "asyncio_thread_loop._coroutines", "as_coroutine";
    cancel_once: PyAny = "asyncio_thread_loop._coroutines", "cancel_once";
    await_in_coroutine: PyAny = "asyncio_thread_loop._coroutines", "await_in_coroutine";
    call_function: PyAny = "asyncio_thread_loop._faces.calls", "call_function";
    call_member: PyAny = "asyncio_thread_loop._faces.calls", "call_member";
    synchronous_signature: PyAny = "asyncio_thread_loop._faces.signatures", "synchronous_signature";
    refuse_pickling: PyAny = "asyncio_thread_loop._faces.classes", "refuse_pickling";
    describe_circle: PyAny = "asyncio_thread_loop._stacks", "describe_circle";
    running_loop: PyAny = "asyncio", "_get_running_loop";
    current_task: PyAny = "asyncio", "current_task";
    set_running_loop: PyAny = "asyncio", "_set_running_loop";
    strerror: PyAny = "os", "strerror";
    socket_type: PyType = "socket", "socket";
    ssl_object: PyType = "ssl", "SSLObject";
    c_ssl_object: PyType = "_ssl", "_SSLSocket";
    memory_bio: PyType = "ssl", "MemoryBIO";
    ssl_wants_read: PyType = "ssl", "SSLWantReadError";
    ssl_system_call: PyType = "ssl", "SSLSyscallError";
    check_ssl_socket: PyAny = "asyncio.base_events", "_check_ssl_socket";
    frame_at: PyAny = "sys", "_getframe";
    tell_of_blocked_loop: PyAny = "asyncio_thread_loop._watchdog", "tell_of_blocked_loop";
    update_wrapper: PyAny = "functools", "update_wrapper";
    future_type: PyType = "asyncio_thread_loop._future", "Future";
}

/// `function.__get__(instance)` of something that is called like a function: a method of the instance, if there is one.
pub fn bind_as_method<'py, T>(
    function: &Bound<'py, T>,
    instance: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    if instance.is_none() {
        return Ok(function.clone().into_any());
    }
    method_type(function.py())?.call1((function.as_any(), instance))
}

/// `object.__reduce__()` of a face: an error.
pub fn refused_pickling<T>(object: &Bound<'_, T>) -> PyResult<Py<PyAny>> {
    let refuse = refuse_pickling(object.py())?;
    refuse.call1((object.as_any(),)).map(Bound::unbind)
}

/// Whether `object` is what a C task hands to `call_soon` to have its first step, or the one after a bare `yield`, run.
pub fn is_task_step(object: &Bound<'_, PyAny>) -> bool {
    /// The type, once seen: asyncio doesn't export it.
    static TYPE: AtomicUsize = AtomicUsize::new(0);
    let class = object.get_type_ptr();
    // ORDERING: Relaxed, the GIL is held; the type lives as long as the process.
    match TYPE.load(Relaxed) {
        0 => {
            // SAFETY: a type that has instances is alive, and so is its name.
            let name = unsafe { CStr::from_ptr((*class).tp_name) };
            let found = name == c"_asyncio.TaskStepMethWrapper";
            if found {
                // SAFETY: `class` is alive. This reference is kept for good, so that no other type gets its address.
                unsafe { ffi::Py_INCREF(class.cast()) };
                TYPE.store(class.addr(), Relaxed);
            }
            found
        }
        known => class.addr() == known,
    }
}

/// One of our own futures, as opposed to a subclass that a user made.
pub fn as_future<'a, 'py>(object: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, FutureCore>> {
    let py = object.py();
    let ours = object.is_exact_instance_of::<FutureCore>()
        || future_type(py).is_ok_and(|ours| object.get_type().is(ours));
    // SAFETY: the type was just checked; `Future` derives from `FutureCore`.
    ours.then(|| unsafe { object.cast_unchecked() })
}

/// An error of a type that Python code defines.
///
/// It is made at once. PyO3 would make it on its way into the interpreter, where a lack of memory is a panic, and one
/// that aborts the process; here it is a `MemoryError`.
pub fn error(kind: PyResult<&Bound<'_, PyType>>, message: impl AsRef<str>) -> PyErr {
    let made = kind.and_then(|kind| kind.call1((string(kind.py(), message)?,)));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// An error of a type that Python brings along.
pub fn builtin_error<T: PyTypeInfo>(message: impl AsRef<str>) -> PyErr {
    Python::attach(|py| error(Ok(&T::type_object(py)), message))
}

/// An error of the operating system, with the number and the text that Python gives it.
pub fn os_error(error: io::Error) -> PyErr {
    let Some(code) = error.raw_os_error() else {
        return error.into();
    };
    Python::attach(|py| {
        let made = strerror(py)
            .and_then(|strerror| strerror.call1((code,)))
            .and_then(|text| PyOSError::type_object(py).call1((code, text)));
        made.map_or_else(|error| error, PyErr::from_value)
    })
}

/// A string, or a `MemoryError`: where PyO3 makes one, a lack of memory is a panic.
pub fn string(py: Python<'_>, text: impl AsRef<str>) -> PyResult<Bound<'_, PyString>> {
    PyString::from_bytes(py, text.as_ref().as_bytes())
}

/// Bytes, likewise.
pub fn bytes<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: the GIL is held, the bytes are valid for reads of their length, which fits, and what is returned is ours.
    unsafe {
        let made = ffi::PyBytes_FromStringAndSize(bytes.as_ptr().cast(), bytes.len() as isize);
        Ok(Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked())
    }
}

/// An empty list, likewise.
pub fn list(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    // SAFETY: the GIL is held, and the returned reference is ours and a list.
    unsafe { Ok(Bound::from_owned_ptr_or_err(py, ffi::PyList_New(0))?.cast_into_unchecked()) }
}

/// Puts an object into a tuple of one that nobody else has.
///
/// Raises `SystemError` if somebody has, and nothing has changed.
pub fn set_only_item(tuple: &Bound<'_, PyTuple>, object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = tuple.py();
    debug_assert_eq!(tuple.len(), 1);
    // SAFETY: the GIL is held, it is a tuple of one, and the reference to the object becomes the tuple's.
    match unsafe { ffi::PyTuple_SetItem(tuple.as_ptr(), 0, object.clone().into_ptr()) } {
        0 => Ok(()),
        _ => Err(PyErr::fetch(py)),
    }
}

/// A number, likewise.
pub fn float(py: Python<'_>, number: f64) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the GIL is held and the returned reference is ours.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyFloat_FromDouble(number)) }
}

/// A size, likewise.
pub fn size(py: Python<'_>, size: usize) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the GIL is held and the returned reference is ours.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromSize_t(size)) }
}

/// The two exceptions that asyncio lets through a callback, to end the whole program.
pub fn ends_the_program(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PySystemExit>(py) || error.is_instance_of::<PyKeyboardInterrupt>(py)
}

/// Number of the calling thread, as `threading.get_ident()` gives it.
pub fn thread_ident() -> u64 {
    // SAFETY: asks the operating system for this thread's handle, nothing else.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}

/// A copy of the calling thread's context.
pub fn copy_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the GIL is held and the returned reference is ours.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent()) }
}

/// A copy of another context.
pub fn copy_of_context<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the GIL is held, the type is checked, and the returned reference is ours.
    unsafe { Bound::from_owned_ptr_or_err(context.py(), ffi::PyContext_Copy(context.as_ptr())) }
}

/// Whether `object` is a coroutine of an `async def` function.
pub fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: reads the type of a live object.
    unsafe { ffi::PyCoro_CheckExact(object.as_ptr()) != 0 }
}

/// Whether a coroutine is known to have ended, be it well or badly. False also where that can't be told at a glance.
pub fn has_visibly_ended(coroutine: &Bound<'_, PyAny>) -> bool {
    // SAFETY: as in `is_executing`. What is greater than `FRAME_EXECUTING` has ended.
    #[cfg(not(Py_3_14))]
    return is_coroutine(coroutine)
        && unsafe { (*coroutine.as_ptr().cast::<ffi::PyGenObject>()).gi_frame_state } > 0;
    #[cfg(Py_3_14)]
    return false;
}

/// Whether `object` is a coroutine, a generator or an async generator which some thread is in. False also where that can't be
/// told at a glance.
pub fn is_executing(object: &Bound<'_, PyAny>) -> bool {
    /// `FRAME_EXECUTING` of CPython's `pycore_frame.h`.
    #[cfg(not(Py_3_14))]
    const EXECUTING: i8 = 0;
    #[cfg(not(Py_3_14))]
    let object = object.as_ptr();
    // SAFETY: reads the type of a live object; the three share one layout, public until 3.13.
    #[cfg(not(Py_3_14))]
    return unsafe {
        (ffi::PyCoro_CheckExact(object) != 0
            || ffi::PyGen_CheckExact(object) != 0
            || ffi::PyAsyncGen_CheckExact(object) != 0)
            && (*object.cast::<ffi::PyGenObject>()).gi_frame_state == EXECUTING
    };
    #[cfg(Py_3_14)]
    return false;
}

/// Whether a coroutine has taken no step yet and isn't closed.
pub fn is_fresh(coroutine: &Bound<'_, PyAny>) -> PyResult<bool> {
    debug_assert!(is_coroutine(coroutine));
    #[cfg(not(Py_3_14))]
    {
        /// `FRAME_CREATED` of CPython's `pycore_frame.h`.
        const CREATED: i8 = if cfg!(Py_3_13) { -3 } else { -2 };
        // SAFETY: it is a coroutine, laid out like a generator; see `is_executing`.
        Ok(unsafe { (*coroutine.as_ptr().cast::<ffi::PyGenObject>()).gi_frame_state == CREATED })
    }
    #[cfg(Py_3_14)]
    {
        static STATE_OF: GilOnceCell<Py<PyAny>> = GilOnceCell::new();
        let state = STATE_OF
            .import(coroutine.py(), "inspect", "getcoroutinestate")?
            .call1((coroutine,))?;
        state.eq("CORO_CREATED")
    }
}
