//! Who asks, by address: the other end of the connection, or for whom a trusted proxy says that it asks.

use crate::access::Origin;
use crate::config::Network;
use axum::http::HeaderMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What proxies say: each adds the address that asked it.
const FORWARDED: &str = "x-forwarded-for";
/// As many bits of an IPv6 address are given to one customer.
const CUSTOMER: u128 = u128::MAX << 64;

/// The address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

impl Peer {
    /// The other end of a connection.
    pub(super) fn new(address: SocketAddr) -> Self {
        Self(address.ip().to_canonical())
    }

    /// Whether it is one of these.
    pub(super) fn is_of(self, networks: &[Network]) -> bool {
        networks.iter().any(|network| network.contains(self.0))
    }

    /// Who asked it, as far as proxies are trusted: what stands there on the left of one that isn't, it made up.
    pub(super) fn behind(self, headers: &HeaderMap, trusted: &[Network]) -> Self {
        let lines = headers.get_all(FORWARDED).into_iter().filter_map(|line| line.to_str().ok());
        let named: Vec<&str> = lines.flat_map(|line| line.split(',')).collect();
        let mut peer = self;
        for named in named.into_iter().rev() {
            let Some(address) = address(named.trim()).filter(|_| peer.is_of(trusted)) else { break };
            peer = Self(address);
        }
        peer
    }

    /// As access sees it.
    pub(super) fn origin(self) -> Origin {
        Origin { counted: self.counted(), address: self.0 }
    }

    /// What is counted as one: whoever has an IPv6 address has as many as they like.
    pub(super) fn counted(self) -> IpAddr {
        match self.0 {
            IpAddr::V6(address) if !address.is_loopback() => Ipv6Addr::from_bits(address.to_bits() & CUSTOMER).into(),
            address => address,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An address; some proxies name the port, too.
fn address(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = inner.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_trusted_proxy_says_is_believed() {
        let trusted: Vec<Network> = ["127.0.0.1", "10.0.0.0/8"].iter().map(|text| text.parse().unwrap()).collect();
        for (connection, said, expected) in [
            ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"), // anyone can say so
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["198.51.100.1, 203.0.113.9"], "203.0.113.9"), // the left one it made up
            ("127.0.0.1", &["203.0.113.9, 10.0.0.5"], "203.0.113.9"),
            ("127.0.0.1", &["203.0.113.9", "10.0.0.5"], "203.0.113.9"), // the same in two lines
            ("127.0.0.1", &["10.0.0.6, 10.0.0.5"], "10.0.0.6"),
            ("127.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("127.0.0.1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("127.0.0.1", &["203.0.113.9, unknown"], "127.0.0.1"),
        ] {
            let mut headers = HeaderMap::new();
            for line in said {
                headers.append(FORWARDED, line.parse().unwrap());
            }
            let peer = Peer(connection.parse().unwrap()).behind(&headers, &trusted);
            assert_eq!(peer.to_string(), expected, "{connection} {said:?}");
        }
        let counted = |text: &str| Peer(text.parse().unwrap()).counted().to_string();
        assert_eq!(counted("2001:db8::1"), counted("2001:db8::ffff:1"));
        assert_eq!((counted("192.0.2.1"), counted("::1")), ("192.0.2.1".to_owned(), "::1".to_owned()));
    }
}
