//! Looking for a moment before going to sleep, as long as that pays.
//!
//! To wake a thread on another processor takes a system longer than many a wait lasts: 5 to 40 µs. Where both threads
//! share a processor it is the other way round, since whoever looks keeps the other one from what is looked for. Which of
//! the two holds changes as the scheduler likes, so experience decides, each thread's own: after a look in vain it goes to
//! sleep at once, twice as many times as after the one before, and then looks again. A new thread begins with what the last
//! one has learned.

use std::cell::Cell;
use std::hint;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long one look lasts at most: about as long as it takes to wake a thread, so a look in vain hardly more than
/// doubles what a wait costs.
pub const MOMENT: Duration = Duration::from_micros(50);

/// Looks between two looks at the clock.
const ROUNDS: u32 = 16;

/// How many times the first thread goes to sleep before its first look: who waits but now and then has no use for it.
const FIRST: u32 = 16;

/// How many times it goes to sleep between two looks at most.
const MOST: u32 = 1024;

/// How many times whoever looked last goes to sleep before the next look.
static LAST: AtomicU32 = AtomicU32::new(FIRST);

/// How many threads look.
static LOOKING: AtomicI64 = AtomicI64::new(0);

thread_local! {
    // ORDERING: Relaxed here and below, whichever value is seen is good enough.
    static EXPERIENCE: Experience = Experience::new(LAST.load(Relaxed));
}

struct Experience {
    /// How many times it is still to go to sleep before the next look.
    left: Cell<u32>,
    /// How many times it was after the last one.
    last: Cell<u32>,
}

/// The calling thread is about to sleep. Whether it had better [`look`] first.
pub fn pays() -> bool {
    // A thread that is ending has lost its experience.
    EXPERIENCE.try_with(Experience::pays).unwrap_or(false)
}

/// Looks for a moment. Returns whether it is here.
pub fn look(is_here: impl Fn() -> bool) -> bool {
    let found = EXPERIENCE.try_with(|experience| {
        let _one_more = Looking::begin()?;
        let found = experience.look(&is_here, MOMENT);
        let left = experience.left.get();
        // Mostly it is so already, and what many threads write to is slow to write.
        if LAST.load(Relaxed) != left {
            LAST.store(left, Relaxed);
        }
        Some(found)
    });
    found.ok().flatten().unwrap_or_else(is_here)
}

/// A thread that looks. No more do than there are processors: one that was found may not have noticed yet.
struct Looking;

impl Looking {
    fn begin() -> Option<Self> {
        // SAFETY: asks for a number.
        static MOST: LazyLock<i64> =
            LazyLock::new(|| unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) });
        let looking = Self; // takes itself off again
        (LOOKING.fetch_add(1, Relaxed) < *MOST).then_some(looking)
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        LOOKING.fetch_sub(1, Relaxed);
    }
}

impl Experience {
    fn new(left: u32) -> Self {
        Self {
            left: Cell::new(left),
            last: Cell::new(left.max(1)),
        }
    }

    fn pays(&self) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(1));
        left == 0
    }

    fn look(&self, is_here: &impl Fn() -> bool, moment: Duration) -> bool {
        if is_here() {
            return true; // Nothing is learned from that.
        }
        // Asked only after a look in vain: then somebody else may have seen to it that there is but one.
        let is_alone = self.last.get() > 1 && has_one_processor();
        let until = Instant::now() + moment;
        while !is_alone && Instant::now() < until {
            for _ in 0..ROUNDS {
                hint::spin_loop();
                if is_here() {
                    self.last.set(1);
                    return true;
                }
            }
        }
        self.last.set((2 * self.last.get()).min(MOST));
        self.left.set(self.last.get());
        false
    }
}

/// Whether the calling thread may run on one processor only.
#[cfg(target_os = "linux")]
fn has_one_processor() -> bool {
    // SAFETY: a set of all zeros is an empty one, it is valid for writes of its size, and 0 is the calling thread.
    unsafe {
        let mut processors: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of_val(&processors), &raw mut processors) == 0
            && libc::CPU_COUNT(&processors) == 1
    }
}

#[cfg(not(target_os = "linux"))]
fn has_one_processor() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many times it goes to sleep before it looks, in vain or not.
    fn sleeps_before_a_look(experience: &Experience, finds: bool) -> u32 {
        let mut sleeps = 0;
        while !experience.pays() {
            sleeps += 1;
        }
        let looks = Cell::new(0);
        let is_here = || {
            looks.set(looks.get() + 1);
            finds && looks.get() > 1
        };
        let moment = Duration::from_secs(if finds { 3600 } else { 0 });
        assert_eq!(experience.look(&is_here, moment), finds);
        sleeps
    }

    #[test]
    fn a_thread_that_waits_now_and_then_never_looks() {
        assert_eq!(sleeps_before_a_look(&Experience::new(FIRST), false), FIRST);
    }

    #[test]
    fn looks_in_vain_become_rare() {
        let experience = Experience::new(FIRST);
        let mut last = sleeps_before_a_look(&experience, false);
        while last < MOST {
            let next = sleeps_before_a_look(&experience, false);
            assert_eq!(next, 2 * last);
            last = next;
        }
        assert_eq!(sleeps_before_a_look(&experience, false), MOST);
    }

    #[test]
    fn as_long_as_looks_are_not_in_vain_every_wait_begins_with_one() {
        let experience = Experience::new(FIRST);
        sleeps_before_a_look(&experience, true);
        for _ in 0..10 {
            assert_eq!(sleeps_before_a_look(&experience, true), 0);
        }
        sleeps_before_a_look(&experience, false);
        assert_eq!(sleeps_before_a_look(&experience, false), 2);
    }

    #[test]
    fn what_is_here_already_teaches_nothing() {
        let experience = Experience::new(FIRST);
        while !experience.pays() {}
        assert!(experience.look(&|| true, Duration::ZERO));
        sleeps_before_a_look(&experience, false);
        assert_eq!(sleeps_before_a_look(&experience, false), 2 * FIRST);
    }
}
