//! The Modbus units of the network: register tables, served over TCP and over a serial line without a wire.

use super::sensors::{Bus, Register, Table};
use std::collections::HashMap;
use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio_modbus::prelude::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_modbus::server::{Service, rtu, tcp};
use tokio_serial::{SerialPort, SerialStream};

/// The registers of all units. What lies between two known ones is 0; beyond the last one there is nothing.
#[derive(Debug, Default)]
pub(crate) struct Units {
    tables: Mutex<HashMap<(Bus, u8, Table), Vec<u16>>>,
}

impl Units {
    /// Changes registers, all at once for whoever reads.
    pub(crate) fn put<'a>(&self, changes: impl Iterator<Item = (Register, &'a [u16])>) {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, words) in changes {
            let table = tables.entry((at.bus, at.unit, at.table)).or_default();
            let place = usize::from(at.address)..usize::from(at.address) + words.len();
            table.resize(table.len().max(place.end), 0);
            table[place].copy_from_slice(words);
        }
    }

    /// The words at an address; an exception where there are none, and `None` for a unit that isn't there.
    fn get(&self, bus: Bus, unit: u8, table: Table, place: Range<usize>) -> Option<Result<Vec<u16>, ExceptionCode>> {
        let tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let known = tables.keys().any(|(on, number, _)| (*on, *number) == (bus, unit));
        let words = tables.get(&(bus, unit, table)).and_then(|words| words.get(place));
        known.then(|| words.map(<[u16]>::to_vec).ok_or(ExceptionCode::IllegalDataAddress))
    }
}

/// The units of one bus as a Modbus server.
#[derive(Clone)]
struct Line {
    units: Arc<Units>,
    bus: Bus,
}

impl Line {
    fn answer(&self, request: &SlaveRequest<'_>) -> Result<Option<Response>, ExceptionCode> {
        let get = |table, address: u16, count: u16| {
            let place = usize::from(address)..usize::from(address) + usize::from(count);
            self.units.get(self.bus, request.slave, table, place).transpose()
        };
        Ok(match request.request {
            Request::ReadDiscreteInputs(address, count) => get(Table::Discrete, address, count)?
                .map(|words| Response::ReadDiscreteInputs(words.iter().map(|word| *word != 0).collect())),
            Request::ReadHoldingRegisters(address, count) => {
                get(Table::Holding, address, count)?.map(Response::ReadHoldingRegisters)
            }
            Request::ReadInputRegisters(address, count) => {
                get(Table::Input, address, count)?.map(Response::ReadInputRegisters)
            }
            _ => return Err(ExceptionCode::IllegalFunction),
        })
    }
}

impl Service for Line {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Self::Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        ready(self.answer(&request))
    }
}

/// Serves the TCP units until it fails.
pub(crate) async fn serve_tcp(listener: TcpListener, units: Arc<Units>) -> io::Result<()> {
    let connected = |stream, _: SocketAddr| {
        let line = Line { units: units.clone(), bus: Bus::Tcp };
        async move { Ok(Some((line, stream))) }
    };
    // A client that goes away in the middle costs its own connection only.
    tcp::Server::new(listener).serve(&connected, |_error| {}).await
}

/// A serial line without a wire: our end, and the other one, which is kept open so that ours doesn't hang up while
/// nobody listens.
pub(crate) struct Wire {
    ours: SerialStream,
    theirs: SerialStream,
}

impl Wire {
    /// Makes one, and a link at `path` to the device that the other side opens.
    ///
    /// # Errors
    /// When the system has no pseudo-terminals left, or the link can't be made.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let (ours, theirs) = SerialStream::pair()?;
        let device = PathBuf::from(theirs.name().ok_or_else(|| io::Error::other("the pseudo-terminal has no name"))?);
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::os::unix::fs::symlink(&device, path)?,
        }
        Ok(Self { ours, theirs })
    }

    /// Serves the RTU units until it fails.
    pub(crate) async fn serve(self, units: Arc<Units>) -> io::Result<()> {
        let outcome = rtu::Server::new(self.ours).serve_forever(Line { units, bus: Bus::Rtu }).await;
        drop(self.theirs);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::super::form::{Form, Order};
    use super::*;
    use tokio_modbus::client::{Reader, rtu, tcp};
    use tokio_modbus::prelude::{Slave, SlaveContext};

    fn units() -> Arc<Units> {
        let units = Arc::new(Units::default());
        let at =
            |bus, unit, table, address| Register { bus, unit, table, address, form: Form::U16, order: Order::Abcd };
        let changes: [(Register, &[u16]); 4] = [
            (at(Bus::Tcp, 1, Table::Holding, 3), &[7, 8]),
            (at(Bus::Tcp, 1, Table::Discrete, 0), &[1]),
            (at(Bus::Rtu, 1, Table::Input, 0), &[9]),
            (at(Bus::Rtu, 2, Table::Holding, 100), &[10]),
        ];
        units.put(changes.into_iter());
        units
    }

    #[tokio::test]
    async fn units_answer_over_tcp_with_what_was_put_there_and_refuse_the_rest() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve_tcp(listener, units()));
        let mut client = tcp::connect_slave(address, Slave(1)).await.unwrap();
        assert_eq!(client.read_holding_registers(2, 3).await.unwrap(), Ok(vec![0, 7, 8]));
        assert_eq!(client.read_discrete_inputs(0, 1).await.unwrap(), Ok(vec![true]));
        assert_eq!(client.read_holding_registers(4, 2).await.unwrap(), Err(ExceptionCode::IllegalDataAddress));
        assert_eq!(client.read_input_registers(0, 1).await.unwrap(), Err(ExceptionCode::IllegalDataAddress));
        assert_eq!(client.read_coils(0, 1).await.unwrap(), Err(ExceptionCode::IllegalFunction));
        server.abort();
    }

    #[tokio::test]
    async fn units_answer_over_a_serial_line_that_needs_no_tools() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("line");
        let server = tokio::spawn(Wire::new(&path).unwrap().serve(units()));
        let port = SerialStream::open(&tokio_serial::new(path.to_string_lossy(), 19_200)).unwrap();
        let mut client = rtu::attach_slave(port, Slave(1));
        assert_eq!(client.read_input_registers(0, 1).await.unwrap(), Ok(vec![9]));
        client.set_slave(Slave(2));
        assert_eq!(client.read_holding_registers(100, 1).await.unwrap(), Ok(vec![10]));
        server.abort();
    }
}
