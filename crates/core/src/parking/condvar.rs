//! The token under a mutex, for systems without a futex. A condition variable does not tell of
//! signals, so it sleeps in short slices and reports [`Parked::Interrupted`] after each: the
//! caller looks for signals and parks again.

use crate::sync::{Condvar, Mutex};
use std::mem;
use std::time::{Duration, Instant};

use super::{Limit, Parked};

/// The longest a signal can go unnoticed.
const SLICE: Duration = Duration::from_millis(50);

pub(super) struct Token {
    here: Mutex<bool>,
    left: Condvar,
}

impl Token {
    pub(super) fn new() -> Self {
        Self {
            here: Mutex::new(false),
            left: Condvar::new(),
        }
    }

    pub(super) fn is_here(&self) -> bool {
        *self.here.lock()
    }

    pub(super) fn take(&self, limit: Option<Limit>) -> Parked {
        let deadline = limit.map(|limit| match limit {
            Limit::At(deadline) => deadline,
            Limit::About(duration) => Instant::now() + duration,
        });
        let mut here = self.here.lock();
        if !*here {
            let slice = deadline.map_or(SLICE, |at| {
                at.saturating_duration_since(Instant::now()).min(SLICE)
            });
            self.left.wait_for(&mut here, slice);
        }
        if mem::take(&mut *here) {
            Parked::Notified
        } else if deadline.is_some_and(|at| at <= Instant::now()) {
            Parked::TimedOut
        } else {
            Parked::Interrupted
        }
    }

    pub(super) fn leave(&self) {
        *self.here.lock() = true;
        self.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn a_token_left_before_is_taken_at_once_and_only_once() {
        let token = Token::new();
        token.leave();
        token.leave();
        assert!(token.is_here());
        assert_eq!(token.take(None), Parked::Notified);
        assert!(!token.is_here());
        assert_eq!(
            token.take(Some(Limit::At(Instant::now()))),
            Parked::TimedOut
        );
    }

    #[test]
    fn a_token_left_by_another_thread_ends_the_sleep() {
        let token = Arc::new(Token::new());
        let other = thread::spawn({
            let token = token.clone();
            move || token.leave()
        });
        while token.take(None) != Parked::Notified {}
        other.join().unwrap();
    }

    #[test]
    fn a_sleep_without_a_deadline_lets_the_caller_look_for_signals() {
        assert_eq!(Token::new().take(None), Parked::Interrupted);
    }

    #[test]
    fn a_deadline_is_not_reported_before_it_passes() {
        let token = Token::new();
        let deadline = Instant::now() + 3 * SLICE;
        while token.take(Some(Limit::At(deadline))) == Parked::Interrupted {}
        assert!(Instant::now() >= deadline);
    }
}
