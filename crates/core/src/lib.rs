//! The protocols under asyncio-thread-loop, without Python: what must be right under two threads.
//!
//! | module | what it holds |
//! |---|---|
//! | [`inbox`] | calls other threads leave for the loop |
//! | [`outcome`] | one result, set once, seen by every waiter |
//! | [`roster`] | the calls that were accepted and haven't ended |
//! | [`ownership`] | who runs a loop: its thread, or a caller that would only wait otherwise |
//! | [`parking`] | a thread asleep until another wakes it or a signal arrives |
//! | [`spin`] | looking for a moment before going to sleep, as long as that pays |
//! | [`watchdog`] | noticing that a loop is stuck, while it is |
//! | [`timers`] | what is to happen later, in order |
//! | [`clock`] | the time they all mean |
//! | `poller` | which descriptors are ready |
//! | `fork` | whether this process is still the one that started |
//!
//! Everything is generic over the job, so it is tested with integers and modelled with loom and
//! shuttle (`RUSTFLAGS="--cfg atl_loom"` or `atl_shuttle`, which leave out `poller` and `fork`). The
//! README beside this crate tells the protocols as prose.

#![cfg(unix)]
#![warn(missing_docs)]

pub mod clock;
#[cfg(not(any(atl_loom, atl_shuttle)))]
pub mod fork;
pub mod inbox;
pub mod outcome;
pub mod ownership;
pub mod parking;
#[cfg(not(any(atl_loom, atl_shuttle)))]
pub mod poller;
pub mod roster;
pub mod spin;
pub(crate) mod sync;
pub mod timers;
pub mod watchdog;

/// For models of forks: in a child nobody lets go of a lock that another thread held.
#[cfg(any(atl_loom, atl_shuttle))]
#[doc(hidden)]
pub use sync::model::locks_held;
