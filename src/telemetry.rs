//! Logging: one line per event, to standard error, as text or JSON.

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, Targets, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::LogFormat;

/// Starts logging. Must be called once per process, with a filter that [`Config`](crate::config::Config) has checked.
pub fn start(filter: &str, format: LogFormat) {
    let filter: Targets = filter.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter.and(filter_fn(may_be_logged)))).init();
    std::panic::set_hook(Box::new(|panic| {
        // Without the message, which may contain data. The location suffices to find the cause.
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "task panicked");
    }));
}

/// Stops logging panics, when the process is about to end. Tasks of libraries panic if they are running when what they
/// wait for is dropped with the runtime, such as requests for a connection in the MongoDB driver (3.9.1:
/// `ConnectionRequester::request`).
pub fn end() {
    std::panic::set_hook(Box::new(|_| {}));
}

/// Whatever the filter says: below this level, the WebSocket crate logs whole messages, which contain tokens and keys.
fn may_be_logged(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("tungstenite") || *metadata.level() <= Level::INFO
}
