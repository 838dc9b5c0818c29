//! The load of `just bench-io`: connections that send a message, wait until it has come back, and
//! send it again. So little happens here that any server in Python takes longer.
//!
//! `load KIND ADDRESS CONNECTIONS SIZE`, where the kind is `tcp`, `unix`, `udp` or `once`: a new
//! TCP connection for each request, which the server closes after its answer. Each line of the
//! input is a number of requests to make. The answer is a line with the seconds they took. Ends with
//! its input, or with 1 if the server doesn't answer.

use std::env;
use std::io::{self, BufRead, Error, ErrorKind, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// After so long a server that says nothing has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// The answer to one of so many requests is compared with what was sent. It takes as long as a server's copying.
const LOOKED_AT: usize = 16;

/// At most so many bytes are read at once.
const ROOM: usize = 1 << 18;

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> io::Result<()> {
    let [kind, address, connections, size] = args else {
        return Err(Error::other("load KIND ADDRESS CONNECTIONS SIZE"));
    };
    let number = |text: &str| text.parse::<usize>().map_err(Error::other);
    let target = Target {
        kind: kind.clone(),
        address: address.clone(),
    };
    let mut load = Load::new(target, number(connections)?, number(size)?)?;
    for line in io::stdin().lock().lines() {
        let began = Instant::now();
        load.make(number(line?.trim())?)?;
        let seconds = began.elapsed().as_secs_f64();
        let mut output = io::stdout().lock();
        writeln!(output, "{seconds:.9}")?;
        output.flush()?;
    }
    Ok(())
}

/// Where requests go, and how.
struct Target {
    kind: String,
    address: String,
}

impl Target {
    /// Whether a connection is good for one request only.
    fn once(&self) -> bool {
        self.kind == "once"
    }

    fn is_tcp(&self) -> bool {
        self.once() || self.kind == "tcp"
    }

    /// A connection that doesn't block.
    fn connect(&self) -> io::Result<OwnedFd> {
        match self.kind.as_str() {
            "tcp" | "once" => {
                let stream = TcpStream::connect(&self.address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                Ok(stream.into())
            }
            "unix" => {
                let stream = UnixStream::connect(&self.address)?;
                stream.set_nonblocking(true)?;
                Ok(stream.into())
            }
            "udp" => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(&self.address)?;
                socket.set_nonblocking(true)?;
                Ok(socket.into())
            }
            other => Err(Error::other(format!("{other} is no kind of connection"))),
        }
    }
}

/// A request on its way.
struct Request {
    connection: OwnedFd,
    sent: usize,
    received: usize,
    /// Whether the answer is compared with what was sent.
    looked_at: bool,
}

struct Load {
    target: Target,
    message: Vec<u8>,
    room: Vec<u8>,
    /// Connections without a request. A place only, where each request needs a new one.
    idle: Vec<Option<OwnedFd>>,
    begun: usize,
}

impl Load {
    fn new(target: Target, connections: usize, size: usize) -> io::Result<Self> {
        let idle = (0..connections)
            .map(|_| (!target.once()).then(|| target.connect()).transpose())
            .collect::<io::Result<_>>()?;
        // A prime period: bytes that are lost or come in another order are noticed.
        let message = (0..size).map(|index| (index % 251) as u8).collect();
        Ok(Self {
            target,
            message,
            room: vec![0; ROOM],
            idle,
            begun: 0,
        })
    }

    /// Makes so many requests, and returns when the last is answered.
    fn make(&mut self, mut requests: usize) -> io::Result<()> {
        let mut running = Vec::new();
        let mut polled = Vec::new();
        loop {
            while requests > 0
                && let Some(place) = self.idle.pop()
            {
                requests -= 1;
                running.push(self.begin(place)?);
            }
            if running.is_empty() {
                return Ok(());
            }
            poll(&running, self.message.len(), &mut polled)?;
            for index in (0..running.len()).rev() {
                let events = polled[index].revents;
                if events & libc::POLLOUT != 0 {
                    self.send(&mut running[index])?;
                }
                if events & !libc::POLLOUT != 0 && self.receive(&mut running[index])? {
                    let Request { connection, .. } = running.swap_remove(index);
                    self.idle.push((!self.target.once()).then_some(connection));
                }
            }
        }
    }

    fn begin(&mut self, place: Option<OwnedFd>) -> io::Result<Request> {
        let connection = place.map_or_else(|| self.target.connect(), Ok)?;
        self.begun += 1;
        let mut request = Request {
            connection,
            sent: 0,
            received: 0,
            looked_at: self.begun.is_multiple_of(LOOKED_AT),
        };
        self.send(&mut request)?;
        Ok(request)
    }

    /// Sends what the connection takes.
    fn send(&self, request: &mut Request) -> io::Result<()> {
        let rest = &self.message[request.sent..];
        let fd = request.connection.as_raw_fd();
        // SAFETY: the pointer and the length are those of a slice, the descriptor is open.
        let count = unsafe { libc::send(fd, rest.as_ptr().cast(), rest.len(), libc::MSG_NOSIGNAL) };
        request.sent += moved(count)?.unwrap_or(0);
        Ok(())
    }

    /// Receives what is there, and says whether that was the last of it.
    fn receive(&mut self, request: &mut Request) -> io::Result<bool> {
        let fd = request.connection.as_raw_fd();
        // TCP can throw away what nobody looks at, without copying it here.
        let flags = if request.looked_at || !self.target.is_tcp() {
            0
        } else {
            libc::MSG_TRUNC
        };
        let room = &mut self.room;
        // SAFETY: the pointer and the length are those of a slice, the descriptor is open.
        let count = unsafe { libc::recv(fd, room.as_mut_ptr().cast(), room.len(), flags) };
        let Some(count) = moved(count)? else {
            return Ok(false);
        };
        let (from, to) = (request.received, request.received + count);
        request.received = to;
        let as_sent = self.message.get(from..to);
        if as_sent.is_none() || request.looked_at && as_sent != Some(&room[..count]) {
            return Err(Error::other("the answer isn't what was sent"));
        }
        let complete = to == self.message.len();
        if count == 0 && !(complete && self.target.once()) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        // What a server closes is done when it is closed.
        Ok(complete && (count == 0) == self.target.once())
    }
}

/// The result of `send` or `recv`; none if that would have blocked.
fn moved(count: isize) -> io::Result<Option<usize>> {
    usize::try_from(count).map(Some).or_else(|_| {
        let error = Error::last_os_error();
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        }
    })
}

/// Waits until something can be done for one of the requests.
fn poll(running: &[Request], size: usize, polled: &mut Vec<libc::pollfd>) -> io::Result<()> {
    polled.clear();
    polled.extend(running.iter().map(|request| libc::pollfd {
        fd: request.connection.as_raw_fd(),
        events: if request.sent < size {
            libc::POLLIN | libc::POLLOUT
        } else {
            libc::POLLIN
        },
        revents: 0,
    }));
    let count = polled.len() as libc::nfds_t;
    let milliseconds = PATIENCE.as_millis() as libc::c_int;
    // SAFETY: the pointer and the length are those of a slice.
    match unsafe { libc::poll(polled.as_mut_ptr(), count, milliseconds) } {
        -1 => Err(Error::last_os_error()),
        0 => Err(Error::new(ErrorKind::TimedOut, "the server doesn't answer")),
        _ => Ok(()),
    }
}
