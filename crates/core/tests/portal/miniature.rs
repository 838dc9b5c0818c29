//! The extension in miniature: its portal, futures and event loop, made of the same parts in the same order, without
//! Python. The GIL is a mutex, and wherever the extension runs Python code, which may let other threads have a turn,
//! so does this ([`Python::run_code`]).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc; // loom's own cannot be dropped while a deadlock unwinds.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use asyncio_thread_loop_core::inbox::Inbox;
use asyncio_thread_loop_core::outcome::{Outcome, State, Wakes};
use asyncio_thread_loop_core::parking::{Parked, Parker, Unparker};
use asyncio_thread_loop_core::roster::{Roster, Slot};

use crate::explorer::{Condvar, Mutex, MutexGuard};

/// An interpreter, in one process.
pub struct Process {
    gil: Mutex<()>,
    pub epoch: u32,
}

/// The calling thread holds the GIL.
pub struct Python<'a> {
    process: &'a Process,
    held: RefCell<Option<MutexGuard<'a, ()>>>,
}

impl Process {
    pub fn new(epoch: u32) -> Self {
        let gil = Mutex::new(());
        Self { gil, epoch }
    }

    pub fn attach<R>(&self, work: impl FnOnce(&Python<'_>) -> R) -> R {
        let held = RefCell::new(Some(self.gil.lock().unwrap()));
        let process = self;
        work(&Python { process, held })
    }
}

impl Python<'_> {
    /// Does without the GIL meanwhile.
    pub fn detach<R>(&self, work: impl FnOnce() -> R) -> R {
        drop(self.held.take());
        let result = work();
        self.held.replace(Some(self.process.gil.lock().unwrap()));
        result
    }

    /// Python code runs: other threads may have a turn.
    pub fn run_code(&self) {
        self.detach(|| ());
    }

    pub fn epoch(&self) -> u32 {
        self.process.epoch
    }
}

/// A value that only the holder of the GIL may touch; panics should two threads do at once.
pub struct GilCell<T>(std::sync::Mutex<T>);

impl<T> GilCell<T> {
    pub fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub fn with<R>(&self, _: &Python<'_>, work: impl FnOnce(&mut T) -> R) -> R {
        work(&mut self.0.try_lock().expect("guarded by the GIL"))
    }
}

impl<T: Copy> GilCell<T> {
    pub fn get(&self, py: &Python<'_>) -> T {
        self.with(py, |value| *value)
    }

    pub fn set(&self, py: &Python<'_>, new: T) {
        self.with(py, |value| *value = new);
    }
}

/// What a coroutine does when it runs.
pub enum Body {
    Returns,
    /// Awaits something that never comes.
    Endless,
    /// Blocks the loop's thread, as synchronous code does.
    Blocks(Arc<Gate>),
}

/// Closed until somebody opens it, for ever.
pub struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            open: Mutex::new(false),
            opened: Condvar::new(),
        })
    }

    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
    }
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum End {
    Returned,
    /// `LoopClosedError`: nobody will do it any more.
    GivenUp,
}

/// What a future holds, as its state says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Content {
    Coroutine,
    Task,
    End(End),
}

/// A call: its future, its coroutine, and its task once it has one.
pub struct Call {
    body: Body,
    pub outcome: Outcome,
    content: GilCell<Option<Content>>,
    /// Somebody cancelled it while its task was being made.
    cancel_asked: GilCell<bool>,
    /// The task was asked to stop.
    task_cancelled: GilCell<bool>,
    slot: Slot,
    /// Its place in the list of [`Flaw::GivesUpAtOnce`].
    index: GilCell<Option<usize>>,
    // What the models look at when all is over. Kept out of the explorer's sight.
    pub accepted: AtomicUsize,
    pub ends: AtomicUsize,
    pub wakes: AtomicUsize,
    pub tasks: AtomicUsize,
    pub runs: AtomicUsize,
    pub closes: AtomicUsize,
    pub cancels_asked: AtomicUsize,
}

/// A mistake, for the models to find.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Looks whether calls are accepted, and puts the call on the roster later.
    AcceptsInTwoSteps,
    /// Does not note that a call was cancelled while its task was being made.
    LosesCancellation,
    /// Keeps a list of its own, and gives up on all calls in one go while each still remembers its place there. (This
    /// was in the extension once.)
    GivesUpAtOnce,
    /// Runs Python code under the lock of an outcome.
    RunsCodeUnderALock,
}

/// The way into one loop.
pub struct Portal {
    pub event_loop: EventLoop,
    pub roster: GilCell<Roster<Arc<Call>>>,
    epoch: u32,
    flaw: Option<Flaw>,
    /// The roster of [`Flaw::GivesUpAtOnce`].
    list: GilCell<Vec<Arc<Call>>>,
}

/// The portal refuses the call.
#[derive(Debug)]
pub struct Refused;

/// The future belongs to the process that forked this one.
#[derive(Debug, PartialEq, Eq)]
pub struct Forked;

impl Call {
    pub fn new(body: Body) -> Arc<Self> {
        Arc::new(Self {
            body,
            outcome: Outcome::new(),
            content: GilCell::new(Some(Content::Coroutine)),
            cancel_asked: GilCell::new(false),
            task_cancelled: GilCell::new(false),
            slot: Slot::new(),
            index: GilCell::new(None),
            accepted: AtomicUsize::new(0),
            ends: AtomicUsize::new(0),
            wakes: AtomicUsize::new(0),
            tasks: AtomicUsize::new(0),
            runs: AtomicUsize::new(0),
            closes: AtomicUsize::new(0),
            cancels_asked: AtomicUsize::new(0),
        })
    }

    fn close_coroutine(&self, py: &Python<'_>) {
        self.closes.fetch_add(1, Relaxed);
        py.run_code();
    }

    /// How it ended, unless cancelled or unfinished. With the GIL held, or when all is over.
    pub fn end(&self) -> Option<End> {
        match *self.content.0.try_lock().expect("guarded by the GIL") {
            Some(Content::End(end)) => Some(end),
            _ => None,
        }
    }

    /// `FutureCore::close_unstarted`
    fn close_unstarted(&self, py: &Python<'_>) {
        if self.outcome.state() == State::Pending
            && self.content.with(py, Option::take) == Some(Content::Coroutine)
        {
            self.close_coroutine(py);
        }
    }

    /// `FutureCore::finish`. None: cancelled.
    fn finish(&self, py: &Python<'_>, portal: &Portal, end: Option<End>, by_loop: bool) -> bool {
        let settled = match end {
            Some(end) => self.outcome.settle(|| {
                self.content
                    .with(py, |content| *content = Some(Content::End(end)));
                if portal.flaw == Some(Flaw::RunsCodeUnderALock) {
                    py.run_code();
                }
            }),
            None => self.outcome.settle_cancelled().inspect(|_| {
                self.content.with(py, Option::take);
            }),
        };
        let Ok(wakes) = settled else { return false };
        self.ended(py, portal, wakes, by_loop);
        true
    }

    /// `FutureCore::ended`: forget, wake, call back, let go of the work.
    fn ended(&self, py: &Python<'_>, portal: &Portal, wakes: Wakes, by_loop: bool) {
        self.ends.fetch_add(1, Relaxed);
        self.wakes
            .fetch_add(usize::from(!wakes.is_empty()), Relaxed);
        portal.forget(py, self);
        match by_loop {
            true => portal
                .event_loop
                .wakes
                .with(py, |waiting| waiting.append(wakes)),
            false => wakes.fire(),
        }
        py.run_code(); // The callbacks, and letting go of the work.
    }

    /// `FutureCore::cancel`, on any thread but the loop's.
    pub fn cancel(self: &Arc<Self>, py: &Python<'_>, portal: &Portal) -> bool {
        py.run_code(); // Acquiring the condition.
        let Ok(wakes) = self.outcome.cancel() else {
            py.run_code(); // Releasing it.
            return match (self.outcome.state(), self.content.get(py)) {
                (State::Cancelled | State::CancelledAndNotified, _) => true,
                (State::Running, Some(Content::Task)) => portal.cancel_task(py, self),
                (State::Running, _) => {
                    let noted = portal.flaw != Some(Flaw::LosesCancellation);
                    self.cancel_asked.set(py, noted);
                    true
                }
                _ => false,
            };
        };
        let work = self.content.with(py, Option::take);
        self.outcome.notify_cancelled();
        py.run_code(); // Notifying and releasing it.
        if work == Some(Content::Coroutine) {
            self.close_coroutine(py);
        }
        self.ended(py, portal, wakes, false);
        true
    }

    /// `FutureCore::wait`: true once it is done, false at the deadline.
    pub fn wait(
        &self,
        py: &Python<'_>,
        portal: &Portal,
        deadline: Option<Instant>,
        detached: impl FnOnce(),
    ) -> Result<bool, Forked> {
        let parker = Parker::new();
        let mut detached = Some(detached);
        let Some(ticket) = self.outcome.subscribe(parker.unparker()) else {
            py.detach(|| detached.take().map(|detached| detached()));
            return Ok(true);
        };
        let waited = loop {
            let parked = py.detach(|| {
                if let Some(detached) = detached.take() {
                    detached();
                }
                parker.park(deadline)
            });
            if self.outcome.is_done() {
                return Ok(true);
            }
            if portal.is_stale(py) {
                break Err(Forked);
            }
            if parked == Parked::TimedOut {
                break Ok(false);
            }
        };
        self.outcome.unsubscribe(ticket);
        waited
    }

    /// `Future.result`
    pub fn result(&self, py: &Python<'_>, portal: &Portal) -> Result<State, Forked> {
        if !self.outcome.is_done() {
            if portal.is_stale(py) {
                return Err(Forked);
            }
            self.wait(py, portal, None, || ())?;
        }
        Ok(self.outcome.state())
    }
}

impl Portal {
    pub fn new(py: &Python<'_>, flaw: Option<Flaw>) -> Arc<Self> {
        Arc::new(Self {
            event_loop: EventLoop::default(),
            roster: GilCell::new(Roster::new(|call: &Arc<Call>| &call.slot)),
            epoch: py.epoch(),
            flaw,
            list: GilCell::new(Vec::new()),
        })
    }

    pub fn is_stale(&self, py: &Python<'_>) -> bool {
        self.epoch != py.epoch()
    }

    /// `BridgeCore::submit`. The bell is to be rung by the caller.
    pub fn submit(&self, py: &Python<'_>, call: &Arc<Call>) -> Result<Option<Unparker>, Refused> {
        let sent = self.send(py, call);
        match sent {
            Ok(_) => drop(call.accepted.fetch_add(1, Relaxed)),
            Err(Refused) => call.close_coroutine(py),
        }
        sent
    }

    /// `Portal::send`
    fn send(&self, py: &Python<'_>, call: &Arc<Call>) -> Result<Option<Unparker>, Refused> {
        if self.is_stale(py) {
            return Err(Refused);
        }
        if self.flaw == Some(Flaw::AcceptsInTwoSteps) {
            if !self.roster.with(py, |roster| roster.is_open()) {
                return Err(Refused);
            }
            py.run_code();
            // Later: there is nobody left to end it.
            let _ = self.roster.with(py, |roster| roster.accept(call.clone()));
        } else if self.flaw == Some(Flaw::GivesUpAtOnce) {
            self.list.with(py, |list| {
                call.index.set(py, Some(list.len()));
                list.push(call.clone());
            });
        } else {
            self.roster
                .with(py, |roster| roster.accept(call.clone()))
                .map_err(|_| Refused)?;
        }
        let pushed = self.event_loop.inbox.push(Job::Start(call.clone()));
        pushed.map_err(|_| {
            self.forget(py, call);
            Refused
        })
    }

    fn forget(&self, py: &Python<'_>, call: &Call) {
        let forgotten = self.roster.with(py, |roster| roster.forget(&call.slot));
        drop(forgotten);
        if let Some(index) = call.index.with(py, Option::take) {
            self.list.with(py, |list| {
                list.swap_remove(index);
                if let Some(moved) = list.get(index) {
                    moved.index.set(py, Some(index));
                }
            });
        }
    }

    /// `BridgeCore::evaluate`, whose grace for the cleanup has no end here.
    pub fn evaluate(
        &self,
        py: &Python<'_>,
        call: &Arc<Call>,
        deadline: Option<Instant>,
    ) -> Result<State, Refused> {
        let bell = self.submit(py, call)?;
        let ring = || bell.iter().for_each(Unparker::unpark);
        if call.wait(py, self, deadline, ring) == Ok(false) {
            call.cancel(py, self);
            assert_eq!(call.wait(py, self, None, || ()), Ok(true));
        }
        Ok(call.outcome.state())
    }

    /// `Portal::start`, on the loop's thread.
    fn start(&self, py: &Python<'_>, call: Arc<Call>) {
        if call.outcome.start().is_err() || call.content.with(py, Option::take).is_none() {
            return;
        }
        call.tasks.fetch_add(1, Relaxed);
        py.run_code(); // Makes the task.
        self.event_loop
            .tasks
            .with(py, |tasks| tasks.push(call.clone()));
        if !call.outcome.is_done() {
            call.content
                .with(py, |content| *content = Some(Content::Task));
            if call.cancel_asked.get(py) {
                self.event_loop.cancel(py, &call);
            }
        }
        self.event_loop
            .ready
            .with(py, |ready| ready.push_back(call));
    }

    /// `Portal::cancel_task`, on any thread but the loop's.
    fn cancel_task(&self, py: &Python<'_>, call: &Arc<Call>) -> bool {
        !self.is_stale(py) && self.event_loop.leave(py, Job::Cancel(call.clone())).is_ok()
    }

    /// `Session.ask_to_leave`
    pub fn ask_to_leave(&self, py: &Python<'_>, cancel: bool) {
        self.roster.with(py, Roster::close);
        let _ = self.event_loop.leave(py, Job::Leave { cancel });
    }

    /// `Portal.give_up`
    pub fn give_up(&self, py: &Python<'_>) {
        while let Some(call) = self.roster.with(py, Roster::give_up) {
            self.give_up_on(py, &call);
        }
        for call in self.list.with(py, mem::take) {
            call.index.set(py, None);
            self.give_up_on(py, &call);
        }
    }

    fn give_up_on(&self, py: &Python<'_>, call: &Call) {
        call.close_unstarted(py);
        call.finish(py, self, Some(End::GivenUp), false);
    }

    /// `Session._run`, on the loop's thread.
    pub fn run(&self, py: &Python<'_>) {
        let parker = Parker::new();
        while !self.event_loop.has_wound_down(py, self) {
            self.event_loop.turn(py, self, &parker);
        }
        self.event_loop.fire(py);
        self.roster.with(py, Roster::close);
        self.event_loop.close(py);
        self.give_up(py);
    }
}

pub enum Job {
    Start(Arc<Call>),
    /// `call_soon_threadsafe(task.cancel)`
    Cancel(Arc<Call>),
    /// `call_soon_threadsafe(session._begin_to_leave, cancel)`
    Leave {
        cancel: bool,
    },
}

pub struct EventLoop {
    pub inbox: Inbox<Job, Unparker>,
    /// Tasks with a step to run.
    ready: GilCell<VecDeque<Arc<Call>>>,
    /// Unfinished ones.
    tasks: GilCell<Vec<Arc<Call>>>,
    wakes: GilCell<Wakes>,
    leaving: GilCell<Leaving>,
    closed: GilCell<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// What was submitted may end by itself.
    Gently,
    Cancelling,
}

impl Default for EventLoop {
    fn default() -> Self {
        Self {
            inbox: Inbox::new(),
            ready: GilCell::new(VecDeque::new()),
            tasks: GilCell::new(Vec::new()),
            wakes: GilCell::new(Wakes::none()),
            leaving: GilCell::new(Leaving::No),
            closed: GilCell::new(false),
        }
    }
}

impl EventLoop {
    /// `call_soon_threadsafe`
    fn leave(&self, py: &Python<'_>, job: Job) -> Result<(), Refused> {
        if self.closed.get(py) {
            return Err(Refused);
        }
        let bell = self.inbox.push(job).map_err(|_| Refused)?;
        bell.iter().for_each(Unparker::unpark);
        Ok(())
    }

    fn turn(&self, py: &Python<'_>, portal: &Portal, parker: &Parker) {
        self.sleep(py, parker);
        let mut jobs = Vec::new();
        self.inbox.drain(&mut jobs);
        for job in jobs {
            match job {
                Job::Start(call) => portal.start(py, call),
                Job::Cancel(call) => self.cancel(py, &call),
                Job::Leave { cancel: true } => self.leaving.set(py, Leaving::Cancelling),
                Job::Leave { cancel: false } => self.leaving.with(py, |leaving| {
                    if *leaving == Leaving::No {
                        *leaving = Leaving::Gently;
                    }
                }),
            }
        }
        let due = self.ready.with(py, |ready| ready.len());
        for _ in 0..due {
            let Some(call) = self.ready.with(py, VecDeque::pop_front) else {
                break;
            };
            self.fire(py);
            self.step(py, portal, &call);
        }
    }

    fn sleep(&self, py: &Python<'_>, parker: &Parker) {
        let may_block = self.ready.with(py, |ready| ready.is_empty())
            && self.leaving.get(py) != Leaving::Cancelling;
        let wakes = self.take_wakes(py);
        if may_block {
            let asleep = self.inbox.announce_sleep(parker.unparker());
            py.detach(|| {
                wakes.fire();
                if asleep {
                    parker.park(None);
                }
            });
            self.inbox.awake();
        } else if !wakes.is_empty() {
            py.detach(|| wakes.fire());
        }
    }

    fn take_wakes(&self, py: &Python<'_>) -> Wakes {
        self.wakes.with(py, mem::take)
    }

    fn fire(&self, py: &Python<'_>) {
        self.take_wakes(py).fire();
    }

    /// One step of a task.
    fn step(&self, py: &Python<'_>, portal: &Portal, call: &Arc<Call>) {
        if call.task_cancelled.get(py) {
            return self.task_ends(py, portal, call, None);
        }
        call.runs.fetch_add(1, Relaxed);
        match &call.body {
            Body::Returns => {}
            Body::Endless => return py.run_code(),
            Body::Blocks(gate) => py.detach(|| gate.pass()),
        }
        self.task_ends(py, portal, call, Some(End::Returned));
    }

    fn task_ends(&self, py: &Python<'_>, portal: &Portal, call: &Arc<Call>, end: Option<End>) {
        self.tasks
            .with(py, |tasks| tasks.retain(|task| !Arc::ptr_eq(task, call)));
        call.finish(py, portal, end, true);
    }

    fn is_unfinished(&self, py: &Python<'_>, call: &Arc<Call>) -> bool {
        self.tasks
            .with(py, |tasks| tasks.iter().any(|task| Arc::ptr_eq(task, call)))
    }

    /// `Task.cancel`, on the loop's thread.
    fn cancel(&self, py: &Python<'_>, call: &Arc<Call>) {
        call.cancels_asked.fetch_add(1, Relaxed);
        if self.is_unfinished(py, call) && !call.task_cancelled.get(py) {
            call.task_cancelled.set(py, true);
            // A task that is about to run finds out by itself.
            self.ready.with(py, |ready| {
                if !ready.iter().any(|task| Arc::ptr_eq(task, call)) {
                    ready.push_back(call.clone());
                }
            });
        }
    }

    /// `Session._wind_down`, as far as it gets in this turn.
    fn has_wound_down(&self, py: &Python<'_>, portal: &Portal) -> bool {
        match self.leaving.get(py) {
            Leaving::No => false,
            Leaving::Gently => {
                let nothing_runs = portal.roster.with(py, |roster| {
                    roster
                        .iter()
                        .all(|call| call.content.get(py) != Some(Content::Task))
                });
                if nothing_runs {
                    self.leaving.set(py, Leaving::Cancelling);
                }
                false
            }
            Leaving::Cancelling => {
                // What is due runs once more, and then is cancelled.
                let tasks = self.tasks.with(py, |tasks| tasks.clone());
                for task in &tasks {
                    let is_due = self
                        .ready
                        .with(py, |ready| ready.iter().any(|due| Arc::ptr_eq(due, task)));
                    if !is_due {
                        self.cancel(py, task);
                    }
                }
                tasks.is_empty()
            }
        }
    }

    /// `LoopCore._release`
    fn close(&self, py: &Python<'_>) {
        self.closed.set(py, true);
        let ready = self.ready.with(py, mem::take);
        drop(ready);
        for job in self.inbox.close() {
            if let Job::Start(call) = job {
                call.close_unstarted(py);
            }
        }
    }
}
