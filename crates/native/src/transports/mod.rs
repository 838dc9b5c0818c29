//! Transports of `EventLoop`: what stands between a socket and its protocol.
//!
//! They behave as the standard library's, whose names for their insides they keep where others look at them; what is
//! rare is Python, in `_transports.py`. They are told of their descriptors by the loop without a Python call in between,
//! and keep the GIL during their system calls: none of them blocks, and letting go of it costs more than most of them.

mod buffer;
mod listener;
mod reading;
mod socket;
mod stream;
mod tls;
mod writing;

pub use self::listener::Listener;
pub use self::reading::Memory;
pub use self::stream::StreamTransport;
pub use self::tls::{TlsCore, TlsTransportCore};
