//! Bytes on their way to OpenSSL or from it.

use std::cell::RefCell;

/// As long is memory that is used again.
pub const ROOM: usize = 256 * 1024;

/// Each thread keeps so many pieces of it.
const KEPT: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes in order. While there are none it has no memory; what it had is used again by others of the same thread.
#[derive(Default)]
pub struct Queue {
    memory: Vec<u8>,
    /// What is before `start` was taken out, what is after `end` is room.
    start: usize,
    end: usize,
}

impl Queue {
    /// With room for at least so many bytes, and for [`ROOM`].
    pub fn with_room(size: usize) -> Self {
        let spare = SPARE.try_with(|spare| spare.borrow_mut().pop());
        let memory = match spare {
            Ok(Some(memory)) if memory.len() >= size => memory,
            // Zeros that the system hands out when they are touched.
            _ => vec![0; size.max(ROOM)],
        };
        Self {
            memory,
            start: 0,
            end: 0,
        }
    }

    pub fn room(&mut self) -> &mut [u8] {
        &mut self.memory[self.end..]
    }

    /// So much of the room was filled.
    pub fn was_filled(&mut self, size: usize) {
        self.end = (self.end + size).min(self.memory.len());
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    pub fn push(&mut self, bytes: &[u8]) {
        if self.room().len() < bytes.len() {
            let mut larger = Self::with_room(2 * (self.as_bytes().len() + bytes.len()));
            larger.fill(self.as_bytes());
            *self = larger;
        }
        self.fill(bytes);
    }

    /// The others follow. They aren't copied if there are none before them.
    pub fn append(&mut self, others: Self) {
        if self.as_bytes().is_empty() {
            *self = others;
        } else {
            self.push(others.as_bytes());
        }
    }

    /// Takes bytes out, as many as there are and at most `size`.
    pub fn pull(&mut self, size: usize) -> &[u8] {
        let bytes = &self.memory[self.start..self.end];
        let taken = &bytes[..size.min(bytes.len())];
        self.start += taken.len();
        taken
    }

    /// Keeps no more memory than it needs.
    pub fn trim(&mut self) {
        let bytes = self.as_bytes();
        if bytes.len() < self.memory.len() / 2 {
            *self = Self {
                memory: bytes.to_vec(),
                start: 0,
                end: bytes.len(),
            };
        }
    }

    fn fill(&mut self, bytes: &[u8]) {
        self.room()[..bytes.len()].copy_from_slice(bytes);
        self.was_filled(bytes.len());
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if self.memory.len() < ROOM || self.memory.len() > KEPT * ROOM {
            return;
        }
        // Not when the thread ends.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < KEPT {
                spare.push(std::mem::take(&mut self.memory));
            }
        });
    }
}
