//! What a roster promises: a call is accepted or refused, and leaves it once.

#![cfg(not(any(atl_loom, atl_shuttle)))]

use asyncio_thread_loop_core::inbox::Closed;
use asyncio_thread_loop_core::roster::{Roster, Slot};
use std::sync::Arc;

#[derive(Debug)]
struct Call {
    number: usize,
    slot: Slot,
}

fn roster_of(count: usize) -> (Roster<Arc<Call>>, Vec<Arc<Call>>) {
    let mut roster = Roster::new(|call: &Arc<Call>| &call.slot);
    let calls: Vec<_> = (0..count).map(call).collect();
    for call in &calls {
        roster.accept(call.clone()).unwrap();
    }
    (roster, calls)
}

fn call(number: usize) -> Arc<Call> {
    let slot = Slot::new();
    Arc::new(Call { number, slot })
}

fn numbers(roster: &Roster<Arc<Call>>) -> Vec<usize> {
    let mut numbers: Vec<_> = roster.iter().map(|call| call.number).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn calls_leave_in_any_order_and_each_leaves_once() {
    for first in 0..4 {
        for second in 0..4 {
            let (mut roster, calls) = roster_of(4);
            let mut left = vec![0, 1, 2, 3];
            for leaving in [first, second] {
                let forgotten = roster.forget(&calls[leaving].slot);
                let expected = left.contains(&leaving).then_some(leaving);
                assert_eq!(forgotten.map(|call| call.number), expected);
                left.retain(|&number| number != leaving);
                assert_eq!(numbers(&roster), left);
            }
        }
    }
}

#[test]
fn a_closed_roster_hands_calls_back_and_keeps_what_it_has() {
    let (mut roster, calls) = roster_of(2);
    assert!(roster.is_open());
    roster.close();
    assert!(!roster.is_open());
    let Err(Closed(refused)) = roster.accept(call(2)) else {
        panic!("accepted");
    };
    assert!(roster.forget(&refused.slot).is_none());
    assert_eq!(numbers(&roster), [0, 1]);
    assert!(roster.forget(&calls[0].slot).is_some());
}

#[test]
fn giving_up_closes_and_hands_out_every_call_once() {
    let (mut roster, calls) = roster_of(3);
    let mut given_up = vec![roster.give_up().unwrap().number];
    assert!(!roster.is_open());
    // One of the others ends by itself meanwhile, and the one given up on, too.
    for call in &calls {
        let number = call.number;
        let forgotten = roster.forget(&call.slot);
        assert_eq!(forgotten.is_none(), given_up.contains(&number));
        if forgotten.is_some() {
            break;
        }
    }
    given_up.extend(std::iter::from_fn(|| roster.give_up()).map(|call| call.number));
    assert_eq!(given_up.len(), 2);
    assert!(calls.iter().all(|call| roster.forget(&call.slot).is_none()));
}

#[test]
fn a_call_can_be_accepted_again_after_it_left() {
    let (mut roster, calls) = roster_of(2);
    let first = roster.forget(&calls[0].slot).unwrap();
    roster.accept(first).unwrap();
    assert_eq!(numbers(&roster), [0, 1]);
    assert!(roster.forget(&calls[0].slot).is_some());
    assert!(roster.forget(&calls[1].slot).is_some());
}

#[test]
fn a_cleared_roster_knows_nobody() {
    let (mut roster, calls) = roster_of(3);
    assert_eq!(roster.clear().len(), 3);
    assert!(!roster.is_open());
    assert!(calls.iter().all(|call| roster.forget(&call.slot).is_none()));
    assert_eq!((&roster).into_iter().count(), 0);
}

#[test]
fn what_leaves_is_dropped_by_the_caller_who_may_come_back() {
    // A borrow that is alive while a call is dropped would panic here.
    struct Nosy(Slot, std::rc::Weak<std::cell::RefCell<Roster<Nosy>>>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            if let Some(roster) = self.1.upgrade() {
                assert!(roster.borrow_mut().forget(&self.0).is_none());
            }
        }
    }
    let roster = std::rc::Rc::new(std::cell::RefCell::new(Roster::new(|call: &Nosy| &call.0)));
    let call = || Nosy(Slot::new(), std::rc::Rc::downgrade(&roster));
    for _ in 0..3 {
        let accepted = roster.borrow_mut().accept(call());
        assert!(accepted.is_ok());
    }
    let given_up = roster.borrow_mut().give_up();
    drop(given_up);
    let refused = roster.borrow_mut().accept(call());
    drop(refused);
    let cleared = roster.borrow_mut().clear();
    assert_eq!(cleared.len(), 2);
}
