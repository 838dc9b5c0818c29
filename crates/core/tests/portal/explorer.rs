//! Loom or shuttle, whichever this was built for, behind one face.

#![allow(unused_imports)] // Each test that includes it uses some.

#[cfg(atl_loom)]
pub use loom::{sync::Condvar, sync::Mutex, sync::MutexGuard, thread};
#[cfg(atl_shuttle)]
pub use shuttle::{sync::Condvar, sync::Mutex, sync::MutexGuard, thread};

/// Picks the size of a model: loom tries every interleaving, shuttle any number of threads.
pub const fn size(loom: usize, shuttle: usize) -> usize {
    if cfg!(atl_loom) { loom } else { shuttle }
}

/// Every interleaving with up to three preemptions (a thread held up where it could go on).
#[cfg(atl_loom)]
pub fn explore(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(model);
}

/// Many interleavings, drawn in two ways: at every step any thread may go on, or (the PCT scheduler) one thread goes
/// on until it blocks, but for a few moments drawn at random. The first finds what needs many switches, the second
/// what needs one thread to be very late.
#[cfg(atl_shuttle)]
pub fn explore(model: impl Fn() + Send + Sync + 'static) {
    use shuttle::scheduler::{PctScheduler, RandomScheduler};
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true; // Of orderings, which are loom's part.
    let model = std::sync::Arc::new(model);
    for depth in 0..4 {
        let model = model.clone();
        match depth {
            0 => shuttle::Runner::new(RandomScheduler::new(RUNS), config.clone())
                .run(move || model()),
            _ => shuttle::Runner::new(PctScheduler::new(depth, RUNS), config.clone())
                .run(move || model()),
        };
    }
}

#[cfg(atl_shuttle)]
const RUNS: usize = 10_000;
