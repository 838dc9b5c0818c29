//! What the poller promises. Runs against either: with `--features portable-poller`, the one for
//! other Unix systems.

#![cfg(not(atl_loom))]

use asyncio_thread_loop_core::ownership::Watch;
use asyncio_thread_loop_core::poller::{Event, Events, Interest, Poller};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const READ: Interest = Interest {
    readable: true,
    writable: false,
    edges: false,
};
const WRITE: Interest = Interest {
    readable: false,
    writable: true,
    edges: false,
};
const BOTH: Interest = Interest {
    readable: true,
    writable: true,
    edges: false,
};

/// Waits until the system is done with it, signals and slices aside.
fn wait(poller: &Poller, timeout: Option<Duration>) -> Vec<Event> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut events = Events::new();
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        match poller.wait(&mut events, left) {
            Ok(()) => return events.iter().collect(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}"),
        }
    }
}

fn ready(poller: &Poller) -> Vec<Event> {
    wait(poller, Some(Duration::ZERO))
}

fn readable(key: u64) -> Event {
    Event {
        key,
        readable: true,
        writable: false,
    }
}

fn writable(key: u64) -> Event {
    Event {
        key,
        readable: false,
        writable: true,
    }
}

#[test]
fn a_descriptor_is_told_of_until_it_is_no_longer_ready() {
    let poller = Poller::new().unwrap();
    let (mut here, mut there) = UnixStream::pair().unwrap();
    poller.add(here.as_raw_fd(), 7, READ).unwrap();
    assert_eq!(ready(&poller), []);
    there.write_all(b"x").unwrap();
    assert_eq!(wait(&poller, None), [readable(7)]);
    assert_eq!(wait(&poller, None), [readable(7)]);
    here.read_exact(&mut [0]).unwrap();
    assert_eq!(ready(&poller), []);
}

#[test]
fn only_what_was_asked_for_is_told() {
    let poller = Poller::new().unwrap();
    let (here, mut there) = UnixStream::pair().unwrap();
    there.write_all(b"x").unwrap();
    let fd = here.as_raw_fd();
    poller.add(fd, 1, WRITE).unwrap();
    assert_eq!(ready(&poller), [writable(1)]);
    poller.modify(fd, 2, READ).unwrap();
    assert_eq!(ready(&poller), [readable(2)]);
    poller.modify(fd, 3, BOTH).unwrap();
    assert_eq!(
        ready(&poller),
        [Event {
            key: 3,
            readable: true,
            writable: true
        }]
    );
    poller.delete(fd).unwrap();
    assert_eq!(ready(&poller), []);
}

#[test]
fn an_edge_is_told_once_and_again_when_it_is_asked_for_again() {
    let poller = Poller::new().unwrap();
    let (mut here, mut there) = UnixStream::pair().unwrap();
    let edges = Interest {
        edges: true,
        ..READ
    };
    poller.add(here.as_raw_fd(), 7, edges).unwrap();
    there.write_all(b"x").unwrap();
    assert_eq!(wait(&poller, None), [readable(7)]);
    assert_eq!(ready(&poller), []);
    there.write_all(b"y").unwrap();
    assert_eq!(wait(&poller, None), [readable(7)]);
    poller.modify(here.as_raw_fd(), 7, edges).unwrap();
    assert_eq!(wait(&poller, None), [readable(7)]);
    assert_eq!(ready(&poller), []);
    here.read_exact(&mut [0, 0]).unwrap();
    poller.modify(here.as_raw_fd(), 7, READ).unwrap();
    there.write_all(b"z").unwrap();
    assert_eq!(wait(&poller, None), [readable(7)]);
    assert_eq!(wait(&poller, None), [readable(7)]);
}

#[test]
fn a_hang_up_is_told_to_readers_and_writers() {
    for interest in [READ, WRITE] {
        let poller = Poller::new().unwrap();
        let (here, there) = UnixStream::pair().unwrap();
        poller.add(here.as_raw_fd(), 1, interest).unwrap();
        drop(there);
        assert_eq!(
            wait(&poller, None),
            [Event {
                key: 1,
                readable: true,
                writable: true
            }]
        );
    }
}

#[test]
fn a_wake_up_before_the_wait_ends_it_once_and_is_not_among_the_events() {
    let poller = Poller::new().unwrap();
    for _ in 0..3 {
        poller.wake();
        poller.wake();
        assert_eq!(wait(&poller, None), []);
        let (start, timeout) = (Instant::now(), Duration::from_millis(1));
        assert_eq!(wait(&poller, Some(timeout)), []);
        assert!(
            start.elapsed() >= timeout,
            "the same wake-up ended two waits"
        );
    }
}

#[test]
fn a_wake_up_from_another_thread_ends_every_wait() {
    const ROUNDS: usize = 200;
    let poller = Arc::new(Poller::new().unwrap());
    let (asleep, told) = std::sync::mpsc::channel();
    let waker = thread::spawn({
        let poller = poller.clone();
        move || told.iter().map(|()| poller.wake()).count()
    });
    for _ in 0..ROUNDS {
        asleep.send(()).unwrap();
        assert_eq!(wait(&poller, None), []);
    }
    drop(asleep);
    assert_eq!(waker.join().unwrap(), ROUNDS);
}

#[test]
fn a_wake_up_does_not_hide_events() {
    let poller = Poller::new().unwrap();
    let (here, mut there) = UnixStream::pair().unwrap();
    poller.add(here.as_raw_fd(), 1, READ).unwrap();
    there.write_all(b"x").unwrap();
    poller.wake();
    assert_eq!(wait(&poller, None), [readable(1)]);
}

#[test]
fn a_timeout_is_never_cut_short() {
    let poller = Poller::new().unwrap();
    for micros in [1, 300, 1500, 70_000] {
        let timeout = Duration::from_micros(micros);
        let start = Instant::now();
        assert_eq!(wait(&poller, Some(timeout)), []);
        assert!(start.elapsed() >= timeout, "{micros} µs");
    }
}

#[test]
fn the_longest_timeout_waits_like_none() {
    let poller = Poller::new().unwrap();
    poller.wake();
    poller
        .wait(&mut Events::new(), Some(Duration::MAX))
        .unwrap();
}

#[test]
fn a_signal_ends_the_wait() {
    extern "C" fn handler(_: libc::c_int) {}
    // SAFETY: the handler does nothing; all bits zero is a valid sigaction, without SA_RESTART
    // among its flags.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
        assert_eq!(
            libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()),
            0
        );
    }
    let over = Arc::new(AtomicBool::new(false));
    let waiting = thread::spawn({
        let over = over.clone();
        move || {
            let result = Poller::new().unwrap().wait(&mut Events::new(), None);
            over.store(true, SeqCst);
            // Stay, so that there is a thread to signal until the other one stops.
            while over.load(SeqCst) {
                thread::yield_now();
            }
            result.map_err(|error| error.kind())
        }
    });
    // When it really sleeps can't be known, so it is signalled until it has noticed.
    while !over.load(SeqCst) {
        // SAFETY: the thread has not been joined.
        unsafe { libc::pthread_kill(waiting.as_pthread_t(), libc::SIGUSR2) };
        thread::yield_now();
    }
    over.store(false, SeqCst);
    assert_eq!(waiting.join().unwrap(), Err(ErrorKind::Interrupted));
}

#[test]
fn adding_twice_changes_and_changing_the_unknown_adds() {
    let poller = Poller::new().unwrap();
    let (here, _there) = UnixStream::pair().unwrap();
    let fd = here.as_raw_fd();
    poller.modify(fd, 1, WRITE).unwrap();
    assert_eq!(ready(&poller), [writable(1)]);
    poller.add(fd, 2, READ).unwrap();
    assert_eq!(ready(&poller), []);
    poller.add(fd, 3, WRITE).unwrap();
    assert_eq!(ready(&poller), [writable(3)]);
}

#[test]
fn a_number_closed_behind_the_pollers_back_can_be_used_again() {
    let poller = Poller::new().unwrap();
    let fd = private_number();
    for key in 1..3 {
        // Replaces, and so closes, what the number stood for.
        let (here, _there) = UnixStream::pair().unwrap();
        // SAFETY: nobody else uses this number.
        let result = unsafe { libc::dup2(here.as_raw_fd(), fd.as_raw_fd()) };
        assert_eq!(result, fd.as_raw_fd());
        drop(here);
        poller.modify(fd.as_raw_fd(), key, WRITE).unwrap();
        assert!(ready(&poller).contains(&writable(key)));
    }
}

#[test]
fn bad_registrations_are_refused() {
    let poller = Poller::new().unwrap();
    let (here, _there) = UnixStream::pair().unwrap();
    let nothing = Interest {
        readable: false,
        writable: false,
        edges: false,
    };
    let code = |result: io::Result<()>| result.unwrap_err().raw_os_error();
    for register in [Poller::add, Poller::modify] {
        assert_eq!(
            code(register(&poller, here.as_raw_fd(), u64::MAX, READ)),
            Some(libc::EINVAL)
        );
        assert_eq!(
            code(register(&poller, here.as_raw_fd(), 1, nothing)),
            Some(libc::EINVAL)
        );
        assert_eq!(code(register(&poller, -1, 1, READ)), Some(libc::EBADF));
        assert_eq!(
            code(register(&poller, RawFd::MAX, 1, READ)),
            Some(libc::EBADF)
        );
    }
    assert_eq!(code(poller.delete(-1)), Some(libc::EBADF));
    assert!(poller.delete(here.as_raw_fd()).is_err());
    poller.add(here.as_raw_fd(), u64::MAX - 1, WRITE).unwrap();
    assert_eq!(ready(&poller), [writable(u64::MAX - 1)]);
}

#[test]
fn events_can_be_forgotten() {
    let poller = Poller::new().unwrap();
    let (here, _there) = UnixStream::pair().unwrap();
    poller.add(here.as_raw_fd(), 1, WRITE).unwrap();
    let mut events = Events::default();
    poller.wait(&mut events, None).unwrap();
    assert_eq!(format!("{events:?}").matches("key: 1").count(), 1);
    events.clear();
    assert_eq!(events.iter().count(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn no_descriptor_is_left_to_a_program_this_one_starts() {
    let before: Vec<_> = open_numbers();
    let _poller = Poller::new().unwrap();
    for fd in open_numbers().into_iter().filter(|fd| !before.contains(fd)) {
        // SAFETY: asking for flags has no effect, whoever owns the number.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        assert!(
            flags == -1 || flags & libc::FD_CLOEXEC != 0,
            "descriptor {fd}"
        );
    }
}

#[cfg(target_os = "linux")]
fn open_numbers() -> Vec<RawFd> {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// An open descriptor whose number no other test touches.
fn private_number() -> OwnedFd {
    let (here, _there) = UnixStream::pair().unwrap();
    // SAFETY: the duplicate just made is nobody else's.
    unsafe { OwnedFd::from_raw_fd(libc::dup(here.as_raw_fd())) }
}

#[test]
fn who_only_watches_takes_nothing() {
    let poller = Poller::new().unwrap();
    let (mut near, far) = UnixStream::pair().unwrap();
    poller.add(far.as_raw_fd(), 7, READ).unwrap();
    assert!(!poller.wait_until_ready(Some(Duration::ZERO)));
    near.write_all(b"x").unwrap();
    for _ in 0..2 {
        assert!(poller.wait_until_ready(None));
    }
    assert_eq!(ready(&poller), [readable(7)]);
    assert!(poller.wait_until_ready(Some(Duration::ZERO)), "unread");
}

#[test]
fn who_only_watches_is_woken_until_somebody_takes_the_wake_up() {
    let poller = Poller::new().unwrap();
    poller.wake();
    assert!(poller.wait_until_ready(None));
    assert_eq!(ready(&poller), []);
    assert!(!poller.wait_until_ready(Some(Duration::from_micros(1))));
}

#[test]
fn a_wake_up_ends_the_watching_under_way() {
    let poller = Arc::new(Poller::new().unwrap());
    let watching = {
        let poller = poller.clone();
        thread::spawn(move || poller.wait_until_ready(None))
    };
    poller.wake();
    assert!(watching.join().unwrap());
}

#[test]
fn watching_ends_not_before_its_time() {
    let poller = Poller::new().unwrap();
    for micros in [0, 1, 999, 1001] {
        let timeout = Duration::from_micros(micros);
        let start = Instant::now();
        assert!(!poller.wait_until_ready(Some(timeout)));
        assert!(start.elapsed() >= timeout, "{micros} µs");
    }
}
