//! Exports of the audit log: each entry with its links, and a summary for the checkpoint at the end.
//!
//! An export may leave entries out. The hash before an entry that it shows commits to all that were left out, so their
//! content is not needed to check that entry. That none of those that were shown is missing follows from their links, and
//! from the [`ExportSummary`] that is signed.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::audit::{AuditEntry, AuditHead, EntryHash};

/// An entry as an export shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedEntry {
    #[serde(flatten)]
    pub entry: AuditEntry,
    /// Number of the entry before it in the export; 0 for the first.
    pub previous_number: u64,
    /// Hash of the entry before it in the log, shown or not.
    pub previous_hash: EntryHash,
}

/// The entries of an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportSummary {
    /// Number of entries.
    pub entries: u64,
    /// Number of the last entry in the log; 0 if there are none.
    pub last: u64,
    /// SHA-256 of the entries' numbers (8 bytes, big-endian) and hashes, in their order.
    pub digest: ExportDigest,
}

/// A digest: 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ExportDigest([u8; 32]);

serialize_as_hex!(ExportDigest, "not a digest of 64 hex digits");

/// The entries of an export so far.
#[derive(Clone, Debug, Default)]
pub struct ExportProgress {
    /// The last entry.
    pub last: AuditHead,
    entries: u64,
    digest: Sha256,
}

impl ExportProgress {
    pub fn add(&mut self, entry: &AuditHead) {
        self.last = *entry;
        self.entries += 1;
        self.digest.update(entry.number.to_be_bytes());
        self.digest.update(entry.hash.as_bytes());
    }

    pub fn summary(&self) -> ExportSummary {
        let digest = ExportDigest(self.digest.clone().finalize().into());
        ExportSummary { entries: self.entries, last: self.last.number, digest }
    }
}
