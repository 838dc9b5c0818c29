//! What an inbox promises: order, one wake-up per sleep, and that no job is lost.

#![cfg(not(atl_loom))]

use asyncio_thread_loop_core::inbox::{Closed, Inbox};
use std::sync::{Arc, Barrier};
use std::thread;

fn drained<T, B>(inbox: &Inbox<T, B>) -> Vec<T> {
    let mut jobs = Vec::new();
    inbox.drain(&mut jobs);
    jobs
}

#[test]
fn jobs_come_out_in_the_order_they_were_pushed() {
    let inbox = Inbox::<_, &str>::new();
    for job in 0..5 {
        assert_eq!(inbox.push(job).unwrap(), None);
    }
    assert!(!inbox.is_empty());
    assert_eq!(drained(&inbox), [0, 1, 2, 3, 4]);
    assert!(inbox.is_empty());
}

#[test]
fn draining_appends_to_what_is_there() {
    let inbox = Inbox::<_, &str>::new();
    let mut jobs = vec![1];
    let _ = inbox.push(2).unwrap();
    inbox.drain(&mut jobs);
    inbox.drain(&mut jobs);
    assert_eq!(jobs, [1, 2]);
}

#[test]
fn only_the_first_push_after_an_announced_sleep_wakes() {
    let inbox = Inbox::<_, &str>::new();
    assert!(inbox.announce_sleep("bell"));
    assert_eq!(inbox.push(1).unwrap(), Some("bell"));
    assert_eq!(inbox.push(2).unwrap(), None);
    assert_eq!(drained(&inbox), [1, 2]);
    assert!(inbox.announce_sleep("bell"));
    assert_eq!(inbox.push(3).unwrap(), Some("bell"));
}

#[test]
fn a_sleep_is_not_announced_while_something_waits() {
    let inbox = Inbox::<_, &str>::new();
    let _ = inbox.push(1).unwrap();
    assert!(!inbox.announce_sleep("bell"));
    assert_eq!(inbox.push(2).unwrap(), None);
}

#[test]
fn a_loop_woken_by_something_else_needs_no_wake_up() {
    let inbox = Inbox::<_, &str>::new();
    assert!(inbox.announce_sleep("bell"));
    inbox.awake();
    assert_eq!(inbox.push(1).unwrap(), None);
}

#[test]
fn a_sleeping_loop_can_be_woken_without_a_job_and_only_once() {
    let inbox = Inbox::<u32, &str>::new();
    assert_eq!(inbox.take_bell(), None);
    assert!(inbox.announce_sleep("bell"));
    assert_eq!(inbox.take_bell(), Some("bell"));
    assert_eq!(inbox.take_bell(), None);
    assert_eq!(inbox.push(1).unwrap(), None);
}

#[test]
fn each_sleep_has_the_bell_it_was_announced_with() {
    let inbox = Inbox::<u32, &str>::new();
    assert!(inbox.announce_sleep("first"));
    assert!(inbox.announce_sleep("second"));
    assert_eq!(inbox.push(1).unwrap(), Some("second"));
    assert!(!inbox.announce_sleep("third"));
    assert_eq!(inbox.push(2).unwrap(), None);
}

#[test]
fn closing_returns_what_was_left_and_refuses_what_comes_later() {
    let inbox = Inbox::<_, &str>::new();
    let _ = inbox.push(1).unwrap();
    assert!(!inbox.is_closed());
    assert_eq!(inbox.close(), [1]);
    assert!(inbox.is_closed() && inbox.is_empty());
    let Err(Closed(job)) = inbox.push(2) else {
        panic!("a closed inbox took a job");
    };
    assert_eq!(job, 2);
    assert_eq!(inbox.close(), []);
    assert_eq!(drained(&inbox), []);
}

#[test]
fn a_refusal_is_told_without_showing_the_job() {
    struct Opaque;
    assert_eq!(format!("{:?}", Closed(Opaque)), "Closed(..)");
    assert_eq!(Closed(Opaque).to_string(), "the inbox is closed");
}

#[test]
fn a_job_may_use_the_inbox_while_it_is_dropped() {
    struct Job(Arc<Inbox<Job, &'static str>>);
    impl Drop for Job {
        fn drop(&mut self) {
            assert!(self.0.is_closed() && !self.0.announce_sleep("bell") || self.0.is_empty());
        }
    }
    let inbox = Arc::new(Inbox::<_, &str>::new());
    for _ in 0..2 {
        let _ = inbox.push(Job(inbox.clone())).unwrap();
    }
    drop(drained(&inbox));
    let _ = inbox.push(Job(inbox.clone())).unwrap();
    drop(inbox.close());
    drop(inbox.push(Job(inbox.clone())).unwrap_err());
    assert_eq!(Arc::strong_count(&inbox), 1);
}

#[test]
fn a_burst_does_not_leave_its_buffers_behind() {
    let inbox = Inbox::<_, &str>::new();
    let mut jobs = Vec::new();
    for _ in 0..2 {
        for job in 0..100_000 {
            let _ = inbox.push(job).unwrap();
        }
        jobs.clear();
        inbox.drain(&mut jobs);
        assert_eq!(jobs.len(), 100_000);
    }
    jobs.clear();
    inbox.drain(&mut jobs);
    assert!(jobs.capacity() <= 1024, "{}", jobs.capacity());
    assert!(inbox.announce_sleep("bell"));
    let _ = inbox.push(1).unwrap();
    inbox.drain(&mut jobs);
    assert!(jobs.capacity() <= 1024, "{}", jobs.capacity());
}

#[test]
fn a_push_is_either_drained_or_refused() {
    const PUSHERS: usize = 4;
    const JOBS: usize = 1000;
    for closed_after in [0, 1, 100, JOBS] {
        let inbox = Arc::new(Inbox::<_, &str>::new());
        let start = Arc::new(Barrier::new(PUSHERS + 1));
        let pushers: Vec<_> = (0..PUSHERS)
            .map(|pusher| {
                let (inbox, start) = (inbox.clone(), start.clone());
                thread::spawn(move || {
                    start.wait();
                    (0..JOBS)
                        .map(|job| pusher * JOBS + job)
                        .filter_map(|job| inbox.push(job).err())
                        .map(|Closed(job)| job)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        start.wait();
        let mut all = Vec::new();
        while all.len() < closed_after {
            inbox.drain(&mut all);
        }
        all.extend(inbox.close());
        for pusher in pushers {
            all.extend(pusher.join().unwrap());
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(0..PUSHERS * JOBS));
    }
}
