//! What the command line asks of a store: run on it directly, or, while a server holds the embedded file, by that
//! server over a Unix socket in the data directory.
//!
//! The socket speaks one line of JSON for the command, and then lines of JSON: text for standard output, and how it
//! ended. Whoever may open the socket (mode 0600) may open the file too.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit_text::{self, Format};
use crate::domain::audit::AuditActor;
use crate::domain::ids::TenantId;
use crate::domain::operators::{Operator, Password, Username};
use crate::domain::permissions::Permissions;
use crate::domain::refusal::Refusal;
use crate::service::Service;
use crate::service::error::Error;

/// The socket, in the data directory.
const SOCKET_NAME: &str = "keymark.sock";
/// Bytes of a command, as JSON.
const COMMAND_BYTES: u64 = 64 * 1024;
/// How long a client may take to say its command, and a command to finish once the server stops.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// A command, as it goes over the socket. Its passwords are the reason why it is never logged.
#[derive(Serialize, Deserialize)]
pub enum Command {
    AddOperator { tenant: TenantId, username: Username, password: Option<String>, permissions: Permissions },
    ListOperators { tenant: Option<TenantId> },
    SetPermissions { username: Username, permissions: Permissions },
    SetPassword { username: Username, password: Option<String> },
    RemoveOperator { username: Username },
    ExportAudit { tenant: TenantId, jsonl: bool },
    VerifyAudit { tenant: Option<TenantId> },
}

/// One line of an answer.
#[derive(Serialize, Deserialize)]
enum Line {
    Out(String),
    Failed(String),
    Done,
}

/// Where a command's output goes.
pub trait Output: Send {
    fn write(&mut self, text: String) -> impl Future<Output = io::Result<()>> + Send;
}

/// Standard output.
pub struct Stdout;

impl Output for Stdout {
    async fn write(&mut self, text: String) -> io::Result<()> {
        let mut stdout = tokio::io::stdout();
        stdout.write_all(text.as_bytes()).await?;
        stdout.flush().await
    }
}

/// Runs a command. `Err` is what to tell the person who gave it.
pub async fn run(service: &Arc<Service>, command: Command, out: &mut impl Output) -> Result<(), String> {
    let request = service.request(None);
    let told = |error: Error| {
        let cause = error.cause().map(|cause| format!(" ({cause})")).unwrap_or_default();
        format!("{error}{cause}")
    };
    let text = match command {
        Command::AddOperator { tenant, username, password, permissions } => {
            let (password, shown) = choose_password(service, password)?;
            let added = service.add_operator(request, tenant, username, password, permissions).await.map_err(told)?;
            format!("{}{shown}", described(&added))
        }
        Command::ListOperators { tenant } => {
            let operators = service.list_operators(tenant.as_ref()).await.map_err(told)?;
            operators.iter().map(described).collect()
        }
        Command::SetPermissions { username, permissions } => {
            let changed = service.set_permissions(request, &username, permissions).await;
            described(&changed.map_err(|error| of_operator(&username, error, told))?)
        }
        Command::SetPassword { username, password } => {
            let (password, shown) = choose_password(service, password)?;
            let changed = service.set_password(request, &username, password).await;
            let changed = changed.map_err(|error| of_operator(&username, error, told))?;
            format!("{}{shown}", described(&changed))
        }
        Command::RemoveOperator { username } => {
            let removed = service.remove_operator(request, &username).await;
            let removed = removed.map_err(|error| of_operator(&username, error, told))?;
            format!("removed {}", described(&removed))
        }
        Command::ExportAudit { tenant, jsonl } => {
            check_tenant(service, &tenant, told).await?;
            let format = if jsonl { Format::Jsonl } else { Format::Csv };
            return export_audit(service, tenant, format, out).await.map_err(|error| match error {
                ExportError::Service(error) => told(error),
                ExportError::Output(error) => error.to_string(),
            });
        }
        Command::VerifyAudit { tenant } => {
            let tenants = match tenant {
                Some(tenant) => {
                    check_tenant(service, &tenant, told).await?;
                    vec![tenant]
                }
                None => service.list_tenants().await.map_err(told)?,
            };
            let mut text = String::new();
            for tenant in tenants {
                match service.verify_audit(&tenant).await.map_err(told)? {
                    Ok(entries) => text.push_str(&format!("{tenant}: {entries} entries, the chain is whole\n")),
                    Err(broken) => return Err(format!("{tenant}: {broken}")),
                }
            }
            text
        }
    };
    out.write(text).await.map_err(|error| error.to_string())
}

/// A log that is empty since nobody has such a name would look whole.
async fn check_tenant(service: &Service, tenant: &TenantId, told: impl Fn(Error) -> String) -> Result<(), String> {
    let known = service.list_tenants().await.map_err(told)?;
    if known.contains(tenant) { Ok(()) } else { Err(format!("there is no tenant {tenant}")) }
}

fn of_operator(username: &Username, error: Error, told: impl Fn(Error) -> String) -> String {
    match error {
        Error::Refused(Refusal::NotFound) => format!("there is no operator {username}"),
        error => told(error),
    }
}

/// The given password, or a generated one with the line that shows it.
fn choose_password(service: &Service, given: Option<String>) -> Result<(Password, String), String> {
    match given {
        Some(given) => Ok((Password::chosen(given).map_err(|unfit| unfit.to_string())?, String::new())),
        None => {
            let password = service.generate_password();
            let shown = format!("Password: {} (shown once)\n", password.expose());
            Ok((password, shown))
        }
    }
}

fn described(operator: &Operator) -> String {
    let codes = operator.permissions.codes().join(",");
    let codes = if codes.is_empty() { "no codes" } else { &codes };
    format!("{}\t{}\t{}\t{codes}\n", operator.username, operator.tenant, operator.id)
}

enum ExportError {
    Service(Error),
    Output(io::Error),
}

async fn export_audit(
    service: &Arc<Service>,
    tenant: TenantId,
    format: Format,
    out: &mut impl Output,
) -> Result<(), ExportError> {
    let noted = service.record_audit_export(&tenant, AuditActor::command_line(), service.request(None)).await;
    noted.map_err(ExportError::Service)?;
    out.write(audit_text::head(format)).await.map_err(ExportError::Output)?;
    let mut last = 0;
    loop {
        let entries = service.list_audit_after(&tenant, last).await.map_err(ExportError::Service)?;
        let Some(newest) = entries.last() else { return Ok(()) };
        last = newest.number;
        let text = entries.iter().map(|entry| audit_text::line(entry, format)).collect();
        out.write(text).await.map_err(ExportError::Output)?;
    }
}

/// The server's end of the socket; the file is removed when this is dropped.
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens in the data directory, which this process is known to hold: a socket left by another is stale.
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

    /// Serves commands until it is told to stop; then those under way have 5 s to finish.
    pub async fn serve(self, service: Arc<Service>, stop: CancellationToken) {
        let commands = TaskTracker::new();
        while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
            let Ok((stream, _)) = accepted else {
                // No file descriptors left, for instance: it would fail again at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let service = Arc::clone(&service);
            commands.spawn(async move {
                if let Err(error) = answer(&service, stream).await {
                    tracing::warn!(%error, "a command was cut off");
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

async fn answer(service: &Arc<Service>, stream: UnixStream) -> io::Result<()> {
    let (read, write) = stream.into_split();
    let mut line = String::new();
    let mut reader = BufReader::new(read.take(COMMAND_BYTES));
    tokio::time::timeout(COMMAND_TIMEOUT, reader.read_line(&mut line)).await??;
    let mut lines = Lines(write);
    let ended = match serde_json::from_str(&line) {
        Ok(command) => run(service, command, &mut lines).await,
        Err(_) => Err("the server does not know this command: is it of another version?".to_owned()),
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

/// Gives the command to the server that holds the data directory; `None` when none does.
pub async fn run_remotely(directory: &Path, command: &Command, out: &mut impl Output) -> Option<Result<(), String>> {
    let stream = UnixStream::connect(directory.join(SOCKET_NAME)).await.ok()?;
    let exchanged = exchange(stream, command, out).await;
    Some(exchanged.unwrap_or_else(|error| Err(format!("the server broke off: {error}"))))
}

async fn exchange(stream: UnixStream, command: &Command, out: &mut impl Output) -> io::Result<Result<(), String>> {
    let (read, write) = stream.into_split();
    let mut bytes = serde_json::to_vec(command)?;
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
