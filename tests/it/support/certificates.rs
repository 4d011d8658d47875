//! Certificates made by openssl, and a client that speaks HTTP over TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::process::directory;
use super::within;

const EXTENSIONS: &str = "
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical,CA:TRUE
[leaf]
basicConstraints = critical,CA:FALSE
subjectAltName = DNS:localhost,IP:127.0.0.1
extendedKeyUsage = serverAuth,clientAuth
";

/// A CA, with its files in a directory of its own.
pub struct Authority {
    directory: TempDir,
}

/// The files of a certificate.
pub struct Issued {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let authority = Self { directory: directory() };
        std::fs::write(authority.path("extensions"), EXTENSIONS).expect("written");
        let arguments = "req -x509 -extensions authority -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                         -config extensions -keyout ca.key -out ca.pem -subj /CN=authority";
        authority.openssl(arguments);
        authority
    }

    /// The file with its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A certificate for localhost that is valid for two days.
    pub fn issue(&self, name: &str) -> Issued {
        self.issue_for(name, 2)
    }

    /// A certificate that expired a day ago.
    pub fn issue_expired(&self, name: &str) -> Issued {
        self.issue_for(name, -1)
    }

    fn issue_for(&self, name: &str, days: i32) -> Issued {
        self.openssl(&format!(
            "req -config extensions -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr \
             -subj /CN={name}"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days {days} -extfile extensions -extensions leaf -out \
             {name}.pem"
        ));
        Issued { certificate: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) }
    }

    /// Runs openssl in the directory.
    pub fn openssl(&self, arguments: &str) {
        let output =
            Command::new("openssl").args(arguments.split_whitespace()).current_dir(self.directory.path()).output();
        let output = output.expect("scripts/need.sh installs openssl");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A client that trusts this CA, and presents a certificate if it has one.
    pub fn connector(&self, identity: Option<&Issued>) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.certificate()).expect("PEM")).expect("a CA");
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(Issued { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).expect("PEM")];
                config.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key).expect("PEM")).expect("a key")
            }
        };
        Arc::new(config).into()
    }
}

impl Issued {
    /// Replaces the files of a server, each by renaming, as a kubelet or certbot does.
    pub fn replace(&self, certificate: &Path, key: &Path) {
        for (from, to) in [(&self.certificate, certificate), (&self.key, key)] {
            let draft = to.with_extension("draft");
            std::fs::copy(from, &draft).expect("copied");
            std::fs::rename(draft, to).expect("renamed");
        }
    }
}

/// A response with its head as text.
pub struct TlsAnswer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl TlsAnswer {
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// A kept connection over TLS.
pub struct TlsClient {
    stream: TlsStream<TcpStream>,
}

impl TlsClient {
    pub async fn connect(connector: &TlsConnector, address: SocketAddr) -> std::io::Result<Self> {
        let stream = within(TcpStream::connect(address)).await?;
        let name = ServerName::try_from("localhost").expect("a name");
        Ok(Self { stream: within(connector.connect(name, stream)).await? })
    }

    /// The certificate that the server presented.
    pub fn server_certificate(&self) -> CertificateDer<'static> {
        self.stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone().into_owned()
    }

    pub fn into_stream(self) -> TlsStream<TcpStream> {
        self.stream
    }

    pub async fn send(&mut self, text: &str) -> std::io::Result<()> {
        within(self.stream.write_all(text.as_bytes())).await?;
        within(self.stream.flush()).await
    }

    pub async fn receive(&mut self) -> std::io::Result<TlsAnswer> {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
                    return Ok(TlsAnswer { status, head: head.to_ascii_lowercase(), body: body.to_owned() });
                }
            }
            if within(self.stream.read_buf(&mut bytes)).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub async fn get(&mut self, path: &str) -> std::io::Result<TlsAnswer> {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await?;
        self.receive().await
    }

    /// Verifies a key.
    pub async fn verify(&mut self, api_key: &str) -> std::io::Result<TlsAnswer> {
        let body = serde_json::json!({ "apiKey": api_key }).to_string();
        let head = format!("POST /v1/verify HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
        self.send(&(head + &body)).await?;
        self.receive().await
    }
}
