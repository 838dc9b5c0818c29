//! Noticing, from a thread outside the loop, that the loop is stuck in one callback while it still is.
//!
//! The loop counts its callbacks in a [`Heartbeat`]: one store for each, and no look at the clock. The
//! watchdog's thread looks at the count now and then. If it has not moved for as long as one callback
//! may take, the loop is stuck. While the loop has nothing to do the watchdog sleeps, too: it costs an idle
//! program nothing, and the loop wakes it with its next callback.
//!
//! Time is counted in naps that ended as planned, not by the clock: a process that was stopped for an
//! hour, or a machine that was asleep, has not been stuck.

use crate::parking::{Parked, Parker};
use crate::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};
use std::fmt;
use std::time::{Duration, Instant};

/// In the count: a callback runs. Without it the loop rests.
const RUNNING: u64 = 1;

/// What is added for each callback.
const ONE: u64 = 2;

/// Looks at the heartbeat within the time that one callback may take.
const LOOKS: u32 = 4;

/// The shortest nap, whatever the limit: a watchdog must not keep a processor busy.
const SHORTEST_NAP: Duration = Duration::from_millis(1);

/// The longest, so that a limit which is lowered meanwhile is noticed.
const LONGEST_NAP: Duration = Duration::from_secs(1);

/// What a loop tells its watchdog.
pub struct Heartbeat {
    /// Twice the number of callbacks, and `RUNNING`. Written by the loop's thread only.
    count: AtomicU64,
    /// The watchdog sleeps until the loop does something, and wants to be woken.
    dozing: AtomicBool,
    /// The watchdog is to end.
    stopped: AtomicBool,
    /// How long one callback may run: the bits of a number of seconds.
    limit: AtomicU64,
    /// Where the watchdog's thread sleeps.
    watchdog: Parker,
}

impl Heartbeat {
    /// Of a loop that rests.
    pub fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            dozing: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            limit: AtomicU64::new(f64::INFINITY.to_bits()),
            watchdog: Parker::new(),
        }
    }

    /// The loop is about to run a callback. On the loop's thread only.
    pub fn beat(&self) {
        // ORDERING: Relaxed. Nobody else writes the count, and it publishes nothing but itself. For the
        // watchdog that dozes see `rouse`.
        let last = self.count.load(Relaxed);
        self.count
            .store((last | RUNNING).wrapping_add(ONE), Relaxed);
        if last & RUNNING == 0 {
            self.rouse();
        }
    }

    /// The loop is about to sleep, or is not running at all. On the loop's thread only.
    pub fn rest(&self) {
        // ORDERING: Relaxed, see `beat`.
        let last = self.count.load(Relaxed);
        self.count.store(last & !RUNNING, Relaxed);
    }

    /// Which callback runs: no two in a row have the same number. None while the loop rests.
    pub fn running(&self) -> Option<u64> {
        // ORDERING: Relaxed, the number alone is what counts.
        let count = self.count.load(Relaxed);
        (count & RUNNING != 0).then_some(count)
    }

    /// Sets how many seconds one callback may run, from any thread.
    pub fn set_limit(&self, seconds: f64) {
        // ORDERING: Relaxed, the number alone is what counts.
        self.limit.store(seconds.to_bits(), Relaxed);
    }

    /// How many seconds one callback may run.
    pub fn limit(&self) -> f64 {
        // ORDERING: Relaxed, see `set_limit`.
        f64::from_bits(self.limit.load(Relaxed))
    }

    /// Ends the watchdog, from any thread; it may be in the middle of a report.
    pub fn stop(&self) {
        // ORDERING: Release pairs with Acquire in `is_stopped`.
        self.stopped.store(true, Release);
        self.watchdog.unparker().unpark();
    }

    /// Whether the watchdog is to end.
    pub fn is_stopped(&self) -> bool {
        // ORDERING: Acquire, see `stop`.
        self.stopped.load(Acquire)
    }

    /// Sleeps until the loop runs a callback again or the watchdog is stopped; returns at once if it does not rest.
    /// May return without a reason. On the watchdog's thread only.
    pub fn doze(&self) {
        // ORDERING: Relaxed, ordered by the fence below.
        self.dozing.store(true, Relaxed);
        // ORDERING: SeqCst, pairs with the fence in `rouse`. Of the two fences one comes first. If it is this one,
        // the loop sees that we doze and wakes us; if it is the loop's, we see its count and stay awake.
        fence(SeqCst);
        if self.running().is_none() && !self.is_stopped() {
            self.watchdog.park(None);
        }
        // ORDERING: Relaxed. A loop that still sees the old value leaves a token, which costs one look too many.
        self.dozing.store(false, Relaxed);
    }

    /// The first callback after a rest wakes a watchdog that dozes.
    fn rouse(&self) {
        // ORDERING: SeqCst, see `doze`.
        fence(SeqCst);
        // ORDERING: Relaxed, the fence orders it; the token orders what comes after.
        if self.dozing.load(Relaxed) && self.dozing.swap(false, Relaxed) {
            self.watchdog.unparker().unpark();
        }
    }

    /// Sleeps for `time`, on the watchdog's thread. False if it was woken before, and if something else kept it from sleeping.
    pub fn nap(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        self.watchdog.park(Some(deadline)) == Parked::TimedOut
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heartbeat")
            .field("running", &self.running())
            .finish_non_exhaustive()
    }
}

/// What a watchdog asks about the loop that it watches.
pub trait Subject {
    /// How long one callback may run.
    fn limit(&mut self) -> Duration;

    /// Which callback runs, None while the loop rests.
    fn running(&mut self) -> Option<u64>;

    /// Sleeps while the loop rests; may return before.
    fn doze(&mut self);

    /// This callback has been running for `time` at least. False if that can't be said for certain,
    /// and it is to be looked at for as long again.
    fn stuck(&mut self, callback: u64, time: Duration) -> bool;
}

/// What the watchdog's thread does until it is stopped. Tells of each stuck callback once, after one and a half times
/// the limit at the latest.
pub fn watch(heartbeat: &Heartbeat, subject: &mut impl Subject) {
    let mut told = None;
    while !heartbeat.is_stopped() {
        let nap = nap_for(subject.limit());
        let running = subject.running();
        if !heartbeat.nap(nap) || subject.running() != running {
            continue;
        }
        match running {
            None => subject.doze(),
            Some(callback) if told == Some(callback) => {}
            Some(callback) => {
                if let Some(time) = watch_one(heartbeat, subject, callback, nap)
                    && subject.stuck(callback, time)
                {
                    told = Some(callback);
                }
            }
        }
    }
}

/// Looks at a callback that has run for `time` until it ends or has run for too long. Then returns for how long.
fn watch_one(
    heartbeat: &Heartbeat,
    subject: &mut impl Subject,
    callback: u64,
    mut time: Duration,
) -> Option<Duration> {
    loop {
        let limit = subject.limit();
        if subject.running() != Some(callback) || heartbeat.is_stopped() {
            return None;
        }
        if time >= limit {
            return Some(time);
        }
        let nap = nap_for(limit);
        if heartbeat.nap(nap) {
            time = time.saturating_add(nap);
        }
    }
}

fn nap_for(limit: Duration) -> Duration {
    (limit / LOOKS).clamp(SHORTEST_NAP, LONGEST_NAP)
}
