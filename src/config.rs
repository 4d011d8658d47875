//! Configuration: flags, then `KEYMARK_…` variables, then `keymark.toml`, then defaults.
//!
//! All settings are read and checked before anything listens. An error is one line that names the setting.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::audit_text::verification::read_checkpoints;
use crate::auth::cost::Cost;
use crate::coherence::protocol::{Role, Timing, with_margin};
use crate::domain::checkpoints::Checkpoint;
use crate::domain::keys::KeyPrefix;
use crate::domain::leases::MAX_LEASE;
use crate::domain::quota::Quota;
use crate::domain::secrets::RootSecret;
use crate::domain::usage::UsageRetention;
use crate::http::front::Front;
use crate::http::hosts::{HostName, Hosts};
use crate::http::tls::{TlsError, TlsFile, TlsFiles};
use crate::http::verify::{Access, VerifierToken};
use crate::service;
use crate::service::concurrency::ConcurrencyLimits;

/// A setting is invalid, or required and missing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct ConfigError {
    setting: String,
    reason: String,
}

impl ConfigError {
    pub fn new(setting: impl Into<String>, reason: impl Display) -> Self {
        Self { setting: on_one_line(&setting.into()), reason: on_one_line(&reason.to_string()) }
    }
}

impl From<TlsError> for ConfigError {
    fn from(error: TlsError) -> Self {
        Self::new(error.setting, error.reason)
    }
}

/// Escapes control characters, which a quoted value may contain.
fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// Declares the settings, with their defaults: as flags with their variables, as keys of the file, and as the table in the
/// README.
macro_rules! settings {
    ($($(#[doc = $help:literal])+
        $field:ident, $flag:literal, $variable:literal, $default:literal $(, [$($arg:tt)+])?;)+) => {
        /// The values from the command line and the environment. No `Debug`, since the URI of MongoDB may contain a
        /// password.
        #[derive(Args, Clone, Default)]
        pub struct Flags {
            $(#[arg(
                long = $flag,
                env = $variable,
                value_name = "VALUE",
                hide_env_values = true,
                global = true,
                help_heading = "Settings",
                help = concat!($($help,)+ " [default: ", $default, "]").trim_start(),
                $($($arg)+)?
            )]
            $field: Option<String>,)+
        }

        /// The content of `keymark.toml`.
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct File {
            $($field: Option<Scalar>,)+
        }

        struct Settings {
            $($field: Setting,)+
        }

        impl Flags {
            /// The values of the flags, or else of the file.
            fn or(self, file: File) -> Settings {
                Settings {
                    $($field: Setting {
                        flag: concat!("--", $flag),
                        default: $default,
                        value: self.$field.or(file.$field.map(Scalar::text)),
                    },)+
                }
            }
        }

        /// Flag, variable and default of each setting.
        pub const SETTINGS: &[(&str, &str, &str)] = &[$((concat!("--", $flag), $variable, $default),)+];
    };
}

/// A setting, as it is before it is parsed.
struct Setting {
    flag: &'static str,
    default: &'static str,
    value: Option<String>,
}

impl Setting {
    fn value_or_default(&self) -> &str {
        self.value.as_deref().unwrap_or(self.default)
    }

    fn error(&self, reason: impl Display) -> ConfigError {
        ConfigError::new(self.flag, reason)
    }

    /// An error that quotes the value.
    fn invalid(&self, reason: impl Display) -> ConfigError {
        self.error(format!("`{}` {reason}", self.value_or_default()))
    }
}

settings! {
    /// Address of the console and the API.
    listen, "listen", "KEYMARK_LISTEN", "127.0.0.1:8080";
    /// Address of the verification endpoints and the metrics.
    verify_listen, "verify-listen", "KEYMARK_VERIFY_LISTEN", "127.0.0.1:8081";
    /// Certificate of `--listen` and the intermediate ones, in PEM. With it, the listener serves HTTPS only.
    tls_cert, "tls-cert", "KEYMARK_TLS_CERT", "none: plain HTTP";
    /// Private key of `--tls-cert`, in PEM and not encrypted.
    tls_key, "tls-key", "KEYMARK_TLS_KEY", "none";
    /// Certificate of `--verify-listen` and the intermediate ones, in PEM. With it, the listener serves HTTPS only.
    verify_tls_cert, "verify-tls-cert", "KEYMARK_VERIFY_TLS_CERT", "none: plain HTTP";
    /// Private key of `--verify-tls-cert`, in PEM and not encrypted.
    verify_tls_key, "verify-tls-key", "KEYMARK_VERIFY_TLS_KEY", "none";
    /// CAs whose client certificates may send verifications from any network, in PEM.
    verify_client_ca, "verify-client-ca", "KEYMARK_VERIFY_CLIENT_CA", "none";
    /// How long requests are still served after SIGTERM, while `/readyz` fails and connections are closed with their next
    /// response, so that load balancers notice: at most 5 minutes.
    drain_delay, "drain-delay", "KEYMARK_DRAIN_DELAY", "0s";
    /// Directory of the embedded store, its secret and its socket.
    data_dir, "data-dir", "KEYMARK_DATA_DIR", "keymark-data";
    /// MiB of memory for pages of the embedded store's file.
    store_cache_mib, "store-cache-mib", "KEYMARK_STORE_CACHE_MIB", "4";
    /// A MongoDB replica set to use instead of the embedded store.
    mongodb_uri, "mongodb-uri", "KEYMARK_MONGODB_URI", "none: the embedded store";
    /// Name of the database in MongoDB.
    mongodb_database, "mongodb-database", "KEYMARK_MONGODB_DATABASE", "keymark";
    /// Prefix of new keys. Keys with any prefix are verified.
    key_prefix, "key-prefix", "KEYMARK_KEY_PREFIX", "km";
    /// Networks that may send verifications, separated by commas.
    verify_allow, "verify-allow", "KEYMARK_VERIFY_ALLOW", "none: loopback only";
    /// How long an instance may use its cache without confirmation by the store. 0: every verification reads the store.
    /// May differ between instances.
    lease, "lease", "KEYMARK_LEASE", "12s";
    /// How often the lease is renewed. At most a quarter of the lease.
    probe_interval, "probe-interval", "KEYMARK_PROBE_INTERVAL", "1s";
    /// How long a change waits to be confirmed as enforced on every instance.
    enforcement_wait, "enforcement-wait", "KEYMARK_ENFORCEMENT_WAIT", "the longest lease and its margin";
    /// How long a session lasts.
    session_lifetime, "session-lifetime", "KEYMARK_SESSION_LIFETIME", "12h";
    /// Cost of hashing a password with argon2id: memory in KiB, passes and lanes. `keymark doctor` measures it, and finds
    /// one that takes 50 to 100 ms. Each password is hashed anew when its operator signs in.
    password_cost, "password-cost", "KEYMARK_PASSWORD_COST", "m=19456,t=2,p=1";
    /// How long a session may be unused before it ends, such as 30m: off, or 2 minutes at least.
    session_idle, "session-idle", "KEYMARK_SESSION_IDLE", "off";
    /// Calls of the API that one service token may make in a second on one instance, on average; five times as many at once.
    service_token_calls, "service-token-calls", "KEYMARK_SERVICE_TOKEN_CALLS", "200";
    /// Memory for answers of the API that are cached until their tenant's audit log grows, in MiB: 0 caches none.
    answer_cache_mib, "answer-cache-mib", "KEYMARK_ANSWER_CACHE_MIB", "16";
    /// How long a revoked key is reported as revoked; after that, as not found.
    revoked_retention, "revoked-retention", "KEYMARK_REVOKED_RETENTION", "90d";
    /// Rows in which the use of keys is counted that an instance writes to the store in a second: 3 for each key in use, up
    /// to every 10 s.
    usage_rows_per_second, "usage-rows-per-second", "KEYMARK_USAGE_ROWS_PER_SECOND", "500";
    /// How long the use of keys is kept by hour.
    usage_hours_retention, "usage-hours-retention", "KEYMARK_USAGE_HOURS_RETENTION", "8d";
    /// How long the use of keys is kept by day.
    usage_days_retention, "usage-days-retention", "KEYMARK_USAGE_DAYS_RETENTION", "400d";
    /// Origin in the browser, if it is not the listener's, such as `https://keys.example.com`.
    public_origin, "public-origin", "KEYMARK_PUBLIC_ORIGIN", "none";
    /// Let `--listen` serve plain HTTP beyond loopback, without a proxy that terminates TLS: on or off.
    insecure_http, "insecure-http", "KEYMARK_INSECURE_HTTP", "off",
        [num_args = 0..=1, require_equals = true, default_missing_value = "on"];
    /// Networks of proxies whose forwarded headers are trusted, separated by commas.
    trusted_proxies, "trusted-proxies", "KEYMARK_TRUSTED_PROXIES", "none";
    /// Origins of web pages that may use the API with bearer tokens, separated by commas.
    allowed_origins, "allowed-origins", "KEYMARK_ALLOWED_ORIGINS", "none";
    /// Host names of the listeners besides localhost and that of the public origin, such as keymark or *.example.com,
    /// separated by commas. IP addresses need not be listed.
    allowed_hosts, "allowed-hosts", "KEYMARK_ALLOWED_HOSTS", "none";
    /// Start although API keys need a root secret that is no longer given, and refuse them from then on: on or off.
    drop_keys_of_old_secrets, "drop-keys-of-old-secrets", "KEYMARK_DROP_KEYS_OF_OLD_SECRETS", "off",
        [num_args = 0..=1, require_equals = true, default_missing_value = "on"];
    /// Checkpoints that the audit logs must contain: a line that `keymark audit checkpoint` printed, or a file with such
    /// lines. Keymark does not serve a store without the entries that they were signed for, such as a restored backup.
    audit_checkpoint, "audit-checkpoint", "KEYMARK_AUDIT_CHECKPOINT", "none";
    /// Introspection and /schema.graphql: on or off.
    introspection, "introspection", "KEYMARK_INTROSPECTION", "on";
    /// The GraphiQL editor at /graphiql: on or off.
    graphiql, "graphiql", "KEYMARK_GRAPHIQL", "on";
    /// Log level (off, error, warn, info, debug or trace), or directives such as info,keymark::http=debug.
    log, "log", "KEYMARK_LOG", "info";
    /// Format of log lines: text or json.
    log_format, "log-format", "KEYMARK_LOG_FORMAT", "text";
}

/// Settings that are read from the environment only, since they are secrets: variable, default, and what it is.
pub const SECRETS: &[(&str, &str, &str)] = &[
    (
        "KEYMARK_SECRET",
        "created in the data directory (embedded); required (MongoDB)",
        "The root secret, from which all keys of Keymark are derived: 32 random bytes at least.",
    ),
    ("KEYMARK_SECRET_FILE", "none: a file that holds the secret instead", "A file that holds the root secret."),
    (
        "KEYMARK_PREVIOUS_SECRETS",
        "none",
        "Root secrets that were replaced and that API keys may still need, separated by commas.",
    ),
    (
        "KEYMARK_MONGODB_URI_FILE",
        "none: a file that holds the URI instead",
        "A file whose first line is the URI of MongoDB.",
    ),
    (
        "KEYMARK_INITIAL_ADMIN_PASSWORD",
        "generated and printed once (embedded); required (MongoDB)",
        "Password of the first operator, for the first start.",
    ),
    (
        "KEYMARK_VERIFIER_TOKEN",
        "none: loopback only",
        "Token with which gateways verify the keys of all tenants: 16 bytes at least.",
    ),
];

/// Variables of Keymark's clients and tests, which may be set where the server or a command runs.
const OTHER_VARIABLES: &[&str] = &[
    "KEYMARK_CONFIG",
    "KEYMARK_OPERATOR",
    "KEYMARK_URL",
    "KEYMARK_TOKEN",
    "KEYMARK_USERNAME",
    "KEYMARK_PASSWORD",
    "KEYMARK_BIN",
    "KEYMARK_CHROMIUM",
];

/// Refuses variables that look like settings and are none, like unknown keys of the file: a mistyped name would leave a
/// restriction unset.
///
/// # Errors
///
/// Names the first one.
pub fn check_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(), ConfigError> {
    let settings = SETTINGS.iter().map(|(_, variable, _)| *variable);
    let secrets = SECRETS.iter().map(|(variable, ..)| *variable);
    let known: BTreeSet<&str> = settings.chain(secrets).chain(OTHER_VARIABLES.iter().copied()).collect();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("KEYMARK_")) else { continue };
        if !known.contains(name) && !is_service_link(name, &value) {
            return Err(ConfigError::new(name, "is not a setting; `keymark serve --help` lists the variables"));
        }
    }
    Ok(())
}

/// Returns true for a variable that Kubernetes or Docker sets for a service named keymark or keymark-something, such as
/// `KEYMARK_PORT=tcp://10.0.0.1:8080`
/// (<https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>).
fn is_service_link(name: &str, value: &OsStr) -> bool {
    let is_url = value.to_str().is_some_and(|value| value.contains("://"));
    let of_port = name.split_once("_PORT_").map(|(_, port)| port);
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT") && is_url
        || of_port.is_some_and(|port| port.starts_with(|c: char| c.is_ascii_digit()))
}

/// The file that is read without `--config`.
const FILE_NAME: &str = "keymark.toml";

/// A value in the file: text, or a boolean or number without quotes.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected text, a number, or true or false")]
enum Scalar {
    Text(String),
    Switch(bool),
    Number(i64),
}

impl Scalar {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Switch(on) => if on { "on" } else { "off" }.to_owned(),
            Self::Number(number) => number.to_string(),
        }
    }
}

pub enum StoreConfig {
    Embedded { directory: PathBuf, cache_bytes: usize },
    Mongo { uri: Zeroizing<String>, database: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// A valid configuration. [`default`](Self::default) has the defaults of all settings.
pub struct Config {
    pub listen: SocketAddr,
    pub verify_listen: SocketAddr,
    /// The TLS of `listen`. `None`: plain HTTP.
    pub tls: Option<TlsFiles>,
    pub verify_tls: Option<TlsFiles>,
    pub drain_delay: Duration,
    pub store: StoreConfig,
    /// `None`: it is in the data directory, or will be generated there.
    pub secret: Option<RootSecret>,
    pub previous_secrets: Vec<RootSecret>,
    /// Not checked, since only the first start uses it.
    pub initial_admin_password: Option<Zeroizing<String>>,
    pub access: Access,
    pub front: Front,
    pub key_prefix: KeyPrefix,
    pub timing: Timing,
    /// `None`: the longest lease and its margin.
    pub enforcement_wait: Option<Duration>,
    /// Whether to start although keys need a root secret that is no longer given.
    pub drop_keys_of_old_secrets: bool,
    /// Checkpoints that the audit logs must contain. Not verified yet.
    pub audit_checkpoints: Vec<Checkpoint>,
    pub session_lifetime: Duration,
    pub password_cost: Cost,
    pub session_idle: Option<Duration>,
    /// Calls in a second.
    pub service_token_calls: u32,
    /// Memory for cached answers of the API.
    pub answer_bytes: usize,
    pub revoked_retention: Duration,
    pub usage_rows_per_second: u32,
    pub usage_retention: UsageRetention,
    pub introspection: bool,
    pub graphiql: bool,
    pub log: String,
    pub log_format: LogFormat,
}

impl Config {
    /// Reads the file, if it exists, and the secrets from the environment, and checks all settings.
    pub fn load(
        flags: Flags,
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        Self::parse(flags.or(read_file(file)?), env)
    }

    fn parse(settings: Settings, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let verify_listen = address(&settings.verify_listen)?;
        let store = match mongodb_uri(&settings.mongodb_uri, &env)? {
            Some(uri) => StoreConfig::Mongo { uri, database: settings.mongodb_database.value_or_default().to_owned() },
            None => match settings.data_dir.value_or_default() {
                "" => return Err(settings.data_dir.error("is empty")),
                directory => StoreConfig::Embedded {
                    directory: directory.into(),
                    cache_bytes: mebibytes(&settings.store_cache_mib, 1..=MAX_STORE_CACHE)?,
                },
            },
        };
        let public_origin = settings.public_origin.value.as_deref();
        let public_origin = public_origin.map(|text| origin(&settings.public_origin, text)).transpose()?;
        let allowed_origins = list(&settings.allowed_origins).map(|text| origin(&settings.allowed_origins, text));
        let tls = tls_files(&settings.tls_cert, &settings.tls_key, None)?;
        let verify_tls =
            tls_files(&settings.verify_tls_cert, &settings.verify_tls_key, Some(&settings.verify_client_ca))?;
        let front = Front {
            is_tls: tls.is_some(),
            hosts: hosts(&settings.allowed_hosts, public_origin.as_deref())?,
            public_origin,
            trusted_proxies: networks(&settings.trusted_proxies)?,
            allowed_origins: allowed_origins.collect::<Result<_, _>>()?,
        };
        Ok(Self {
            listen: listen(&settings.listen, switch(&settings.insecure_http)? || tls.is_some() || front.is_https())?,
            verify_listen,
            access: access(&settings.verify_allow, &env, verify_listen, verify_tls.as_ref())?,
            tls,
            verify_tls,
            drain_delay: drain_delay(&settings.drain_delay)?,
            store,
            secret: secret(&env)?,
            previous_secrets: previous_secrets(&env)?,
            initial_admin_password: text(&env, "KEYMARK_INITIAL_ADMIN_PASSWORD")?.map(Zeroizing::new),
            drop_keys_of_old_secrets: switch(&settings.drop_keys_of_old_secrets)?,
            front,
            key_prefix: key_prefix(&settings.key_prefix)?,
            timing: timing(&settings.lease, &settings.probe_interval)?,
            enforcement_wait: match &settings.enforcement_wait.value {
                Some(_) => Some(any_duration(&settings.enforcement_wait)?),
                None => None,
            },
            audit_checkpoints: audit_checkpoints(&settings.audit_checkpoint)?,
            session_lifetime: duration(&settings.session_lifetime)?,
            password_cost: password_cost(&settings.password_cost)?,
            session_idle: idle(&settings.session_idle)?,
            service_token_calls: calls(&settings.service_token_calls)?,
            answer_bytes: mebibytes(&settings.answer_cache_mib, 0..=MAX_ANSWER_CACHE)?,
            revoked_retention: duration(&settings.revoked_retention)?,
            usage_rows_per_second: usage_rows(&settings.usage_rows_per_second)?,
            usage_retention: UsageRetention {
                hours: at_least_a_day(&settings.usage_hours_retention)?,
                days: at_least_a_day(&settings.usage_days_retention)?,
            },
            introspection: switch(&settings.introspection)?,
            graphiql: switch(&settings.graphiql)?,
            log: log(&settings.log)?,
            log_format: match settings.log_format.value_or_default() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err(settings.log_format.invalid("is not text or json")),
            },
        })
    }

    /// Whether the URI of MongoDB contains a password.
    pub fn has_password_in_uri(&self) -> bool {
        let StoreConfig::Mongo { uri, .. } = &self.store else { return false };
        let authority = uri.split_once("://").map_or("", |(_, rest)| rest);
        let user = authority.split('/').next().and_then(|hosts| hosts.rsplit_once('@'));
        user.is_some_and(|(user, _)| user.contains(':'))
    }

    /// The settings of the service, in a process with this role. `longest` is the longest lease of any instance.
    pub fn service_settings(&self, role: Role, longest: Duration) -> service::Settings {
        let enforcement_wait = self.enforcement_wait.unwrap_or_else(|| {
            role.timing().map_or(STANDALONE_ENFORCEMENT_WAIT, |_| with_margin(longest) + ENFORCEMENT_SLACK)
        });
        service::Settings {
            key_prefix: self.key_prefix.clone(),
            session_lifetime: self.session_lifetime,
            session_idle: self.session_idle,
            token_calls: Quota {
                burst: 5 * self.service_token_calls,
                interval: Duration::from_secs(1) / self.service_token_calls,
            },
            revoked_retention: self.revoked_retention,
            enforcement_wait,
            password_cost: self.password_cost,
            data_directory: match &self.store {
                StoreConfig::Embedded { directory, .. } => Some(directory.clone()),
                StoreConfig::Mongo { .. } => None,
            },
            usage_rows_per_second: self.usage_rows_per_second,
            usage_retention: self.usage_retention,
            concurrency: ConcurrencyLimits::default(),
            audit_checkpoints: self.audit_checkpoints.clone(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::parse(Flags::default().or(File::default()), |_| None).expect("the defaults are valid")
    }
}

fn read_file(named: Option<&Path>) -> Result<File, ConfigError> {
    let path = named.unwrap_or(Path::new(FILE_NAME));
    let setting = path.display().to_string();
    match std::fs::read_to_string(path) {
        // The parser's message spans several lines and quotes the file. One line with the place suffices.
        Ok(text) => toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let number = text[..at].matches('\n').count() + 1;
            let line = text.lines().nth(number - 1).unwrap_or_default();
            // Without the value, which may be a URI with a password.
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let reason = match is_readable_in_quotes(key, value) {
                true => "put the value in quotes".to_owned(),
                false => error.message().replace('\n', " "),
            };
            ConfigError::new(format!("{setting}, line {number}, {}", key.trim()), reason)
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(File::default()),
        Err(error) => Err(ConfigError::new("--config", format!("{setting}: {error}"))),
    }
}

/// Whether a line that cannot be read could be, if its value were in quotes.
fn is_readable_in_quotes(key: &str, value: &str) -> bool {
    let value = value.trim();
    let is_bare = !value.is_empty() && !value.starts_with(['"', '\'', '[', '{']);
    is_bare && toml::from_str::<File>(&format!("{key} = '{value}'")).is_ok()
}

fn password_cost(setting: &Setting) -> Result<Cost, ConfigError> {
    setting.value_or_default().parse().map_err(|error| setting.invalid(error))
}

fn key_prefix(setting: &Setting) -> Result<KeyPrefix, ConfigError> {
    let value = setting.value_or_default();
    value.parse().map_err(|error| setting.error(format!("`{value}`: {error}")))
}

fn address(setting: &Setting) -> Result<SocketAddr, ConfigError> {
    let value = setting.value_or_default();
    value.parse().map_err(|_| setting.invalid("is not an IP address and port such as 127.0.0.1:8080"))
}

/// The address of the console and the API. Passwords and cookies must not cross a network unencrypted by accident.
fn listen(setting: &Setting, may_leave_loopback: bool) -> Result<SocketAddr, ConfigError> {
    let listen = address(setting)?;
    if listen.ip().is_loopback() || may_leave_loopback {
        return Ok(listen);
    }
    Err(setting.error(format!(
        "{listen} is not loopback, and Keymark serves plain HTTP: set --tls-cert and --tls-key, or --public-origin to the \
         https origin of a proxy that terminates TLS, or --insecure-http to do without TLS"
    )))
}

/// The files of a listener with TLS. They are read when it starts.
fn tls_files(
    certificate: &Setting,
    key: &Setting,
    client_ca: Option<&Setting>,
) -> Result<Option<TlsFiles>, ConfigError> {
    let file = |setting: &Setting| match setting.value.as_deref() {
        Some("") => Err(setting.error("is empty")),
        Some(path) => Ok(Some(TlsFile { setting: setting.flag, path: path.into() })),
        None => Ok(None),
    };
    let requires = |setting: &Setting, other: &Setting| Err(setting.error(format!("requires {}", other.flag)));
    let ca = client_ca.map_or(Ok(None), |setting| file(setting).map(|ca| ca.map(|file| (setting, file))))?;
    match (file(certificate)?, file(key)?, ca) {
        (Some(certificate), Some(key), ca) => {
            Ok(Some(TlsFiles { certificate, key, client_ca: ca.map(|(_, file)| file) }))
        }
        (Some(_), None, _) => requires(certificate, key),
        (None, Some(_), _) => requires(key, certificate),
        (None, None, Some((ca, _))) => requires(ca, certificate),
        (None, None, None) => Ok(None),
    }
}

/// Every client that is connected waits for it, and so does whatever restarts Keymark.
const MAX_DRAIN_DELAY: Duration = Duration::from_secs(300);

fn drain_delay(setting: &Setting) -> Result<Duration, ConfigError> {
    let delay = any_duration(setting)?;
    if delay > MAX_DRAIN_DELAY { Err(setting.invalid("is more than 5 minutes")) } else { Ok(delay) }
}

/// Checks the level of each directive, since the parser takes a directive without a level for a target.
fn log(setting: &Setting) -> Result<String, ConfigError> {
    let log = setting.value_or_default();
    let is_level = |text: &str| !text.is_empty() && text.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let well_formed = log.split(',').all(|directive| is_level(directive.rsplit('=').next().unwrap_or_default().trim()));
    if well_formed && log.parse::<tracing_subscriber::filter::Targets>().is_ok() {
        return Ok(log.to_owned());
    }
    let levels = "off, error, warn, info, debug or trace";
    Err(setting.invalid(format!("is neither {levels}, nor directives such as info,keymark::http=debug")))
}

fn any_duration(setting: &Setting) -> Result<Duration, ConfigError> {
    humantime::parse_duration(setting.value_or_default())
        .map_err(|error| setting.invalid(format!("is not a duration such as 90s, 12h or 30d: {error}")))
}

/// Shorter leases expire whenever the store is busy for a moment.
const MIN_LEASE: Duration = Duration::from_secs(1);
/// More frequent probes only cost writes.
const MIN_PROBE_INTERVAL: Duration = Duration::from_millis(10);
/// How long a process that is alone on its store waits for its own feed.
const STANDALONE_ENFORCEMENT_WAIT: Duration = Duration::from_secs(13);
/// Added to the longest lease and its margin, after which every change is enforced, for that to be reported.
const ENFORCEMENT_SLACK: Duration = Duration::from_secs(1);

fn timing(lease: &Setting, probe_interval: &Setting) -> Result<Timing, ConfigError> {
    let (length, interval) = (any_duration(lease)?, any_duration(probe_interval)?);
    if length.is_zero() {
        return Ok(Timing { lease: length, probe_interval: interval.max(MIN_PROBE_INTERVAL) });
    }
    if !(MIN_LEASE..=MAX_LEASE).contains(&length) {
        return Err(lease.error("must be 0, or from 1s to 5min"));
    }
    let max_interval = length / 4;
    if !(MIN_PROBE_INTERVAL..=max_interval).contains(&interval) {
        let reason = format!("must be from 10ms to a quarter of --lease, which is {max_interval:?}");
        return Err(probe_interval.error(reason));
    }
    Ok(Timing { lease: length, probe_interval: interval })
}

fn duration(setting: &Setting) -> Result<Duration, ConfigError> {
    let duration = any_duration(setting)?;
    if duration < Duration::from_secs(1) { Err(setting.invalid("is less than a second")) } else { Ok(duration) }
}

/// A flush of one key has 3 rows.
const MIN_USAGE_ROWS: u32 = 30;
const MAX_USAGE_ROWS: u32 = 1_000_000;

fn usage_rows(setting: &Setting) -> Result<u32, ConfigError> {
    let rows = setting.value_or_default().parse().ok();
    let rows = rows.filter(|rows| (MIN_USAGE_ROWS..=MAX_USAGE_ROWS).contains(rows));
    rows.ok_or_else(|| setting.invalid(format!("is not a number from {MIN_USAGE_ROWS} to {MAX_USAGE_ROWS}")))
}

/// Calls of a service token in a second.
const MAX_TOKEN_CALLS: u32 = 1_000_000;

fn calls(setting: &Setting) -> Result<u32, ConfigError> {
    let calls = setting.value_or_default().parse().ok().filter(|calls| (1..=MAX_TOKEN_CALLS).contains(calls));
    calls.ok_or_else(|| setting.invalid(format!("is not a number from 1 to {MAX_TOKEN_CALLS}")))
}

/// In MiB.
const MAX_STORE_CACHE: usize = 65_536;
/// In MiB.
const MAX_ANSWER_CACHE: usize = 1_048_576;

/// A number of MiB in this range, in bytes.
fn mebibytes(setting: &Setting, range: RangeInclusive<usize>) -> Result<usize, ConfigError> {
    let mebibytes = setting.value_or_default().parse().ok().filter(|mebibytes| range.contains(mebibytes));
    let (min, max) = range.into_inner();
    let mebibytes = mebibytes.ok_or_else(|| setting.invalid(format!("is not a number of MiB from {min} to {max}")))?;
    Ok(mebibytes << 20)
}

fn at_least_a_day(setting: &Setting) -> Result<Duration, ConfigError> {
    let kept = any_duration(setting)?;
    if kept < Duration::from_hours(24) { Err(setting.invalid("is less than a day")) } else { Ok(kept) }
}

/// Activity is recorded to the minute.
const MIN_SESSION_IDLE: Duration = Duration::from_secs(120);

fn idle(setting: &Setting) -> Result<Option<Duration>, ConfigError> {
    if setting.value_or_default() == "off" {
        return Ok(None);
    }
    let idle = any_duration(setting)?;
    if idle < MIN_SESSION_IDLE { Err(setting.invalid("is less than 2 minutes")) } else { Ok(Some(idle)) }
}

fn switch(setting: &Setting) -> Result<bool, ConfigError> {
    match setting.value_or_default() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(setting.invalid("is not on or off")),
    }
}

/// Reads checkpoints from a line, or from a file with lines of them or an export in JSON Lines.
fn audit_checkpoints(setting: &Setting) -> Result<Vec<Checkpoint>, ConfigError> {
    let Some(value) = &setting.value else { return Ok(Vec::new()) };
    let read = if value.trim_start().starts_with('{') {
        read_checkpoints(value.as_bytes())
    } else {
        std::fs::File::open(value).and_then(|file| read_checkpoints(std::io::BufReader::new(file)))
    };
    let checkpoints = read.map_err(|error| setting.invalid(error))?;
    if checkpoints.is_empty() { Err(setting.invalid("contains no checkpoint")) } else { Ok(checkpoints) }
}

fn list(setting: &Setting) -> impl Iterator<Item = &str> {
    setting.value.as_deref().unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn networks(setting: &Setting) -> Result<Vec<IpNet>, ConfigError> {
    let network = |text: &str| {
        let address = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        text.parse::<IpNet>().ok().or_else(address)
    };
    list(setting)
        .map(|text| network(text).ok_or_else(|| setting.error(format!("`{text}` is not a network such as 10.0.0.0/8"))))
        .collect()
}

/// Normalizes an origin as browsers do: scheme, host, and the port unless it is the scheme's default.
fn origin(setting: &Setting, text: &str) -> Result<String, ConfigError> {
    let wrong = |reason: &str| setting.error(format!("`{text}` {reason}"));
    if text.contains('*') {
        return Err(wrong(
            "has a wildcard, which matches no origin: write each one in full, such as https://app.example.com",
        ));
    }
    let uri: http::Uri = text.parse().map_err(|_| wrong("is not an origin such as https://keys.example.com"))?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
    let (Some(scheme), Some(host)) = (scheme, uri.host()) else {
        return Err(wrong("is not an origin such as https://keys.example.com"));
    };
    if uri.path() != "/" || uri.query().is_some() || text.ends_with('/') {
        return Err(wrong("has more parts than scheme, host and port"));
    }
    let port = match (scheme, uri.port_u16()) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    Ok(format!("{scheme}://{host}{port}").to_ascii_lowercase())
}

/// The configured names, and that of the public origin.
fn hosts(setting: &Setting, public_origin: Option<&str>) -> Result<Hosts, ConfigError> {
    let listed: Vec<HostName> = list(setting)
        .map(|text| text.parse().map_err(|error| setting.error(format!("`{text}` {error}"))))
        .collect::<Result<_, _>>()?;
    // An origin with an IP address needs no name.
    let public = public_origin.and_then(|origin| origin.parse::<http::Uri>().ok()?.host()?.parse().ok());
    Ok(Hosts::new(listed.into_iter().chain(public)))
}

/// Reads a variable as text. Other bytes are an error: to ignore them could leave the verifier token unset.
fn text(env: impl Fn(&str) -> Option<OsString>, name: &str) -> Result<Option<String>, ConfigError> {
    let text = env(name).map(OsString::into_string).transpose();
    text.map_err(|_| ConfigError::new(name, "is not UTF-8"))
}

/// The URI of MongoDB: the setting, or the first line of a file.
fn mongodb_uri(
    setting: &Setting,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Zeroizing<String>>, ConfigError> {
    const FILE: &str = "KEYMARK_MONGODB_URI_FILE";
    match (&setting.value, env(FILE)) {
        (Some(_), Some(_)) => Err(setting.error(format!("{FILE} is set as well"))),
        (Some(uri), None) => Ok(Some(Zeroizing::new(uri.clone()))),
        (None, Some(path)) => uri_in_file(FILE, Path::new(&path)).map(Some),
        (None, None) => Ok(None),
    }
}

/// Reads the URI of MongoDB in the first line of a file. `setting` names the file's source in the error.
pub fn uri_in_file(setting: &str, path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    // The error does not quote the path: somebody may have put the URI itself there.
    let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| ConfigError::new(setting, error))?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().trim().to_owned()))
}

fn secret(env: impl Fn(&str) -> Option<OsString>) -> Result<Option<RootSecret>, ConfigError> {
    let (setting, bytes) = match (env("KEYMARK_SECRET"), env("KEYMARK_SECRET_FILE")) {
        (Some(_), Some(_)) => return Err(ConfigError::new("KEYMARK_SECRET", "KEYMARK_SECRET_FILE is set as well")),
        (Some(secret), None) => ("KEYMARK_SECRET", secret.into_vec()),
        (None, Some(path)) => {
            // The error does not quote the path: somebody may have put the secret itself there.
            let read = std::fs::read(&path);
            ("KEYMARK_SECRET_FILE", read.map_err(|error| ConfigError::new("KEYMARK_SECRET_FILE", error))?)
        }
        (None, None) => return Ok(None),
    };
    root_secret(setting, bytes).map(Some)
}

/// Checks the length of a secret. `setting` names its source in the error.
pub fn root_secret(setting: &str, bytes: Vec<u8>) -> Result<RootSecret, ConfigError> {
    RootSecret::new(bytes).map_err(|error| ConfigError::new(setting, error))
}

fn previous_secrets(env: impl Fn(&str) -> Option<OsString>) -> Result<Vec<RootSecret>, ConfigError> {
    let setting = "KEYMARK_PREVIOUS_SECRETS";
    let secrets = Zeroizing::new(env(setting).unwrap_or_default().into_vec());
    let secrets = secrets.split(|byte| *byte == b',').filter(|secret| !secret.is_empty());
    secrets
        .map(|secret| match secret {
            [b' ', ..] | [.., b' '] => Err(ConfigError::new(setting, "one of the secrets begins or ends with a space")),
            secret => root_secret(setting, secret.to_vec()),
        })
        .collect()
}

const MIN_VERIFIER_TOKEN_BYTES: usize = 16;

/// Who may send verifications. A listener that others can reach requires a token, a list of networks, or a CA of client
/// certificates.
fn access(
    allow: &Setting,
    env: impl Fn(&str) -> Option<OsString>,
    listen: SocketAddr,
    tls: Option<&TlsFiles>,
) -> Result<Access, ConfigError> {
    let token = text(env, "KEYMARK_VERIFIER_TOKEN")?;
    if token.as_ref().is_some_and(|token| token.len() < MIN_VERIFIER_TOKEN_BYTES) {
        let reason = format!("a verifier token has at least {MIN_VERIFIER_TOKEN_BYTES} bytes");
        return Err(ConfigError::new("KEYMARK_VERIFIER_TOKEN", reason));
    }
    let networks = networks(allow)?;
    let takes_certificates = tls.is_some_and(|files| files.client_ca.is_some());
    if !listen.ip().is_loopback() && token.is_none() && networks.is_empty() && !takes_certificates {
        let reason =
            format!("{listen} is not loopback: set KEYMARK_VERIFIER_TOKEN, --verify-allow or --verify-client-ca");
        return Err(ConfigError::new("--verify-listen", reason));
    }
    Ok(Access { token: token.map(VerifierToken::from), networks, takes_certificates })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: Flags, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(flags, None, |name| env.iter().find(|(known, _)| *known == name).map(|(_, v)| OsString::from(v)))
    }

    fn error(flags: Flags, env: &[(&str, &str)]) -> String {
        load(flags, env).err().expect("the configuration is unusable").to_string()
    }

    #[test]
    fn unknown_variables_are_refused_and_those_of_service_links_are_not() {
        let check = |name: &str, value: &str| check_variables([(name.into(), value.into())]);
        for (name, value) in [
            ("KEYMARK_LISTEN", "127.0.0.1:1"),
            ("KEYMARK_SECRET", "hunter2"),
            ("KEYMARK_TOKEN", "hunter2"),
            ("PATH", "/bin"),
            ("KEYMARK_PORT", "tcp://10.0.0.1:8080"),
            ("KEYMARK_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("KEYMARK_SERVICE_HOST", "10.0.0.1"),
            ("KEYMARK_VERIFY_SERVICE_PORT_HTTP", "8081"),
        ] {
            assert_eq!(check(name, value), Ok(()), "{name}");
        }
        for name in ["KEYMARK_LISTENS", "KEYMARK_PORT", "KEYMARK_VERIFIER_TOKENS", "KEYMARK_"] {
            let error = check(name, "hunter2").expect_err("unknown").to_string();
            assert_eq!(error, format!("{name}: is not a setting; `keymark serve --help` lists the variables"));
        }
    }

    /// `cargo run` passes the variables of the build script on to the program.
    #[test]
    fn build_script_sets_no_variable_that_looks_like_a_setting() {
        assert!(!include_str!("../build.rs").contains("KEYMARK_"));
    }

    #[test]
    fn an_error_is_one_line_that_names_the_setting() {
        let text = |text: &str| Some(text.to_owned());
        let flags = Flags::default;
        for (flags, env, says) in [
            (Flags { listen: text("8080"), ..flags() }, None, "--listen: `8080` is not an IP address and port such as"),
            (Flags { listen: text("0.0.0.0:1"), ..flags() }, None, "--listen: 0.0.0.0:1 is not loopback, and Keymark"),
            (
                Flags { allowed_hosts: text("a, b:80"), ..flags() },
                None,
                "--allowed-hosts: `b:80` is not a host name such",
            ),
            (Flags { tls_cert: text("a.pem"), ..flags() }, None, "--tls-cert: requires --tls-key"),
            (Flags { tls_key: text("a.pem"), ..flags() }, None, "--tls-key: requires --tls-cert"),
            (Flags { tls_key: text(""), ..flags() }, None, "--tls-key: is empty"),
            (Flags { verify_tls_cert: text("a.pem"), ..flags() }, None, "--verify-tls-cert: requires --verify-tls-key"),
            (
                Flags { verify_client_ca: text("a.pem"), ..flags() },
                None,
                "--verify-client-ca: requires --verify-tls-cert",
            ),
            (Flags { drain_delay: text("301s"), ..flags() }, None, "--drain-delay: `301s` is more than 5 minutes"),
            (Flags { insecure_http: text("yes"), ..flags() }, None, "--insecure-http: `yes` is not on or off"),
            (
                Flags { store_cache_mib: text("0"), ..flags() },
                None,
                "--store-cache-mib: `0` is not a number of MiB from 1 to 65536",
            ),
            (Flags { session_lifetime: text("soon"), ..flags() }, None, "--session-lifetime: `soon` is not a duration"),
            (Flags { session_lifetime: text("0s"), ..flags() }, None, "--session-lifetime: `0s` is less than a second"),
            (
                Flags { password_cost: text("high"), ..flags() },
                None,
                "--password-cost: `high` is not a cost such as m=",
            ),
            (
                Flags { password_cost: text("m=19456,t=1,p=1"), ..flags() },
                None,
                "--password-cost: `m=19456,t=1,p=1` is too cheap: OWASP's minimum is m=47104,t=1 or m=19456,t=2 or",
            ),
            (
                Flags { password_cost: text("m=19456000,t=2,p=1"), ..flags() },
                None,
                "--password-cost: `m=19456000,t=2,p=1` is beyond the maximum of m=262144, t=16 and p=4",
            ),
            (Flags { session_idle: text("90s"), ..flags() }, None, "--session-idle: `90s` is less than 2 minutes"),
            (Flags { introspection: text("yes"), ..flags() }, None, "--introspection: `yes` is not on or off"),
            (Flags { trusted_proxies: text("10.0.0.0/40"), ..flags() }, None, "--trusted-proxies: `10.0.0.0/40`"),
            (Flags { public_origin: text("keys.example.com"), ..flags() }, None, "--public-origin: `keys.example.com`"),
            (Flags { key_prefix: text("k-m"), ..flags() }, None, "--key-prefix: `k-m`: a key prefix is"),
            (Flags { verify_listen: text("0.0.0.0:1"), ..flags() }, None, "--verify-listen: 0.0.0.0:1 is not loopback"),
            (Flags { lease: text("soon"), ..flags() }, None, "--lease: `soon` is not a duration"),
            (Flags { lease: text("999ms"), ..flags() }, None, "--lease: must be 0, or from 1s to 5min"),
            (Flags { lease: text("301s"), ..flags() }, None, "--lease: must be 0, or from 1s to 5min"),
            (Flags { lease: text("-1s"), ..flags() }, None, "--lease: `-1s` is not a duration"),
            (Flags { probe_interval: text("often"), ..flags() }, None, "--probe-interval: `often` is not a duration"),
            (
                Flags { probe_interval: text("0s"), ..flags() },
                None,
                "--probe-interval: must be from 10ms to a quarter of",
            ),
            (
                Flags { probe_interval: text("9ms"), ..flags() },
                None,
                "--probe-interval: must be from 10ms to a quarter of",
            ),
            (
                Flags { probe_interval: text("3001ms"), ..flags() },
                None,
                "--probe-interval: must be from 10ms to a quarter of",
            ),
            (Flags { lease: text("2s"), ..flags() }, None, "--probe-interval: must be from 10ms to a quarter of"),
            (Flags { enforcement_wait: text("long"), ..flags() }, None, "--enforcement-wait: `long` is not a duration"),
            (Flags { allowed_origins: text("*"), ..flags() }, None, "--allowed-origins: `*` has a wildcard, which"),
            (
                Flags { allowed_origins: text("https://app.example.com, https://*.example.org"), ..flags() },
                None,
                "--allowed-origins: `https://*.example.org` has a wildcard, which matches no origin: write each",
            ),
            (flags(), Some(("KEYMARK_SECRET", "short")), "KEYMARK_SECRET: a root secret has at least 32 bytes"),
            (flags(), Some(("KEYMARK_SECRET_FILE", "/nowhere/at/all")), "KEYMARK_SECRET_FILE: No such file"),
            (Flags { data_dir: text(""), ..flags() }, None, "--data-dir: is empty"),
            (Flags { log: text("loud"), ..flags() }, None, "--log: `loud` is neither off, error,"),
            (Flags { log: text(""), ..flags() }, None, "--log: `` is neither off, error,"),
            (Flags { log: text("info,keymark=bogus"), ..flags() }, None, "--log: `info,keymark=bogus` is neither"),
            (flags(), Some(("KEYMARK_VERIFIER_TOKEN", "short")), "KEYMARK_VERIFIER_TOKEN: a verifier token has"),
        ] {
            let said = error(flags, env.as_slice());
            assert!(said.starts_with(says), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn no_error_contains_a_secret() {
        for (name, value) in [
            ("KEYMARK_SECRET", "hunter2"),
            ("KEYMARK_SECRET_FILE", "hunter2"),
            ("KEYMARK_MONGODB_URI_FILE", "hunter2"),
            ("KEYMARK_PREVIOUS_SECRETS", "hunter2"),
            ("KEYMARK_VERIFIER_TOKEN", "hunter2"),
        ] {
            assert!(!error(Flags::default(), &[(name, value)]).contains("hunter2"));
        }
    }

    #[test]
    fn a_password_in_the_uri_is_found() {
        for (uri, has_password) in [
            ("mongodb://ada:hunter2@db1,db2/keymark?replicaSet=rs0", true),
            ("mongodb+srv://ada:hunter2@cluster.example", true),
            ("mongodb://ada@db1:27017/?authMechanism=MONGODB-X509", false),
            ("mongodb://db1:27017,db2:27017/?replicaSet=rs0", false),
            ("mongodb://db1/?appName=a:b@c", false),
            ("nonsense", false),
        ] {
            let flags = Flags { mongodb_uri: Some(uri.to_owned()), ..Flags::default() };
            let config = load(flags, &[("KEYMARK_SECRET", "0123456789abcdef0123456789abcdef")]);
            assert_eq!(config.map(|config| config.has_password_in_uri()), Ok(has_password), "{uri}");
        }
    }

    #[test]
    fn verification_beyond_loopback_requires_a_token_or_networks() {
        let open = || Flags { verify_listen: Some("0.0.0.0:8081".to_owned()), ..Flags::default() };
        assert!(load(open(), &[("KEYMARK_VERIFIER_TOKEN", "0123456789abcdef")]).is_ok());
        assert!(load(Flags { verify_allow: Some("10.0.0.0/8, 192.0.2.1".to_owned()), ..open() }, &[]).is_ok());
    }

    #[test]
    fn plain_http_beyond_loopback_requires_an_https_origin_or_a_switch() {
        let text = |text: &str| Some(text.to_owned());
        for listen in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
            let open = || Flags { listen: text(listen), ..Flags::default() };
            assert!(load(Flags { public_origin: text("https://keys.example.com"), ..open() }, &[]).is_ok());
            assert!(load(Flags { insecure_http: text("on"), ..open() }, &[]).is_ok());
            let said = error(Flags { public_origin: text("http://keys.example.com"), ..open() }, &[]);
            assert!(said.contains("--public-origin") && said.contains("--insecure-http"), "{said}");
        }
        assert!(load(Flags { listen: text("[::1]:8080"), ..Flags::default() }, &[]).is_ok());
    }

    #[test]
    fn flags_take_precedence_over_the_file() {
        let file: File = toml::from_str("key-prefix = \"file\"\nlog = \"debug\"").unwrap();
        let settings = Flags { key_prefix: Some("flag".to_owned()), ..Flags::default() }.or(file);
        assert_eq!((settings.key_prefix.value_or_default(), settings.log.value_or_default()), ("flag", "debug"));
        assert!(toml::from_str::<File>("keyprefix = \"x\"").is_err(), "unknown keys are refused");
    }
}
