//! `keymark health`: checks that a running server is ready, for `HEALTHCHECK` in an image without a shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::header::HOST;
use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::print;
use crate::app::StartError;
use crate::config::Config;

/// Limit on connecting, the request and its response together.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Longest response that is printed.
const MAX_BODY_BYTES: usize = 1024;

const PATH: &str = "/readyz";

/// An `http` or `https` URL. Without a path, it is that of the readiness.
#[derive(Clone, Debug)]
pub(super) struct HealthUrl(Uri);

impl FromStr for HealthUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("{error}"))?;
        let is_http = uri.scheme().is_some_and(|scheme| [Scheme::HTTP, Scheme::HTTPS].contains(scheme));
        if !is_http || uri.host().is_none_or(str::is_empty) {
            return Err(format!("expected a URL such as http://127.0.0.1:8080{PATH}"));
        }
        let mut parts = uri.into_parts();
        if parts.path_and_query.as_ref().is_none_or(|path| path == "/") {
            parts.path_and_query = Some(PATH.parse().expect("a path"));
        }
        Uri::from_parts(parts).map(Self).map_err(|error| error.to_string())
    }
}

impl HealthUrl {
    /// The readiness of the server that has this configuration, on this machine.
    fn of(config: &Config) -> Self {
        let ip = match config.listen.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
            ip => ip,
        };
        let address = SocketAddr::new(ip, config.listen.port());
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        Self(format!("{scheme}://{address}{PATH}").parse().expect("a URL"))
    }

    fn is_https(&self) -> bool {
        self.0.scheme() == Some(&Scheme::HTTPS)
    }

    async fn get(&self) -> Result<Response<Incoming>, String> {
        let host = self.0.host().expect("checked").trim_matches(['[', ']']);
        let port = self.0.port_u16().unwrap_or(if self.is_https() { 443 } else { 80 });
        let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
        let response = if self.is_https() {
            let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
            let stream = connector().connect(name, stream).await.map_err(|error| error.to_string())?;
            self.get_over(stream).await
        } else {
            self.get_over(stream).await
        };
        response.map_err(|error| error.to_string())
    }

    async fn get_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> hyper::Result<Response<Incoming>> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Reports its errors to the sender and to the body too.
        tokio::spawn(connection);
        let path = self.0.path_and_query().map_or(PATH, |path| path.as_str());
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        let request = Request::get(path).header(HOST, authority).body(Body::empty()).expect("parts of a URL");
        sender.send_request(request).await
    }
}

/// Accepts any certificate: it is issued for a public name, not for the address of this machine, and the request contains
/// nothing secret.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

fn connector() -> TlsConnector {
    let provider = ring::default_provider();
    let config = ClientConfig::builder_with_provider(Arc::new(provider.clone())).with_safe_default_protocol_versions();
    let config = config.expect("ring has the ciphers of all versions").dangerous();
    let config = config.with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))).with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Prints the response, and succeeds if its status is 200.
pub(super) async fn run(config: &Config, url: Option<HealthUrl>) -> Result<(), StartError> {
    let url = url.unwrap_or_else(|| HealthUrl::of(config));
    match check(&url).await {
        Ok(text) => print(format_args!("{text}\n")),
        Err(reason) => Err(StartError::Failed(format!("not ready: {}: {reason}", url.0))),
    }
}

async fn check(url: &HealthUrl) -> Result<String, String> {
    let response = async {
        let response = url.get().await?;
        let status = response.status();
        let body = Limited::new(response, MAX_BODY_BYTES).collect().await.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
        if status == StatusCode::OK { Ok(text) } else { Err(format!("{status}: {text}")) }
    };
    timeout(TIMEOUT, response).await.unwrap_or_else(|_| Err(format!("no response within {} s", TIMEOUT.as_secs())))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn server_that_does_not_respond_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        assert_eq!(check(&url).await, Err("no response within 5 s".to_owned()));
    }

    #[test]
    fn url_without_a_path_is_that_of_the_readiness() {
        for (text, url) in [
            ("http://keymark", "http://keymark/readyz"),
            ("http://[::1]:8080/", "http://[::1]:8080/readyz"),
            ("http://127.0.0.1:8081/healthz", "http://127.0.0.1:8081/healthz"),
        ] {
            assert_eq!(text.parse::<HealthUrl>().unwrap().0, url, "{text}");
        }
        for text in ["", "keymark", "keymark:8080", "ftp://keymark", "http://", "/readyz"] {
            assert!(text.parse::<HealthUrl>().is_err(), "{text}");
        }
    }
}
