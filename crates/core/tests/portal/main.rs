//! Closing against submitting, cancelling against completing, and forks: the core's parts put together as the
//! extension does it ([`miniature`]), and explored. A caller that is left behind shows as a deadlock.
//!
//! The models are the same for loom, which explores small ones completely up to three preemptions, and for shuttle,
//! which draws interleavings of larger ones at random. Some are broken on purpose: that must be seen.
//!
//! `RUSTFLAGS="--cfg atl_loom" cargo test --release -p asyncio-thread-loop-core --test portal`, or `--cfg atl_shuttle`

#![cfg(any(atl_loom, atl_shuttle))]

mod explorer;
mod miniature;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use asyncio_thread_loop_core::locks_held;
use asyncio_thread_loop_core::outcome::State;

use explorer::{explore, size, thread};
use miniature::{Body, Call, End, Flaw, Forked, Gate, Portal, Process, Python};

/// A process with one loop in a thread of its own.
struct World {
    process: Arc<Process>,
    portal: Arc<Portal>,
    loop_thread: thread::JoinHandle<()>,
}

impl World {
    fn new(epoch: u32, flaw: Option<Flaw>) -> Self {
        let process = Arc::new(Process::new(epoch));
        let portal = process.attach(|py| Portal::new(py, flaw));
        let loop_thread = spawn(&process, &portal, |py, portal| portal.run(py));
        Self {
            process,
            portal,
            loop_thread,
        }
    }

    fn spawn(
        &self,
        work: impl FnOnce(&Python<'_>, &Portal) + Send + 'static,
    ) -> thread::JoinHandle<()> {
        spawn(&self.process, &self.portal, work)
    }

    fn attach<R>(&self, work: impl FnOnce(&Python<'_>, &Portal) -> R) -> R {
        self.process.attach(|py| work(py, &self.portal))
    }

    /// Waits for the loop's end, and looks at what it left behind.
    fn join(self, threads: impl IntoIterator<Item = thread::JoinHandle<()>>, calls: &[Arc<Call>]) {
        self.loop_thread.join().unwrap();
        self.process.attach(|py| {
            let unfinished = self.portal.roster.with(py, |roster| roster.iter().count());
            assert_eq!(unfinished, 0, "left on the roster");
            assert!(self.portal.event_loop.inbox.is_closed());
            assert_eq!(
                self.portal.event_loop.inbox.close().len(),
                0,
                "left in the inbox"
            );
        });
        // Before the others are joined: the loop has ended, so everybody has to get on by now.
        for call in calls {
            if call.accepted.load(Relaxed) == 1 {
                assert!(call.outcome.is_done(), "accepted, and never ended");
            }
        }
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        for call in calls {
            check(call);
        }
    }
}

fn spawn(
    process: &Arc<Process>,
    portal: &Arc<Portal>,
    work: impl FnOnce(&Python<'_>, &Portal) + Send + 'static,
) -> thread::JoinHandle<()> {
    let (process, portal) = (process.clone(), portal.clone());
    thread::spawn(move || process.attach(|py| work(py, &portal)))
}

/// What holds of every call when all is over.
fn check(call: &Call) {
    let accepted = call.accepted.load(Relaxed) == 1;
    let (ends, closes) = (call.ends.load(Relaxed), call.closes.load(Relaxed));
    let (tasks, runs) = (call.tasks.load(Relaxed), call.runs.load(Relaxed));
    assert_eq!(
        tasks + closes,
        1,
        "a task gets the coroutine, or it is closed"
    );
    assert!(runs <= tasks);
    if accepted {
        assert_eq!(ends, 1, "ended once");
        assert!(call.wakes.load(Relaxed) <= 1, "notified once");
        match call.outcome.state() {
            State::CancelledAndNotified => {}
            State::Finished => assert!(call.end().is_some()),
            state => panic!("left {state:?}"),
        }
    } else {
        assert_eq!((ends, tasks), (0, 0), "refused");
        assert_eq!(call.outcome.state(), State::Pending);
    }
}

fn submit(py: &Python<'_>, portal: &Portal, call: &Arc<Call>) {
    if let Ok(bell) = portal.submit(py, call) {
        bell.iter().for_each(|bell| bell.unpark());
    }
}

/// Any moment: the explorer holds threads up where it likes.
fn soon() -> Option<Instant> {
    Some(Instant::now())
}

/// Evaluated by a thread each, the second with a timeout.
fn evaluators(world: &World, calls: &[Arc<Call>]) -> Vec<thread::JoinHandle<()>> {
    let evaluator = |(index, call): (usize, &Arc<Call>)| {
        let call = call.clone();
        let deadline = if index == 1 { soon() } else { None };
        world.spawn(move |py, portal| {
            let ended = portal.evaluate(py, &call, deadline);
            assert_eq!(ended.is_ok(), call.accepted.load(Relaxed) == 1);
        })
    };
    calls.iter().enumerate().map(evaluator).collect()
}

fn bodies() -> Vec<Arc<Call>> {
    let bodies = [Body::Endless, Body::Endless, Body::Returns];
    bodies.into_iter().take(size(1, 3)).map(Call::new).collect()
}

fn closing_against_submitting(flaw: Option<Flaw>) {
    let world = World::new(0, flaw);
    let calls = bodies();
    let threads = evaluators(&world, &calls);
    world.attach(|py, portal| portal.ask_to_leave(py, true));
    world.join(threads, &calls);
}

#[test]
fn closing_ends_every_accepted_call_once_and_hands_back_every_refused_one() {
    explore(|| closing_against_submitting(None));
}

#[test]
#[should_panic(expected = "accepted, and never ended")]
fn a_call_that_is_accepted_in_two_steps_is_seen_to_be_lost() {
    explore(|| {
        let world = World::new(0, Some(Flaw::AcceptsInTwoSteps));
        let calls = [Body::Endless, Body::Returns].map(Call::new);
        world.attach(|py, portal| submit(py, portal, &calls[0]));
        let submitter = {
            let call = calls[1].clone();
            world.spawn(move |py, portal| submit(py, portal, &call))
        };
        world.attach(|py, portal| portal.ask_to_leave(py, true));
        world.join([submitter], &calls);
    });
}

#[test]
fn closing_gently_lets_accepted_calls_end_by_themselves() {
    explore(|| {
        let world = World::new(0, None);
        let calls: Vec<_> = (0..size(1, 3)).map(|_| Call::new(Body::Returns)).collect();
        let threads: Vec<_> = calls
            .iter()
            .map(|call| {
                let call = call.clone();
                world.spawn(move |py, portal| drop(portal.evaluate(py, &call, None)))
            })
            .collect();
        world.attach(|py, portal| portal.ask_to_leave(py, false));
        world.join(threads, &calls);
        for call in calls {
            let expected = (call.accepted.load(Relaxed) == 1).then_some(End::Returned);
            assert_eq!(call.end(), expected);
        }
    });
}

#[test]
fn a_gentle_exit_can_be_hurried_by_somebody_else() {
    explore(|| {
        let world = World::new(0, None);
        let calls = bodies();
        let mut threads = evaluators(&world, &calls);
        threads.push(world.spawn(|py, portal| portal.ask_to_leave(py, true)));
        world.attach(|py, portal| portal.ask_to_leave(py, false));
        world.join(threads, &calls);
    });
}

#[test]
fn giving_up_on_a_blocked_loop_frees_every_caller_and_the_loop_may_go_on_after() {
    explore(|| {
        let world = World::new(0, None);
        let gate = Gate::new();
        let mut calls = vec![Call::new(Body::Blocks(gate.clone()))];
        calls.extend(bodies());
        let (blocking, others) = calls.split_at(1);
        world.attach(|py, portal| submit(py, portal, &blocking[0]));
        let threads = evaluators(&world, others);
        world.attach(|py, portal| {
            portal.ask_to_leave(py, true);
            portal.give_up(py);
        });
        // Not joined yet: the loop blocks, or has gone on by chance; either way nobody waits for it.
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        for call in &calls {
            assert!(call.outcome.is_done() || call.accepted.load(Relaxed) == 0);
        }
        gate.open();
        world.join([], &calls);
    });
}

#[test]
#[should_panic(expected = "swap_remove index")]
fn giving_up_on_all_calls_at_once_is_seen_to_break_those_that_end_meanwhile() {
    explore(|| {
        let world = World::new(0, Some(Flaw::GivesUpAtOnce));
        let calls = [Body::Returns, Body::Returns].map(Call::new);
        world.attach(|py, portal| {
            calls.iter().for_each(|call| submit(py, portal, call));
            portal.ask_to_leave(py, true);
            portal.give_up(py);
        });
        world.join([], &calls);
    });
}

/// A call with several waiters, cancelled by some threads. Then the loop ends, gently: it waits for the call.
///
/// What `cancel` promises: if it returns true, the work never began and never will, or its task is asked to stop, unless
/// it has come to its end by then. If it returns false, the work had finished.
fn cancelling_against_completing(
    body: Body,
    flaw: Option<Flaw>,
    cancellers: usize,
    waiters: usize,
) {
    let world = World::new(0, flaw);
    let call = Call::new(body);
    let asked = Arc::new(AtomicUsize::new(0));
    world.attach(|py, portal| submit(py, portal, &call));
    let canceller = |_| {
        let (call, asked) = (call.clone(), asked.clone());
        world.spawn(move |py, portal| match call.cancel(py, portal) {
            true => drop(asked.fetch_add(1, Relaxed)),
            false => assert_eq!(call.end(), Some(End::Returned)),
        })
    };
    let waiter = |index| {
        let call = call.clone();
        let deadline = if index == 1 { soon() } else { None };
        world.spawn(move |py, portal| {
            let done = call.wait(py, portal, deadline, || ()).unwrap();
            assert!(done || deadline.is_some());
            assert!(!done || call.outcome.is_done());
        })
    };
    let cancellers: Vec<_> = (0..cancellers).map(canceller).collect();
    let waiters: Vec<_> = (0..waiters).map(waiter).collect();
    for canceller in cancellers {
        canceller.join().unwrap();
    }
    world.attach(|py, portal| portal.ask_to_leave(py, false));
    world.join(waiters, std::slice::from_ref(&call));
    let (tasks, runs) = (call.tasks.load(Relaxed), call.runs.load(Relaxed));
    let task_was_asked = call.cancels_asked.load(Relaxed) > 0;
    match call.end() {
        Some(end) => assert_eq!((end, runs), (End::Returned, 1)),
        None => {
            assert!(asked.load(Relaxed) > 0, "cancelled by nobody");
            assert_eq!(
                tasks == 1,
                task_was_asked,
                "before it began, or through its task"
            );
        }
    }
}

#[test]
fn a_cancelled_call_that_would_run_for_ever_ends_cancelled_and_everybody_hears_of_it() {
    explore(|| cancelling_against_completing(Body::Endless, None, 1, size(0, 3)));
}

#[test]
fn of_cancelling_and_completing_one_wins_and_everybody_hears_of_it() {
    explore(|| cancelling_against_completing(Body::Returns, None, size(1, 2), size(0, 3)));
}

#[test]
fn several_threads_that_cancel_are_all_told_the_truth() {
    explore(|| cancelling_against_completing(Body::Endless, None, size(1, 3), 1));
}

#[test]
#[should_panic(expected = "deadlock")]
#[cfg(atl_shuttle)] // loom's objects cannot be dropped while a deadlock unwinds.
fn a_cancellation_lost_while_the_task_is_made_is_seen() {
    explore(|| cancelling_against_completing(Body::Endless, Some(Flaw::LosesCancellation), 1, 1));
}

#[test]
fn cancelling_while_somebody_gives_up_ends_the_call_once() {
    explore(|| {
        let world = World::new(0, None);
        let call = Call::new(Body::Endless);
        world.attach(|py, portal| submit(py, portal, &call));
        let canceller = {
            let call = call.clone();
            world.spawn(move |py, portal| {
                call.cancel(py, portal);
            })
        };
        world.attach(|py, portal| {
            portal.ask_to_leave(py, true);
            portal.give_up(py);
            assert_ne!(call.result(py, portal), Ok(State::Running));
        });
        world.join([canceller], &[call]);
    });
}

/// Forks, and is the child for a while. The parent goes on after: it never notices.
///
/// In a real child the other threads are gone. Here those that need the GIL stand still meanwhile, and the child does
/// nothing to what it inherited but look.
fn fork(py: &Python<'_>, inherited: &Portal, calls: &[Arc<Call>]) {
    assert_eq!(
        locks_held(),
        0,
        "a lock that nobody in the child will let go of"
    );
    let child = World::new(py.epoch() + 1, None);
    child.attach(|py, own| {
        assert!(inherited.is_stale(py));
        assert!(!own.is_stale(py));
        let refused = Call::new(Body::Returns);
        assert!(inherited.submit(py, &refused).is_err());
        check(&refused);
        for call in calls {
            match call.outcome.state() {
                State::Pending | State::Running => {
                    assert_eq!(call.result(py, inherited), Err(Forked));
                }
                done => assert_eq!(call.result(py, inherited), Ok(done)),
            }
        }
        let call = Call::new(Body::Returns);
        assert_eq!(own.evaluate(py, &call, None).unwrap(), State::Finished);
        own.ask_to_leave(py, true);
        check(&call);
    });
    child.join([], &[]);
}

#[test]
fn a_child_finds_every_lock_free_and_can_start_anew_whenever_its_parent_forked() {
    explore(|| {
        let world = World::new(0, None);
        let calls = bodies();
        let threads = match size(0, 1) {
            0 => {
                world.attach(|py, portal| submit(py, portal, &calls[0]));
                Vec::new()
            }
            _ => evaluators(&world, &calls),
        };
        world.attach(|py, portal| fork(py, portal, &calls));
        world.attach(|py, portal| portal.ask_to_leave(py, true));
        world.join(threads, &calls);
    });
}

#[test]
#[should_panic(expected = "a lock that nobody in the child will let go of")]
fn a_lock_held_while_the_gil_is_let_go_is_seen() {
    explore(|| {
        let world = World::new(0, Some(Flaw::RunsCodeUnderALock));
        let call = Call::new(Body::Returns);
        world.attach(|py, portal| submit(py, portal, &call));
        world.attach(|py, portal| fork(py, portal, std::slice::from_ref(&call)));
        world.attach(|py, portal| portal.ask_to_leave(py, true));
        world.join([], &[call]);
    });
}
