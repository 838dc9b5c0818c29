//! What a caller gets for a result. That is decided once for each type.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyType, PyWeakrefReference};
use pyo3::{PyTraverseError, PyVisit, ffi};

use super::FacesCore;
use crate::frames;
use crate::gil::{GilRefCell, intern};

pub struct Results {
    /// By the address of the type.
    known: GilRefCell<Known>,
}

#[derive(Default)]
struct Known {
    kinds: HashMap<usize, Kind>,
    /// When there are so many, those of types that are gone are thrown away.
    full: usize,
}

/// What results of one type become.
struct Kind {
    /// Called with the faces and the result; None leaves it as it is.
    converter: Option<Py<PyAny>>,
    /// The type, to be told from another one that got its address. None for one that lives as long as the process.
    class: Option<Py<PyWeakrefReference>>,
}

const FEW: usize = 256;

impl Kind {
    fn is_of(&self, class: &Bound<'_, PyType>) -> bool {
        self.class.as_ref().is_none_or(|known| {
            let known = known.bind(class.py()).upgrade();
            known.is_some_and(|known| known.is(class))
        })
    }
}

impl Results {
    pub fn new() -> Self {
        Self {
            known: GilRefCell::new(Known::default()),
        }
    }

    pub fn convert<'py>(
        faces: &Bound<'py, FacesCore>,
        result: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = faces.py();
        let class = result.get_type();
        let results = &faces.get().results;
        let known = results.look_up(&class);
        let converter = match known {
            Some(converter) => converter,
            None => Self::learn(faces, &class).map_err(|error| frames::stripped(py, error))?,
        };
        match converter {
            None => Ok(result),
            Some(converter) => converter
                .bind(py)
                .call1((faces, result))
                .map_err(|error| frames::stripped(py, error)),
        }
    }

    /// The converter, if it is known whether there is one.
    fn look_up(&self, class: &Bound<'_, PyType>) -> Option<Option<Py<PyAny>>> {
        let py = class.py();
        let known = self.known.borrow_mut(py);
        let kind = known.kinds.get(&class.as_ptr().addr())?;
        kind.is_of(class).then(|| {
            kind.converter
                .as_ref()
                .map(|converter| converter.clone_ref(py))
        })
    }

    fn learn<'py>(
        faces: &Bound<'py, FacesCore>,
        class: &Bound<'py, PyType>,
    ) -> PyResult<Option<Py<PyAny>>> {
        let py = faces.py();
        let converter: Option<Py<PyAny>> = faces
            .call_method1(intern!(py, "_converter"), (class,))?
            .extract()?;
        // SAFETY: reads a flag of a live type.
        let may_die =
            unsafe { ffi::PyType_HasFeature(class.as_type_ptr(), ffi::Py_TPFLAGS_HEAPTYPE) } != 0;
        let kind = Kind {
            converter: converter.as_ref().map(|converter| converter.clone_ref(py)),
            class: match may_die {
                true => Some(PyWeakrefReference::new(class)?.unbind()),
                false => None,
            },
        };
        let mut dead = Vec::new();
        {
            let mut known = faces.get().results.known.borrow_mut(py);
            if known.kinds.len() >= known.full {
                let gone = known.kinds.extract_if(|_, kind| {
                    let class = kind.class.as_ref();
                    class.is_some_and(|class| class.bind(py).upgrade().is_none())
                });
                dead.extend(gone.map(|(_, kind)| kind));
                known.full = FEW.max(2 * known.kinds.len());
            }
            dead.extend(known.kinds.insert(class.as_ptr().addr(), kind));
        }
        drop(dead);
        Ok(converter)
    }

    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.known.visit(|known| {
            known
                .kinds
                .values()
                .try_for_each(|kind| visit.call(&kind.converter))
        })
    }

    pub fn clear(&self, py: Python<'_>) {
        let known = std::mem::take(&mut *self.known.borrow_mut(py));
        drop(known);
    }
}
