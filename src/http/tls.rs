//! TLS of a listener: its certificate and key, and the CA of the clients' certificates, reloaded when their files change.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use x509_cert::der::Decode;
use zeroize::Zeroizing;

use crate::domain::time::Timestamp;
use crate::metrics::TlsMetrics;

/// The name of HTTP/1.1 in ALPN ([RFC 7301, section 6](https://www.rfc-editor.org/rfc/rfc7301#section-6)).
const HTTP_1_1: &[u8] = b"http/1.1";

/// A file, and the setting that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFile {
    pub setting: &'static str,
    pub path: PathBuf,
}

/// The files of a listener, all in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate of the listener, followed by the intermediate ones.
    pub certificate: TlsFile,
    pub key: TlsFile,
    /// The CAs of the clients' certificates. `None`: clients present none.
    pub client_ca: Option<TlsFile>,
}

/// A file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct TlsError {
    pub setting: &'static str,
    pub reason: String,
}

impl TlsFile {
    fn read(&self) -> Result<Zeroizing<Vec<u8>>, TlsError> {
        std::fs::read(&self.path).map(Zeroizing::new).map_err(|error| self.error(error))
    }

    fn error(&self, reason: impl std::fmt::Display) -> TlsError {
        TlsError { setting: self.setting, reason: format!("{}: {reason}", self.path.display()) }
    }

    fn certificates(&self, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| self.error(error))?;
        if certificates.is_empty() { Err(self.error("contains no certificate in PEM")) } else { Ok(certificates) }
    }

    fn private_key(&self, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
            pem::Error::NoItemsFound if pem.windows(ENCRYPTED.len()).any(|text| text == ENCRYPTED) => {
                self.error("the key is encrypted; write it without a passphrase, readable by Keymark alone")
            }
            pem::Error::NoItemsFound => self.error("contains no private key in PEM"),
            error => self.error(error),
        })
    }
}

const ENCRYPTED: &[u8] = b"BEGIN ENCRYPTED PRIVATE KEY";

/// What the files contained when they were read.
struct TlsContents {
    certificate: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    client_ca: Option<Zeroizing<Vec<u8>>>,
}

impl TlsFiles {
    /// Checks that the files can be used. Returns when the certificate expires.
    pub fn check(&self) -> Result<Timestamp, TlsError> {
        self.load(&self.read()?).map(|loaded| loaded.not_after)
    }

    fn read(&self) -> Result<TlsContents, TlsError> {
        Ok(TlsContents {
            certificate: self.certificate.read()?,
            key: self.key.read()?,
            client_ca: self.client_ca.as_ref().map(TlsFile::read).transpose()?,
        })
    }

    fn load(&self, contents: &TlsContents) -> Result<Loaded, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = self.certificate.certificates(&contents.certificate)?;
        let key = self.key.private_key(&contents.key)?;
        let Some(not_after) = not_after(&chain[0]) else {
            return Err(self.certificate.error("the first certificate cannot be read"));
        };
        let client_verifier = match (&self.client_ca, &contents.client_ca) {
            (Some(file), Some(pem)) => Some(client_verifier(file, pem, &provider)?),
            _ => None,
        };
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| self.certificate.error(error))?;
        let config = match &client_verifier {
            Some(verifier) => config.with_client_cert_verifier(Arc::clone(verifier)),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => self
                .key
                .error(format_args!("does not belong to the certificate in {}", self.certificate.path.display())),
            error => self.key.error(error),
        })?;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        Ok(Loaded { acceptor: TlsAcceptor::from(Arc::new(config)), client_verifier, not_after })
    }
}

/// Verifies the certificates of clients that present one.
fn client_verifier(
    file: &TlsFile,
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in file.certificates(pem)? {
        roots.add(certificate).map_err(|error| file.error(error))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    verifier.allow_unauthenticated().build().map_err(|error| file.error(error))
}

/// The end of a certificate's validity.
fn not_after(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let end = certificate.tbs_certificate.validity.not_after.to_unix_duration();
    Some(Timestamp::from_millis(i64::try_from(end.as_millis()).ok()?))
}

impl TlsContents {
    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for content in [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()].into_iter().flatten() {
            digest.update(content.len().to_be_bytes());
            digest.update(content.as_slice());
        }
        digest.finalize().into()
    }
}

struct Loaded {
    acceptor: TlsAcceptor,
    client_verifier: Option<Arc<dyn ClientCertVerifier>>,
    not_after: Timestamp,
}

/// TLS 1.2 and 1.3 with the content of files. New connections use the files that were loaded last; open ones continue.
pub struct Tls {
    files: TlsFiles,
    loaded: ArcSwap<Loaded>,
    /// The outcome of the last read: the digest of what was read, whether or not it could be used.
    last_read: Mutex<Result<[u8; 32], TlsError>>,
    metrics: TlsMetrics,
}

impl Tls {
    /// Reads the files. `now` is for a warning if the certificate has expired.
    pub fn load(files: TlsFiles, metrics: TlsMetrics, now: Timestamp) -> Result<Arc<Self>, TlsError> {
        let contents = files.read()?;
        let loaded = files.load(&contents)?;
        let last_read = Mutex::new(Ok(contents.digest()));
        let tls = Self { files, loaded: ArcSwap::from_pointee(loaded), last_read, metrics };
        tls.report(&tls.loaded.load(), now);
        Ok(Arc::new(tls))
    }

    /// Reads the files again, and uses them from the next connection on. If they cannot be used, such as a certificate
    /// whose key is not written yet, the ones before stay in use. Files that have not changed are left alone.
    pub fn reload(&self, now: Timestamp) {
        let read = self.files.read();
        let digest = read.as_ref().map(TlsContents::digest).map_err(Clone::clone);
        let mut last_read = self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        if *last_read == digest {
            return;
        }
        *last_read = digest;
        let certificate = self.files.certificate.path.display();
        match read.and_then(|contents| self.files.load(&contents)) {
            Ok(loaded) => {
                let loaded = Arc::new(loaded);
                self.loaded.store(Arc::clone(&loaded));
                self.metrics.reloaded.inc();
                // Whoever reads this may rely on it.
                tracing::info!(%certificate, expires_at = %loaded.not_after, "TLS certificate reloaded");
                self.report(&loaded, now);
            }
            Err(error) => {
                tracing::warn!(%error, "TLS certificate not reloaded; the one before stays in use");
                self.metrics.reloads_failed.inc();
            }
        }
    }

    fn report(&self, loaded: &Loaded, now: Timestamp) {
        let expires_at = loaded.not_after;
        self.metrics.expiry.set(expires_at.as_millis() / 1000);
        if expires_at <= now {
            let certificate = self.files.certificate.path.display();
            tracing::warn!(%certificate, %expires_at, "TLS certificate has expired; clients refuse it");
        }
    }

    /// Performs a handshake, for `limit` at most.
    pub(super) async fn accept(
        self: &Arc<Self>,
        stream: TcpStream,
        limit: Duration,
    ) -> io::Result<(TlsStream, Option<ClientCertificate>)> {
        let mut first = [0];
        let handshake = async {
            if stream.peek(&mut first).await? == 1 && first != [HANDSHAKE] {
                respond_in_plain_text(stream);
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not use TLS"));
            }
            let loaded = self.loaded.load_full();
            let stream = loaded.acceptor.accept(stream).await?;
            let certificate = self.client_certificate(stream.get_ref().1, loaded);
            Ok((stream, certificate))
        };
        let opened = timeout(limit, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if opened.is_err() {
            self.metrics.handshakes_failed.inc();
        }
        opened
    }

    fn client_certificate(self: &Arc<Self>, tls: &ServerConnection, loaded: Arc<Loaded>) -> Option<ClientCertificate> {
        let chain: Vec<_> =
            tls.peer_certificates()?.iter().map(|certificate| certificate.clone().into_owned()).collect();
        let not_after = not_after(chain.first()?)?;
        Some(ClientCertificate { tls: Arc::clone(self), chain, not_after, verified: Mutex::new(loaded) })
    }
}

/// The first byte of a handshake ([RFC 8446, section 5.1](https://www.rfc-editor.org/rfc/rfc8446#section-5.1)).
const HANDSHAKE: u8 = 22;

/// The response to a client that sends plain HTTP.
const TLS_REQUIRED: &[u8] = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\
    content-length: 28\r\n\r\nThis port serves HTTPS only.";

/// Responds, if the connection takes it, and closes.
fn respond_in_plain_text(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        // Closing a socket with unread bytes would discard the response.
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(TLS_REQUIRED);
    }
}

pub(super) type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// The certificate that a client presented in its handshake, and whose key it has.
pub struct ClientCertificate {
    tls: Arc<Tls>,
    /// Begins with the client's own.
    chain: Vec<CertificateDer<'static>>,
    not_after: Timestamp,
    /// The files under which it was last verified.
    verified: Mutex<Arc<Loaded>>,
}

impl ClientCertificate {
    /// Whether the certificate has not expired, and a CA that is configured now has issued it. So a connection outlives
    /// neither its certificate nor a CA that is removed.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        if now >= self.not_after {
            return false;
        }
        let loaded = self.tls.loaded.load();
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&verified, &loaded) {
            return true;
        }
        let since_epoch = Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(0));
        let is_valid = loaded.client_verifier.as_ref().is_some_and(|verifier| {
            verifier
                .verify_client_cert(&self.chain[0], &self.chain[1..], UnixTime::since_unix_epoch(since_epoch))
                .is_ok()
        });
        if is_valid {
            *verified = Arc::clone(&loaded);
        }
        is_valid
    }
}
