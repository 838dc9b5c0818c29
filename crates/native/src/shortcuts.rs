//! Methods that programs call all the time, called without what PyO3 does for every call: for what they mostly do that costs
//! as much as they do themselves.
//!
//! A shortcut does nothing that could panic, and leaves everything out of the ordinary to the method as PyO3 has it.

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;

use crate::bridge::BridgeCore;
use crate::calls;
use crate::future::FutureCore;
use crate::gil::GilCell;

/// How PyO3 has most methods called.
pub type Method = ffi::PyCFunctionFastWithKeywords;
const FAST: c_int = ffi::METH_FASTCALL | ffi::METH_KEYWORDS;

static RESULT: GilCell<Option<Method>> = GilCell::new(None);
static SUBMIT: GilCell<Option<ffi::PyCFunctionWithKeywords>> = GilCell::new(None);
static SUBMIT_ONE: GilCell<Option<Method>> = GilCell::new(None);

/// Has the methods of futures and of the bridge take their shortcuts.
pub fn prepare(py: Python<'_>) -> PyResult<()> {
    put_before(&py.get_type::<FutureCore>(), "result", &RESULT, result)?;
    prepare_submit(&py.get_type::<BridgeCore>())
}

/// Has calls of a method come to `shortcut` first, which finds the method itself in `whole`.
pub fn put_before(
    class: &Bound<'_, PyAny>,
    name: &str,
    whole: &'static GilCell<Option<Method>>,
    shortcut: Method,
) -> PyResult<()> {
    let py = class.py();
    if let Some(method) = fast(&class.getattr(name)?) {
        // SAFETY: it is alive. Calls look at it each time, with the GIL; the new function is of the kind that its flags tell.
        unsafe {
            whole.set(py, Some((*method).ml_meth.PyCFunctionFastWithKeywords));
            (*method).ml_meth.PyCFunctionFastWithKeywords = shortcut;
        }
    }
    Ok(())
}

/// What a method is described by that PyO3 has called in the usual way.
fn fast(method: &Bound<'_, PyAny>) -> Option<*mut ffi::PyMethodDef> {
    // SAFETY: it is alive.
    calls::method_definition(method).filter(|method| unsafe { (**method).ml_flags == FAST })
}

/// `future.result()` of one that has a plain result.
unsafe extern "C" fn result(
    future: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the GIL held, by its protocol, and with a `FutureCore`, as it does the whole
    // method.
    unsafe {
        let py = Python::assume_attached();
        if count == 0 && names.is_null() {
            let core = Bound::ref_from_ptr(py, &future).cast_unchecked::<FutureCore>();
            if let Some(value) = core.get().plain_value(py) {
                return value.into_ptr();
            }
        }
        match RESULT.get(py) {
            Some(whole) => whole(future, args, count, names),
            None => std::ptr::null_mut(), // this function was set together with it
        }
    }
}

/// `submit` takes whatever a coroutine function takes, for which PyO3 has the arguments packed into a tuple and a dict. It
/// becomes a method that is called without that, and packs them if there is more than a coroutine.
fn prepare_submit(class: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = class.py();
    let whole = calls::method_definition(&class.getattr("submit")?);
    let (Some(whole), Some(one)) = (whole, fast(&class.getattr("_submit_one")?)) else {
        return Ok(());
    };
    // SAFETY: both are alive and their flags tell their kinds. The new definition is kept for good, as its name and its text
    // are, which belong to PyO3's; the class is one of ours.
    unsafe {
        if (*whole).ml_flags != ffi::METH_VARARGS | ffi::METH_KEYWORDS {
            return Ok(());
        }
        SUBMIT.set(py, Some((*whole).ml_meth.PyCFunctionWithKeywords));
        SUBMIT_ONE.set(py, Some((*one).ml_meth.PyCFunctionFastWithKeywords));
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: (*whole).ml_name,
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: submit,
            },
            ml_flags: FAST,
            ml_doc: (*whole).ml_doc,
        }));
        let method = ffi::PyDescr_NewMethod(class.as_ptr().cast(), definition);
        class.setattr("submit", Bound::from_owned_ptr_or_err(py, method)?)
    }
}

unsafe extern "C" fn submit(
    bridge: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this with the GIL held, by its protocol: the values of arguments with names follow the
    // others. Both methods get what it would give them.
    unsafe {
        let py = Python::assume_attached();
        let (Some(one), Some(whole)) = (SUBMIT_ONE.get(py), SUBMIT.get(py)) else {
            return std::ptr::null_mut(); // this function was set together with them
        };
        if count == 1 && names.is_null() {
            return one(bridge, args, count, names);
        }
        let packed = ffi::PyTuple_New(count);
        if packed.is_null() {
            return packed;
        }
        for at in 0..count {
            ffi::PyTuple_SET_ITEM(packed, at, ffi::Py_NewRef(*args.offset(at)));
        }
        let mut named = std::ptr::null_mut();
        let mut failed = false;
        if !names.is_null() {
            named = ffi::PyDict_New();
            failed = named.is_null();
            for at in 0..ffi::PyTuple_GET_SIZE(names) {
                let name = ffi::PyTuple_GET_ITEM(names, at);
                failed = failed || ffi::PyDict_SetItem(named, name, *args.offset(count + at)) != 0;
            }
        }
        let returned = match failed {
            true => std::ptr::null_mut(),
            false => whole(bridge, packed, named),
        };
        ffi::Py_DECREF(packed);
        ffi::Py_XDECREF(named);
        returned
    }
}
