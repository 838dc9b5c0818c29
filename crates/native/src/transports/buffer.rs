//! What a transport couldn't write yet.

use std::collections::VecDeque;
use std::io::IoSlice;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyMemoryView, PySlice};

/// In the order in which it is to be written. Nothing in it is empty.
#[derive(Default)]
pub struct WriteBuffer {
    chunks: VecDeque<Chunk>,
    /// Bytes in all chunks.
    size: usize,
}

/// Python's own `bytes`, which nobody changes, so that they need not be copied.
struct Chunk {
    bytes: Py<PyBytes>,
    /// So many of them have been written.
    start: usize,
}

/// At most so many chunks are handed to the kernel at once.
const VECTOR: usize = 64;

impl WriteBuffer {
    pub fn size(&self) -> usize {
        self.size
    }

    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Adds what of `bytes` comes after the first `start` of them.
    pub fn push(&mut self, bytes: &Bound<'_, PyBytes>, start: usize) {
        let left = bytes.as_bytes().len() - start;
        if left > 0 {
            self.size += left;
            self.chunks.push_back(Chunk {
                bytes: bytes.clone().unbind(),
                start,
            });
        }
    }

    /// Hands the beginning of it to `write`, and whether that is all there is.
    pub fn with_front<R>(
        &self,
        py: Python<'_>,
        write: impl FnOnce(&[IoSlice<'_>], bool) -> R,
    ) -> R {
        let mut slices = [IoSlice::new(&[]); VECTOR];
        let count = self.chunks.len().min(VECTOR);
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk.rest(py));
        }
        write(&slices[..count], count == self.chunks.len())
    }

    /// The beginning of it, which stays as it is whatever becomes of the rest.
    pub fn front(&self, py: Python<'_>) -> WriteBuffer {
        let chunks = self.chunks.iter().take(VECTOR);
        let chunks = chunks.map(|chunk| Chunk {
            bytes: chunk.bytes.clone_ref(py),
            start: chunk.start,
        });
        WriteBuffer {
            chunks: chunks.collect(),
            size: self.size,
        }
    }

    /// Forgets the first `count` bytes, or as many as there are.
    pub fn consume(&mut self, py: Python<'_>, count: usize) {
        let mut count = count.min(self.size);
        self.size -= count;
        while let Some(chunk) = self.chunks.front_mut() {
            let left = chunk.rest(py).len();
            if count < left {
                chunk.start += count;
                return;
            }
            count -= left;
            self.chunks.pop_front();
        }
    }

    pub fn clear(&mut self) {
        self.chunks.clear();
        self.size = 0;
    }

    /// What is left of each chunk, as views.
    pub fn to_list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let views = PyList::empty(py);
        for chunk in &self.chunks {
            let view = PyMemoryView::from(chunk.bytes.bind(py))?;
            views.append(view.get_item(PySlice::new(
                py,
                chunk.start as isize,
                isize::MAX,
                1,
            ))?)?;
        }
        Ok(views)
    }
}

impl Chunk {
    fn rest<'a>(&'a self, py: Python<'a>) -> &'a [u8] {
        &self.bytes.as_bytes(py)[self.start..]
    }
}
