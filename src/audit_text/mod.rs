//! Text formats of audit exports, JSON Lines and CSV, and the verification of an exported file.
//!
//! An export is a line for each entry, with its links to the entries before it, and then a checkpoint.

pub mod verification;

use serde::{Deserialize, Serialize};

use crate::domain::checkpoints::Checkpoint;
use crate::domain::exports::ExportedEntry;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Csv,
    Jsonl,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Jsonl => "application/jsonl; charset=utf-8",
        }
    }

    pub fn disposition(self) -> &'static str {
        match self {
            Self::Csv => r#"attachment; filename="keymark-audit.csv""#,
            Self::Jsonl => r#"attachment; filename="keymark-audit.jsonl""#,
        }
    }
}

/// The first cell of the line with the checkpoint, which is in the last cell.
const CHECKPOINT_CELL: &str = "#checkpoint";

/// New columns come last, so that a program that reads the others by their positions keeps working.
const COLUMNS: [&str; 21] = [
    "number",
    "occurredAt",
    "actorKind",
    "actorId",
    "actorName",
    "action",
    "outcome",
    "systemId",
    "systemName",
    "previousName",
    "keyMark",
    "operatorName",
    "permissions",
    "errorCode",
    "count",
    "sourceAddress",
    "requestId",
    "hash",
    "previousNumber",
    "previousHash",
    "entry",
];

/// The last line of an export in JSON Lines, and a line of a file of checkpoints.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointLine {
    checkpoint: Checkpoint,
}

/// The text before the first entry.
pub fn header(format: Format) -> String {
    match format {
        Format::Csv => csv_line(COLUMNS.map(str::to_owned)),
        Format::Jsonl => String::new(),
    }
}

/// An entry, with its line end.
pub fn line(exported: &ExportedEntry, format: Format) -> String {
    match format {
        Format::Jsonl => entry_line(exported),
        Format::Csv => csv_line(cells(exported)),
    }
}

/// The checkpoint at the end of an export, with its line end.
pub fn checkpoint_line(checkpoint: &Checkpoint, format: Format) -> String {
    let line = json_line(&CheckpointLine { checkpoint: checkpoint.clone() });
    match format {
        Format::Jsonl => line,
        Format::Csv => {
            let mut cells = COLUMNS.map(|_| String::new());
            cells[0] = CHECKPOINT_CELL.to_owned();
            cells[COLUMNS.len() - 1] = line.trim_end().to_owned();
            csv_line(cells)
        }
    }
}

/// An entry as a line of JSON: as its hash covers it, and its time for readers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryLine<'a> {
    #[serde(flatten)]
    exported: &'a ExportedEntry,
    /// RFC 3339.
    occurred_at: String,
}

fn entry_line(exported: &ExportedEntry) -> String {
    json_line(&EntryLine { exported, occurred_at: exported.entry.event.occurred_at.to_string() })
}

fn json_line(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("it has string keys and plain values alone");
    line.push('\n');
    line
}

/// The cells of an entry's line, in the order of [`COLUMNS`].
fn cells(exported: &ExportedEntry) -> [String; 21] {
    let (entry, event) = (&exported.entry, &exported.entry.event);
    let text = |value: Option<String>| value.unwrap_or_default();
    [
        entry.number.to_string(),
        event.occurred_at.to_string(),
        name_of(&event.actor.kind),
        text(event.actor.id.map(|id| id.to_string())),
        event.actor.name.clone(),
        name_of(&event.action),
        name_of(&event.outcome),
        text(event.system.map(|id| id.to_string())),
        text(event.system_name.clone()),
        text(event.previous_name.clone()),
        text(event.key_mark.map(|mark| mark.to_string())),
        text(event.operator_name.clone()),
        text(event.permissions.map(|permissions| permissions.codes().join(" "))),
        text(event.error_code.map(|code| code.as_str().to_owned())),
        event.count.to_string(),
        text(event.source_address.map(|address| address.to_string())),
        event.request_id.to_string(),
        entry.hash.to_string(),
        exported.previous_number.to_string(),
        exported.previous_hash.to_string(),
        entry.canonical_form(),
    ]
    .map(disable_formula)
}

/// The name of a unit variant in JSON.
fn name_of(unit: &impl serde::Serialize) -> String {
    match serde_json::to_value(unit) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// A line of CSV (RFC 4180).
fn csv_line(cells: [String; 21]) -> String {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(cells).expect("writing to memory does not fail");
    let line = writer.into_inner().expect("writing to memory does not fail");
    String::from_utf8(line).expect("the cells are UTF-8")
}

/// Prefixes an apostrophe to a cell that a spreadsheet would run as a formula (OWASP, CSV Injection).
fn disable_formula(cell: String) -> String {
    let starts_formula = |c: char| matches!(c, '=' | '+' | '-' | '@' | '\t' | '\r' | '＝' | '＋' | '－' | '＠');
    if cell.starts_with(starts_formula) { format!("'{cell}") } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_disabled_and_cells_quoted() {
        let mut cells = COLUMNS.map(|_| String::new());
        cells[0] = "=HYPERLINK(\"http://x\")".to_owned();
        cells[1] = "a,b".to_owned();
        cells[2] = "-1".to_owned();
        let line = csv_line(cells.map(disable_formula));
        assert!(line.starts_with("\"'=HYPERLINK(\"\"http://x\"\")\",\"a,b\",'-1,"));
    }
}
