//! What parking promises: tokens are kept, deadlines hold, signals are told.

#![cfg(not(atl_loom))]

use asyncio_thread_loop_core::parking::{Parked, Parker, with_current};
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_token_left_before_is_taken_at_once_and_only_once() {
    let parker = Parker::new();
    parker.unparker().unpark();
    parker.unparker().unpark();
    assert_eq!(parker.park(None), Parked::Notified);
    assert_eq!(parker.park(Some(Instant::now())), Parked::TimedOut);
}

#[test]
fn a_token_is_taken_even_if_the_deadline_has_passed() {
    let parker = Parker::new();
    parker.unparker().unpark();
    assert_eq!(parker.park(Some(Instant::now())), Parked::Notified);
}

#[test]
fn two_threads_can_play_ping_pong() {
    let (ping, pong) = (Parker::new(), Parker::new());
    let (to_ping, to_pong) = (ping.unparker(), pong.unparker());
    let turns = Arc::new(AtomicUsize::new(0));
    let other = thread::spawn({
        let turns = turns.clone();
        move || {
            for turn in (0..1000).step_by(2) {
                while turns.load(SeqCst) == turn {
                    pong.park(None);
                }
                turns.fetch_add(1, SeqCst);
                to_ping.unpark();
            }
        }
    });
    for turn in (1..=1000).step_by(2) {
        turns.fetch_add(1, SeqCst);
        to_pong.unpark();
        while turns.load(SeqCst) == turn {
            ping.park(None);
        }
    }
    other.join().unwrap();
    assert_eq!(turns.load(SeqCst), 1000);
}

#[test]
fn a_deadline_is_not_reported_before_it_passes() {
    let parker = Parker::new();
    let deadline = Instant::now() + Duration::from_millis(20);
    while parker.park(Some(deadline)) != Parked::TimedOut {}
    assert!(Instant::now() >= deadline);
}

#[test]
fn a_deadline_in_the_distant_future_does_not_end_the_park() {
    let parker = Parker::new();
    let unparker = parker.unparker();
    let other = thread::spawn(move || unparker.unpark());
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    assert_eq!(
        parker.park(Some(Instant::now() + century)),
        Parked::Notified
    );
    other.join().unwrap();
}

#[test]
fn a_nap_ends_by_itself_and_at_once_with_a_token() {
    let parker = Parker::new();
    let began = Instant::now();
    while parker.nap(Duration::from_millis(30)) != Parked::TimedOut {}
    assert!(began.elapsed() >= Duration::from_millis(10)); // a coarse clock is some milliseconds behind
    parker.unparker().unpark();
    assert_eq!(parker.nap(Duration::from_secs(3600)), Parked::Notified);
}

#[test]
fn a_signal_ends_the_park() {
    static HANDLED: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn handler(_: libc::c_int) {
        HANDLED.fetch_add(1, SeqCst);
    }
    // SAFETY: the handler only touches an atomic; all bits zero is a valid sigaction, without
    // SA_RESTART among its flags.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
        assert_eq!(
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()),
            0
        );
    }
    let over = Arc::new(AtomicBool::new(false));
    let parked = thread::spawn({
        let over = over.clone();
        move || {
            let parked = Parker::new().park(None);
            over.store(true, SeqCst);
            // Stay, so that there is a thread to signal until the other one stops.
            while over.load(SeqCst) {
                thread::yield_now();
            }
            parked
        }
    });
    // When it really sleeps can't be known, so it is signalled until it has noticed.
    while !over.load(SeqCst) {
        // SAFETY: the thread has not been joined.
        unsafe { libc::pthread_kill(parked.as_pthread_t(), libc::SIGUSR1) };
        thread::yield_now();
    }
    over.store(false, SeqCst);
    assert_eq!(parked.join().unwrap(), Parked::Interrupted);
    assert!(HANDLED.load(SeqCst) > 0);
}

#[test]
fn unparking_a_thread_that_ended_is_harmless() {
    let unparker = thread::spawn(|| with_current(Parker::unparker))
        .join()
        .unwrap();
    unparker.unpark();
    unparker.clone().unpark();
}

#[test]
fn a_thread_has_one_current_parker_also_when_nested() {
    with_current(|outer| {
        with_current(|inner| inner.unparker().unpark());
        assert_eq!(outer.park(Some(Instant::now())), Parked::Notified);
    });
    with_current(|mine| {
        let other = with_current(Parker::unparker);
        thread::spawn(move || {
            with_current(|theirs| theirs.unparker().unpark());
            drop(other);
        })
        .join()
        .unwrap();
        assert_eq!(mine.park(Some(Instant::now())), Parked::TimedOut);
    });
}

#[test]
fn a_thread_that_is_ending_can_still_park() {
    struct AtExit(std::sync::mpsc::Sender<Parked>);
    impl Drop for AtExit {
        fn drop(&mut self) {
            let parked = with_current(|parker| parker.park(Some(Instant::now())));
            self.0.send(parked).unwrap();
        }
    }
    thread_local!(static AT_EXIT: std::cell::RefCell<Option<AtExit>> = const { std::cell::RefCell::new(None) });
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        // The last one made is the first one destroyed: the parker goes before AT_EXIT does.
        AT_EXIT.with(|at_exit| *at_exit.borrow_mut() = Some(AtExit(sender)));
        with_current(|_| ());
    })
    .join()
    .unwrap();
    assert_eq!(receiver.recv().unwrap(), Parked::TimedOut);
}
