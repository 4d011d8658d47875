//! The host names of the listeners.
//!
//! A web page can have its own name resolve to a private address (DNS rebinding). Its browser then sends requests to
//! Keymark as if that were the page's own server, and lets the page read the responses. But their `Host` is the name of
//! the page, which neither listener serves. An IP address as `Host` is always served, since it cannot be rebound.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::OnceLock;

use http::header::{HOST, HeaderMap, HeaderValue};
use http::{StatusCode, Version};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The hosts that a listener serves: IP addresses, `localhost`, and these names.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    names: Vec<HostName>,
    /// The first `Host` that was served. Most requests have the same one.
    usual: OnceLock<Box<[u8]>>,
    /// Shared by all clones.
    refused: Counter,
    warned: OnceLock<()>,
}

/// A host name, or all names below one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostName {
    Exact(String),
    /// With a dot in front: written `*.example.com`.
    Below(String),
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a host name such as keymark or *.example.com")]
pub struct InvalidHostName;

impl FromStr for HostName {
    type Err = InvalidHostName;

    fn from_str(text: &str) -> Result<Self, InvalidHostName> {
        let (name, is_exact) = text.strip_prefix("*.").map_or((text, true), |name| (name, false));
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if !name.split('.').all(is_label) {
            return Err(InvalidHostName);
        }
        Ok(if is_exact { Self::Exact(name.to_owned()) } else { Self::Below(format!(".{name}")) })
    }
}

impl HostName {
    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host.eq_ignore_ascii_case(name),
            Self::Below(suffix) => {
                let at = host.len().checked_sub(suffix.len()).filter(|at| *at > 0);
                at.is_some_and(|at| host[at..].eq_ignore_ascii_case(suffix))
            }
        }
    }
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRefusal {
    /// The listener does not serve this host.
    Unknown,
    /// The request has no host, or several
    /// ([RFC 9112, section 3.2](https://www.rfc-editor.org/rfc/rfc9112#section-3.2)).
    Malformed,
}

impl HostRefusal {
    pub fn status(self) -> StatusCode {
        match self {
            Self::Unknown => StatusCode::MISDIRECTED_REQUEST,
            Self::Malformed => StatusCode::BAD_REQUEST,
        }
    }
}

impl Hosts {
    pub fn new(names: impl IntoIterator<Item = HostName>) -> Self {
        Self { names: names.into_iter().collect(), ..Self::default() }
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("unknown_hosts", "Requests refused for their Host header", self.refused.clone());
    }

    /// Refuses a request unless it is for one of these hosts. HTTP/1.0 needs none: browsers always send it.
    pub fn check(&self, version: Version, headers: &HeaderMap) -> Result<(), HostRefusal> {
        let mut hosts = headers.get_all(HOST).iter();
        let refusal = match (hosts.next(), hosts.next()) {
            (Some(host), None) if self.usual.get().is_some_and(|usual| **usual == *host.as_bytes()) => return Ok(()),
            (Some(host), None) if self.serves(host) => {
                self.usual.get_or_init(|| host.as_bytes().into());
                return Ok(());
            }
            (Some(host), None) => {
                self.warn(host);
                HostRefusal::Unknown
            }
            (None, _) if version < Version::HTTP_11 => return Ok(()),
            _ => HostRefusal::Malformed,
        };
        self.refused.inc();
        Err(refusal)
    }

    fn serves(&self, host: &HeaderValue) -> bool {
        let Ok(host) = host.to_str() else { return false };
        let (name, port) = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).unwrap_or((host, ""));
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
        if let Some(address) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let name = name.strip_suffix('.').unwrap_or(name);
        name.eq_ignore_ascii_case("localhost")
            || self.names.iter().any(|known| known.matches(name))
            || name.parse::<Ipv4Addr>().is_ok()
    }

    /// Logs the first refusal only, since anybody can cause them.
    fn warn(&self, host: &HeaderValue) {
        let host = String::from_utf8_lossy(&host.as_bytes()[..host.len().min(MAX_LOGGED_BYTES)]);
        if self.warned.set(()).is_ok() {
            tracing::warn!(?host, "request for an unknown host refused; see --allowed-hosts; further ones are counted");
        } else {
            tracing::debug!(?host, "request for an unknown host refused");
        }
    }
}

/// The longest DNS name.
const MAX_LOGGED_BYTES: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts::new(["keymark", "*.Internal.example", "10-0-0-1.pod"].map(|name| name.parse().unwrap()))
    }

    fn check(hosts: &Hosts, version: Version, values: &[&str]) -> Result<(), HostRefusal> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HOST, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        hosts.check(version, &headers)
    }

    #[test]
    fn addresses_and_known_names_are_served_and_no_others() {
        for (served, values) in [
            (
                true,
                &[
                    "localhost",
                    "LOCALHOST:8080",
                    "localhost.",
                    "127.0.0.1",
                    "127.8.9.10:8081",
                    "[::1]",
                    "[::1]:8080",
                    "192.0.2.1:443",
                    "[2001:db8::1]:8080",
                    "keymark",
                    "Keymark:8081",
                    "keymark.:8081",
                    "a.internal.example",
                    "A.B.INTERNAL.EXAMPLE:1",
                    "10-0-0-1.pod",
                ][..],
            ),
            (
                false,
                &[
                    "",
                    ":8080",
                    ".",
                    "rebound.example",
                    "keymark.rebound.example",
                    "xkeymark",
                    "internal.example",
                    ".internal.example",
                    "xinternal.example",
                    "internal.example.evil.example",
                    "localhost.evil.example",
                    "127.0.0.1.evil.example",
                    "evil.example:127.0.0.1",
                    "localhost:80@evil.example",
                    "evil.example#localhost",
                    "127.0.0.1:80:80",
                    "::1",
                    "[::1",
                    "[localhost]",
                    "[::1].evil.example",
                    "127.1",
                    "0x7f.0.0.1",
                    "localhost localhost",
                    "lo\u{441}alhost",
                ],
            ),
        ] {
            for value in values {
                let expected = if served { Ok(()) } else { Err(HostRefusal::Unknown) };
                // Whether or not another host was served before.
                let hosts = hosts();
                for _ in 0..2 {
                    assert_eq!(check(&hosts, Version::HTTP_11, &[value]), expected, "{value}");
                    assert_eq!(check(&hosts, Version::HTTP_11, &["127.0.0.1"]), Ok(()));
                }
            }
        }
        assert_eq!(check(&Hosts::default(), Version::HTTP_11, &["keymark"]), Err(HostRefusal::Unknown));
    }

    #[test]
    fn one_host_is_required_since_http_1_1() {
        let hosts = hosts();
        assert_eq!(check(&hosts, Version::HTTP_10, &[]), Ok(()));
        assert_eq!(check(&hosts, Version::HTTP_10, &["evil.example"]), Err(HostRefusal::Unknown));
        assert_eq!(check(&hosts, Version::HTTP_11, &[]), Err(HostRefusal::Malformed));
        for values in [["localhost", "localhost"], ["localhost", "evil.example"], ["evil.example", "localhost"]] {
            for version in [Version::HTTP_10, Version::HTTP_11] {
                assert_eq!(check(&hosts, version, &values), Err(HostRefusal::Malformed));
            }
        }
    }

    #[test]
    fn names_are_without_scheme_port_and_other_wildcards() {
        for text in
            ["", "*", "*.", "*.*.example.com", "a..b", ".a", "a.", "a:80", "http://a", "a/b", "[::1]", "é.example"]
        {
            assert_eq!(text.parse::<HostName>(), Err(InvalidHostName), "{text}");
        }
        assert_eq!("*.a_b.example".parse(), Ok(HostName::Below(".a_b.example".to_owned())));
    }
}
