//! Verifies an exported file by itself: without the store, and without the root secret.

use std::io::{self, BufRead};

use serde::Deserialize;

use super::{CHECKPOINT_CELL, COLUMNS, CheckpointLine, cells, entry_line, json_line};
use crate::domain::audit::{AuditEntry, AuditEvent, AuditHead, ChainBreak, EntryHash};
use crate::domain::checkpoints::Checkpoint;
use crate::domain::exports::{ExportProgress, ExportedEntry};
use crate::domain::ids::TenantId;
use crate::domain::signatures::{KeyId, PublicKey};

/// An export that is as it was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Verified {
    /// Number of entries in the export.
    pub entries: u64,
    /// The entry of the log that the first one continues; of an export without entries, the one before the first.
    pub before: AuditHead,
    /// The checkpoint at its end.
    pub checkpoint: Checkpoint,
}

/// The first place where an export differs from what was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportBreak {
    #[error(transparent)]
    Chain(#[from] ChainBreak),
    #[error("entry {number} is out of place: it comes after entry {previous}")]
    Order { number: u64, previous: u64 },
    #[error("entry {number} belongs to tenant {found}, not {expected}")]
    Tenant { number: u64, expected: TenantId, found: TenantId },
    #[error("line {line} is not as Keymark wrote it: it was modified, or another release exported it")]
    Unreadable { line: u64 },
    #[error("the export ends after entry {last} without a checkpoint: its end was cut off, or Keymark 0.1 exported it")]
    NoCheckpoint { last: u64 },
    #[error("entries after entry {last} are missing: the export ended with entry {signed}")]
    Cut { last: u64, signed: u64 },
    #[error("line {line} comes after the checkpoint, which is the end of an export")]
    AfterCheckpoint { line: u64 },
    #[error("the checkpoint was modified: its key {key} did not sign it")]
    Signature { key: KeyId },
    #[error("the checkpoint is signed by key {key}, which is not one of the given keys")]
    UnknownKey { key: KeyId },
    #[error("the checkpoint is not one of an export")]
    NotOfExport,
    #[error("the entries up to {last} are not those that the checkpoint was signed for: one was replaced or left out")]
    Digest { last: u64 },
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Verifies an export in either format. `keys` are the public keys that may have signed it; none if any key may have,
/// which only shows that the export fits together.
///
/// # Errors
///
/// The first place that differs from what was written.
pub fn verify(export: impl BufRead, keys: &[PublicKey]) -> Result<Verified, ExportBreak> {
    read(export, keys, |_| {})
}

/// Reads an export and verifies it, and calls `visit` for each entry. None of them is verified before all are.
///
/// # Errors
///
/// As [`verify`].
pub fn read(
    mut export: impl BufRead,
    keys: &[PublicKey],
    visit: impl FnMut(&ExportedEntry),
) -> Result<Verified, ExportBreak> {
    let verifier = Verifier::new(keys, visit);
    match export.fill_buf()? {
        [] => Err(ExportBreak::NoCheckpoint { last: 0 }),
        [b'{', ..] => verify_jsonl(export, verifier),
        _ => verify_csv(export, verifier),
    }
}

/// Reads the checkpoints of a file: one in each line, as in the data directory, or the one at the end of an export.
pub fn read_checkpoints(file: impl BufRead) -> io::Result<Vec<Checkpoint>> {
    let mut checkpoints = Vec::new();
    for line in file.lines() {
        checkpoints.extend(serde_json::from_str::<CheckpointLine>(&line?).ok().map(|line| line.checkpoint));
    }
    Ok(checkpoints)
}

fn verify_jsonl<V: FnMut(&ExportedEntry)>(
    export: impl BufRead,
    mut verifier: Verifier<'_, V>,
) -> Result<Verified, ExportBreak> {
    for (line, text) in (1..).zip(export.split(b'\n')) {
        let text = text?;
        verifier.begin_line(line)?;
        // Compared with what would be written, so that nothing escapes the hash, such as an added or repeated member.
        if let Ok(entry) = serde_json::from_slice::<ExportedEntry>(&text) {
            // Release 0.1 wrote it without `occurredAt`.
            let written = [entry_line(&entry), json_line(&entry)];
            let is_as_written = written.iter().any(|line| line.trim_end().as_bytes() == text);
            verifier.add(&entry, line, is_as_written)?;
        } else if let Ok(CheckpointLine { checkpoint }) = serde_json::from_slice(&text) {
            verifier.finish(checkpoint)?;
        } else {
            return Err(ExportBreak::Unreadable { line });
        }
    }
    verifier.verified()
}

/// The canonical form of an entry, in the last column of CSV.
#[derive(Deserialize)]
struct CanonicalEntry {
    event: AuditEvent,
    number: u64,
    tenant: TenantId,
}

fn verify_csv<V: FnMut(&ExportedEntry)>(
    export: impl BufRead,
    mut verifier: Verifier<'_, V>,
) -> Result<Verified, ExportBreak> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(export);
    let unreadable = |line: u64| ExportBreak::Unreadable { line };
    let header = reader.headers().map_err(|_| unreadable(1))?;
    // By name: another release may export more columns or fewer.
    let index_of = |name: &str| COLUMNS.iter().position(|column| *column == name);
    let columns: Vec<usize> = header.iter().map(index_of).collect::<Option<_>>().ok_or(unreadable(1))?;
    let place_of = |name: &str| header.iter().position(|column| column == name).ok_or(unreadable(1));
    let [hash, previous_number, previous_hash, entry] =
        [place_of("hash")?, place_of("previousNumber")?, place_of("previousHash")?, place_of("entry")?];
    for record in reader.into_records() {
        let record = record.map_err(|error| unreadable(error.position().map_or(0, csv::Position::line)))?;
        let line = record.position().map_or(0, csv::Position::line);
        verifier.begin_line(line)?;
        if record.len() != columns.len() {
            return Err(unreadable(line));
        }
        if record[0] == *CHECKPOINT_CELL {
            let read: CheckpointLine = serde_json::from_str(&record[entry]).map_err(|_| unreadable(line))?;
            if record.iter().enumerate().any(|(at, cell)| at != 0 && at != entry && !cell.is_empty()) {
                return Err(unreadable(line));
            }
            verifier.finish(read.checkpoint)?;
            continue;
        }
        let read = || {
            let CanonicalEntry { event, number, tenant } = serde_json::from_str(&record[entry]).ok()?;
            let hash_of = |cell: &str| EntryHash::try_from(cell.to_owned()).ok();
            Some(ExportedEntry {
                entry: AuditEntry { tenant, number, event, hash: hash_of(&record[hash])? },
                previous_number: record[previous_number].parse().ok()?,
                previous_hash: hash_of(&record[previous_hash])?,
            })
        };
        let exported = read().ok_or(unreadable(line))?;
        let written = cells(&exported);
        let is_as_written = columns.iter().zip(&record).all(|(column, cell)| written[*column] == cell);
        verifier.add(&exported, line, is_as_written)?;
    }
    verifier.verified()
}

struct Verifier<'a, V> {
    keys: &'a [PublicKey],
    visit: V,
    tenant: Option<TenantId>,
    before: AuditHead,
    shown: ExportProgress,
    checkpoint: Option<Checkpoint>,
}

impl<'a, V: FnMut(&ExportedEntry)> Verifier<'a, V> {
    fn new(keys: &'a [PublicKey], visit: V) -> Self {
        let (before, shown) = (AuditHead::default(), ExportProgress::default());
        Self { keys, visit, tenant: None, before, shown, checkpoint: None }
    }

    fn begin_line(&self, line: u64) -> Result<(), ExportBreak> {
        if self.checkpoint.is_some() { Err(ExportBreak::AfterCheckpoint { line }) } else { Ok(()) }
    }

    fn add(&mut self, exported: &ExportedEntry, line: u64, is_as_written: bool) -> Result<(), ExportBreak> {
        let (entry, last) = (&exported.entry, &self.shown.last);
        let number = entry.number;
        if !is_as_written || exported.previous_number >= number {
            return Err(ExportBreak::Unreadable { line });
        }
        let expected = self.tenant.get_or_insert_with(|| entry.tenant.clone());
        if entry.tenant != *expected {
            let (expected, found) = (expected.clone(), entry.tenant.clone());
            return Err(ExportBreak::Tenant { number, expected, found });
        }
        if exported.previous_number > last.number {
            return Err(ChainBreak::Number { expected: exported.previous_number, found: number }.into());
        }
        if exported.previous_number < last.number || number <= last.number {
            return Err(ExportBreak::Order { number, previous: last.number });
        }
        let is_linked = number > last.number + 1 || exported.previous_hash == last.hash;
        if !is_linked || !entry.follows(&exported.previous_hash) {
            return Err(ChainBreak::Hash { number }.into());
        }
        if last.number == 0 {
            self.before = AuditHead { number: number - 1, hash: exported.previous_hash };
        }
        self.shown.add(&entry.head());
        (self.visit)(exported);
        Ok(())
    }

    fn finish(&mut self, checkpoint: Checkpoint) -> Result<(), ExportBreak> {
        let last = self.shown.last;
        if !checkpoint.is_signed() {
            return Err(ExportBreak::Signature { key: checkpoint.key_id });
        }
        if !self.keys.is_empty() && !checkpoint.is_signed_by(self.keys) {
            return Err(ExportBreak::UnknownKey { key: checkpoint.key_id });
        }
        let Some(signed) = checkpoint.export else { return Err(ExportBreak::NotOfExport) };
        if signed.last > last.number {
            return Err(ExportBreak::Cut { last: last.number, signed: signed.last });
        }
        let is_of_tenant = self.tenant.as_ref().is_none_or(|tenant| *tenant == checkpoint.tenant);
        if signed != self.shown.summary() || !is_of_tenant || !reaches(&checkpoint, &last) {
            return Err(ExportBreak::Digest { last: last.number });
        }
        self.checkpoint = Some(checkpoint);
        Ok(())
    }

    fn verified(self) -> Result<Verified, ExportBreak> {
        let entries = self.shown.summary().entries;
        let checkpoint = self.checkpoint.ok_or(ExportBreak::NoCheckpoint { last: self.shown.last.number })?;
        Ok(Verified { entries, before: self.before, checkpoint })
    }
}

/// Whether the log that ended at the checkpoint may have contained this entry.
fn reaches(checkpoint: &Checkpoint, last: &AuditHead) -> bool {
    checkpoint.number > last.number || checkpoint.head() == *last
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use serde_json::Value as Json;

    use super::super::{Format, checkpoint_line, header, line};
    use super::*;
    use crate::domain::audit::{AuditAction, AuditActor, Origin};
    use crate::domain::ids::{AuditEntryId, OperatorId, RequestId, SystemId};
    use crate::domain::keys::Mark;
    use crate::domain::operators::{Operator, PasswordHash};
    use crate::domain::permissions::Permissions;
    use crate::domain::refusal::ErrorCode;
    use crate::domain::signatures::SigningKey;
    use crate::domain::system_names::SystemName;
    use crate::domain::systems::System;
    use crate::domain::time::Timestamp;

    const FORMATS: [Format; 2] = [Format::Jsonl, Format::Csv];

    fn key() -> SigningKey {
        SigningKey::from_seed(&[1; 32])
    }

    /// A log in which each member of an event occurs, beside entries without it.
    fn log() -> Vec<AuditEntry> {
        let mut rng = StdRng::seed_from_u64(1);
        let now = Timestamp::from_millis(1_700_000_000_000);
        let tenant: TenantId = "acme".parse().unwrap();
        let name = SystemName::parse("=HYPERLINK(\"http://x\"), é").unwrap();
        let system = System::new(SystemId::new(now, &mut rng), tenant.clone(), name, now);
        let hash = PasswordHash::from_phc("$argon2id$".to_owned());
        let (id, username) = (OperatorId::new(now, &mut rng), "ada".parse().unwrap());
        let ada = Operator::new(id, tenant.clone(), username, hash, Permissions::all_of(true), now);
        let (mut last, mut log) = (AuditHead::default(), Vec::new());
        for number in 1..=6 {
            let origin = Origin {
                actor: if number % 2 == 0 { AuditActor::operator(&ada) } else { AuditActor::command_line() },
                source_address: (number % 3 > 0).then_some([192, 0, 2, 7].into()),
                request_id: RequestId::new(now, &mut rng),
            };
            let event = AuditEvent::new(AuditEntryId::new(now, &mut rng), now, &origin, AuditAction::SystemRenamed);
            let event = match number {
                1 => event,
                2 => event.about_deleted_system(&system).about_key(Mark::try_from("abcd".to_owned()).unwrap()),
                3 => event.about_operator(&ada).with_permissions(Permissions::all_of(true)),
                4 => event.refused(ErrorCode::Forbidden, 3),
                _ => event.about_system(&system).renamed_from("-1 before\r\nand after"),
            };
            log.push(AuditEntry::after(&last, tenant.clone(), event));
            last = log.last().unwrap().head();
        }
        log
    }

    /// The lines of an export of the entries with these numbers: a line for each, and the checkpoint.
    fn export(log: &[AuditEntry], shown: &[u64], format: Format) -> Vec<String> {
        let mut progress = ExportProgress::default();
        let mut lines = Vec::new();
        for entry in log.iter().filter(|entry| shown.contains(&entry.number)) {
            let before = log.iter().find(|other| other.number + 1 == entry.number);
            let previous_hash = before.map(|before| before.hash).unwrap_or_default();
            let exported = ExportedEntry { entry: entry.clone(), previous_number: progress.last.number, previous_hash };
            lines.push(line(&exported, format));
            progress.add(&entry.head());
        }
        let (tenant, head) = (log[0].tenant.clone(), log.last().unwrap().head());
        let signed_at = Timestamp::from_millis(1_700_000_001_000);
        let checkpoint = Checkpoint::sign(&key(), tenant, head, signed_at, Some(progress.summary()));
        lines.push(checkpoint_line(&checkpoint, format));
        lines
    }

    fn verify_lines(lines: &[String], format: Format) -> Result<Verified, ExportBreak> {
        verify((header(format) + &lines.concat()).as_bytes(), &[key().public_key()])
    }

    /// Which entries the exports in these tests show.
    fn selections() -> impl Iterator<Item = Vec<u64>> {
        (0..1_u64 << 6).map(|set| (1..=6).filter(|number| set & (1 << (number - 1)) != 0).collect())
    }

    #[test]
    fn every_selection_of_entries_is_verified_in_both_formats() {
        for (shown, format) in selections().flat_map(|shown| FORMATS.map(|format| (shown.clone(), format))) {
            let verified = verify_lines(&export(&log(), &shown, format), format).unwrap();
            assert_eq!((verified.entries, verified.checkpoint.number), (shown.len() as u64, 6), "{shown:?}");
        }
    }

    #[test]
    fn an_export_without_the_text_of_times_is_verified() {
        let lines = export(&log(), &[1, 2, 4], Format::Jsonl);
        assert!(lines[0].contains(r#""occurredAt":"2023-11-14T22:13:20.000Z""#), "{}", lines[0]);
        let before = |line: &String| line.replace(r#","occurredAt":"2023-11-14T22:13:20.000Z""#, "");
        let lines: Vec<String> = lines.iter().map(before).collect();
        assert_eq!(verify_lines(&lines, Format::Jsonl).unwrap().entries, 3);
        let other = |line: &String| line.replace("1700000000000", "1700000000001");
        assert!(verify_lines(&lines.iter().map(other).collect::<Vec<_>>(), Format::Jsonl).is_err());
    }

    #[test]
    fn missing_exchanged_and_repeated_entries_and_cut_tails_are_named() {
        for (shown, format) in selections().flat_map(|shown| FORMATS.map(|format| (shown.clone(), format))) {
            let lines = export(&log(), &shown, format);
            let said = |lines: &[String]| verify_lines(lines, format).expect_err("not as it was written").to_string();
            for (at, number) in shown.iter().enumerate() {
                let last = if at == 0 { 0 } else { shown[at - 1] };
                let mut missing = lines.clone();
                missing.remove(at);
                let expected = match shown.get(at + 1) {
                    Some(next) => format!("entry {number} is missing: found entry {next} in its place"),
                    None => format!("entries after entry {last} are missing: the export ended with entry {number}"),
                };
                assert_eq!(said(&missing), expected, "{shown:?}");

                let mut repeated = lines.clone();
                repeated.insert(at, lines[at].clone());
                assert_eq!(said(&repeated), format!("entry {number} is out of place: it comes after entry {number}"));

                for (other_at, other) in shown.iter().enumerate().skip(at + 1) {
                    let mut exchanged = lines.clone();
                    exchanged.swap(at, other_at);
                    let before = shown[other_at - 1];
                    assert_eq!(
                        said(&exchanged),
                        format!("entry {before} is missing: found entry {other} in its place")
                    );
                }
            }
            for kept in 0..=shown.len() {
                let last = if kept == 0 { 0 } else { shown[kept - 1] };
                let expected = format!("the export ends after entry {last} without a checkpoint");
                assert!(said(&lines[..kept]).starts_with(&expected), "{shown:?}");
                if kept < shown.len() {
                    let without_tail = [&lines[..kept], &lines[shown.len()..]].concat();
                    assert!(said(&without_tail).starts_with(&format!("entries after entry {last} are missing")));
                }
            }
            let continued = [lines.as_slice(), &lines[..1]].concat();
            assert!(said(&continued).ends_with("comes after the checkpoint, which is the end of an export"));
        }
    }

    /// Changes each value within, one at a time, and removes each member of an object.
    fn changes(value: &Json) -> Vec<Json> {
        match value {
            Json::Object(members) => {
                let mut changed = Vec::new();
                for (name, member) in members {
                    for other in changes(member) {
                        let mut copy = members.clone();
                        copy.insert(name.clone(), other);
                        changed.push(Json::Object(copy));
                    }
                    let mut without = members.clone();
                    without.remove(name);
                    changed.push(Json::Object(without));
                }
                let mut with = members.clone();
                with.insert("another".to_owned(), Json::Null);
                changed.push(Json::Object(with));
                changed
            }
            Json::Array(items) => (0..items.len()).map(|at| [&items[..at], &items[at + 1..]].concat().into()).collect(),
            Json::Number(number) => {
                let number = number.as_u64().unwrap();
                vec![(number + 1).into(), number.saturating_sub(1).into()]
            }
            Json::String(text) => {
                let last = text.chars().next_back().unwrap();
                let other = if last == '0' { '1' } else { '0' };
                vec![format!("{}{other}", &text[..text.len() - last.len_utf8()]).into()]
            }
            other => panic!("{other}"),
        }
    }

    /// The numbers of entries and lines in a message.
    fn numbers(message: &str) -> Vec<u64> {
        message.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
    }

    #[test]
    fn a_change_of_any_member_is_found_at_its_line() {
        for shown in [vec![1, 2, 3, 4, 5, 6], vec![2, 4, 5], vec![3, 6]] {
            let lines = export(&log(), &shown, Format::Jsonl);
            for (at, number) in shown.iter().enumerate() {
                let entry: Json = serde_json::from_str(&lines[at]).unwrap();
                for changed in changes(&entry).into_iter().filter(|changed| *changed != entry) {
                    let mut lines = lines.clone();
                    lines[at] = format!("{changed}\n");
                    let broken = verify_lines(&lines, Format::Jsonl).expect_err("changed").to_string();
                    let place = [*number, at as u64 + 1, changed["number"].as_u64().unwrap_or(0)];
                    assert!(numbers(&broken).iter().any(|number| place.contains(number)), "{broken}: {changed}");
                }
            }
        }
    }

    #[test]
    fn a_change_of_any_cell_is_found_at_its_line() {
        for shown in [vec![1, 2, 3, 4, 5, 6], vec![2, 4, 5], vec![3, 6]] {
            let text = header(Format::Csv) + &export(&log(), &shown, Format::Csv).concat();
            let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
            let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
            for (row, column) in (0..records.len()).flat_map(|row| (0..COLUMNS.len()).map(move |column| (row, column)))
            {
                for change in
                    [|cell: &str| format!("{cell}1"), |cell: &str| format!("'{cell}"), |_: &str| String::new()]
                {
                    let mut changed = records.clone();
                    let cells = |at: usize, cell: &str| if at == column { change(cell) } else { cell.to_owned() };
                    changed[row] = records[row].iter().enumerate().map(|(at, cell)| cells(at, cell)).collect();
                    if changed == records {
                        continue;
                    }
                    let mut writer =
                        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
                    changed.iter().for_each(|record| writer.write_record(record).unwrap());
                    let text = writer.into_inner().unwrap();
                    let broken = verify(text.as_slice(), &[]).expect_err("changed");
                    let line = records[row].position().unwrap().line();
                    assert!(matches!(broken, ExportBreak::Unreadable { line: found } if found == line), "{broken}");
                }
            }
        }
    }

    #[test]
    fn an_export_that_was_written_anew_does_not_fit_its_checkpoint() {
        let shown = vec![2, 4, 5];
        for format in FORMATS {
            let genuine = export(&log(), &shown, format);
            let mut entries = log();
            entries[3].event.count += 1;
            // The attacker computes all hashes anew, and cannot sign.
            let mut last = AuditHead::default();
            for entry in &mut entries {
                *entry = AuditEntry::after(&last, entry.tenant.clone(), entry.event.clone());
                last = entry.head();
            }
            let forged = export(&entries, &shown, format);
            let hidden = export(&log(), &[2, 5], format);
            for mut lines in [forged, hidden] {
                let signed_by_another = lines.clone();
                *lines.last_mut().unwrap() = genuine[3].clone();
                let broken = verify_lines(&lines, format).expect_err("not what was signed");
                assert!(matches!(broken, ExportBreak::Digest { last: 5 }), "{broken}");
                let another = SigningKey::from_seed(&[2; 32]).public_key();
                let text = header(format) + &signed_by_another.concat();
                let broken = verify(text.as_bytes(), &[another]).expect_err("of another key");
                assert!(matches!(broken, ExportBreak::UnknownKey { .. }), "{broken}");
                assert!(verify(text.as_bytes(), &[another, key().public_key()]).is_ok());
            }
        }
    }

    #[test]
    fn a_checkpoint_that_was_modified_is_refused() {
        let shown = vec![2, 4, 5];
        let lines = export(&log(), &shown, Format::Jsonl);
        let checkpoint: Json = serde_json::from_str(&lines[3]).unwrap();
        for changed in
            changes(&checkpoint["checkpoint"]).into_iter().filter(|changed| *changed != checkpoint["checkpoint"])
        {
            let mut lines = lines.clone();
            lines[3] = format!("{}\n", serde_json::json!({ "checkpoint": changed }));
            let broken = verify_lines(&lines, Format::Jsonl).expect_err("changed");
            assert!(matches!(broken, ExportBreak::Signature { .. } | ExportBreak::Unreadable { line: 4 }), "{broken}");
        }
        let of_another: Vec<_> = [&lines[..3], &export(&log(), &[2, 4], Format::Jsonl)[2..]].concat();
        assert!(matches!(verify_lines(&of_another, Format::Jsonl), Err(ExportBreak::Digest { last: 5 })));
        let without_entries = checkpoint_line(
            &Checkpoint::sign(&key(), "acme".parse().unwrap(), log()[5].head(), Timestamp::from_millis(0), None),
            Format::Jsonl,
        );
        assert!(matches!(verify_lines(&[without_entries], Format::Jsonl), Err(ExportBreak::NotOfExport)));
    }

    #[test]
    fn other_files_are_refused() {
        for text in ["", "\n", "number,hash\n", "{}\n", "\u{0}", "a,b\n1,2\n", "{\"checkpoint\":{}}\n"] {
            assert!(verify(text.as_bytes(), &[]).is_err(), "{text:?}");
        }
    }
}
