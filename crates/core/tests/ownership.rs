//! A loop whose callers run it themselves when it is free: nothing is lost on the way from one thread to another, and
//! no two threads ever run it at once. Whoever is left behind shows as a deadlock.
//!
//! The models are the same for loom and for shuttle, as those of `portal` are. They do without a GIL, under which the
//! extension takes the loop and gives it back: nothing here relies on it.
//!
//! `RUSTFLAGS="--cfg atl_loom" cargo test --release -p asyncio-thread-loop-core --test ownership`, or `--cfg atl_shuttle`

#![cfg(any(atl_loom, atl_shuttle))]

#[path = "portal/explorer.rs"]
mod explorer;

use std::sync::Arc; // loom's own cannot be dropped while a deadlock unwinds.
#[cfg(atl_shuttle)]
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use asyncio_thread_loop_core::inbox::Inbox;
use asyncio_thread_loop_core::outcome::Outcome;
use asyncio_thread_loop_core::ownership::{Descriptors, Ownership, Plan, Watch};
use asyncio_thread_loop_core::parking::{Parker, Unparker};

use explorer::{Condvar, Mutex, explore, size, thread};

/// A poller with one descriptor: waiting takes nothing, looking does.
struct Pipe {
    state: Mutex<PipeState>,
    changed: Condvar,
}

#[derive(Default)]
struct PipeState {
    is_ready: bool,
    is_woken: bool,
}

impl Pipe {
    fn new() -> Self {
        Self {
            state: Mutex::new(PipeState::default()),
            changed: Condvar::new(),
        }
    }

    fn write(&self) {
        self.state.lock().unwrap().is_ready = true;
        self.changed.notify_all();
    }

    /// By who runs the loop: takes the wake-up and, if it is wanted, what there is to read. Returns whether there was.
    fn read(&self, wanted: bool) -> bool {
        let mut state = self.state.lock().unwrap();
        state.is_woken = false;
        wanted && std::mem::take(&mut state.is_ready)
    }
}

impl Watch for Pipe {
    fn wait_until_ready(&self, timeout: Option<Duration>) -> bool {
        if timeout.is_some() {
            thread::yield_now();
        }
        let mut state = self.state.lock().unwrap();
        while timeout.is_none() && !state.is_ready && !state.is_woken {
            state = self.changed.wait(state).unwrap();
        }
        state.is_ready || state.is_woken
    }

    fn wake(&self) {
        self.state.lock().unwrap().is_woken = true;
        self.changed.notify_all();
    }
}

enum Job {
    Call(Arc<Outcome>),
    Leave(fn(&mut Inner)),
    Stop,
}

enum Bell {
    /// For the loop's own thread.
    Own,
    Caller(Unparker),
}

/// What belongs to whoever runs the loop; that two threads do at once is an error, and that one doesn't see what the
/// other did before is another.
struct State(
    #[cfg(atl_loom)] loom::cell::UnsafeCell<Inner>,
    #[cfg(atl_shuttle)] std::sync::Mutex<Inner>,
);

// SAFETY: loom complains of who uses it at once.
#[cfg(atl_loom)]
unsafe impl Sync for State {}

impl State {
    #[cfg(atl_loom)]
    fn with<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        // SAFETY: as above.
        self.0.with_mut(|inner| work(unsafe { &mut *inner }))
    }

    #[cfg(atl_shuttle)]
    fn with<R>(&self, work: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = self.0.try_lock().expect("two threads run the loop at once");
        // Other threads may have a turn. (Not `yield_now`: they would have to.)
        shuttle::sync::atomic::AtomicBool::new(false).load(SeqCst);
        work(&mut inner)
    }
}

#[derive(Default)]
struct Inner {
    stopping: bool,
    /// The descriptor is registered.
    watches: bool,
    /// A timer: it is due as soon as somebody looks.
    timer: bool,
    stops_when_read: bool,
    stops_when_fired: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// Who gives the loop back disregards that its thread was called for.
    Deaf,
    /// Who gives it back hangs up no bell.
    HangsNoBell,
}

struct Loop {
    inbox: Inbox<Job, Bell>,
    ownership: Ownership<Pipe>,
    #[cfg(atl_loom)]
    pipe: loom::sync::Arc<Pipe>,
    #[cfg(atl_shuttle)]
    pipe: shuttle::sync::Arc<Pipe>,
    state: State,
    flaw: Option<Flaw>,
}

impl Loop {
    fn new(flaw: Option<Flaw>) -> Arc<Self> {
        #[cfg(atl_loom)]
        let pipe = loom::sync::Arc::new(Pipe::new());
        #[cfg(atl_shuttle)]
        let pipe = shuttle::sync::Arc::new(Pipe::new());
        Arc::new(Self {
            inbox: Inbox::new(),
            ownership: Ownership::new(pipe.clone()),
            pipe,
            state: State(Inner::default().into()),
            flaw,
        })
    }

    /// The loop's own thread.
    fn run(&self) {
        loop {
            self.turn();
            if self.state.with(|state| state.stopping) {
                return;
            }
            if self.inbox.announce_sleep(Bell::Own) {
                self.ownership.let_go(self.plan(Descriptors::Promptly));
                self.ownership.rest();
                self.inbox.awake();
            }
        }
    }

    /// A turn, by whoever runs the loop.
    fn turn(&self) {
        let mut jobs = Vec::new();
        self.inbox.drain(&mut jobs);
        for job in jobs {
            match job {
                Job::Call(call) => call.settle(|| ()).unwrap().fire(),
                Job::Leave(leave) => self.state.with(leave),
                Job::Stop => self.state.with(|state| state.stopping = true),
            }
        }
        self.state.with(|state| {
            let read = state.watches && self.pipe.read(state.stops_when_read);
            let fired = std::mem::take(&mut state.timer);
            state.stopping |= read || fired && state.stops_when_fired;
        });
    }

    fn plan(&self, descriptors: Descriptors) -> Plan {
        self.state.with(|state| {
            let descriptors = if state.watches {
                descriptors
            } else {
                Descriptors::None
            };
            Plan::new(state.timer.then_some(Duration::ZERO), descriptors)
        })
    }

    /// A caller runs the loop until the call is done, which is when `first` has run and somebody has settled it. False
    /// if the loop wasn't free, or stops.
    fn drive(&self, call: &Outcome, first: impl FnOnce(&mut Inner)) -> bool {
        let Some(_taken) = self.ownership.take() else {
            return false;
        };
        self.inbox.awake();
        self.turn();
        self.state.with(first);
        let parker = Parker::new();
        while !call.is_done() && !self.state.with(|state| state.stopping) {
            if self.inbox.announce_sleep(Bell::Caller(parker.unparker())) {
                parker.park(None);
                self.inbox.awake();
            }
            self.turn();
        }
        let hung = self.flaw == Some(Flaw::HangsNoBell) || self.inbox.announce_sleep(Bell::Own);
        let stopping = self.state.with(|state| state.stopping);
        let called = self.ownership.give_back(self.plan(Descriptors::Lazily));
        let called = called && self.flaw != Some(Flaw::Deaf);
        if !hung || stopping || called && !self.inbox.is_empty() {
            self.ownership.ring();
        }
        call.is_done()
    }

    /// Runs the loop for a call that ends at once, or leaves it the call and waits.
    fn evaluate(&self) {
        let call = Arc::new(Outcome::new());
        if !self.drive(&call, |_| call.settle(|| ()).unwrap().fire()) {
            self.push(Job::Call(call.clone()));
            wait(&call);
        }
    }

    fn push(&self, job: Job) {
        match self.inbox.push(job).unwrap_or_else(|_| unreachable!()) {
            None => {}
            Some(Bell::Own) => self.ownership.ring(),
            Some(Bell::Caller(caller)) => caller.unpark(),
        }
    }
}

fn spawn(
    the_loop: &Arc<Loop>,
    work: impl FnOnce(&Loop) + Send + 'static,
) -> thread::JoinHandle<()> {
    let the_loop = the_loop.clone();
    thread::spawn(move || work(&the_loop))
}

fn wait(call: &Outcome) {
    let parker = Parker::new();
    if let Some(ticket) = call.subscribe(parker.unparker()) {
        while !call.is_done() {
            parker.park(None);
        }
        call.unsubscribe(ticket);
    }
}

/// The loop in a thread of its own, and other threads; when those have ended, the loop is stopped, by a job as well.
fn with_loop(
    flaw: Option<Flaw>,
    threads: impl IntoIterator<Item = Box<dyn FnOnce(&Loop) + Send>>,
    here: impl FnOnce(&Loop),
) {
    let the_loop = Loop::new(flaw);
    let own = spawn(&the_loop, Loop::run);
    let threads: Vec<_> = threads
        .into_iter()
        .map(|work| spawn(&the_loop, work))
        .collect();
    here(&the_loop);
    for thread in threads {
        thread.join().unwrap();
    }
    the_loop.push(Job::Stop);
    own.join().unwrap();
}

fn nobody() -> [Box<dyn FnOnce(&Loop) + Send>; 0] {
    []
}

#[test]
fn a_caller_runs_the_loop_or_finds_it_busy_and_waits() {
    explore(|| {
        with_loop(None, nobody(), |the_loop| {
            for _ in 0..size(2, 4) {
                the_loop.evaluate();
            }
        });
    });
}

#[test]
fn of_several_callers_and_the_thread_one_runs_the_loop_at_a_time() {
    explore(|| {
        let callers = (0..size(1, 3)).map(|_| -> Box<dyn FnOnce(&Loop) + Send> {
            Box::new(|the_loop| {
                for _ in 0..size(1, 3) {
                    the_loop.evaluate();
                }
            })
        });
        with_loop(None, callers, Loop::evaluate);
    });
}

fn a_call_is_run_whoever_runs_the_loop(flaw: Option<Flaw>, times: usize) {
    let pusher: Box<dyn FnOnce(&Loop) + Send> = Box::new(move |the_loop| {
        for _ in 0..times {
            let call = Arc::new(Outcome::new());
            the_loop.push(Job::Call(call.clone()));
            wait(&call);
        }
    });
    with_loop(flaw, [pusher], |the_loop| {
        for _ in 0..times {
            the_loop.evaluate();
        }
    });
}

#[test]
fn a_call_that_is_pushed_while_callers_come_and_go_is_run() {
    explore(|| a_call_is_run_whoever_runs_the_loop(None, size(1, 3)));
}

#[test]
#[should_panic(expected = "deadlock")]
#[cfg(atl_shuttle)] // loom's objects cannot be dropped while a deadlock unwinds.
fn a_thread_called_for_while_a_caller_ran_the_loop_and_then_forgotten_is_seen() {
    explore(|| a_call_is_run_whoever_runs_the_loop(Some(Flaw::Deaf), 1));
}

#[test]
#[should_panic(expected = "deadlock")]
#[cfg(atl_shuttle)]
fn a_loop_given_back_without_a_bell_is_seen() {
    explore(|| a_call_is_run_whoever_runs_the_loop(Some(Flaw::HangsNoBell), 1));
}

#[test]
fn a_caller_that_sleeps_while_it_runs_the_loop_is_woken_by_a_push() {
    explore(|| {
        let call = Arc::new(Outcome::new());
        let pusher: Box<dyn FnOnce(&Loop) + Send> = {
            let call = call.clone();
            Box::new(move |the_loop| the_loop.push(Job::Call(call)))
        };
        with_loop(None, [pusher], |the_loop| {
            if !the_loop.drive(&call, |_| ()) {
                wait(&call);
            }
        });
    });
}

#[test]
fn a_caller_in_the_middle_of_a_call_leaves_it_to_the_thread_when_the_loop_stops() {
    explore(|| {
        let call = Outcome::new();
        let the_loop = Loop::new(None);
        let threads = [
            spawn(&the_loop, Loop::run),
            spawn(&the_loop, |the_loop| the_loop.push(Job::Stop)),
        ];
        assert!(!the_loop.drive(&call, |_| ()));
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

/// A caller leaves something behind and goes. Nobody calls again: the thread has to notice by itself, wherever it sleeps,
/// and ends when it did.
fn what_a_caller_leaves_behind_is_served(leave: fn(&mut Inner), then: usize) {
    let the_loop = Loop::new(None);
    let own = spawn(&the_loop, Loop::run);
    let writer = spawn(&the_loop, |the_loop| the_loop.pipe.write());
    let call = Outcome::new();
    let left = the_loop.drive(&call, |state| {
        leave(state);
        call.settle(|| ()).unwrap().fire();
    });
    if !left {
        the_loop.push(Job::Leave(leave));
    }
    for _ in 0..then {
        let call = Outcome::new();
        the_loop.drive(&call, |_| call.settle(|| ()).unwrap().fire());
    }
    writer.join().unwrap();
    own.join().unwrap();
}

#[test]
fn a_descriptor_that_a_caller_registered_is_watched_when_it_has_gone() {
    explore(|| {
        let watch = |state: &mut Inner| (state.watches, state.stops_when_read) = (true, true);
        what_a_caller_leaves_behind_is_served(watch, size(0, 2));
    });
}

#[test]
fn a_timer_that_a_caller_set_is_served_when_it_has_gone() {
    explore(|| {
        let set = |state: &mut Inner| (state.timer, state.stops_when_fired) = (true, true);
        what_a_caller_leaves_behind_is_served(set, size(0, 2));
    });
}

#[test]
fn a_descriptor_that_was_registered_before_is_served_while_callers_come_and_go() {
    explore(|| {
        let the_loop = Loop::new(None);
        the_loop
            .state
            .with(|state| (state.watches, state.stops_when_read) = (true, true));
        let own = spawn(&the_loop, Loop::run);
        let writer = spawn(&the_loop, |the_loop| the_loop.pipe.write());
        for _ in 0..size(1, 3) {
            let call = Outcome::new();
            the_loop.drive(&call, |_| call.settle(|| ()).unwrap().fire());
        }
        writer.join().unwrap();
        own.join().unwrap();
    });
}

/// The thread watches, then has nothing to watch any more, and while it goes to sleep accordingly there is something again.
/// Two threads, so that loom looks for fences that are missing, too.
#[test]
fn a_descriptor_that_comes_when_the_last_one_has_gone_is_watched() {
    explore(|| {
        let the_loop = Loop::new(None);
        the_loop.state.with(|state| state.watches = true);
        let own = spawn(&the_loop, Loop::run);
        the_loop.push(Job::Leave(|state| state.watches = false));
        let watch = |state: &mut Inner| (state.watches, state.stops_when_read) = (true, true);
        let call = Outcome::new();
        let left = the_loop.drive(&call, |state| {
            watch(state);
            call.settle(|| ()).unwrap().fire();
        });
        if !left {
            the_loop.push(Job::Leave(watch));
        }
        the_loop.pipe.write();
        own.join().unwrap();
    });
}

/// Likewise, for who rings a thread that begins to watch.
#[test]
fn a_push_reaches_a_thread_that_begins_to_watch() {
    explore(|| {
        let the_loop = Loop::new(None);
        the_loop.state.with(|state| state.watches = true);
        let own = spawn(&the_loop, Loop::run);
        the_loop.push(Job::Stop);
        own.join().unwrap();
    });
}
