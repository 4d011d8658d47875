//! `keymark doctor`: checks that a configuration can be used.

use std::net::SocketAddr;
use std::path::Path;

use tokio::net::TcpListener;

use crate::admin::{self, Stdout};
use crate::app::{
    App, Purpose, StartError, contains_store, find_keyring, first_password, is_accessible_to_others, lost_history,
};
use crate::auth::cost::{Calibration, measure};
use crate::clock::SystemStopwatch;
use crate::config::{Config, StoreConfig};

/// Prints one line per check. Fails if one of them fails.
pub(super) async fn run(mut config: Config) -> Result<(), StartError> {
    let mut failed = 0;
    let mut report = |what: &str, outcome: Result<String, String>| match outcome {
        Ok(found) => println!("ok    {what}: {found}"),
        Err(reason) => {
            failed += 1;
            println!("FAIL  {what}: {reason}");
        }
    };
    let skip = |what: &str, reason: &str| println!("skip  {what}: {reason}");
    report("configuration", Ok("all settings are valid".to_owned()));
    let calibration = Calibration::new(config.password_cost, |cost| measure(cost, &SystemStopwatch));
    report("password cost", Ok(calibration.to_string()));
    let served = match &config.store {
        StoreConfig::Embedded { directory, .. } => {
            report("data directory", check_mode(directory));
            let verify = admin::Command::VerifyAudit { tenant: None };
            // Printed by the server; reported as part of its outcome.
            match admin::run_remotely(directory, &verify, None, &mut Stdout).await {
                Some(Ok(())) => {
                    admin::run_remotely(directory, &admin::Command::DescribeSecrets, None, &mut Stdout).await
                }
                outcome => outcome,
            }
        }
        StoreConfig::Mongo { .. } => None,
    };
    match served {
        Some(outcome) => {
            report("store", outcome.map(|()| "in use by a running server; the audit log is intact".to_owned()));
            match check_secret(&config).await {
                Err(reason) if reason == admin::UNSUPPORTED => skip("root secret", &reason),
                outcome => report("root secret", outcome.map(|()| "matches that of the running server".to_owned())),
            }
            for setting in ["--listen", "--verify-listen"] {
                skip(setting, "the running server may use this address");
            }
            skip("first operator", "the running server creates it at its start");
        }
        None => {
            for (setting, address) in [("--listen", config.listen), ("--verify-listen", config.verify_listen)] {
                report(setting, can_listen(address).await);
            }
            let new = matches!(&config.store, StoreConfig::Embedded { directory, .. } if !contains_store(directory));
            if new {
                report("store", Ok("will be created".to_owned()));
                report("first operator", can_create_first_operator(&config));
                return conclude(failed);
            }
            match App::open_existing(&mut config, Purpose::Inspection).await {
                Ok(app) => {
                    report("store", Ok("opened, and the root secret matches".to_owned()));
                    if matches!(app.service.is_initialised().await, Ok(false)) {
                        report("first operator", can_create_first_operator(&config));
                    }
                    let lost = app.service.find_lost_checkpoints().await.map_err(|error| error.to_string());
                    report(
                        "signed audit entries",
                        lost.and_then(|lost| match lost_history(&lost) {
                            Some(reason) => Err(reason),
                            None => Ok("all are in the store".to_owned()),
                        }),
                    );
                    let verify = admin::Command::VerifyAudit { tenant: None };
                    let verified = admin::run(&app.service, verify, None, &mut Stdout).await;
                    report("audit log", verified.map(|()| "intact".to_owned()));
                    report("API keys", app.service.describe_secrets().await.map_err(|error| error.to_string()));
                }
                Err(error) => report("store", Err(error.to_string())),
            }
        }
    }
    conclude(failed)
}

/// Compares the configured root secret with that of the running server.
async fn check_secret(config: &Config) -> Result<(), String> {
    let StoreConfig::Embedded { directory, .. } = &config.store else { return Ok(()) };
    let keyring = find_keyring(config, directory).map_err(|error| error.to_string())?;
    let check = admin::Command::CheckSecret { fingerprints: keyring.iter().map(|keys| keys.fingerprint).collect() };
    let stopped = || Err("the server has stopped meanwhile; run doctor again".to_owned());
    admin::run_remotely(directory, &check, None, &mut Stdout).await.unwrap_or_else(stopped)
}

fn conclude(failed: u32) -> Result<(), StartError> {
    if failed == 0 { Ok(()) } else { Err(StartError::Failed(format!("{failed} checks failed"))) }
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
