//! Where a call came from, and tracebacks without this library's own frames.

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::calls;
use crate::gil::{GilCell, GilOnceCell, intern};

/// What a suspended coroutine, generator or async generator awaits, by the name of its attribute for that. None of one that
/// runs: CPython before 3.13 takes then for an object what is none, if the bytecode happens to look like it.
#[pyfunction]
pub fn awaited_by<'py>(
    awaiting: &Bound<'py, PyAny>,
    attribute: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    // Nothing lets go of the GIL between this look and the next.
    if calls::is_executing(awaiting) {
        return Ok(awaiting.py().None().into_bound(awaiting.py()));
    }
    awaiting.getattr(attribute)
}

/// A place in a Python function. It keeps the code alive, never a frame and what its variables hold.
pub struct Origin {
    pub code: Py<PyAny>,
    pub instruction: c_int,
}

impl Origin {
    /// The innermost Python frame of the calling thread that isn't this library's. None without such a frame.
    pub fn of_caller(py: Python<'_>) -> Option<Self> {
        // SAFETY: the GIL is held; `PyEval_GetFrame` lends its frame, `PyFrame_GetBack` and `PyFrame_GetCode` give
        // references that the `Bound`s own.
        unsafe {
            let innermost = ffi::PyEval_GetFrame();
            let mut frame: Bound<'_, PyAny> =
                Bound::from_borrowed_ptr_or_opt(py, innermost.cast())?;
            loop {
                let pointer = frame.as_ptr().cast();
                let code: Bound<'_, PyAny> =
                    Bound::from_owned_ptr(py, ffi::PyFrame_GetCode(pointer).cast());
                if !is_ours(&code) {
                    let instruction = ffi::PyFrame_GetLasti(pointer);
                    return Some(Self {
                        code: code.unbind(),
                        instruction,
                    });
                }
                frame = Bound::from_owned_ptr_or_opt(py, ffi::PyFrame_GetBack(pointer).cast())?;
            }
        }
    }

    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            code: self.code.clone_ref(py),
            instruction: self.instruction,
        }
    }

    /// `File "app.py", line 3, in main`
    pub fn describe(&self, py: Python<'_>) -> PyResult<String> {
        let code = self.code.bind(py);
        // SAFETY: `code` is a code object, it came from `PyFrame_GetCode`.
        let line = unsafe { ffi::PyCode_Addr2Line(code.as_ptr().cast(), self.instruction) };
        let file = code.getattr(intern!(py, "co_filename"))?;
        let function = code.getattr(intern!(py, "co_qualname"))?;
        Ok(format!("File \"{file}\", line {line}, in {function}"))
    }

    /// Tells the readers of an exception where the call was made that failed. One that takes no notes stays as it is.
    pub fn note(&self, py: Python<'_>, exception: &Bound<'_, PyAny>) {
        let note = || -> PyResult<()> {
            let note = format!("submitted at {}", self.describe(py)?);
            let notes = exception.getattr_opt(intern!(py, "__notes__"))?;
            if !notes.is_some_and(|notes| notes.contains(&note).unwrap_or(false)) {
                exception.call_method1(intern!(py, "add_note"), (note,))?;
            }
            Ok(())
        };
        drop(note());
    }
}

/// Whether a code object was compiled from a file of this package.
fn is_ours(code: &Bound<'_, PyAny>) -> bool {
    /// The last one that wasn't: callers call more than once.
    static FOREIGN: GilCell<Option<Py<PyAny>>> = GilCell::new(None);
    let py = code.py();
    if FOREIGN.peek(py, |known| {
        known.as_ref().is_some_and(|known| known.is(code))
    }) {
        return false;
    }
    let ours = comes_from_this_package(code);
    if !ours {
        FOREIGN.set(py, Some(code.clone().unbind()));
    }
    ours
}

fn comes_from_this_package(code: &Bound<'_, PyAny>) -> bool {
    static FOLDER: GilOnceCell<String> = GilOnceCell::new();
    let py = code.py();
    let folder = FOLDER.get_or_try_init(py, || {
        let file = calls::errors_file(py)?.to_string();
        Ok(file[..file.rfind('/').map_or(0, |slash| slash + 1)].to_owned())
    });
    let Ok(folder) = folder else {
        return false;
    };
    let Ok(file) = code.getattr(intern!(py, "co_filename")) else {
        return false;
    };
    !folder.is_empty()
        && file
            .cast::<PyString>()
            .is_ok_and(|file| file.to_str().is_ok_and(|file| file.starts_with(folder)))
}

/// `exception.__traceback__`, also of a class that has its own idea of attributes.
pub fn traceback<'py>(exception: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: `exception` is an exception object; the reference that comes back is ours.
    unsafe {
        let traceback = ffi::PyException_GetTraceback(exception.as_ptr());
        Bound::from_owned_ptr_or_opt(exception.py(), traceback)
    }
}

/// Sets `exception.__traceback__`, None included.
pub fn set_traceback(exception: &Bound<'_, PyAny>, traceback: Option<&Bound<'_, PyAny>>) {
    let none = exception.py().None();
    let traceback = traceback.map_or(none.as_ptr(), Bound::as_ptr);
    // SAFETY: `exception` is an exception object and `traceback` a traceback or None, which is all that is checked.
    unsafe { ffi::PyException_SetTraceback(exception.as_ptr(), traceback) };
}

/// Takes this library's entries out of an exception's traceback.
pub fn strip(py: Python<'_>, exception: &Bound<'_, PyAny>) -> PyResult<()> {
    let next = intern!(py, "tb_next");
    let is_ours = |entry: &Bound<'_, PyAny>| -> PyResult<bool> {
        let frame = entry.getattr(intern!(py, "tb_frame"))?;
        Ok(is_ours(&frame.getattr(intern!(py, "f_code"))?))
    };
    let Some(first) = traceback(exception) else {
        return Ok(());
    };
    let mut head = first.clone();
    while !head.is_none() && is_ours(&head)? {
        head = head.getattr(next)?;
    }
    if !head.is(&first) {
        set_traceback(exception, Some(&head));
    }
    let mut kept = head;
    while !kept.is_none() {
        let mut following = kept.getattr(next)?;
        let before = following.clone();
        while !following.is_none() && is_ours(&following)? {
            following = following.getattr(next)?;
        }
        if !following.is(&before) {
            kept.setattr(next, &following)?;
        }
        kept = following;
    }
    Ok(())
}

/// `strip` for an error on its way to the caller. Trouble while doing so must not hide the error that matters.
pub fn stripped(py: Python<'_>, error: PyErr) -> PyErr {
    let exception = error.value(py);
    // Before 3.12 an error that was just raised keeps its traceback beside the exception.
    if let Some(traceback) = error.traceback(py) {
        set_traceback(exception, Some(traceback.as_any()));
    }
    match strip(py, exception) {
        Ok(()) => PyErr::from_value(exception.clone().into_any()),
        Err(_) => error,
    }
}
