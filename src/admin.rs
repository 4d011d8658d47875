//! The commands of the command line. They run on the store directly or, while a server has the embedded store open, in
//! that server, through a Unix socket in the data directory.
//!
//! The client sends the command as one line of JSON. The server responds with lines of JSON: text for standard output,
//! and then the outcome. The socket's mode is 0600: who can open it can open the store as well.

mod restores;
pub mod tenants;
pub mod tokens;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::tenants::TenantCommand;
use self::tokens::TokenCommand;
use crate::audit_text::{self, Format};
use crate::domain::actors::CommandUser;
use crate::domain::archives::Archive;
use crate::domain::audit::{AuditFilter, AuditHead, Origin};
use crate::domain::checkpoints::Checkpoint;
use crate::domain::ids::TenantId;
use crate::domain::operators::{Operator, Password, Username};
use crate::domain::permissions::Permissions;
use crate::domain::refusal::Refusal;
use crate::domain::secrets::Fingerprint;
use crate::domain::time::Timestamp;
use crate::service::archives::ArchiveError;
use crate::service::audit::Exporter;
use crate::service::backups::Backup;
use crate::service::checkpoints::{KnownCheckpoints, VerifiedLog};
use crate::service::error::Error;
use crate::service::follow::FollowError;
use crate::service::open_sessions::OpenSession;
use crate::service::operators::Target;
use crate::service::{Enforcement, Service};

/// The answer of a server to a command that it does not know.
pub const UNSUPPORTED: &str = "the server does not support this command; it may run another version";
/// The name of the socket in the data directory.
const SOCKET_NAME: &str = "keymark.sock";
/// Enough for the checkpoints of 100,000 logs. Only the user that the server runs as can connect.
const MAX_COMMAND_BYTES: u64 = 64 * 1024 * 1024;
/// Limit on receiving a command, and on finishing the running commands when the server stops.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);
/// Delay before the next connection is accepted after a failure, such as a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// A command, as sent over the socket. Never logged, since it may contain a password.
#[derive(Serialize, Deserialize)]
pub enum Command {
    AddOperator {
        tenant: TenantId,
        username: Username,
        password: Option<String>,
        permissions: Permissions,
    },
    ListOperators {
        tenant: Option<TenantId>,
    },
    SetPermissions {
        username: Username,
        permissions: Permissions,
        /// Set all that the operator can hold, rather than `permissions`.
        #[serde(default)]
        all: bool,
    },
    /// Makes the operator one of the platform; `None`: with all permission codes.
    PromoteOperator {
        username: Username,
        permissions: Option<Permissions>,
    },
    SuspendOperator {
        username: Username,
    },
    ResumeOperator {
        username: Username,
    },
    ListSessions {
        username: Username,
    },
    EndSessions {
        username: Username,
    },
    SetPassword {
        username: Username,
        password: Option<String>,
    },
    RemoveOperator {
        username: Username,
    },
    Tenant(TenantCommand),
    /// Manages the service tokens and verifier tokens of a tenant.
    Token {
        tenant: TenantId,
        command: TokenCommand,
    },
    ListTokens {
        tenant: Option<TenantId>,
        is_service: bool,
    },
    ExportAudit {
        tenant: TenantId,
        jsonl: bool,
    },
    /// Writes the entries of a tenant's log as they are committed, after one that the log has to contain.
    FollowAudit {
        tenant: TenantId,
        after: Option<AuditHead>,
        /// Ends after the last entry.
        ends: bool,
    },
    /// Moves the oldest entries of a tenant's log to a file, which the process that runs the command writes.
    ArchiveAudit {
        tenant: TenantId,
        before: Timestamp,
        file: PathBuf,
    },
    /// Compares root secrets by their fingerprints, the current one first.
    CheckSecret {
        fingerprints: Vec<Fingerprint>,
    },
    VerifyAudit {
        tenant: Option<TenantId>,
    },
    /// Verifies the logs of the tenants of these checkpoints, and that each has the entries that they were signed for.
    CompareAudit {
        tenant: Option<TenantId>,
        checkpoints: Vec<Checkpoint>,
    },
    CheckpointAudit,
    DescribeSecrets,
    ShowAuditKeys,
    /// Copies the embedded store. The process that runs the command writes the file.
    BackUp {
        file: PathBuf,
    },
    MarkRestored,
    /// Replays an export in a restored store. The process that runs the command reads the file.
    ReplayAudit {
        file: PathBuf,
    },
}

/// A line of a request: a command, and the person who runs it.
#[derive(Serialize)]
struct Call<'a> {
    command: &'a Command,
    user: Option<&'a CommandUser>,
}

/// The same, as received.
#[derive(Deserialize)]
#[serde(untagged)]
enum ReceivedCall {
    Named {
        command: Command,
        user: Option<CommandUser>,
    },
    /// From an earlier release.
    Plain(Command),
}

/// A line of a response.
#[derive(Serialize, Deserialize)]
enum Line {
    Out(String),
    Failed(String),
    Done,
}

/// Receives the output of a command.
pub trait Output: Send {
    fn write(&mut self, text: String) -> impl Future<Output = io::Result<()>> + Send;
}

pub struct Stdout;

impl Output for Stdout {
    async fn write(&mut self, text: String) -> io::Result<()> {
        let mut stdout = tokio::io::stdout();
        stdout.write_all(text.as_bytes()).await?;
        stdout.flush().await
    }
}

/// Runs a command on behalf of a person; `None` if their name is not known. The error is the message for them.
pub async fn run(
    service: &Arc<Service>,
    command: Command,
    user: Option<&CommandUser>,
    out: &mut impl Output,
) -> Result<(), String> {
    let origin = &service.command_line_origin(user);
    let text = match command {
        Command::AddOperator { tenant, username, password, permissions } => {
            let (password, notice) = choose_password(service, password, &username)?;
            let added = service.add_operator(origin, tenant, username, password, permissions).await;
            format!("{}{notice}", description(&added.map_err(message)?))
        }
        Command::ListOperators { tenant } => {
            let operators = service.list_operators(tenant.as_ref()).await.map_err(message)?;
            operators.iter().map(description).collect()
        }
        Command::SetPermissions { username, permissions, all } => {
            let target = Target::CommandLine(origin, &username);
            let changed = service.set_permissions(target, (!all).then_some(permissions)).await;
            description(&enforced(&username, changed)?)
        }
        Command::PromoteOperator { username, permissions } => {
            let promoted = service.promote_operator(origin, &username, permissions).await;
            description(&enforced(&username, promoted)?)
        }
        Command::SuspendOperator { username } => {
            let suspended = service.suspend_operator(Target::CommandLine(origin, &username)).await;
            let suspended = enforced(&username, suspended)?;
            format!("{}{}", description(&suspended), tenant_warning(service, &suspended.tenant).await?)
        }
        Command::ResumeOperator { username } => {
            let resumed = service.resume_operator(Target::CommandLine(origin, &username)).await;
            description(&enforced(&username, resumed)?)
        }
        Command::ListSessions { username } => {
            let operator =
                service.find_operator_named(&username).await.map_err(|error| message_about(&username, error))?;
            service.list_open_sessions(&operator).await.map_err(message)?.iter().map(session_description).collect()
        }
        Command::EndSessions { username } => {
            let ended = service.end_all_sessions(Target::CommandLine(origin, &username)).await;
            let ended = ended.map(|(_, count, enforcement)| (count, enforcement));
            format!("ended {} sessions of {username}\n", enforced(&username, ended)?)
        }
        Command::SetPassword { username, password } => {
            let (password, notice) = choose_password(service, password, &username)?;
            let changed = service.set_password(Target::CommandLine(origin, &username), password).await;
            format!("{}{notice}", description(&enforced(&username, changed)?))
        }
        Command::DescribeSecrets => format!("{}\n", service.describe_secrets().await.map_err(message)?),
        Command::RemoveOperator { username } => {
            let removed = service.remove_operator(Target::CommandLine(origin, &username)).await;
            let removed = enforced(&username, removed)?;
            let warning = if removed.is_platform { platform_warning(service).await? } else { "" };
            let tenant_warning = tenant_warning(service, &removed.tenant).await?;
            format!("removed {}{tenant_warning}{warning}", description(&removed))
        }
        Command::Tenant(command) => tenants::run(service, origin, command).await?,
        Command::ListTokens { tenant, is_service } => tokens::list(service, tenant, is_service).await?,
        Command::Token { tenant, command } => return tokens::run(service, origin, &tenant, command, out).await,
        Command::ExportAudit { tenant, jsonl } => {
            let tenants = service.list_audited_tenants(&KnownCheckpoints::default()).await.map_err(message)?;
            check_tenant(&tenants, &tenant)?;
            let format = if jsonl { Format::Jsonl } else { Format::Csv };
            return export_audit(service, Exporter::CommandLine(tenant, user.cloned()), format, out).await;
        }
        Command::CheckSecret { fingerprints } => {
            let own = &service.keyring().current().fingerprint;
            if !fingerprints.contains(own) {
                return Err("the server uses another root secret; if this one replaces it, add the old one to \
                            KEYMARK_PREVIOUS_SECRETS"
                    .to_owned());
            }
            String::new()
        }
        Command::VerifyAudit { tenant } => verify_audit(service, tenant, Vec::new()).await?,
        Command::CompareAudit { tenant, checkpoints } => verify_audit(service, tenant, checkpoints).await?,
        Command::BackUp { file } => {
            let in_file = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
            let backup = service.back_up(&file).await.map_err(message)?.map_err(|error| in_file(&error))?;
            let Backup { bytes, keys, audit_entries } = backup;
            format!("{}: {keys} keys, {audit_entries} audit entries, {bytes} bytes\n", file.display())
        }
        Command::MarkRestored => restores::mark_restored(service, origin).await?,
        Command::ReplayAudit { file } => return restores::replay(service, origin, file, out).await,
        Command::FollowAudit { tenant, after, ends } => {
            return follow_audit(service, origin, tenant, after, ends, out).await;
        }
        Command::ArchiveAudit { tenant, before, file } => archive_audit(service, user, &tenant, before, &file).await?,
        Command::CheckpointAudit => return checkpoint_audit(service, out).await,
        Command::ShowAuditKeys => service.keyring().public_keys().iter().map(|key| format!("{key}\n")).collect(),
    };
    out.write(text).await.map_err(|error| error.to_string())
}

async fn verify_audit(
    service: &Service,
    tenant: Option<TenantId>,
    archived: Vec<Checkpoint>,
) -> Result<String, String> {
    let known = service.find_checkpoints(archived).await.map_err(message)?;
    let mut tenants = service.list_audited_tenants(&known).await.map_err(message)?;
    if let Some(tenant) = tenant {
        check_tenant(&tenants, &tenant)?;
        tenants = [tenant].into();
    }
    let mut text = String::new();
    for tenant in tenants {
        match service.verify_audit(&tenant, &known).await.map_err(message)? {
            Ok(VerifiedLog { entries, archive }) => {
                text.push_str(&format!("{tenant}: {entries} entries, the chain is intact\n"));
                if let Some(archive @ Archive { number, event, .. }) = &archive {
                    let at = event.occurred_at;
                    text.push_str(&format!("{tenant}: the entries up to {number} were archived at {at}\n"));
                    let skipped =
                        known.given_of(&tenant).iter().filter(|checkpoint| archive.precedes(checkpoint)).count();
                    if skipped > 0 {
                        text.push_str(&format!(
                            "{tenant}: {skipped} checkpoints of archived entries were not compared\n"
                        ));
                    }
                }
                text.push_str(&restores::description(known.restores(&tenant)));
            }
            Err(broken) => return Err(format!("{tenant}: {broken}")),
        }
    }
    Ok(text)
}

/// Writes the newest checkpoint of each tenant. Fails if a log differs from what was written.
async fn checkpoint_audit(service: &Service, out: &mut impl Output) -> Result<(), String> {
    let checkpoints = service.checkpoint_audit().await.map_err(message)?;
    let lines = checkpoints.newest.iter().map(|checkpoint| audit_text::checkpoint_line(checkpoint, Format::Jsonl));
    out.write(lines.collect()).await.map_err(|error| error.to_string())?;
    let broken: Vec<_> = checkpoints.broken.iter().map(|(tenant, broken)| format!("{tenant}: {broken}")).collect();
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
}

async fn archive_audit(
    service: &Arc<Service>,
    user: Option<&CommandUser>,
    tenant: &TenantId,
    before: Timestamp,
    file: &Path,
) -> Result<String, String> {
    let archived = service.archive_audit(user, tenant, before, file).await;
    let archived = archived.map_err(|error| match error {
        ArchiveError::Service(error) => message(error),
        ArchiveError::File(error) => format!("{}: {error}", file.display()),
        ArchiveError::Unfinished(error) => format!(
            "{} has the archived entries, keep it; they may be removed from the log within an hour, or by the next archive \
             ({})",
            file.display(),
            message(error)
        ),
        error => error.to_string(),
    })?;
    Ok(match archived {
        None => format!("{tenant}: no entries to archive; the log has none before {before}, or only its last one\n"),
        Some(Archive { number, event, .. }) => {
            format!("{}: {} entries of {tenant}, up to entry {number}\n", file.display(), event.count)
        }
    })
}

/// Writes entries until the output is closed or, with `ends`, there are no more.
async fn follow_audit(
    service: &Arc<Service>,
    origin: &Origin,
    tenant: TenantId,
    after: Option<AuditHead>,
    ends: bool,
    out: &mut impl Output,
) -> Result<(), String> {
    let failed = |error| match error {
        FollowError::Service(error) => message(error),
        error => error.to_string(),
    };
    let mut follower = service.follow_audit(origin, tenant, after).await.map_err(failed)?;
    loop {
        let text = follower.read().await.map_err(failed)?;
        if !text.is_empty() {
            out.write(text).await.map_err(|error| error.to_string())?;
        } else if ends {
            return Ok(());
        } else {
            follower.changed().await;
        }
    }
}

/// Refuses a mistyped tenant, whose log would be empty and look intact.
fn check_tenant(known: &BTreeSet<TenantId>, tenant: &TenantId) -> Result<(), String> {
    if known.contains(tenant) { Ok(()) } else { Err(format!("tenant {tenant} not found")) }
}

/// The error with its cause: the person at the command line is the one who reads the log.
fn message(error: Error) -> String {
    let cause = error.source().map(|cause| format!(" ({cause})")).unwrap_or_default();
    format!("{error}{cause}")
}

fn message_about(username: &Username, error: Error) -> String {
    match error {
        Error::Refused(Refusal::OperatorNotFound) => format!("operator {username} not found"),
        error => message(error),
    }
}

/// The outcome of a change of an operator, once it is enforced.
fn enforced<T>(username: &Username, outcome: Result<(T, Enforcement), Error>) -> Result<T, String> {
    match outcome.map_err(|error| message_about(username, error))? {
        (changed, enforcement) if enforcement.is_enforced => Ok(changed),
        _ => Err(message(Error::NotEnforced)),
    }
}

/// The line of output that follows the removal of an operator of the platform: a warning if none is left.
async fn platform_warning(service: &Service) -> Result<&'static str, String> {
    let operators = service.list_operators(None).await.map_err(message)?;
    Ok(if operators.iter().any(|operator| operator.is_platform) {
        ""
    } else {
        "warning: no operator of the platform is left; add one with keymark operator promote USERNAME\n"
    })
}

/// The same for an operator of a tenant: a warning if none is left who may sign in.
async fn tenant_warning(service: &Service, tenant: &TenantId) -> Result<String, String> {
    let operators = service.list_operators(Some(tenant)).await.map_err(message)?;
    Ok(if operators.iter().any(|operator| operator.suspended_at.is_none()) {
        String::new()
    } else {
        format!(
            "warning: tenant {tenant} has no operator who may sign in; add one with keymark operator add USERNAME \
             --tenant {tenant}\n"
        )
    })
}

/// Returns the given password, or a generated one and the line of output that contains it.
fn choose_password(
    service: &Service,
    given: Option<String>,
    username: &Username,
) -> Result<(Password, String), String> {
    match given {
        Some(given) => Ok((Password::chosen(given, username).map_err(|unfit| unfit.to_string())?, String::new())),
        None => {
            let password = service.generate_password();
            let notice = format!("Password: {} (shown once)\n", password.expose());
            Ok((password, notice))
        }
    }
}

fn description(operator: &Operator) -> String {
    let codes = operator.permissions.codes().join(",");
    let codes = if codes.is_empty() { "no permissions" } else { &codes };
    let platform = if operator.is_platform { "\tplatform" } else { "" };
    let suspended = if operator.suspended_at.is_some() { "\tsuspended" } else { "" };
    format!("{}\t{}\t{}\t{codes}{platform}{suspended}\n", operator.username, operator.tenant, operator.id)
}

fn session_description(OpenSession { session, last_used_at }: &OpenSession) -> String {
    let network = session.network.map_or("unknown network".to_owned(), |network| network.to_string());
    let user_agent = session.user_agent.as_deref().unwrap_or("unknown client");
    format!("{}\t{last_used_at}\t{}\t{network}\t{user_agent}\n", session.created_at, session.expires_at)
}

async fn export_audit(
    service: &Arc<Service>,
    exporter: Exporter,
    format: Format,
    out: &mut impl Output,
) -> Result<(), String> {
    let export = service.export_audit(service.request(None), exporter, AuditFilter::default(), format).await;
    let mut export = pin!(export.map_err(message)?);
    while let Some(text) = export.try_next().await.map_err(message)? {
        out.write(text).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The server's end of the socket. Dropping it removes the file.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens in the data directory. This process has locked its store, so an existing socket file is stale.
    pub fn bind(directory: &Path) -> io::Result<Self> {
        let path = directory.join(SOCKET_NAME);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Serves commands until `stop` is cancelled, and then waits for running ones, for 5 s at most.
    pub async fn serve(self, service: Arc<Service>, stop: CancellationToken) {
        let commands = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            };
            let (service, stop) = (Arc::clone(&service), stop.clone());
            commands.spawn(async move {
                if let Err(error) = answer(&service, stream, &stop).await {
                    tracing::warn!(%error, "command connection failed");
                }
            });
        }
        commands.close();
        let _ = tokio::time::timeout(COMMAND_TIMEOUT, commands.wait()).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(service: &Arc<Service>, stream: UnixStream, stop: &CancellationToken) -> io::Result<()> {
    let (read, write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(MAX_COMMAND_BYTES));
    tokio::time::timeout(COMMAND_TIMEOUT, reader.read_line(&mut line)).await??;
    let mut lines = Lines(write);
    let (command, user) = match serde_json::from_str(&line) {
        Ok(ReceivedCall::Named { command, user }) => (Some(command), user),
        Ok(ReceivedCall::Plain(command)) => (Some(command), None),
        Err(_) => (None, None),
    };
    let ended = match command {
        // They may take long, and change nothing.
        Some(
            command @ (Command::BackUp { .. }
            | Command::FollowAudit { .. }
            | Command::VerifyAudit { .. }
            | Command::CompareAudit { .. }),
        ) => tokio::select! {
            ended = run(service, command, user.as_ref(), &mut lines) => ended,
            () = stop.cancelled() => Err("the server was stopped".to_owned()),
            // The client is gone: it sends nothing else.
            _ = reader.read_u8() => return Ok(()),
        },
        Some(command) => run(service, command, user.as_ref(), &mut lines).await,
        None => Err(UNSUPPORTED.to_owned()),
    };
    lines
        .send(&match ended {
            Ok(()) => Line::Done,
            Err(message) => Line::Failed(message),
        })
        .await
}

struct Lines(tokio::net::unix::OwnedWriteHalf);

impl Lines {
    async fn send(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.0.write_all(&bytes).await
    }
}

impl Output for Lines {
    async fn write(&mut self, text: String) -> io::Result<()> {
        self.send(&Line::Out(text)).await
    }
}

/// Runs the command in the server that uses the data directory. Returns `None` if there is no such server.
pub async fn run_remotely(
    directory: &Path,
    command: &Command,
    user: Option<&CommandUser>,
    out: &mut impl Output,
) -> Option<Result<(), String>> {
    let stream = UnixStream::connect(directory.join(SOCKET_NAME)).await.ok()?;
    let exchanged = exchange(stream, &Call { command, user }, out).await;
    Some(exchanged.unwrap_or_else(|error| Err(format!("connection to the server lost: {error}"))))
}

async fn exchange(stream: UnixStream, call: &Call<'_>, out: &mut impl Output) -> io::Result<Result<(), String>> {
    let (read, write) = stream.into_split();
    let mut bytes = serde_json::to_vec(call)?;
    bytes.push(b'\n');
    let mut write = write;
    write.write_all(&bytes).await?;
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Line::Out(text) => out.write(text).await?,
            Line::Failed(message) => return Ok(Err(message)),
            Line::Done => return Ok(Ok(())),
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}
