//! Limits on the open connections of the listeners.
//!
//! Both listeners, the store and everything else share the file descriptors of the process. So each listener has a limit
//! of its own, and a client that opens connections without end leaves the rest to the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use crate::domain::quota::client_network;
use crate::metrics::ConnectionMetrics;

/// File descriptors for all but clients: the connections to the database (50 to the primary, and a few to each member),
/// or the files of the embedded store; the listeners, the command line's socket, the log and the runtime.
const RESERVED_DESCRIPTORS: usize = 128;
/// The most connections from one address, however many the process may open.
const MAX_PER_ADDRESS: usize = 4096;

/// Limits on the connections of one listener. Without a limit by default.
#[derive(Clone, Debug)]
pub struct ConnectionCaps {
    pub total: usize,
    /// Connections from one IPv4 address or IPv6 /64.
    pub per_address: usize,
    /// Networks to which only `total` applies, such as those of proxies.
    pub shared: Vec<IpNet>,
}

impl Default for ConnectionCaps {
    fn default() -> Self {
        Self { total: usize::MAX, per_address: usize::MAX, shared: Vec::new() }
    }
}

impl ConnectionCaps {
    /// Divides the file descriptors that this process may open: the caps of the public listener, and those of the
    /// verification listener. `proxies` are the trusted ones.
    ///
    /// A quarter is for the verification listener, whose clients are gateways: a few that reuse their connections, and
    /// often one alone, so they have no limit per address. An address may have a quarter of the public listener.
    pub fn share(descriptors: usize, proxies: &[IpNet]) -> (Self, Self) {
        let available = descriptors.saturating_sub(RESERVED_DESCRIPTORS).max(8);
        let verification = available / 4;
        let public = available - verification;
        let per_address = (public / 4).min(MAX_PER_ADDRESS);
        (Self { total: public, per_address, shared: proxies.to_vec() }, Self { total: verification, ..Self::default() })
    }
}

/// The open connections of a listener.
pub(super) struct Connections {
    caps: ConnectionCaps,
    metrics: ConnectionMetrics,
    open: Mutex<OpenConnections>,
}

#[derive(Default)]
struct OpenConnections {
    total: usize,
    /// Addresses that are not shared.
    by_address: HashMap<IpAddr, usize>,
}

/// A connection, which counts until this is dropped.
pub(super) struct OpenConnection {
    connections: Arc<Connections>,
    /// `None` if it is shared.
    address: Option<IpAddr>,
}

impl Connections {
    pub(super) fn new(caps: ConnectionCaps, metrics: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self { caps, metrics, open: Mutex::default() })
    }

    /// Counts a connection from `peer`. Returns `None` if there are too many.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<OpenConnection> {
        let peer = peer.to_canonical();
        let is_shared = self.caps.shared.iter().any(|network| network.contains(&peer));
        let address = (!is_shared).then(|| client_network(peer));
        let mut open = self.open();
        if open.total >= self.caps.total {
            self.metrics.refused_in_total.inc();
            return None;
        }
        if let Some(address) = address {
            let of_address = open.by_address.entry(address).or_default();
            if *of_address >= self.caps.per_address {
                self.metrics.refused_by_address.inc();
                return None;
            }
            *of_address += 1;
        }
        open.total += 1;
        self.metrics.open.inc();
        Some(OpenConnection { connections: Arc::clone(self), address })
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        open.total -= 1;
        self.connections.metrics.open.dec();
        if let Some(address) = self.address
            && let Some(of_address) = open.by_address.get_mut(&address)
        {
            *of_address -= 1;
            if *of_address == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(caps: ConnectionCaps) -> Arc<Connections> {
        Connections::new(caps, ConnectionMetrics::default())
    }

    fn admit(connections: &Arc<Connections>, peer: &str) -> Option<OpenConnection> {
        connections.admit(peer.parse().unwrap())
    }

    #[test]
    fn address_has_a_limit_and_others_do_not_share_it() {
        let connections = connections(ConnectionCaps { per_address: 2, ..ConnectionCaps::default() });
        let open = [admit(&connections, "192.0.2.1"), admit(&connections, "::ffff:192.0.2.1")];
        assert!(open.iter().all(Option::is_some));
        assert!(admit(&connections, "192.0.2.1").is_none());
        assert!(admit(&connections, "192.0.2.2").is_some());
        drop(open);
        assert!(admit(&connections, "192.0.2.1").is_some());
        assert!(connections.open().by_address.is_empty());
    }

    #[test]
    fn ipv6_network_is_one_address() {
        let connections = connections(ConnectionCaps { per_address: 1, ..ConnectionCaps::default() });
        let _open = admit(&connections, "2001:db8::1").unwrap();
        assert!(admit(&connections, "2001:db8::2").is_none());
        assert!(admit(&connections, "2001:db8:0:1::1").is_some());
    }

    #[test]
    fn trusted_proxy_is_limited_by_the_listener_alone() {
        let shared = vec!["10.0.0.0/8".parse().unwrap()];
        let connections = connections(ConnectionCaps { total: 3, per_address: 1, shared });
        let _open: Vec<_> = (0..3).map(|_| admit(&connections, "10.0.0.1").unwrap()).collect();
        assert!(admit(&connections, "10.0.0.1").is_none());
        assert!(admit(&connections, "192.0.2.1").is_none());
    }

    #[test]
    fn listeners_share_the_descriptors_and_leave_some() {
        for descriptors in [256, 512, 1024, 1 << 20] {
            let (public, verification) = ConnectionCaps::share(descriptors, &[]);
            assert!(public.total + verification.total + RESERVED_DESCRIPTORS <= descriptors);
            assert!(verification.total >= 32 && public.per_address <= public.total / 4);
        }
        assert!(ConnectionCaps::share(64, &[]).1.total > 0);
    }
}
