//! A bad network between agent and collector: a TCP relay on loopback that cuts, stalls, delays and throttles.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

/// How the network is now.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Weather {
    /// New connections are closed at once.
    pub(crate) refuse: bool,
    /// Nothing passes.
    pub(crate) stall: bool,
    /// Every piece waits so long.
    pub(crate) delay: Duration,
    /// Bytes per second each way; 0 for as many as there are.
    pub(crate) bytes_per_s: u32,
}

#[derive(Debug)]
struct Shared {
    weather: Mutex<Weather>,
    cut: Mutex<CancellationToken>,
    target: std::net::SocketAddr,
}

/// The relay; it ends with the runtime.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
    /// Where to connect instead.
    pub(crate) port: u16,
}

impl Proxy {
    /// Listens on a free port and relays to `target`.
    pub(crate) async fn start(target: std::net::SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { weather: Mutex::default(), cut: Mutex::default(), target });
        let relaying = shared.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                if relaying.weather().refuse {
                    reset(near);
                } else {
                    tokio::spawn(relay(near, relaying.clone()));
                }
            }
        });
        Ok(Self { shared, port })
    }

    /// Changes the weather.
    pub(crate) fn set(&self, weather: Weather) {
        *self.shared.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    }

    /// Resets every connection there is.
    pub(crate) fn cut(&self) {
        let mut cut = self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *cut).cancel();
    }
}

impl Shared {
    fn weather(&self) -> Weather {
        *self.weather.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// RST instead of FIN: what was sent may be lost on the way.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

async fn relay(near: TcpStream, shared: Arc<Shared>) {
    let cut = shared.cut.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // Small buffers, or a slow link would hide seconds of data in them.
    let connect = async {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(8 << 10)?;
        socket.set_send_buffer_size(8 << 10)?;
        socket.connect(shared.target).await
    };
    let Ok(far) = connect.await else { return reset(near) };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let _ = (near.set_zero_linger(), far.set_zero_linger());
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        () = cut.cancelled() => {}
        () = async { tokio::join!(pump(near_in, far_out, &shared), pump(far_in, near_out, &shared)); } => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared) {
    let mut bytes = [0; 1500];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        let started = Instant::now();
        loop {
            let weather = shared.weather();
            let per_byte = 1.0 / f64::from(weather.bytes_per_s.max(1));
            let slow = if weather.bytes_per_s == 0 { 0.0 } else { count as f64 * per_byte };
            let wait = weather.delay + Duration::from_secs_f64(slow);
            if !weather.stall && started.elapsed() >= wait {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}
