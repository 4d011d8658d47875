//! The command line.

mod audit;
mod backup;
mod doctor;
mod follow;
mod health;
mod migrate;
mod operator;
mod tenant;
mod token;

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Command, Output, Stdout};
use crate::app::{self, App, Purpose, StartError};
use crate::config::{self, Config, Flags, StoreConfig};
use crate::domain::actors::{CommandUser, NotACommandUser};
use crate::{graphql, telemetry};

/// Issues, verifies and revokes the API keys of tenants' client applications.
#[derive(Parser)]
#[command(name = "keymark", version = env!("SOURCE_VERSION"), about)]
pub struct Cli {
    #[command(flatten)]
    flags: Flags,
    /// Configuration file.
    ///
    /// [default: keymark.toml in the working directory, if it exists]
    #[arg(
        long,
        env = "KEYMARK_CONFIG",
        value_name = "FILE",
        global = true,
        help_heading = "Settings",
        hide_env_values = true
    )]
    config: Option<PathBuf>,
    /// Your name, for the audit entries of commands.
    ///
    /// [default: the name of the system's user]
    #[arg(
        long = "as",
        env = "KEYMARK_OPERATOR",
        value_name = "NAME",
        value_parser = command_user,
        global = true,
        help_heading = "Settings"
    )]
    user: Option<CommandUser>,
    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Serve the console, the API and the verification endpoints (the default).
    Serve,
    /// Manage operators, the people who sign in.
    #[command(subcommand)]
    Operator(operator::Operator),
    /// Manage tenants.
    #[command(subcommand)]
    Tenant(tenant::Tenant),
    /// Manage service tokens, with which backends call the API.
    #[command(subcommand)]
    Token(token::ServiceToken),
    /// Manage verifier tokens, with which gateways and services verify keys.
    #[command(subcommand)]
    VerifierToken(token::VerifierToken),
    /// Print the GraphQL schema.
    Schema,
    /// Export, follow, archive, verify or sign the audit log.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Copy the embedded store to a new file, also while a server runs. The server writes the file if one runs.
    Backup {
        /// The new file.
        file: PathBuf,
    },
    /// Put a backup in the place of the embedded store while no server runs. Ends all sessions, as `keymark restored` does.
    Restore {
        /// A file that `keymark backup` has written.
        file: PathBuf,
        /// Replace the store in the data directory. Its file is kept beside the new one.
        #[arg(long)]
        replace: bool,
    },
    /// Move everything to another store while no server runs: from the embedded store to MongoDB, or back.
    Migrate(migrate::Migrate),
    /// State that the store was restored from a backup: ends all sessions, and lets Keymark serve the store.
    Restored,
    /// Check that Keymark can start with this configuration.
    Doctor,
    /// Check that the server with this configuration is ready. Exits with 1 if it is not.
    Health {
        /// The URL to request instead, such as http://127.0.0.1:8080/readyz.
        #[arg(long)]
        url: Option<health::HealthUrl>,
    },
    /// Print the completions for a shell.
    #[command(hide = true)]
    Completions { shell: Shell },
    /// Write the manual pages to a directory.
    #[command(hide = true)]
    Man { directory: PathBuf },
}

/// Runs the command line. Exit codes: 0 success, 1 failure, 2 invalid configuration or command.
pub fn main() -> ExitCode {
    let without_core_dumps = disable_core_dumps();
    let matches = command().get_matches();
    let is_uri_an_argument = matches.value_source("mongodb_uri") == Some(ValueSource::CommandLine);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let command = cli.command.unwrap_or(Subcommands::Serve);
    match &command {
        Subcommands::Schema => {
            return exit_code(print(format_args!("{}", graphql::sdl())));
        }
        Subcommands::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut self::command(), "keymark", &mut script);
            return exit_code(print(format_args!("{}", String::from_utf8_lossy(&script))));
        }
        Subcommands::Man { directory } => {
            let written = clap_mangen::generate_to(self::command(), directory);
            return exit_code(written.map_err(|error| StartError::Failed(format!("{}: {error}", directory.display()))));
        }
        _ => {}
    }
    if let Subcommands::Audit(audit) = &command
        && let Some(outcome) = audit.run_offline()
    {
        return exit_code(outcome);
    }
    #[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
    let (environment, variables) = (|name: &str| std::env::var_os(name), std::env::vars_os());
    let user = cli.user.or_else(|| system_user(environment));
    let outcome = config::check_variables(variables)
        .and_then(|()| Config::load(cli.flags, cli.config.as_deref(), environment))
        .map_err(StartError::from)
        .and_then(|config| {
            telemetry::start(&config.log, config.log_format);
            if let Err(error) = without_core_dumps {
                tracing::warn!(%error, "core dumps not disabled; they may contain secrets");
            }
            if is_uri_an_argument && config.has_password_in_uri() {
                tracing::warn!(
                    "--mongodb-uri contains a password, which other users of this machine can read; set \
                     KEYMARK_MONGODB_URI or KEYMARK_MONGODB_URI_FILE instead"
                );
            }
            // A thread that has hashed a password keeps its 19 MiB until it ends.
            let runtime = Builder::new_multi_thread().enable_all().thread_keep_alive(Duration::from_secs(1)).build();
            let runtime = runtime.map_err(|error| StartError::Failed(error.to_string()))?;
            let outcome = runtime.block_on(run(command, config, user.as_ref()));
            telemetry::end();
            // Blocking threads, for instance in a DNS look-up, must not delay the exit.
            runtime.shutdown_background();
            outcome
        });
    exit_code(outcome)
}

/// The command line. Settings apply to all commands, and only the help of the program and of `serve` lists them.
pub fn command() -> clap::Command {
    let mut secrets = "Secrets, from the environment only:\n".to_owned();
    for (variable, default, help) in config::SECRETS {
        secrets.push_str(&format!("  {variable}\n          {help} [default: {default}]\n"));
    }
    let mut command = Cli::command().after_help(secrets.clone());
    // Copies the settings into the commands, where they can be hidden.
    command.build();
    command.mut_subcommands(|command| match command.get_name() {
        "serve" => command.after_help(secrets.clone()),
        _ => without_settings(command),
    })
}

fn without_settings(command: clap::Command) -> clap::Command {
    let is_setting = |arg: &clap::Arg| arg.get_help_heading() == Some("Settings");
    let command = command.mut_args(|arg| {
        let hidden = is_setting(&arg);
        arg.hide(hidden)
    });
    command.after_help("All settings of `keymark serve --help` apply as well.").mut_subcommands(without_settings)
}

fn command_user(name: &str) -> Result<CommandUser, String> {
    name.to_owned().try_into().map_err(|error: NotACommandUser| error.to_string())
}

/// The name of the system's user: of the environment or, where it has none (as in a container), of the user database.
fn system_user(environment: impl Fn(&str) -> Option<OsString>) -> Option<CommandUser> {
    let named = ["USER", "LOGNAME"].into_iter().filter_map(environment).find(|name| !name.is_empty());
    let name = named.and_then(|name| name.into_string().ok()).or_else(|| {
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        let uid = rustix::process::getuid().as_raw().to_string();
        let user =
            users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.get(2) == Some(&&*uid));
        user.map(|fields| fields[0].to_owned())
    });
    name?.try_into().ok()
}

/// Writes to standard output, as `print!` does, which panics if that fails. A reader that has closed it, such as `head`,
/// wants no more, and that is no failure.
fn print(text: fmt::Arguments<'_>) -> Result<(), StartError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_fmt(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(StartError::Failed(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn exit_code(outcome: Result<(), StartError>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keymark: {error}");
            ExitCode::from(if matches!(error, StartError::Config(_)) { 2 } else { 1 })
        }
    }
}

/// Keeps this process from being dumped, since its memory contains secrets. A limit alone does not hold for dumps that the
/// kernel pipes to a program (core(5)).
fn disable_core_dumps() -> rustix::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

async fn run(command: Subcommands, config: Config, user: Option<&CommandUser>) -> Result<(), StartError> {
    match command {
        Subcommands::Serve => app::run(config).await,
        Subcommands::Schema | Subcommands::Completions { .. } | Subcommands::Man { .. } => Ok(()),
        Subcommands::Health { url } => health::run(&config, url).await,
        Subcommands::Doctor => doctor::run(config).await,
        Subcommands::Backup { file } => backup::back_up(config, &file, user).await,
        Subcommands::Restore { file, replace } => backup::restore(config, file, replace, user).await,
        Subcommands::Migrate(migrate) => migrate::run(config, migrate).await,
        Subcommands::Restored => administer(config, Command::MarkRestored, user).await,
        Subcommands::Operator(operator) => administer(config, operator.command().await?, user).await,
        Subcommands::Tenant(tenant) => administer(config, tenant.command(), user).await,
        Subcommands::Token(token) => administer(config, token.command(), user).await,
        Subcommands::VerifierToken(token) => administer(config, token.command(), user).await,
        Subcommands::Audit(audit::Audit::Follow { tenant, cursor_file }) => {
            follow::run(config, tenant, cursor_file, user).await
        }
        Subcommands::Audit(audit) => administer(config, audit.command()?, user).await,
    }
}

/// Runs a command: in the server that has the embedded store open, or else on the store directly.
async fn administer(config: Config, command: Command, user: Option<&CommandUser>) -> Result<(), StartError> {
    administer_to(config, command, user, &mut Stdout).await
}

async fn administer_to(
    mut config: Config,
    command: Command,
    user: Option<&CommandUser>,
    out: &mut impl Output,
) -> Result<(), StartError> {
    if let StoreConfig::Embedded { directory, .. } = &config.store
        && let Some(outcome) = admin::run_remotely(directory, &command, user, out).await
    {
        return outcome.map_err(StartError::Failed);
    }
    let app = match &command {
        Command::AddOperator { .. } => App::open(&mut config, Purpose::Command).await?,
        _ => App::open_existing(&mut config, Purpose::Command).await?,
    };
    // The command waits for its change to be enforced, which is known from the feed.
    let (service, done) = (Arc::clone(&app.service), CancellationToken::new());
    let following = tokio::spawn({
        let done = done.clone();
        async move { service.follow_feed(done).await }
    });
    let outcome = admin::run(&app.service, command, user, out).await;
    app.service.finish().await;
    done.cancel();
    // Fails only if the task panicked. The panic hook has already logged it.
    let _ = following.await;
    outcome.map_err(StartError::Failed)
}
