//! Configuration: flags, then `KEYMARK_…` variables, then `keymark.toml`, then defaults.
//!
//! Everything is read and checked before anything listens; what is wrong is said in one line that names the setting.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::coherence::protocol::Timing;
use crate::domain::keys::KeyPrefix;
use crate::domain::operators::Password;
use crate::domain::secrets::RootSecret;
use crate::http::front::Front;
use crate::http::verify::Access;

/// A setting that cannot be used: which one, and why.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError {
    setting: String,
    reason: String,
}

impl ConfigError {
    pub fn new(setting: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self { setting: setting.into(), reason: reason.to_string() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

impl std::error::Error for ConfigError {}

/// Declares the settings once: as flags with their variables, as keys of the file, and as the table of the README.
macro_rules! settings {
    ($($(#[doc = $help:literal])+ $field:ident, $flag:literal, $variable:literal, $default:literal;)+) => {
        /// What was said on the command line or in the environment.
        ///
        /// It may hold a password, in the URI of MongoDB, so it prints nothing.
        #[derive(Args, Clone, Default)]
        pub struct Flags {
            $(#[arg(
                long = $flag,
                env = $variable,
                value_name = "VALUE",
                hide_env_values = true,
                global = true,
                help_heading = "Settings",
                help = concat!($($help,)+ " [default: ", $default, "]").trim_start()
            )]
            $field: Option<String>,)+
        }

        /// What `keymark.toml` says.
        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "kebab-case")]
        struct File {
            $($field: Option<Scalar>,)+
        }

        impl Flags {
            /// Fills in what only the file says.
            fn or(self, file: File) -> Self {
                Self { $($field: self.$field.or(file.$field.map(Scalar::text)),)+ }
            }
        }

        /// Flag, variable and default of each setting.
        pub const SETTINGS: &[(&str, &str, &str)] = &[$((concat!("--", $flag), $variable, $default),)+];
    };
}

settings! {
    /// Address of the console and the API.
    listen, "listen", "KEYMARK_LISTEN", "127.0.0.1:8080";
    /// Address of the verification endpoints and the metrics.
    verify_listen, "verify-listen", "KEYMARK_VERIFY_LISTEN", "127.0.0.1:8081";
    /// Where the embedded store, its secret and its socket are.
    data_dir, "data-dir", "KEYMARK_DATA_DIR", "keymark-data";
    /// A MongoDB replica set to use instead of the embedded store.
    mongodb_uri, "mongodb-uri", "KEYMARK_MONGODB_URI", "none: the embedded store";
    /// The database there.
    mongodb_database, "mongodb-database", "KEYMARK_MONGODB_DATABASE", "keymark";
    /// What new keys begin with; keys of any prefix are verified.
    key_prefix, "key-prefix", "KEYMARK_KEY_PREFIX", "km";
    /// Networks that may ask for verifications, separated by commas.
    verify_allow, "verify-allow", "KEYMARK_VERIFY_ALLOW", "none: loopback only";
    /// How long an instance may answer from memory without news of the store; 0: every verification reads the store.
    /// The same on every instance.
    lease, "lease", "KEYMARK_LEASE", "12s";
    /// How often a lease is renewed: a quarter of it at most.
    probe_interval, "probe-interval", "KEYMARK_PROBE_INTERVAL", "1s";
    /// How long a change waits at most until it is known to be enforced on every instance.
    enforcement_wait, "enforcement-wait", "KEYMARK_ENFORCEMENT_WAIT", "a lease and its margin";
    /// How long a session lasts.
    session_lifetime, "session-lifetime", "KEYMARK_SESSION_LIFETIME", "12h";
    /// How long a revoked key is told from an unknown one.
    revoked_retention, "revoked-retention", "KEYMARK_REVOKED_RETENTION", "90d";
    /// The origin that browsers see, where it is not the listener's, such as `https://keys.example.com`.
    public_origin, "public-origin", "KEYMARK_PUBLIC_ORIGIN", "none";
    /// Networks of proxies whose forwarded headers are believed, separated by commas.
    trusted_proxies, "trusted-proxies", "KEYMARK_TRUSTED_PROXIES", "none";
    /// Origins whose pages may use the API with bearer tokens, separated by commas.
    allowed_origins, "allowed-origins", "KEYMARK_ALLOWED_ORIGINS", "none";
    /// Whether the schema can be read: on or off.
    introspection, "introspection", "KEYMARK_INTROSPECTION", "on";
    /// Whether /graphiql is served: on or off.
    graphiql, "graphiql", "KEYMARK_GRAPHIQL", "on";
    /// What is logged: error, warn, info, debug, trace, or directives such as info,keymark::http=debug.
    log, "log", "KEYMARK_LOG", "info";
    /// How log lines are written: text or json.
    log_format, "log-format", "KEYMARK_LOG_FORMAT", "text";
}

/// Settings that never stand on a command line or in the file, and what holds without them.
pub const SECRETS: &[(&str, &str)] = &[
    ("KEYMARK_SECRET", "created in the data directory (embedded); required (MongoDB)"),
    ("KEYMARK_SECRET_FILE", "none: a file that holds the secret instead"),
    ("KEYMARK_PREVIOUS_SECRETS", "none"),
    ("KEYMARK_INITIAL_ADMIN_PASSWORD", "generated and printed once (embedded); required (MongoDB)"),
    ("KEYMARK_VERIFIER_TOKEN", "none: loopback only"),
];

/// The file that is read when no other is named.
pub const FILE_NAME: &str = "keymark.toml";

/// A value in the file: text, or what people write without quotes.
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

/// Where the data is.
pub enum StoreConfig {
    Embedded { directory: PathBuf },
    Mongo { uri: Zeroizing<String>, database: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// A configuration that can be used.
pub struct Config {
    pub listen: SocketAddr,
    pub verify_listen: SocketAddr,
    pub store: StoreConfig,
    /// `None`: the data directory has it, or is given one.
    pub secret: Option<RootSecret>,
    pub previous_secrets: Vec<RootSecret>,
    pub initial_admin_password: Option<Password>,
    pub access: Access,
    pub front: Front,
    pub key_prefix: KeyPrefix,
    pub timing: Timing,
    /// `None`: as long as a lease can last.
    pub enforcement_wait: Option<Duration>,
    pub session_lifetime: Duration,
    pub revoked_retention: Duration,
    pub introspection: bool,
    pub graphiql: bool,
    pub log: String,
    pub log_format: LogFormat,
}

impl Config {
    /// Reads the file, if there is one, and the variables that hold secrets, and checks everything.
    pub fn load(
        flags: Flags,
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let flags = flags.or(read_file(file)?);
        let verify_listen = address("--verify-listen", flags.verify_listen, "127.0.0.1:8081")?;
        let store = match &flags.mongodb_uri {
            Some(uri) => StoreConfig::Mongo {
                uri: Zeroizing::new(uri.clone()),
                database: flags.mongodb_database.unwrap_or_else(|| "keymark".to_owned()),
            },
            None => match flags.data_dir.as_deref().unwrap_or("keymark-data") {
                "" => return Err(ConfigError::new("--data-dir", "is empty")),
                directory => StoreConfig::Embedded { directory: directory.into() },
            },
        };
        let log = flags.log.unwrap_or_else(|| "info".to_owned());
        check_log(&log)?;
        let timing = timing(flags.lease.as_deref(), flags.probe_interval.as_deref())?;
        Ok(Self {
            timing,
            enforcement_wait: flags
                .enforcement_wait
                .map(|value| any_duration("--enforcement-wait", &value))
                .transpose()?,
            listen: address("--listen", flags.listen, "127.0.0.1:8080")?,
            verify_listen,
            secret: secret(&env)?,
            previous_secrets: previous_secrets(&env)?,
            initial_admin_password: initial_admin_password(&env)?,
            access: access(flags.verify_allow.as_deref(), &env, verify_listen)?,
            front: Front {
                public_origin: flags.public_origin.map(|text| origin("--public-origin", &text)).transpose()?,
                trusted_proxies: networks("--trusted-proxies", flags.trusted_proxies.as_deref())?,
                allowed_origins: list(flags.allowed_origins.as_deref())
                    .map(|text| origin("--allowed-origins", text))
                    .collect::<Result<_, _>>()?,
            },
            key_prefix: parsed("--key-prefix", flags.key_prefix, "km")?,
            session_lifetime: duration("--session-lifetime", flags.session_lifetime, "12h")?,
            revoked_retention: duration("--revoked-retention", flags.revoked_retention, "90d")?,
            introspection: switch("--introspection", flags.introspection)?,
            graphiql: switch("--graphiql", flags.graphiql)?,
            log,
            log_format: match flags.log_format.as_deref() {
                None | Some("text") => LogFormat::Text,
                Some("json") => LogFormat::Json,
                Some(other) => return Err(ConfigError::new("--log-format", format!("`{other}` is not text or json"))),
            },
            store,
        })
    }
}

fn read_file(named: Option<&Path>) -> Result<File, ConfigError> {
    let path = named.unwrap_or(Path::new(FILE_NAME));
    let setting = path.display().to_string();
    match std::fs::read_to_string(path) {
        // The parser's message shows the lines it complains of: the first one says enough.
        Ok(text) => toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let number = text[..at].matches('\n').count() + 1;
            let line = text.lines().nth(number - 1).unwrap_or_default();
            // The name alone: the value may be a URI with a password.
            let key = line.split('=').next().unwrap_or_default().trim();
            ConfigError::new(format!("{setting}, line {number}, {key}"), error.message().replace('\n', " "))
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(File::default()),
        Err(error) => Err(ConfigError::new("--config", format!("{setting}: {error}"))),
    }
}

fn parsed<T: std::str::FromStr>(setting: &str, value: Option<String>, default: &str) -> Result<T, ConfigError>
where
    T::Err: fmt::Display,
{
    let value = value.as_deref().unwrap_or(default);
    value.parse().map_err(|error| ConfigError::new(setting, format!("`{value}`: {error}")))
}

fn address(setting: &str, value: Option<String>, default: &str) -> Result<SocketAddr, ConfigError> {
    let value = value.as_deref().unwrap_or(default);
    let reason = || format!("`{value}` is no IP address and port such as 127.0.0.1:8080");
    value.parse().map_err(|_| ConfigError::new(setting, reason()))
}

/// A directive without a level would be taken for a target, of which nothing is ever logged.
fn check_log(log: &str) -> Result<(), ConfigError> {
    let is_level = |text: &str| !text.is_empty() && text.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let well_formed = log.split(',').all(|directive| is_level(directive.rsplit('=').next().unwrap_or_default().trim()));
    if well_formed && log.parse::<tracing_subscriber::filter::Targets>().is_ok() {
        return Ok(());
    }
    let reason = "is neither off, error, warn, info, debug or trace, nor directives such as info,keymark::http=debug";
    Err(ConfigError::new("--log", format!("`{log}` {reason}")))
}

fn any_duration(setting: &str, value: &str) -> Result<Duration, ConfigError> {
    humantime::parse_duration(value).map_err(|error| {
        ConfigError::new(setting, format!("`{value}` is no duration such as 90s, 12h or 30d: {error}"))
    })
}

/// Bounds on a lease that is not 0. Below, a store that is busy for a moment ends it; above, a revocation waits for
/// minutes when an instance has died.
const LEASES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// Faster probes only cost writes.
const LEAST_PROBE_INTERVAL: Duration = Duration::from_millis(10);

fn timing(lease: Option<&str>, probe_interval: Option<&str>) -> Result<Timing, ConfigError> {
    let lease = any_duration("--lease", lease.unwrap_or("12s"))?;
    let given = probe_interval.map(|value| any_duration("--probe-interval", value)).transpose()?;
    let probe_interval = given.unwrap_or(Duration::from_secs(1));
    if lease.is_zero() {
        return Ok(Timing { lease, probe_interval: probe_interval.max(LEAST_PROBE_INTERVAL) });
    }
    if !LEASES.contains(&lease) {
        return Err(ConfigError::new("--lease", "is 0, or from 1s to 5min"));
    }
    let longest = lease / 4;
    if probe_interval < LEAST_PROBE_INTERVAL || probe_interval > longest {
        let reason = format!("is from 10ms to a quarter of --lease, which is {longest:?}");
        return Err(ConfigError::new("--probe-interval", reason));
    }
    Ok(Timing { lease, probe_interval })
}

fn duration(setting: &str, value: Option<String>, default: &str) -> Result<Duration, ConfigError> {
    let value = value.as_deref().unwrap_or(default);
    let duration = any_duration(setting, value)?;
    if duration < Duration::from_secs(1) {
        return Err(ConfigError::new(setting, format!("`{value}` is less than a second")));
    }
    Ok(duration)
}

fn switch(setting: &str, value: Option<String>) -> Result<bool, ConfigError> {
    match value.as_deref() {
        None | Some("on") => Ok(true),
        Some("off") => Ok(false),
        Some(other) => Err(ConfigError::new(setting, format!("`{other}` is not on or off"))),
    }
}

fn list(value: Option<&str>) -> impl Iterator<Item = &str> {
    value.unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn networks(setting: &str, value: Option<&str>) -> Result<Vec<IpNet>, ConfigError> {
    let network = |text: &str| {
        let address = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
        text.parse::<IpNet>().ok().or_else(address)
    };
    list(value)
        .map(|text| {
            network(text).ok_or_else(|| ConfigError::new(setting, format!("`{text}` is no network such as 10.0.0.0/8")))
        })
        .collect()
}

/// An origin as browsers write it: scheme, host, and the port unless it is the scheme's own.
fn origin(setting: &str, text: &str) -> Result<String, ConfigError> {
    let wrong = |reason: &str| ConfigError::new(setting, format!("`{text}` {reason}"));
    let uri: http::Uri = text.parse().map_err(|_| wrong("is no origin such as https://keys.example.com"))?;
    let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
    let (Some(scheme), Some(host)) = (scheme, uri.host()) else {
        return Err(wrong("is no origin such as https://keys.example.com"));
    };
    if uri.path() != "/" || uri.query().is_some() || text.ends_with('/') {
        return Err(wrong("has more than scheme, host and port"));
    }
    let port = match (scheme, uri.port_u16()) {
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    Ok(format!("{scheme}://{host}{port}").to_ascii_lowercase())
}

/// A variable that holds text. One that holds anything else is not passed over: it may be what keeps strangers out.
fn text(env: impl Fn(&str) -> Option<OsString>, name: &str) -> Result<Option<String>, ConfigError> {
    let text = env(name).map(OsString::into_string).transpose();
    text.map_err(|_| ConfigError::new(name, "is not UTF-8"))
}

fn secret(env: impl Fn(&str) -> Option<OsString>) -> Result<Option<RootSecret>, ConfigError> {
    let (setting, bytes) = match (env("KEYMARK_SECRET"), env("KEYMARK_SECRET_FILE")) {
        (Some(_), Some(_)) => return Err(ConfigError::new("KEYMARK_SECRET", "KEYMARK_SECRET_FILE is set too")),
        (Some(secret), None) => ("KEYMARK_SECRET", secret.into_vec()),
        (None, Some(path)) => {
            // Its value is not repeated: somebody may have put the secret itself there.
            let read = std::fs::read(&path);
            ("KEYMARK_SECRET_FILE", read.map_err(|error| ConfigError::new("KEYMARK_SECRET_FILE", error))?)
        }
        (None, None) => return Ok(None),
    };
    root_secret(setting, bytes).map(Some)
}

/// Reads a secret, naming where it came from when it is too short.
pub fn root_secret(setting: &str, bytes: Vec<u8>) -> Result<RootSecret, ConfigError> {
    RootSecret::new(bytes).map_err(|_| ConfigError::new(setting, "a root secret has at least 32 bytes"))
}

fn previous_secrets(env: impl Fn(&str) -> Option<OsString>) -> Result<Vec<RootSecret>, ConfigError> {
    let setting = "KEYMARK_PREVIOUS_SECRETS";
    let secrets = Zeroizing::new(env(setting).unwrap_or_default().into_vec());
    let secrets = secrets.split(|byte| *byte == b',').filter(|secret| !secret.is_empty());
    secrets
        .map(|secret| match secret {
            [b' ', ..] | [.., b' '] => Err(ConfigError::new(setting, "a secret there begins or ends with a space")),
            secret => root_secret(setting, secret.to_vec()),
        })
        .collect()
}

fn initial_admin_password(env: impl Fn(&str) -> Option<OsString>) -> Result<Option<Password>, ConfigError> {
    let password = text(env, "KEYMARK_INITIAL_ADMIN_PASSWORD")?.map(Password::chosen).transpose();
    password.map_err(|unfit| ConfigError::new("KEYMARK_INITIAL_ADMIN_PASSWORD", unfit))
}

/// Anything but loopback can be reached by strangers, and is not opened to them by accident.
fn access(
    allow: Option<&str>,
    env: impl Fn(&str) -> Option<OsString>,
    listen: SocketAddr,
) -> Result<Access, ConfigError> {
    let token = text(env, "KEYMARK_VERIFIER_TOKEN")?.map(Zeroizing::new);
    if token.as_ref().is_some_and(|token| token.len() < 16) {
        return Err(ConfigError::new("KEYMARK_VERIFIER_TOKEN", "a verifier token has at least 16 bytes"));
    }
    let networks = networks("--verify-allow", allow)?;
    if !listen.ip().is_loopback() && token.is_none() && networks.is_empty() {
        let reason = format!("{listen} is not loopback: set KEYMARK_VERIFIER_TOKEN or --verify-allow, too");
        return Err(ConfigError::new("--verify-listen", reason));
    }
    Ok(Access { token, networks })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(flags: Flags, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(flags, None, |name| env.iter().find(|(known, _)| *known == name).map(|(_, v)| OsString::from(v)))
    }

    fn complaint(flags: Flags, env: &[(&str, &str)]) -> String {
        load(flags, env).err().expect("the configuration is unusable").to_string()
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line_that_names_the_setting() {
        let text = |text: &str| Some(text.to_owned());
        let flags = Flags::default;
        for (flags, env, says) in [
            (Flags { listen: text("8080"), ..flags() }, None, "--listen: `8080` is no IP address and port such as"),
            (Flags { session_lifetime: text("soon"), ..flags() }, None, "--session-lifetime: `soon` is no duration"),
            (Flags { session_lifetime: text("0s"), ..flags() }, None, "--session-lifetime: `0s` is less than a second"),
            (Flags { introspection: text("yes"), ..flags() }, None, "--introspection: `yes` is not on or off"),
            (Flags { trusted_proxies: text("10.0.0.0/40"), ..flags() }, None, "--trusted-proxies: `10.0.0.0/40`"),
            (Flags { public_origin: text("keys.example.com"), ..flags() }, None, "--public-origin: `keys.example.com`"),
            (Flags { key_prefix: text("k-m"), ..flags() }, None, "--key-prefix: `k-m`: a key prefix is"),
            (Flags { verify_listen: text("0.0.0.0:1"), ..flags() }, None, "--verify-listen: 0.0.0.0:1 is not loopback"),
            (Flags { lease: text("soon"), ..flags() }, None, "--lease: `soon` is no duration"),
            (Flags { lease: text("999ms"), ..flags() }, None, "--lease: is 0, or from 1s to 5min"),
            (Flags { lease: text("301s"), ..flags() }, None, "--lease: is 0, or from 1s to 5min"),
            (Flags { lease: text("-1s"), ..flags() }, None, "--lease: `-1s` is no duration"),
            (Flags { probe_interval: text("often"), ..flags() }, None, "--probe-interval: `often` is no duration"),
            (Flags { probe_interval: text("0s"), ..flags() }, None, "--probe-interval: is from 10ms to a quarter of"),
            (Flags { probe_interval: text("9ms"), ..flags() }, None, "--probe-interval: is from 10ms to a quarter of"),
            (
                Flags { probe_interval: text("3001ms"), ..flags() },
                None,
                "--probe-interval: is from 10ms to a quarter of",
            ),
            (Flags { lease: text("2s"), ..flags() }, None, "--probe-interval: is from 10ms to a quarter of"),
            (Flags { enforcement_wait: text("long"), ..flags() }, None, "--enforcement-wait: `long` is no duration"),
            (flags(), Some(("KEYMARK_SECRET", "short")), "KEYMARK_SECRET: a root secret has at least 32 bytes"),
            (flags(), Some(("KEYMARK_SECRET_FILE", "/nowhere/at/all")), "KEYMARK_SECRET_FILE: No such file"),
            (Flags { data_dir: text(""), ..flags() }, None, "--data-dir: is empty"),
            (Flags { log: text("loud"), ..flags() }, None, "--log: `loud` is neither off, error,"),
            (Flags { log: text(""), ..flags() }, None, "--log: `` is neither off, error,"),
            (Flags { log: text("info,keymark=bogus"), ..flags() }, None, "--log: `info,keymark=bogus` is neither"),
            (flags(), Some(("KEYMARK_INITIAL_ADMIN_PASSWORD", "short")), "KEYMARK_INITIAL_ADMIN_PASSWORD: A password"),
            (flags(), Some(("KEYMARK_VERIFIER_TOKEN", "short")), "KEYMARK_VERIFIER_TOKEN: a verifier token has"),
        ] {
            let said = complaint(flags, env.as_slice());
            assert!(said.starts_with(says), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }

    #[test]
    fn no_complaint_repeats_a_secret() {
        for (name, value) in [
            ("KEYMARK_SECRET", "hunter2"),
            ("KEYMARK_SECRET_FILE", "hunter2"),
            ("KEYMARK_PREVIOUS_SECRETS", "hunter2"),
            ("KEYMARK_VERIFIER_TOKEN", "hunter2"),
        ] {
            assert!(!complaint(Flags::default(), &[(name, value)]).contains("hunter2"));
        }
    }

    #[test]
    fn verification_beyond_loopback_demands_a_token_or_networks() {
        let open = || Flags { verify_listen: Some("0.0.0.0:8081".to_owned()), ..Flags::default() };
        assert!(load(open(), &[("KEYMARK_VERIFIER_TOKEN", "0123456789abcdef")]).is_ok());
        assert!(load(Flags { verify_allow: Some("10.0.0.0/8, 192.0.2.1".to_owned()), ..open() }, &[]).is_ok());
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let file: File = toml::from_str("key-prefix = \"file\"\nlog = \"debug\"").unwrap();
        let flags = Flags { key_prefix: Some("flag".to_owned()), ..Flags::default() }.or(file);
        assert_eq!((flags.key_prefix.as_deref(), flags.log.as_deref()), (Some("flag"), Some("debug")));
        assert!(toml::from_str::<File>("keyprefix = \"x\"").is_err(), "unknown keys are refused");
    }
}
