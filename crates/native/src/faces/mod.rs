//! Synchronous faces of asynchronous objects: the part of them that is paid for at every call.
//!
//! A face stands in front of one object, its original, and belongs to one loop. What is called on it goes through four
//! steps: is the loop still the one the original lives on; what of the arguments is a face itself, or a callback; the
//! call, on the loop's thread; and what has come back, which may want a face in its turn. What faces look like, and
//! which class gets which, is Python's part.

mod arguments;
mod face;
mod function;
mod method;
mod registry;
mod results;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use pyo3::{PyTraverseError, PyVisit};

pub use self::face::{FaceCore, contexts_of, has_original, is_current, let_go, original_of};
pub use self::function::FunctionCore;
pub use self::method::{BoundMethod, MethodCore};
pub use self::registry::Registry;
use self::results::Results;
use crate::bridge::BridgeCore;
use crate::calls;

/// What a face says on the thread that is to do the work.
const DEADLOCK: &str = "a synchronous face was used on the thread of its own loop and would wait for ever: `await` the \
                        asynchronous original, which is its `.aio`, or call from another thread \
                        (`await asyncio.to_thread(...)`)";

/// What all faces of one loop share.
///
/// `Faces` in Python derives from it, with `_converter(class)` and `_callback(holder, callback, position)`.
#[pyclass(frozen, subclass, weakref, module = "asyncio_thread_loop._native")]
pub struct FacesCore {
    bridge: Py<BridgeCore>,
    results: Results,
}

impl FacesCore {
    /// Runs a coroutine on the loop, and gives its result a face if it wants one.
    pub fn evaluate<'py>(
        slf: &Bound<'py, Self>,
        coroutine: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Results::convert(slf, Self::run(slf, coroutine)?)
    }

    /// The same for what a call has made that ran no code: a coroutine, or a result as it is.
    pub fn finish<'py>(
        slf: &Bound<'py, Self>,
        made: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match calls::is_coroutine(&made) {
            true => Self::evaluate(slf, &made),
            false => Results::convert(slf, made),
        }
    }
}

#[pymethods]
impl FacesCore {
    #[new]
    fn new(bridge: Py<BridgeCore>) -> Self {
        Self {
            bridge,
            results: Results::new(),
        }
    }

    /// What the caller gets for a result: itself, or a face of it.
    fn convert<'py>(
        slf: &Bound<'py, Self>,
        result: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Results::convert(slf, result)
    }

    /// What the original gets for the arguments of a call: faces are unwrapped, callbacks wrapped.
    #[pyo3(signature = (holder, args, kwargs))]
    fn arguments<'py>(
        slf: &Bound<'py, Self>,
        holder: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
    ) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let (args, kwargs) = arguments::look_through(slf, holder, args.clone(), Some(kwargs))?;
        Ok((args, kwargs.unwrap_or_else(|| PyDict::new(slf.py()))))
    }

    /// The original of a face, of whatever kind; other values as they are.
    fn unwrap<'py>(
        slf: &Bound<'py, Self>,
        value: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Ok(arguments::unwrapped(slf, &value)?.unwrap_or(value))
    }

    /// Gives a new face its original. It lives on the loop as it runs now, or if it doesn't, as it will when the face is
    /// first used; unless it is a result, which can only be of a life that has ended.
    fn attach(
        slf: &Bound<'_, Self>,
        face: &Bound<'_, FaceCore>,
        original: Py<PyAny>,
        is_result: bool,
    ) {
        face.get().attach(slf, original, is_result);
    }

    /// The original of a face. Raises unless the loop still is in the life that the original belongs to.
    fn enter<'py>(
        slf: &Bound<'py, Self>,
        face: &Bound<'py, FaceCore>,
    ) -> PyResult<Bound<'py, PyAny>> {
        FaceCore::enter(face, slf)
    }

    /// Runs a coroutine on the loop and returns its result as it is.
    fn run<'py>(
        slf: &Bound<'py, Self>,
        coroutine: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let bridge = slf.get().bridge.bind(py);
        BridgeCore::wait_for(bridge, coroutine, None, DEADLOCK).map(|result| result.into_bound(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.bridge)?;
        self.results.traverse(&visit)
    }

    fn __clear__(slf: &Bound<'_, Self>) {
        slf.get().results.clear(slf.py());
    }
}
