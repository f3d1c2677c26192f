//! One connection to one link: opens it, reads registers, tells late answers from right ones.
//!
//! Only the four read functions are ever sent. A late answer must not be taken for the answer to a later
//! request. Over Modbus TCP a connection is closed after a timeout or a wrong transaction id. RTU frames carry
//! no number, and a serial server in between may deliver an old one even to a new connection; so
//! - what lies on the line before a request is thrown away, and the line is kept quiet between frames;
//! - a unit that left a request unanswered is first asked for a number of registers that it wasn't asked for
//!   lately: units answer in order, so once an answer of that length is there, no older one can come.

use super::config::{Serial, Transport};
use super::line::{self, SharedLine};
use super::plan::Register;
use shared::backoff::Backoff;
use std::collections::HashMap;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_modbus::client::{Client as _, Context};
use tokio_modbus::prelude::{Request, Response, Slave, SlaveContext, rtu, tcp};

/// What a unit answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Registers.
    Words(Vec<u16>),
    /// Coils or discrete inputs.
    Bits(Vec<bool>),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The link can't be opened, or is not tried again yet.
    #[error("{0}")]
    Link(String),
    /// The link was open and broke.
    #[error("connection lost: {0}")]
    Dropped(String),
    /// Nothing in time.
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The unit answered that it won't.
    #[error("exception {0}: {name}", name = exception_name(*.0))]
    Exception(u8),
    /// Something that is no answer to what was asked.
    #[error("bad answer: {0}")]
    Malformed(String),
}

impl ReadError {
    /// Whether the unit itself spoke. A gateway's word that it got nothing from the unit is none of the unit.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, ReadError::Exception(code) if !matches!(code, 0x0a | 0x0b))
    }

    /// *Illegal address* or *illegal value*: a smaller request may succeed.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, ReadError::Exception(2 | 3))
    }
}

fn exception_name(code: u8) -> &'static str {
    match code {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "device failure",
        5 => "acknowledge",
        6 => "device busy",
        8 => "memory parity error",
        0x0a => "gateway path unavailable",
        0x0b => "gateway: the unit did not answer",
        _ => "unknown",
    }
}

/// How long answers that never came are remembered, in timeouts.
const SUSPICION_TIMEOUTS: u32 = 20;
/// Most of them remembered for one unit.
const SUSPECTS_MAX: usize = 4;

/// A connection to a link, opened when it is needed.
pub struct Client {
    transport: Transport,
    timeout: Duration,
    open: Option<Open>,
    backoff: Backoff,
    closed: Option<Closed>,
    /// For each unit the data bytes of answers that may still come, and since when. RTU forms only.
    suspects: HashMap<u8, Vec<(Instant, usize)>>,
}

struct Open {
    context: Context,
    /// The bytes below `context`, for RTU forms.
    line: Option<SharedLine>,
    /// Whether anything was answered on it yet.
    used: bool,
}

struct Closed {
    reason: String,
    retry: Instant,
}

impl Client {
    /// For this link; nothing is opened yet.
    #[must_use]
    pub fn new(transport: Transport, timeout: Duration) -> Self {
        let backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        Self { transport, timeout, open: None, backoff, closed: None, suspects: HashMap::new() }
    }

    /// Reads `count` registers or bits of a unit.
    ///
    /// Takes at most the timeout and the time the frames take on the line, twice when a connection turns out
    /// to have been closed by the other side while it was idle.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub async fn read(&mut self, unit: u8, register: Register, address: u16, count: u16) -> Result<Data, ReadError> {
        self.clear_suspicion(unit, register, address).await?;
        let used = self.open.as_ref().is_some_and(|open| open.used);
        match self.ask(unit, register, address, count).await {
            // Closed while idle, or noise on a serial line: once more before it counts.
            Err(ReadError::Dropped(_) | ReadError::Malformed(_)) if used => {
                self.ask(unit, register, address, count).await
            }
            result => result,
        }
    }

    /// Closes the connection, telling the other side.
    pub async fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            // A peer that doesn't take our goodbye is left without one.
            let _ = tokio::time::timeout(Duration::from_millis(100), open.context.disconnect()).await;
        }
    }

    async fn clear_suspicion(&mut self, unit: u8, register: Register, address: u16) -> Result<(), ReadError> {
        let oldest = self.timeout * SUSPICION_TIMEOUTS;
        let Some(lengths) = self.suspects.get_mut(&unit) else { return Ok(()) };
        lengths.retain(|(since, _)| since.elapsed() < oldest);
        let lengths: Vec<usize> = lengths.iter().map(|(_, length)| *length).collect();
        if lengths.is_empty() {
            self.suspects.remove(&unit);
            return Ok(());
        }
        // At most SUSPECTS_MAX lengths are taken, so one of these is free.
        let counts = (1..=SUSPECTS_MAX as u16 + 1).map(|n| if register.is_bits() { n * 8 } else { n });
        let Some(count) = counts.into_iter().find(|&count| !lengths.contains(&data_bytes(register, count))) else {
            return Ok(());
        };
        let address = address.min(u16::MAX - count);
        for _ in 0..=lengths.len() {
            match self.ask(unit, register, address, count).await {
                Err(ReadError::Malformed(_)) => {} // a late answer, most likely: it is off the line now
                Err(ReadError::Exception(_)) | Ok(_) => {
                    self.suspects.remove(&unit);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Err(ReadError::Malformed("answers don't fit the requests".into()))
    }

    async fn ask(&mut self, unit: u8, register: Register, address: u16, count: u16) -> Result<Data, ReadError> {
        let wait = self.timeout + self.on_the_line(register, count);
        self.ensure_open().await?;
        let quiet = self.frame_gap();
        let Some(open) = &mut self.open else { return Err(ReadError::Link("not open".into())) };
        if let Some(line) = &open.line
            && let Err(error) = line::drain(line, quiet).await
        {
            self.close().await;
            return Err(ReadError::Dropped(error.to_string()));
        }
        open.context.set_slave(Slave(unit));
        let request = match register {
            Register::Holding => Request::ReadHoldingRegisters(address, count),
            Register::Input => Request::ReadInputRegisters(address, count),
            Register::Coil => Request::ReadCoils(address, count),
            Register::Discrete => Request::ReadDiscreteInputs(address, count),
        };
        let error = match tokio::time::timeout(wait, open.context.call(request)).await {
            Ok(Ok(Ok(response))) => match data(response, count) {
                Ok(data) => {
                    open.used = true;
                    return Ok(data);
                }
                Err(problem) => ReadError::Malformed(problem),
            },
            Ok(Ok(Err(exception))) => {
                open.used = true;
                return Err(ReadError::Exception(exception.into()));
            }
            Ok(Err(tokio_modbus::Error::Protocol(error))) => ReadError::Malformed(shortened(&error.to_string())),
            Ok(Err(tokio_modbus::Error::Transport(error))) => match error.kind() {
                // The end of the frame, not of the stream: tokio-modbus found less in it than it announced.
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                    ReadError::Malformed(shortened(&error.to_string()))
                }
                // tokio-modbus shows the end of a stream as the last error of the system, which may be success.
                _ if error.raw_os_error() == Some(0) => ReadError::Dropped("closed by the other side".into()),
                _ => ReadError::Dropped(error.to_string()),
            },
            Err(_) => {
                self.suspect(unit, data_bytes(register, count));
                ReadError::Timeout(self.timeout)
            }
        };
        self.start_over(&error).await;
        Err(error)
    }

    /// After an error nothing of the old exchange may be left in buffers.
    async fn start_over(&mut self, error: &ReadError) {
        let keep_port = matches!(self.transport, Transport::Rtu(_)) && !matches!(error, ReadError::Dropped(_));
        match &mut self.open {
            // A serial port stays open: closing it moves its control lines, which resets some devices.
            Some(Open { context, line: Some(line), .. }) if keep_port => *context = rtu::attach(line.handle()),
            _ => self.close().await,
        }
    }

    fn suspect(&mut self, unit: u8, length: usize) {
        if matches!(self.transport, Transport::Tcp(_)) {
            return;
        }
        let lengths = self.suspects.entry(unit).or_default();
        if lengths.len() >= SUSPECTS_MAX {
            lengths.remove(0);
        }
        lengths.push((Instant::now(), length));
    }

    async fn ensure_open(&mut self) -> Result<(), ReadError> {
        if self.open.is_some() {
            return Ok(());
        }
        if let Some(closed) = self.closed.as_ref().filter(|closed| Instant::now() < closed.retry) {
            return Err(ReadError::Link(closed.reason.clone()));
        }
        match connect(&self.transport, self.timeout).await {
            Ok(open) => {
                self.open = Some(open);
                self.closed = None;
                self.backoff.reset();
                Ok(())
            }
            Err(error) => {
                let reason = format!("can't open {}: {error}", self.transport);
                self.closed = Some(Closed { reason: reason.clone(), retry: Instant::now() + self.backoff.pause() });
                Err(ReadError::Link(reason))
            }
        }
    }

    /// The silence between two frames: 3.5 characters, at least 1.75 ms (Modbus over Serial Line 1.02, 2.5.1.1).
    fn frame_gap(&self) -> Duration {
        match &self.transport {
            Transport::Rtu(Serial { baud, .. }) => characters(4, *baud).max(Duration::from_micros(1_750)),
            _ => Duration::from_millis(1),
        }
    }

    /// How long request and answer take on a serial line.
    fn on_the_line(&self, register: Register, count: u16) -> Duration {
        match &self.transport {
            Transport::Rtu(Serial { baud, .. }) => characters(8 + 5 + data_bytes(register, count) as u32, *baud),
            _ => Duration::ZERO,
        }
    }
}

async fn connect(transport: &Transport, timeout: Duration) -> io::Result<Open> {
    let over_line = |line: SharedLine| Open { context: rtu::attach(line.handle()), line: Some(line), used: false };
    match transport {
        Transport::Tcp(address) => {
            let stream = connect_tcp(address, timeout).await?;
            Ok(Open { context: tcp::attach(stream), line: None, used: false })
        }
        Transport::RtuOverTcp(address) => Ok(over_line(SharedLine::new(connect_tcp(address, timeout).await?))),
        Transport::Rtu(serial) => Ok(over_line(SharedLine::new(line::open_serial(serial)?))),
    }
}

async fn connect_tcp(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let wait = timeout.max(Duration::from_secs(1));
    let late = || format!("no connection within {}", humantime::format_duration(wait));
    let connected = tokio::time::timeout(wait, TcpStream::connect(address)).await;
    let stream = connected.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, late()))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A character is eleven bits on a Modbus line.
fn characters(count: u32, baud: u32) -> Duration {
    Duration::from_micros(u64::from(count) * 11_000_000 / u64::from(baud.max(1)))
}

fn data_bytes(register: Register, count: u16) -> usize {
    if register.is_bits() { usize::from(count).div_ceil(8) } else { usize::from(count) * 2 }
}

fn data(response: Response, count: u16) -> Result<Data, String> {
    let count = usize::from(count);
    match response {
        Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) if words.len() == count => {
            Ok(Data::Words(words))
        }
        Response::ReadCoils(mut bits) | Response::ReadDiscreteInputs(mut bits)
            if bits.len().div_ceil(8) == count.div_ceil(8) =>
        {
            bits.truncate(count);
            Ok(Data::Bits(bits))
        }
        Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words) => {
            Err(format!("{} registers where {count} were asked for", words.len()))
        }
        Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits) => {
            Err(format!("{} bits where {count} were asked for", bits.len()))
        }
        _ => Err("another function".into()),
    }
}

/// Error texts of tokio-modbus hold whole answers.
fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}
