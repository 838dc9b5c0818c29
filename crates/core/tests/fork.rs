//! What the fork counter promises, with real forks.

#![cfg(not(any(atl_loom, atl_shuttle)))]

use asyncio_thread_loop_core::fork::{epoch, watch};
use asyncio_thread_loop_core::inbox::Inbox;
use asyncio_thread_loop_core::outcome::{Outcome, State, Wakes};
use asyncio_thread_loop_core::parking::{Parked, Parker, Unparker, with_current};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

/// Runs `child` in a forked child and returns its exit code.
fn in_child(child: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child may allocate and start threads: the C library sees to its own locks. It takes no other lock
    // that might have been held, and exits without running destructors.
    unsafe {
        match libc::fork() {
            0 => libc::_exit(child()),
            pid => {
                assert!(pid > 0, "fork failed");
                let mut status = 0;
                assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
                assert!(libc::WIFEXITED(status), "the child was killed: {status}");
                libc::WEXITSTATUS(status)
            }
        }
    }
}

#[test]
fn the_epoch_counts_the_forks_between_and_the_parent_never_notices() {
    watch();
    watch();
    let before = epoch();
    let generations = in_child(|| {
        let child = epoch() - before;
        let grandchild = in_child(|| (epoch() - before) as i32);
        child as i32 * 10 + grandchild
    });
    assert_eq!(generations, 12, "child 1, grandchild 2");
    assert_eq!(epoch(), before);
}

/// The locks in here are only taken by a thread that holds one lock around all of them (the extension: the GIL), and a
/// fork happens while the forking thread holds it. So the child finds them free.
#[test]
fn a_child_can_use_what_it_inherited_and_start_anew_whichever_moment_it_was_forked_in() {
    watch();
    let outer = Arc::new(Mutex::new(()));
    let inbox = Arc::new(Inbox::<u32, Unparker>::new());
    let outcomes: Arc<Vec<Outcome>> = Arc::new((0..64).map(|_| Outcome::new()).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let busy: Vec<_> = (0..3)
        .map(|number| {
            let (outer, inbox, stop) = (outer.clone(), inbox.clone(), stop.clone());
            let outcomes = outcomes.clone();
            thread::spawn(move || {
                let mut jobs = Vec::new();
                while !stop.load(Relaxed) {
                    let mut wakes = Wakes::none();
                    {
                        let _held = outer.lock().unwrap();
                        let _ = inbox.push(number).unwrap();
                        inbox.drain(&mut jobs);
                        for outcome in &*outcomes {
                            with_current(|parker| {
                                let ticket = outcome.subscribe(parker.unparker());
                                ticket.into_iter().for_each(|it| outcome.unsubscribe(it));
                            });
                        }
                        wakes.append(Outcome::new().settle(|| ()).unwrap());
                    }
                    jobs.clear();
                    wakes.fire();
                }
            })
        })
        .collect();
    for _ in 0..50 {
        let held = outer.lock().unwrap();
        let code = in_child(|| {
            // SAFETY: a child that hangs is killed, and the test sees it.
            unsafe { libc::alarm(20) };
            let left = inbox.close().len();
            let settled = outcomes
                .iter()
                .filter(|outcome| outcome.settle(|| ()).is_ok());
            i32::from(left > 1 || settled.count() != 64 || !starts_anew())
        });
        drop(held);
        assert_eq!(code, 0);
    }
    stop.store(true, Relaxed);
    for thread in busy {
        thread.join().unwrap();
    }
}

/// A call to a loop of the child's own.
fn starts_anew() -> bool {
    let inbox = Arc::new(Inbox::<Arc<Outcome>, Unparker>::new());
    let outcome = Arc::new(Outcome::new());
    let the_loop = {
        let inbox = inbox.clone();
        thread::spawn(move || {
            let parker = Parker::new();
            let mut jobs = Vec::new();
            while jobs.is_empty() {
                if inbox.announce_sleep(parker.unparker()) {
                    parker.park(None);
                    inbox.awake();
                }
                inbox.drain(&mut jobs);
            }
            jobs.iter()
                .for_each(|job| job.settle(|| ()).unwrap().fire());
        })
    };
    let bell = inbox.push(outcome.clone()).unwrap();
    bell.iter().for_each(Unparker::unpark);
    let waited = with_current(|parker| outcome.wait(parker, None));
    the_loop.join().is_ok() && waited == Parked::Notified && outcome.state() == State::Finished
}
