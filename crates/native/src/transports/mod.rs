//! Transports of `EventLoop`: what stands between a socket or a pipe and its protocol.
//!
//! They behave as the standard library's, whose names for their insides they keep where others look at them; what is
//! rare is Python, in `_transports.py` and beside it. They are told of their descriptors by the loop without a Python call
//! in between. Those of sockets keep the GIL during their system calls: none of them blocks, and letting go of it costs
//! more than most of them.

mod buffer;
mod channel;
mod data;
mod datagram;
mod endpoint;
mod flow;
mod life;
mod listener;
mod making;
mod peers;
mod pipe;
mod reading;
mod server;
mod socket;
mod stream;
mod tls;
mod writing;

pub use self::channel::Channel;
pub use self::datagram::DatagramTransport;
pub use self::listener::Listener;
pub use self::making::prepare_transport_type;
pub use self::pipe::{ReadPipeTransport, WritePipeTransport};
pub use self::reading::Memory;
pub use self::server::Clients;
pub use self::stream::StreamTransport;
pub use self::tls::{TlsCore, TlsTransportCore};
