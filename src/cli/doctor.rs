//! `keymark doctor`: checks that a configuration can be used.

use std::fmt::{self, Display};
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use super::print;
use crate::admin::{self, Output, Stdout};
use crate::app::{
    App, Purpose, StartError, contains_store, find_keyring, first_password, is_accessible_to_others, lost_history,
};
use crate::auth::cost::{Calibration, measure};
use crate::clock::{Environment, SystemStopwatch};
use crate::config::{Config, StoreConfig};

/// The checks so far. Prints a verdict for each, on a line of its own.
#[derive(Default)]
struct Report {
    ok: u32,
    warnings: u32,
    failed: u32,
    /// Why a line could not be printed.
    unprinted: Option<StartError>,
}

impl Report {
    fn ok(&mut self, what: &str, found: impl Display) {
        self.ok += 1;
        self.print(format_args!("ok       {what}: {found}\n"));
    }

    fn warn(&mut self, what: &str, found: impl Display) {
        self.warnings += 1;
        self.print(format_args!("warning  {what}: {found}\n"));
    }

    fn fail(&mut self, what: &str, reason: impl Display) {
        self.failed += 1;
        self.print(format_args!("failed   {what}: {reason}\n"));
    }

    fn check(&mut self, what: &str, outcome: Result<impl Display, impl Display>) {
        match outcome {
            Ok(found) => self.ok(what, found),
            Err(reason) => self.fail(what, reason),
        }
    }

    /// Reports what a command has printed, each line as a verdict.
    fn check_lines(&mut self, what: &str, outcome: Result<(), String>, lines: &str) {
        for line in lines.lines() {
            self.ok(what, line);
        }
        if let Err(reason) = outcome {
            self.fail(what, reason);
        }
    }

    fn print(&mut self, line: fmt::Arguments<'_>) {
        if let Err(error) = print(line) {
            self.unprinted.get_or_insert(error);
        }
    }

    fn conclude(mut self) -> Result<(), StartError> {
        let Self { ok, warnings, failed, .. } = self;
        self.print(format_args!("{ok} ok, {warnings} warnings, {failed} failed\n"));
        match (failed, self.unprinted) {
            (0, None) => Ok(()),
            (0, Some(error)) => Err(error),
            _ => Err(StartError::Failed(format!("{failed} checks failed"))),
        }
    }
}

/// Collects the output of a command.
#[derive(Default)]
struct Lines(String);

impl Output for Lines {
    async fn write(&mut self, text: String) -> io::Result<()> {
        self.0.push_str(&text);
        Ok(())
    }
}

/// Prints one line per check, and how many there were of each verdict. Fails if one of them fails.
pub(super) async fn run(mut config: Config) -> Result<(), StartError> {
    let mut report = Report::default();
    report.ok("configuration", "all settings are valid");
    if !config.listen.ip().is_loopback() && !config.front.is_https() {
        report.warn("--listen", format!("{} serves plain HTTP, which others may read", config.listen));
    }
    let calibration = Calibration::new(config.password_cost, |cost| measure(cost, &SystemStopwatch));
    match calibration.advised {
        None => report.ok("password cost", calibration),
        Some(_) => report.warn("password cost", calibration),
    }
    for files in config.tls.iter().chain(&config.verify_tls) {
        let setting = files.certificate.setting;
        match files.check() {
            Ok(expires_at) if expires_at <= Environment::system().now() => {
                report.fail(setting, format!("the certificate has expired at {expires_at}"));
            }
            Ok(expires_at) => {
                report.ok(setting, format!("the certificate and its key belong together, until {expires_at}"))
            }
            Err(error) => report.fail(error.setting, error.reason),
        }
    }
    if let StoreConfig::Embedded { directory, .. } = &config.store {
        report.check("data directory", check_mode(directory));
        let (verify, mut lines) = (admin::Command::VerifyAudit { tenant: None }, Lines::default());
        if let Some(verified) = admin::run_remotely(directory, &verify, None, &mut lines).await {
            report.ok("store", "in use by a running server; its addresses are not checked");
            report.check_lines("audit log", verified, &lines.0);
            check_running_server(&mut report, &config, directory).await;
            return report.conclude();
        }
    }
    for (setting, address) in [("--listen", config.listen), ("--verify-listen", config.verify_listen)] {
        report.check(setting, can_listen(address).await);
    }
    if matches!(&config.store, StoreConfig::Embedded { directory, .. } if !contains_store(directory)) {
        report.ok("store", "will be created");
        report.check("first operator", can_create_first_operator(&config));
        return report.conclude();
    }
    match App::open_existing(&mut config, Purpose::Inspection).await {
        Ok(app) => {
            report.ok("store", "opened, and the root secret matches");
            if matches!(app.service.is_initialised().await, Ok(false)) {
                report.check("first operator", can_create_first_operator(&config));
            }
            match app.service.find_lost_checkpoints().await.map(|lost| lost_history(&lost)) {
                Ok(None) => report.ok("signed audit entries", "all are in the store"),
                Ok(Some(reason)) => report.fail("signed audit entries", reason),
                Err(error) => report.fail("signed audit entries", error),
            }
            let (verify, mut lines) = (admin::Command::VerifyAudit { tenant: None }, Lines::default());
            let verified = admin::run(&app.service, verify, None, &mut lines).await;
            report.check_lines("audit log", verified, &lines.0);
            report.check("API keys", app.service.describe_secrets().await);
        }
        Err(error) => report.fail("store", error),
    }
    report.conclude()
}

/// Compares the root secret with that of the running server, and lists the secrets that its keys need.
async fn check_running_server(report: &mut Report, config: &Config, directory: &Path) {
    match check_secret(config).await {
        Err(reason) if reason == admin::UNSUPPORTED => report.warn("root secret", reason),
        outcome => report.check("root secret", outcome.map(|()| "matches that of the running server")),
    }
    let mut lines = Lines::default();
    if let Some(described) = admin::run_remotely(directory, &admin::Command::DescribeSecrets, None, &mut lines).await {
        report.check_lines("API keys", described, &lines.0);
    }
}

/// Compares the configured root secret with that of the running server.
async fn check_secret(config: &Config) -> Result<(), String> {
    let StoreConfig::Embedded { directory, .. } = &config.store else { return Ok(()) };
    let keyring = find_keyring(config, directory).map_err(|error| error.to_string())?;
    let check = admin::Command::CheckSecret { fingerprints: keyring.iter().map(|keys| keys.fingerprint).collect() };
    let stopped = || Err("the server has stopped meanwhile; run doctor again".to_owned());
    admin::run_remotely(directory, &check, None, &mut Stdout).await.unwrap_or_else(stopped)
}

fn can_create_first_operator(config: &Config) -> Result<String, String> {
    first_password(config).map(|_| "can be created".to_owned()).map_err(|error| error.to_string())
}

fn check_mode(directory: &Path) -> Result<String, String> {
    match is_accessible_to_others(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok("will be created".to_owned()),
        Err(error) => Err(error.to_string()),
        Ok(false) => Ok("accessible to its owner only".to_owned()),
        Ok(true) => Err(format!("{} is accessible to other users; run chmod 700", directory.display())),
    }
}

async fn can_listen(address: SocketAddr) -> Result<String, String> {
    match TcpListener::bind(address).await {
        Ok(_) => Ok(format!("{address} is free")),
        Err(error) => Err(format!("{address}: {error}")),
    }
}
