//! Proxies in front of the listener: the client's address, and the origin that browsers see.

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use http::request::Parts;
use ipnet::IpNet;

use super::hosts::Hosts;
use crate::graphql::context::SessionCookie;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The configured proxies and origins. Forwarded headers are ignored unless a trusted proxy sends them.
#[derive(Clone, Debug, Default)]
pub struct Front {
    /// `scheme://host[:port]` as browsers see it, if requests do not carry it.
    pub public_origin: Option<String>,
    /// Peers whose forwarded headers are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Other origins whose pages may use the API with bearer tokens.
    pub allowed_origins: Vec<String>,
    /// The hosts that the listener serves.
    pub hosts: Hosts,
    /// Whether the listener terminates TLS itself.
    pub is_tls: bool,
}

/// The origin of a request, from its `Origin` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOrigin {
    /// No `Origin`: not a browser, or a request that only reads.
    Absent,
    Own,
    /// Another origin, listed as allowed.
    Allowed,
    Foreign,
}

impl Front {
    /// The client's address: the peer's, or, behind trusted proxies, the last one in `X-Forwarded-For` that is not a
    /// trusted proxy.
    pub fn client_address(&self, parts: &Parts) -> Option<IpAddr> {
        peer(parts).map(|peer| self.client_behind(peer, &parts.headers))
    }

    /// The same, for a peer in canonical form.
    pub fn client_behind(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trusts(peer) {
            return peer;
        }
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let mut client = peer;
        for hop in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
            // If a hop cannot be parsed, those before it cannot be trusted either. Those after it can: a proxy appends to
            // whatever its client has sent.
            let Some(address) = str::from_utf8(hop).ok().and_then(|hop| hop.trim().parse::<IpAddr>().ok()) else {
                break;
            };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    /// Our own origin, as the browser sees it.
    fn own_origin(&self, parts: &Parts) -> Option<String> {
        if let Some(origin) = &self.public_origin {
            return Some(origin.clone());
        }
        let trusted = peer(parts).is_some_and(|peer| self.trusts(peer));
        let forwarded = |name| if trusted { single(&parts.headers, name) } else { None };
        let host = forwarded(X_FORWARDED_HOST).or_else(|| single(&parts.headers, HOST))?;
        let scheme = forwarded(X_FORWARDED_PROTO).unwrap_or(if self.is_tls { "https" } else { "http" });
        Some(format!("{scheme}://{host}").to_ascii_lowercase())
    }

    pub fn origin_of(&self, parts: &Parts) -> RequestOrigin {
        if !parts.headers.contains_key(ORIGIN) {
            return RequestOrigin::Absent;
        }
        let Some(origin) = single(&parts.headers, ORIGIN) else { return RequestOrigin::Foreign };
        if self.own_origin(parts).is_some_and(|own| own == origin.to_ascii_lowercase()) {
            RequestOrigin::Own
        } else if self.allowed_origins.iter().any(|allowed| allowed == origin) {
            RequestOrigin::Allowed
        } else {
            RequestOrigin::Foreign
        }
    }

    /// Says why a request is refused for its `Origin`: what was received and expected, and which setting to change.
    pub fn describe_foreign_origin(&self, parts: &Parts, has_cookie: bool) -> String {
        let received = single(&parts.headers, ORIGIN).filter(|origin| is_origin(origin));
        let shown = received.unwrap_or("an unreadable origin");
        if self.origin_of(parts) == RequestOrigin::Allowed {
            return format!(
                "The request comes from {shown}, which --allowed-origins admits with a bearer token, and not with the \
                 console's cookie. Send `Authorization: Bearer <token>`, and no cookie."
            );
        }
        let own = self.own_origin(parts).filter(|own| is_origin(own));
        let expected = own.map(|own| format!(", and the console's own is {own}")).unwrap_or_default();
        let then = if has_cookie { ", and use a bearer token instead of the cookie" } else { "" };
        match received {
            Some(received) if received.starts_with("http") => format!(
                "The request comes from {received}, which is not allowed{expected}. If browsers open the console at this \
                 address, set --public-origin to {received}. If it is another frontend, list its origin in \
                 --allowed-origins{then}."
            ),
            _ => format!(
                "The request comes from {shown}, which is not allowed{expected}. Serve the page over HTTPS and list \
                 its origin in --allowed-origins{then}."
            ),
        }
    }

    /// Returns true if browsers use the public origin, or else the listener, over TLS.
    pub fn is_https(&self) -> bool {
        self.public_origin.as_ref().map_or(self.is_tls, |origin| origin.starts_with("https://"))
    }

    /// The session cookie for the scheme that browsers use.
    pub fn cookie(&self, parts: &Parts) -> SessionCookie {
        let secure = self.own_origin(parts).is_some_and(|origin| origin.starts_with("https://"));
        SessionCookie { secure }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

/// What browsers send as the origin of a page that has none, such as a file.
const NO_ORIGIN: &str = "null";

/// The scheme, a DNS name of 253 characters, and the port.
const MAX_ORIGIN_BYTES: usize = 280;

/// Whether the text is a serialized origin
/// ([RFC 6454, section 6.2](https://www.rfc-editor.org/rfc/rfc6454#section-6.2)), and so safe in a message.
fn is_origin(text: &str) -> bool {
    let is_name = |name: &str, others: &[u8]| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || others.contains(&byte))
    };
    let has_parts = |scheme: &str, rest: &str| {
        let (host, port) = rest.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).unwrap_or((rest, "0"));
        let is_address = host.starts_with('[') && host.ends_with(']');
        let is_host = is_name(host, b".-_") || (is_address && is_name(&host[1..host.len() - 1], b":"));
        is_name(scheme, b"+.-") && is_host && port.parse::<u16>().is_ok()
    };
    text.len() <= MAX_ORIGIN_BYTES
        && (text == NO_ORIGIN || text.split_once("://").is_some_and(|(scheme, rest)| has_parts(scheme, rest)))
}

/// The address of the connection's peer.
pub fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip().to_canonical())
}

/// The token of `Bearer` credentials.
pub fn bearer(authorization: &str) -> Option<&str> {
    let credentials = authorization.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"));
    credentials.map(|(_, token)| token.trim())
}

/// The value of a header that is present exactly once.
pub fn single(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parts(peer: &str, headers: &[(&'static str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri("/graphql");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        parts.extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        parts
    }

    fn behind_proxy() -> Front {
        Front { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..Front::default() }
    }

    #[test]
    fn forwarded_addresses_are_believed_of_trusted_proxies_alone() {
        let address = |front: &Front, peer, forwarded| {
            front.client_address(&parts(peer, &[("x-forwarded-for", forwarded)])).unwrap().to_string()
        };
        assert_eq!(address(&Front::default(), "192.0.2.1", "198.51.100.7"), "192.0.2.1");
        assert_eq!(address(&behind_proxy(), "192.0.2.1", "198.51.100.7"), "192.0.2.1");
        assert_eq!(address(&behind_proxy(), "10.0.0.1", "198.51.100.7"), "198.51.100.7");
        assert_eq!(address(&behind_proxy(), "10.0.0.1", "203.0.113.9, 198.51.100.7, 10.0.0.2"), "198.51.100.7");
        assert_eq!(address(&behind_proxy(), "10.0.0.1", "198.51.100.7, nonsense"), "10.0.0.1");
        // No UTF-8, which the header of a parsed request may have.
        let address_of = |lines: [&[u8]; 2]| {
            let mut parts = parts("10.0.0.1", &[]);
            for line in lines {
                parts.headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(line).unwrap());
            }
            behind_proxy().client_address(&parts).unwrap().to_string()
        };
        assert_eq!(address_of([b"203.0.113.9", b"\xff, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(address_of([b"203.0.113.9", b"\xff"]), "10.0.0.1");
        assert_eq!(address(&behind_proxy(), "::ffff:10.0.0.1", "2001:db8::7"), "2001:db8::7");
    }

    #[test]
    fn our_own_origin_is_what_the_browser_sees() {
        let origin = |front: &Front, peer, headers: &[(&'static str, &str)]| front.origin_of(&parts(peer, headers));
        let plain = Front::default();
        let host = ("host", "keymark.test:8080");
        assert_eq!(origin(&plain, "127.0.0.1", &[host]), RequestOrigin::Absent);
        assert_eq!(origin(&plain, "127.0.0.1", &[host, ("origin", "http://keymark.test:8080")]), RequestOrigin::Own);
        for foreign in ["https://keymark.test:8080", "http://keymark.test", "http://evil.test", "null", ""] {
            assert_eq!(origin(&plain, "127.0.0.1", &[host, ("origin", foreign)]), RequestOrigin::Foreign, "{foreign}");
        }
        let forwarded = [
            host,
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "key.example"),
            ("origin", "https://key.example"),
        ];
        assert_eq!(origin(&behind_proxy(), "10.0.0.1", &forwarded), RequestOrigin::Own);
        assert_eq!(origin(&plain, "10.0.0.1", &forwarded), RequestOrigin::Foreign);
        let public = Front { public_origin: Some("https://key.example".to_owned()), ..Front::default() };
        assert_eq!(origin(&public, "127.0.0.1", &[host, ("origin", "https://key.example")]), RequestOrigin::Own);
        assert!(public.cookie(&parts("127.0.0.1", &[host])).secure);
        assert!(!plain.cookie(&parts("127.0.0.1", &[host])).secure);
        let tls = Front { is_tls: true, ..Front::default() };
        assert_eq!(origin(&tls, "127.0.0.1", &[host, ("origin", "https://keymark.test:8080")]), RequestOrigin::Own);
        assert!(tls.cookie(&parts("127.0.0.1", &[host])).secure && tls.is_https() && !plain.is_https());
    }

    #[test]
    fn only_an_origin_is_quoted() {
        let long = format!("https://{}", "a".repeat(MAX_ORIGIN_BYTES));
        for (text, is_quoted) in [
            ("https://keys.example.com", true),
            ("http://localhost:5173", true),
            ("http://[::1]:8080", true),
            ("http://[::1]", true),
            ("chrome-extension://abcdef", true),
            ("null", true),
            ("", false),
            ("[", false),
            ("https://[", false),
            ("https://", false),
            ("keys.example.com", false),
            ("https://keys.example.com/", false),
            ("https://keys.example.com:99999", false),
            ("https://a.example, sign in at https://evil.example", false),
            ("https://<b>.example", false),
            (long.as_str(), false),
        ] {
            let message = Front::default().describe_foreign_origin(&parts("127.0.0.1", &[("origin", text)]), false);
            assert_eq!(is_origin(text), is_quoted, "{text}");
            assert_eq!(message.contains(&format!("from {text},")), is_quoted, "{message}");
        }
    }
}
