//! Who runs a loop: its own thread, or for a while a caller that would only wait otherwise.
//!
//! Exactly one thread runs a loop at any time. Its own thread lets go of it whenever it has nothing to do and sleeps;
//! a caller may then [`take`](Ownership::take) it, run it, and [`give it back`](Ownership::give_back). Neither wakes
//! the loop's thread. That one sleeps until something comes for which nobody else is there: a call (somebody
//! [`ring`](Ownership::ring)s), a timer, a descriptor.
//!
//! While callers come one after the other, it does not even watch the descriptors: it would be woken for what the
//! caller that runs the loop is waiting for. It naps instead, and watches them again after a nap in which no caller
//! came. The README beside this crate tells the protocol as prose.

use crate::clock;
use crate::parking::{Parked, Parker};
use crate::sync::Arc;
use crate::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
    fence,
};
use std::fmt;
use std::time::{Duration, Instant};

/// Of the word: who runs the loop.
const OWNER: u32 = 3;

/// The loop's own thread runs it, or has set out to.
const HELD: u32 = 0;

/// Nobody runs it, and its thread sleeps. Who comes first may have it.
const FREE: u32 = 1;

/// A caller runs it.
const DRIVEN: u32 = 2;

/// Descriptors may have been ready for a while: the next caller that runs the loop looks at them.
const LOOK: u32 = 4;

/// The thread was called for while a caller ran the loop, and went to sleep again.
const CALLED: u32 = 8;

/// Added whenever a caller takes the loop. That the count starts again after 268 million would need as many calls within
/// one nap to do harm.
const DRIVE: u32 = 16;

/// The thread's first nap after a caller gave the loop back.
const SHORTEST_NAP: Duration = Duration::from_micros(50);

/// Its longest, while callers keep coming. A descriptor that becomes ready waits for two of these at most.
const LONGEST_NAP: Duration = Duration::from_micros(500);

/// Where a loop's thread sleeps while it watches descriptors.
pub trait Watch {
    /// Sleeps until a descriptor is ready, somebody calls `wake`, or the time is over; only in the last case it may be
    /// false. Takes nothing: what is ready stays so, for whoever runs the loop.
    fn wait_until_ready(&self, timeout: Option<Duration>) -> bool;

    /// Ends the wait under way or, if there is none, the next one.
    fn wake(&self);
}

/// Who runs a loop.
pub struct Ownership<W> {
    /// `OWNER`, `LOOK`, `CALLED`, and the number of times that callers took the loop.
    word: AtomicU32,
    /// What is to be watched while the loop is free: a [`Plan`]. Written by who lets go of it.
    plan: AtomicU64,
    /// What the thread watches while it sleeps: a plan that it follows. Written by the thread.
    watched: AtomicU64,
    /// The thread is to have the loop, if nobody else has.
    rung: AtomicBool,
    /// Where the thread sleeps while it watches no descriptors.
    bed: Parker,
    descriptors: Arc<W>,
}

/// What is to be watched while nobody runs the loop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Plan(u64);

/// Whether descriptors are to be watched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u64)]
pub enum Descriptors {
    /// There are none.
    None = 0,
    /// Yes, but nobody minds if it takes a nap until they are.
    Lazily = 1,
    /// Yes, and at once.
    Promptly = 2,
}

/// The caller has taken the loop.
#[must_use = "a loop that was taken must be given back"]
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// Descriptors may have been ready for a while, so they are to be looked at now.
    pub look: bool,
}

/// How the loop's thread sleeps.
#[derive(Clone, Copy)]
enum Sleep {
    /// Without a look at descriptors: there are none, or a caller looks at them.
    Sound,
    /// For so long, to see whether a caller comes.
    Nap(Duration),
    /// With an eye on the descriptors.
    Watchful,
}

impl<W: Watch> Ownership<W> {
    /// Of a loop that its own thread runs.
    pub fn new(descriptors: Arc<W>) -> Self {
        Self {
            word: AtomicU32::new(HELD),
            plan: AtomicU64::new(Plan::NOTHING.0),
            watched: AtomicU64::new(Plan::NOTHING.0),
            rung: AtomicBool::new(false),
            bed: Parker::new(),
            descriptors,
        }
    }

    /// Takes the loop to run it, if nobody does. On any thread but the loop's own.
    pub fn take(&self) -> Option<Taken> {
        // ORDERING: Acquire pairs with Release in `free`: what the last one who ran the loop did to it is seen.
        let taken = self.word.fetch_update(Acquire, Relaxed, |word| {
            (word & OWNER == FREE).then(|| (word - FREE + DRIVEN).wrapping_add(DRIVE))
        });
        let look = taken.ok()? & LOOK != 0;
        Some(Taken { look })
    }

    /// The caller that runs the loop is about to look at the descriptors.
    pub fn looks(&self) {
        // ORDERING: Relaxed. The flag publishes nothing. A descriptor that is ready before it is taken down is seen by
        // the look that follows; for one that is ready later it is raised anew.
        self.word.fetch_and(!LOOK, Relaxed);
    }

    /// Gives the loop back. The bell for the loop's thread hangs in the inbox already.
    ///
    /// True if the thread was called for meanwhile. Unless the inbox is empty then, it is to be rung.
    #[must_use = "the thread may have to be rung"]
    pub fn give_back(&self, plan: Plan) -> bool {
        let called = self.free(plan) & CALLED != 0;
        // ORDERING: SeqCst, pairs with the fence in `rest`. Of the two one comes first. If it is this one, the thread
        // sees the plan before it sleeps; if it is the thread's, we see how it sleeps and rouse it if that won't do.
        fence(SeqCst);
        // ORDERING: Relaxed, ordered by the fence.
        if !Plan(self.watched.load(Relaxed)).covers(plan) {
            self.rouse();
        }
        called
    }

    /// The loop's own thread lets go of it. It has to [`rest`](Self::rest) next.
    pub fn let_go(&self, plan: Plan) {
        self.free(plan);
    }

    /// The loop's own thread sleeps until it is needed and nobody else runs the loop; then it has the loop again.
    pub fn rest(&self) {
        let mut sleep = Sleep::Sound;
        loop {
            let (word, plan) = self.look();
            sleep = sleep.under(plan);
            let (watched, time_ends_nap) = sleep.watches(plan);
            // ORDERING: Relaxed, ordered by the fence.
            self.watched.store(watched.0, Relaxed);
            // ORDERING: SeqCst, pairs with the fences in `give_back` and `rouse`. What they published before theirs is
            // seen below, or they see how we sleep.
            fence(SeqCst);
            // ORDERING: Acquire pairs with Release in `ring`: what there is to do is seen.
            let mut is_due = self.rung.swap(false, Acquire);
            let (mut is_ready, mut is_late) = (false, false);
            if !is_due {
                if !self.look().1.is_none_or(|plan| watched.covers(plan)) {
                    continue;
                }
                match sleep {
                    Sleep::Watchful => {
                        is_ready = self.descriptors.wait_until_ready(watched.timeout());
                        is_late = !is_ready;
                    }
                    _ => is_late = self.bed.park(watched.deadline()) == Parked::TimedOut,
                }
                // ORDERING: Acquire, see above.
                is_due = self.rung.swap(false, Acquire) || is_ready || is_late && !time_ends_nap;
            }
            if is_due && self.resume(is_ready) {
                return;
            }
            sleep = match sleep {
                // Whoever runs the loop looks at them. We would be told again and again.
                Sleep::Watchful if is_ready => Sleep::Nap(SHORTEST_NAP),
                Sleep::Nap(nap) if is_late => self.after_nap(nap, word),
                same => same,
            };
        }
    }

    /// Calls for the loop's thread, as there is something to do. From any thread.
    pub fn ring(&self) {
        // ORDERING: Release pairs with Acquire in `rest`. A swap, so that it comes before or after one there.
        self.rung.swap(true, Release);
        self.rouse();
    }

    /// Ends the sleep of the thread, or the next one.
    fn rouse(&self) {
        self.bed.unparker().unpark();
        // ORDERING: SeqCst, pairs with the fence in `rest`. If this one comes first, the thread sees why it is roused
        // before it sleeps; if not, we see how it sleeps.
        fence(SeqCst);
        // ORDERING: Relaxed, ordered by the fence.
        if Plan(self.watched.load(Relaxed)).descriptors() == Descriptors::Promptly {
            self.descriptors.wake();
        }
    }

    /// Lets go of the loop; returns the word as it was.
    fn free(&self, plan: Plan) -> u32 {
        // ORDERING: Relaxed, published by the word.
        self.plan.store(plan.0, Relaxed);
        // ORDERING: Release pairs with Acquire in `take` and `resume`: who runs the loop next sees what was done to it.
        // Acquire pairs with Release in `resume`: who finds that the thread was called for sees what for.
        self.word
            .fetch_update(AcqRel, Relaxed, |word| {
                Some(word & !(OWNER | CALLED) | FREE)
            })
            .unwrap_or_else(|word| word)
    }

    /// The thread takes the loop, unless a caller has it. That one is told then.
    fn resume(&self, is_ready: bool) -> bool {
        // ORDERING: Acquire as in `take`. Release: see `free`.
        let before = self.word.fetch_update(AcqRel, Relaxed, |word| {
            Some(match word & OWNER {
                DRIVEN if is_ready => word | CALLED | LOOK,
                DRIVEN => word | CALLED,
                _ => word & !(OWNER | CALLED | LOOK) | HELD,
            })
        });
        before.unwrap_or_else(|word| word) & OWNER != DRIVEN
    }

    /// The word, and the plan unless a caller runs the loop: it sees to everything.
    fn look(&self) -> (u32, Option<Plan>) {
        // ORDERING: Acquire pairs with Release in `free`: the plan is the one it was given back with, or a later one.
        let word = self.word.load(Acquire);
        // ORDERING: Relaxed, see above.
        let plan = (word & OWNER != DRIVEN).then(|| Plan(self.plan.load(Relaxed)));
        (word, plan)
    }

    /// How to sleep after a nap at whose beginning the word was this.
    fn after_nap(&self, nap: Duration, before: u32) -> Sleep {
        let (word, plan) = self.look();
        let flags = LOOK | CALLED;
        if word & !flags == before & !flags {
            return match plan {
                // No caller came.
                Some(_) => Sleep::Watchful,
                // One takes long, and sees to everything meanwhile. It will find us asleep.
                None => Sleep::Sound,
            };
        }
        // ORDERING: Relaxed, see `looks`.
        self.word.fetch_or(LOOK, Relaxed);
        Sleep::Nap((2 * nap).min(LONGEST_NAP))
    }
}

impl Sleep {
    /// What becomes of it under this plan, or while a caller runs the loop.
    fn under(self, plan: Option<Plan>) -> Self {
        match (self, plan.map(Plan::descriptors)) {
            (same, None) => same,
            (_, Some(Descriptors::None)) => Sleep::Sound,
            (_, Some(Descriptors::Promptly)) => Sleep::Watchful,
            (Sleep::Sound, Some(Descriptors::Lazily)) => Sleep::Nap(SHORTEST_NAP),
            (same, Some(Descriptors::Lazily)) => same,
        }
    }

    /// What it watches, and whether the time that ends it is that of a nap.
    fn watches(self, plan: Option<Plan>) -> (Plan, bool) {
        let planned = plan.unwrap_or(Plan::NOTHING);
        let (descriptors, end) = match self {
            Sleep::Sound => (Descriptors::None, None),
            Sleep::Nap(nap) => (Descriptors::Lazily, Some(clock::now() + nap)),
            Sleep::Watchful => (Descriptors::Promptly, None),
        };
        let nap = Plan::new(end, descriptors);
        if nap.nanos() < planned.nanos() {
            return (nap, true);
        }
        (Plan(planned.nanos() | descriptors as u64), false)
    }
}

impl Plan {
    /// For ever, and no descriptors.
    pub const NOTHING: Self = Self(Self::NEVER);

    /// The bits of the time: nanoseconds of the monotonic clock. Those of `Descriptors` are the others.
    const NEVER: u64 = !3;

    /// To look at the loop at this time, a reading of [`clock::now`], at the latest.
    pub fn new(deadline: Option<Duration>, descriptors: Descriptors) -> Self {
        let nanos = deadline.map_or(Self::NEVER, |deadline| {
            u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX) & Self::NEVER
        });
        Self(nanos | descriptors as u64)
    }

    fn nanos(self) -> u64 {
        self.0 & Self::NEVER
    }

    fn descriptors(self) -> Descriptors {
        match self.0 & 3 {
            0 => Descriptors::None,
            1 => Descriptors::Lazily,
            _ => Descriptors::Promptly,
        }
    }

    /// Whether who follows this plan also follows the other one.
    fn covers(self, other: Self) -> bool {
        self.nanos() <= other.nanos() && self.descriptors() >= other.descriptors()
    }

    fn timeout(self) -> Option<Duration> {
        (self.nanos() != Self::NEVER)
            .then(|| Duration::from_nanos(self.nanos()).saturating_sub(clock::now()))
    }

    fn deadline(self) -> Option<Instant> {
        Instant::now().checked_add(self.timeout()?)
    }
}

impl<W> fmt::Debug for Ownership<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // ORDERING: Relaxed, for people to look at.
        let owner = match self.word.load(Relaxed) & OWNER {
            HELD => "its thread",
            FREE => "nobody",
            _ => "a caller",
        };
        f.debug_struct("Ownership")
            .field("owner", &owner)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("timeout", &self.timeout())
            .field("descriptors", &self.descriptors())
            .finish()
    }
}
