//! The protocols under asyncio-thread-loop, without Python: what must be right under two threads.
//!
//! | module | what it holds |
//! |---|---|
//! | [`inbox`] | calls other threads leave for the loop |
//! | [`outcome`] | one result, set once, seen by every waiter |
//! | [`parking`] | a thread asleep until another wakes it or a signal arrives |
//! | [`timers`] | what is to happen later, in order |
//! | [`clock`] | the time they all mean |
//! | `poller` | which descriptors are ready |
//! | `fork` | whether this process is still the one that started |
//!
//! Everything is generic over the job, so it is tested with integers and modelled with loom
//! (`RUSTFLAGS="--cfg atl_loom"`, which leaves out `poller` and `fork`). The README beside this
//! crate tells the two protocols as prose.

#![cfg(unix)]
#![warn(missing_docs)]

pub mod clock;
#[cfg(not(atl_loom))]
pub mod fork;
pub mod inbox;
pub mod outcome;
pub mod parking;
#[cfg(not(atl_loom))]
pub mod poller;
pub(crate) mod sync;
pub mod timers;
