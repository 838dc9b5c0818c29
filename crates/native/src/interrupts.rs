//! Ctrl-C while the main thread runs a loop for its caller: it is the caller's, and not to be raised in the middle of
//! somebody else's step.
//!
//! While a [`Shield`] is raised, the signal is only noted. When it is lowered again the signal is sent once more, and
//! whatever handler Python has for it runs between two steps. A second Ctrl-C goes through at once: the step may never
//! end.

use std::ffi::c_int;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};

use asyncio_thread_loop_core::fork;

// ORDERING: Relaxed, everywhere in this file. All but the handler is done by the main thread. The handler may run on any
// thread at any moment: it reads single words and publishes nothing but one of them.

/// A signal is to be noted rather than handled.
static RAISED: AtomicBool = AtomicBool::new(false);

/// One was noted.
static NOTED: AtomicBool = AtomicBool::new(false);

/// The handler that was there before ours.
static BEFORE: AtomicUsize = AtomicUsize::new(libc::SIG_DFL);

/// The process in which ours was installed: a child that is forked by another thread has no main thread that would lower
/// the shield.
static EPOCH: AtomicU32 = AtomicU32::new(0);

/// Of the main thread, while it runs a loop; to be made anew for each time.
#[derive(Default)]
pub struct Shield {
    /// What was installed before, once ours is.
    before: Option<libc::sigaction>,
}

impl Shield {
    /// From here on an interrupt is noted only.
    pub fn raise(&mut self) {
        EPOCH.store(fork::epoch(), Relaxed);
        RAISED.store(true, Relaxed);
        // Only now: in the moment before it knows the handler that it replaces, ours can but note.
        if self.before.is_none() {
            self.install();
        }
    }

    /// From here on an interrupt is handled. True if one was noted: dropping the shield sends it again.
    pub fn lower(&mut self) -> bool {
        RAISED.store(false, Relaxed);
        NOTED.load(Relaxed)
    }

    fn install(&mut self) {
        // SAFETY: both structures are valid: all zeros is an action, and the other one is filled by the call.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as *const () as usize;
            action.sa_flags = libc::SA_ONSTACK;
            let mut before: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGINT, &raw const action, &raw mut before) != 0 {
                return;
            }
            BEFORE.store(before.sa_sigaction, Relaxed);
            if before.sa_flags & libc::SA_SIGINFO != 0
                || [libc::SIG_DFL, libc::SIG_IGN, action.sa_sigaction]
                    .contains(&before.sa_sigaction)
            {
                // Nothing of Python's would run.
                libc::sigaction(libc::SIGINT, &raw const before, std::ptr::null_mut());
                return resend();
            }
            self.before = Some(before);
        }
    }
}

impl Drop for Shield {
    fn drop(&mut self) {
        let Some(before) = &self.before else {
            return;
        };
        RAISED.store(false, Relaxed);
        // SAFETY: both structures are valid; `before` was in effect. What somebody installed meanwhile stays.
        unsafe {
            let mut found: libc::sigaction = std::mem::zeroed();
            libc::sigaction(libc::SIGINT, before, &raw mut found);
            if found.sa_sigaction != note as *const () as usize {
                libc::sigaction(libc::SIGINT, &raw const found, std::ptr::null_mut());
            }
        }
        resend();
    }
}

/// Sends this thread the signal that was noted.
fn resend() {
    if NOTED.swap(false, Relaxed) {
        // SAFETY: there is a handler, or the process ends as it would have.
        unsafe { libc::raise(libc::SIGINT) };
    }
}

/// The handler.
extern "C" fn note(signal: c_int) {
    if RAISED.load(Relaxed) && EPOCH.load(Relaxed) == fork::epoch() && !NOTED.swap(true, Relaxed) {
        return;
    }
    let before = BEFORE.load(Relaxed);
    if [libc::SIG_DFL, libc::SIG_IGN].contains(&before) {
        return; // It was noted, too, and is sent again when ours has gone.
    }
    // SAFETY: it was installed as a handler of this kind.
    let before = unsafe { std::mem::transmute::<usize, extern "C" fn(c_int)>(before) };
    before(signal);
}
