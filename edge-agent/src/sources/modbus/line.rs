//! The bytes below an RTU client: a serial port or a TCP connection that can be drained beside tokio-modbus,
//! which owns its transport and throws away only what it has already read.

use super::config::Serial;
use super::raw::Parity;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_serial::SerialStream;

/// Anything that bytes go through.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// A line with several handles, of which one at a time is used.
#[derive(Clone)]
pub(super) struct SharedLine(Arc<Mutex<Box<dyn Bytes>>>);

impl SharedLine {
    /// Takes the line.
    pub(super) fn new(bytes: impl Bytes + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(bytes))))
    }

    /// Another handle on it.
    #[must_use]
    pub(super) fn handle(&self) -> Self {
        self.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Bytes>> {
        // Held only inside one poll, never across an await.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for SharedLine {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.lock()).poll_read(cx, buf)
    }
}

impl AsyncWrite for SharedLine {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut **self.lock()).poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.lock()).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut **self.lock()).poll_shutdown(cx)
    }
}

/// Longest that a babbling line is listened to before it is given up.
const BABBLE_MAX: Duration = Duration::from_secs(2);

/// Throws away what comes until the line was quiet for `quiet`.
///
/// # Errors
/// When the line is closed or broken, or doesn't become quiet.
pub(super) async fn drain(line: &SharedLine, quiet: Duration) -> io::Result<()> {
    let (mut line, mut waste) = (line.handle(), [0; 256]);
    let until = Instant::now() + BABBLE_MAX;
    while let Ok(read) = tokio::time::timeout(quiet, line.read(&mut waste)).await {
        match read {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the other side")),
            Ok(_) if Instant::now() < until => {}
            Ok(_) => return Err(io::Error::other("the line never becomes quiet")),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Opens a serial port.
///
/// # Errors
/// When it isn't there, is in use, or can't have these settings.
pub(super) fn open_serial(serial: &Serial) -> io::Result<SerialStream> {
    let builder = tokio_serial::new(&serial.port, serial.baud)
        .data_bits(tokio_serial::DataBits::Eight)
        .flow_control(tokio_serial::FlowControl::None)
        .stop_bits(if serial.stop_bits == 2 { tokio_serial::StopBits::Two } else { tokio_serial::StopBits::One })
        .parity(match serial.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        });
    SerialStream::open(&builder).map_err(io::Error::from)
}
