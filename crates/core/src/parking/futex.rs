//! The token as a word the Linux kernel can sleep on. One system call to sleep, one to wake, and
//! none at all when the token is there first.

#[cfg(not(any(atl_loom, atl_shuttle)))]
mod kernel;
#[cfg(any(atl_loom, atl_shuttle))]
#[path = "futex/model.rs"]
mod kernel;

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use kernel::Word;

use super::{Limit, Parked};

/// No token, nobody sleeps.
const EMPTY: u32 = 0;
/// The token is here.
const NOTIFIED: u32 = 1;
/// No token, and the thread sleeps or is about to.
const PARKED: u32 = 2;

pub(super) struct Token {
    word: Word,
}

impl Token {
    pub(super) fn new() -> Self {
        Self {
            word: Word::new(EMPTY),
        }
    }

    pub(super) fn is_here(&self) -> bool {
        // ORDERING: Relaxed. Only a hint; who takes it synchronizes.
        self.word.value.load(Relaxed) == NOTIFIED
    }

    pub(super) fn take(&self, limit: Option<Limit>) -> Parked {
        // ORDERING: Relaxed both ways. Going to sleep publishes nothing, and a token found
        // instead is taken by the swap below.
        let found = self
            .word
            .value
            .compare_exchange(EMPTY, PARKED, Relaxed, Relaxed);
        let slept = match found {
            Ok(_) => self.word.sleep_while(PARKED, limit),
            Err(_) => Parked::Notified,
        };
        // ORDERING: Acquire pairs with Release in `leave`: what was done before the token was
        // left is seen after it is taken. A swap, not a store, so that it reads the latest token.
        match self.word.value.swap(EMPTY, Acquire) {
            NOTIFIED => Parked::Notified,
            _ => slept,
        }
    }

    pub(super) fn leave(&self) {
        // ORDERING: Release, see `take`.
        if self.word.value.swap(NOTIFIED, Release) == PARKED {
            self.word.wake();
        }
    }
}
