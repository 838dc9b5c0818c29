//! The face of an instance.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{PyTraverseError, PyVisit, ffi};

use super::FacesCore;
use crate::bridge::BridgeCore;
use crate::calls;
use crate::gil::{GilCell, intern};
use crate::portal::{Portal, closed};

/// Holds the original and knows which life of the loop it belongs to. Has no attributes of its own: all names are those of
/// the original.
#[pyclass(frozen, subclass, weakref, module = "asyncio_thread_loop._native")]
pub struct FaceCore {
    original: GilCell<Option<Py<PyAny>>>,
    faces: GilCell<Option<Py<FacesCore>>>,
    life: GilCell<Life>,
    /// The `with` blocks it is in.
    contexts: GilCell<Option<Py<PyList>>>,
}

/// The life of the loop that an original belongs to.
#[derive(Default)]
enum Life {
    /// That in which it is first used.
    #[default]
    Next,
    Of(Py<Portal>),
    /// One that was over before it came out.
    Over,
}

impl FaceCore {
    pub fn attach(&self, faces: &Bound<'_, FacesCore>, original: Py<PyAny>, is_result: bool) {
        let py = faces.py();
        let portal = BridgeCore::portal(faces.get().bridge.bind(py));
        let life = match portal {
            Some(portal) if !portal.get().is_stale() => Life::Of(portal.unbind()),
            _ if is_result => Life::Over,
            _ => Life::Next,
        };
        self.life.set(py, life);
        self.faces.set(py, Some(faces.clone().unbind()));
        self.original.set(py, Some(original));
    }

    pub fn belongs_to(&self, faces: &Bound<'_, FacesCore>) -> bool {
        self.faces.peek(faces.py(), |mine| {
            mine.as_ref().is_none_or(|mine| mine.is(faces))
        })
    }

    pub fn original<'py>(face: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        face.get().original.bind(face.py()).ok_or_else(|| {
            let class = face.get_type();
            let name = class
                .name()
                .map_or_else(|_| "?".to_owned(), |name| name.to_string());
            calls::builtin_error::<PyRuntimeError>(format!(
                "this {name} has no original yet: its `__init__` has to call `super().__init__(...)` first"
            ))
        })
    }

    /// The original, if the loop still is in the life that it belongs to.
    pub fn enter<'py>(
        face: &Bound<'py, Self>,
        faces: &Bound<'py, FacesCore>,
    ) -> PyResult<Bound<'py, PyAny>> {
        enum Found {
            Same,
            First,
            Inherited,
            Another,
        }
        let py = face.py();
        let original = Self::original(face)?;
        let bridge = faces.get().bridge.bind(py);
        let current = BridgeCore::portal(bridge);
        let found = face.get().life.peek(py, |life| match life {
            Life::Next => Found::First,
            Life::Of(portal) if portal.get().is_stale() => Found::Inherited,
            Life::Of(portal) => match &current {
                Some(current) if current.is(portal) => Found::Same,
                _ => Found::Another,
            },
            Life::Over => Found::Another,
        });
        match found {
            Found::Same => Ok(original),
            Found::First => {
                let portal = BridgeCore::open_portal(bridge)?;
                face.get().life.set(py, Life::Of(portal.unbind()));
                Ok(original)
            }
            Found::Inherited => Err(calls::error(
                calls::forked_error(py),
                "the original of this face lives on a loop of the process that forked this one: make a new one here",
            )),
            Found::Another if current.is_none() => Err(closed()),
            Found::Another => Err(calls::error(
                calls::closed_error(py),
                "the original of this face lived on this loop before it was closed: make a new one",
            )),
        }
    }
}

#[pymethods]
impl FaceCore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            original: GilCell::new(None),
            faces: GilCell::new(None),
            life: GilCell::new(Life::Next),
            contexts: GilCell::new(None),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.original.visit(|original| visit.call(original))?;
        self.faces.visit(|faces| visit.call(faces))?;
        self.contexts.visit(|contexts| visit.call(contexts))?;
        self.life.visit(|life| match life {
            Life::Of(portal) => visit.call(portal),
            _ => Ok(()),
        })
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let this = slf.get();
        drop((
            this.original.take(py),
            this.faces.take(py),
            this.contexts.take(py),
            this.life.take(py),
        ));
    }
}

/// The original of a face, in whatever state its loop is.
#[pyfunction]
pub fn original_of<'py>(face: &Bound<'py, FaceCore>) -> PyResult<Bound<'py, PyAny>> {
    FaceCore::original(face)
}

/// Whether a face has its original already.
#[pyfunction]
pub fn has_original(face: &Bound<'_, FaceCore>) -> bool {
    face.get().original.is_some(face.py())
}

/// Whether a face's original belongs to the loop as it runs now, or to none yet.
#[pyfunction]
pub fn is_current(face: &Bound<'_, FaceCore>) -> bool {
    let py = face.py();
    let Some(faces) = face.get().faces.bind(py) else {
        return false;
    };
    let current = BridgeCore::portal(faces.get().bridge.bind(py));
    face.get().life.peek(py, |life| match life {
        Life::Next => true,
        Life::Of(portal) => {
            current.is_some_and(|current| current.is(portal)) && !portal.get().is_stale()
        }
        Life::Over => false,
    })
}

/// The `with` blocks that a face is in, to be changed by whoever enters and leaves them.
#[pyfunction]
pub fn contexts_of(face: &Bound<'_, FaceCore>) -> Py<PyList> {
    let py = face.py();
    let contexts = &face.get().contexts;
    if let Some(contexts) = contexts.clone_ref(py) {
        return contexts;
    }
    let fresh = PyList::empty(py).unbind();
    contexts.set(py, Some(fresh.clone_ref(py)));
    fresh
}

/// Lets go of the original of a face that is dropped. If nobody else has it, that is done on the loop's thread: its
/// destructor, and those of what it holds, are code like any other.
#[pyfunction]
pub fn let_go(face: &Bound<'_, FaceCore>) -> PyResult<()> {
    let py = face.py();
    let this = face.get();
    let portal = this.life.peek(py, |life| match life {
        Life::Of(portal) => Some(portal.clone_ref(py).into_bound(py)),
        _ => None,
    });
    let Some(portal) = portal else {
        return Ok(());
    };
    let is_last = this.original.peek(py, |original| {
        // SAFETY: reads the count of a live object.
        original
            .as_ref()
            .is_some_and(|original| unsafe { ffi::Py_REFCNT(original.as_ptr()) } == 1)
    });
    // While others have it they may ask for its face, and get this one.
    if !is_last || portal.get().runs_here(py) || !portal.get().is_open(py) {
        return Ok(());
    }
    // The list has the only reference, so that it doesn't matter which thread is the first to be done with this call.
    let last = PyList::new(py, this.original.take(py))?;
    let clear = last.getattr(intern!(py, "clear"))?;
    drop(last);
    Portal::call_soon(&portal, clear)
}
