//! Conversion between rows and documents.
//!
//! A row's document has the members of its domain type, as serde names them, with the id as `_id`. More members serve
//! indexes and conditions: `folded`, `foldedDescription` and `foldedExternalId` (systems: the folded name, description and
//! external id), `dueAt` (keys: [`Key::due_at`]) and `revision` (sessions: always 1). A lease has no `revision`; its `applied` is stored as the signed number of the same 64 bits, which the database never compares.
//!
//! A document of a format other than the first states it as `format`. The second has the members that release 0.1 must
//! not ignore, and is written only for rows that have one; see "Changes of stored formats" in `docs/decisions.md`.

use std::time::Duration;

use mongodb::bson::raw::RawBsonRef;
use mongodb::bson::serde_helpers::HumanReadable;
use mongodb::bson::{
    Bson, Document, RawDocument, deserialize_from_document, deserialize_from_slice, doc, serialize_to_bson,
    serialize_to_document,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::collections::{AUDIT, KEYS, LEASES, OPERATORS, SESSIONS, SYSTEMS, TENANTS, TOKENS};
use super::errors::corrupt;
use crate::domain::audit::AuditEntry;
use crate::domain::changes::{Row, RowId, StoredRow};
use crate::domain::keys::Key;
use crate::domain::leases::{Lease, LogTime, to_millis};
use crate::domain::operators::Operator;
use crate::domain::sessions::Session;
use crate::domain::systems::System;
use crate::domain::tenants::Tenant;
use crate::domain::tokens::Token;
use crate::store::{Result, StoreError};

/// The member with the format of a document, and the newest format that this release knows.
pub(super) const FORMAT: &str = "format";
pub(super) const KNOWN_FORMAT: i64 = 2;

/// The member of a system with its folded description, if it has one.
pub(super) const FOLDED_DESCRIPTION: &str = "foldedDescription";

/// The member of a system with its external id, if it has one, and the member with the folded one.
pub(super) const EXTERNAL_ID: &str = "externalId";
pub(super) const FOLDED_EXTERNAL_ID: &str = "foldedExternalId";

/// The member of a key with the time at which an entry about its expiry is due.
pub(super) const DUE_AT: &str = "dueAt";

/// Precedes the name of a setting in the `_id` of its document.
pub(super) const SETTING: &str = "setting/";
pub(super) const MARKER: &str = "marker/";

/// The member of a token with the digests of all its secrets.
pub(super) const TOKEN_DIGESTS: &str = "digests";

/// The member of a token that says whether it is a service token.
pub(super) const IS_SERVICE: &str = "isService";

/// The member of a lease that says whether it requests acknowledgements.
pub(super) const REQUESTS_ACK: &str = "asks";

/// The member of a lease with its length in milliseconds. Leases of release 0.1 have none.
pub(super) const LENGTH: &str = "lengthMs";

/// A type with a collection of its own.
pub(super) trait Stored: Serialize + DeserializeOwned {
    /// The name of the member that is stored as `_id`.
    const ID: &'static str;
}

impl Stored for System {
    const ID: &'static str = "id";
}

impl Stored for Key {
    const ID: &'static str = "digest";
}

impl Stored for Tenant {
    const ID: &'static str = "id";
}

impl Stored for Token {
    const ID: &'static str = "id";
}

impl Stored for Operator {
    const ID: &'static str = "id";
}

impl Stored for Session {
    const ID: &'static str = "id";
}

/// The document of a row.
pub(super) fn to_document(row: &Row) -> Result<Document> {
    match row {
        Row::System(system) => {
            let mut document = with_id(system)?;
            document.insert("folded", system.name.folded());
            if let Some(description) = &system.description {
                document.insert(FOLDED_DESCRIPTION, description.folded());
            }
            if let Some(external_id) = &system.external_id {
                document.insert(FOLDED_EXTERNAL_ID, external_id.folded());
            }
            if system.needs_second_format() {
                document.insert(FORMAT, 2_i64);
            }
            Ok(document)
        }
        Row::Key(key) => {
            let mut document = with_id(key)?;
            if let Some(due) = key.due_at() {
                document.insert(DUE_AT, due.as_millis());
            }
            if key.needs_second_format() {
                document.insert(FORMAT, 2_i64);
            }
            Ok(document)
        }
        Row::Operator(operator) => {
            let mut document = with_id(operator)?;
            if operator.needs_second_format() {
                document.insert(FORMAT, 2_i64);
            }
            Ok(document)
        }
        Row::Tenant(tenant) => {
            let mut document = with_id(tenant)?;
            document.insert("tenant", tenant.id.as_str());
            Ok(document)
        }
        Row::Token(token) => {
            let mut document = with_id(token)?;
            document.insert("folded", token.name.folded());
            document.insert(IS_SERVICE, token.kind.is_service());
            document.insert(TOKEN_DIGESTS, to_bson(&token.digests().collect::<Vec<_>>())?);
            Ok(document)
        }
        Row::Session(session) => {
            let mut document = with_id(session)?;
            document.insert("revision", 1_i64);
            Ok(document)
        }
        Row::Lease(Lease { incarnation, sequence, applied, requests_ack, length }) => {
            let mut document = doc! {
                "_id": to_bson(incarnation)?,
                "sequence": number_to_bson(*sequence),
                "applied": applied.get().cast_signed(),
                "asks": requests_ack,
            };
            if let Some(length) = length {
                document.insert(LENGTH, number_to_bson(to_millis(*length)));
            }
            Ok(document)
        }
    }
}

fn with_id<T: Stored>(value: &T) -> Result<Document> {
    let mut members = serialize_to_document(value).map_err(corrupt)?;
    let id = members.remove(T::ID).ok_or_else(|| corrupt("a row without its id"))?;
    let mut document = doc! { "_id": id };
    document.extend(members);
    Ok(document)
}

/// The inverse of [`to_document`].
pub(super) fn from_document<T: Stored>(mut document: Document) -> Result<T> {
    check_format(&document)?;
    let id = document.remove("_id").ok_or_else(|| corrupt("a document without `_id`"))?;
    document.insert(T::ID, id);
    deserialize_from_document(document).map_err(corrupt)
}

/// As [`from_document`], from the bytes of a system's document.
pub(super) fn system_from_bytes(document: &RawDocument) -> Result<System> {
    from_bytes(document)
}

/// The inverse of [`to_document`] for a lease.
pub(super) fn lease_from_document(mut document: Document) -> Result<Lease> {
    check_format(&document)?;
    let incarnation = document.remove("_id").ok_or_else(|| corrupt("a document without `_id`"))?;
    Ok(Lease {
        incarnation: mongodb::bson::deserialize_from_bson(incarnation).map_err(corrupt)?,
        sequence: u64::try_from(document.get_i64("sequence").map_err(corrupt)?).map_err(corrupt)?,
        applied: LogTime::new(document.get_i64("applied").map_err(corrupt)?.cast_unsigned()),
        requests_ack: document.get_bool(REQUESTS_ACK).map_err(corrupt)?,
        length: match document.get(LENGTH) {
            None => None,
            Some(length) => {
                let length = length.as_i64().and_then(|length| u64::try_from(length).ok());
                Some(Duration::from_millis(length.ok_or_else(|| corrupt("a lease with an unknown length"))?))
            }
        },
    })
}

/// The document of an audit entry. Its `_id` is the event's id, so that one event is never logged twice.
pub(super) fn entry_to_document(entry: &AuditEntry) -> Result<Document> {
    let mut document = doc! { "_id": to_bson(&entry.event.id)? };
    document.extend(serialize_to_document(entry).map_err(corrupt)?);
    Ok(document)
}

/// The inverse of [`entry_to_document`].
pub(super) fn entry_from_document(document: Document) -> Result<AuditEntry> {
    check_format(&document)?;
    deserialize_from_document(document).map_err(corrupt)
}

/// As [`entry_from_document`], from the bytes of the document.
pub(super) fn entry_from_bytes(document: &RawDocument) -> Result<AuditEntry> {
    from_bytes(document)
}

/// Rows are human-readable BSON, as `serialize_to_document` writes it: addresses are texts.
fn from_bytes<T: DeserializeOwned>(document: &RawDocument) -> Result<T> {
    match document.get(FORMAT).map_err(corrupt)? {
        None => {}
        Some(RawBsonRef::Int32(format)) => check_format_number(Some(i64::from(format)))?,
        Some(RawBsonRef::Int64(format)) => check_format_number(Some(format))?,
        Some(_) => check_format_number(None)?,
    }
    let HumanReadable(row) = deserialize_from_slice(document.as_bytes()).map_err(corrupt)?;
    Ok(row)
}

fn check_format(document: &Document) -> Result<()> {
    document.get(FORMAT).map_or(Ok(()), |format| check_format_number(number_of(format)))
}

/// Checks the value of [`FORMAT`], `None` if it is no integer.
pub(super) fn check_format_number(format: Option<i64>) -> Result<()> {
    match format {
        Some(found) if found > KNOWN_FORMAT => Err(StoreError::NewerFormat { found, known: KNOWN_FORMAT }),
        Some(_) => Ok(()),
        None => Err(corrupt("a document with a malformed format")),
    }
}

/// The condition that a document is not in a newer format. Documents in the first format have no such member.
pub(super) fn in_known_format() -> Bson {
    Bson::Document(doc! { "$not": { "$gt": KNOWN_FORMAT } })
}

pub(super) fn collection_of(id: &RowId) -> &'static str {
    match id {
        RowId::System(_) => SYSTEMS,
        RowId::Key(_) => KEYS,
        RowId::Operator(_) => OPERATORS,
        RowId::Session(_) => SESSIONS,
        RowId::Lease(_) => LEASES,
        RowId::Tenant(_) => TENANTS,
        RowId::Token(_) => TOKENS,
    }
}

/// The `_id` of a row's document.
pub(super) fn id_to_bson(id: &RowId) -> Result<Bson> {
    match id {
        RowId::System(id) => to_bson(id),
        RowId::Key(digest) => to_bson(digest),
        RowId::Operator(id) => to_bson(id),
        RowId::Session(id) => to_bson(id),
        RowId::Lease(incarnation) => to_bson(incarnation),
        RowId::Tenant(id) => to_bson(id),
        RowId::Token(id) => to_bson(id),
    }
}

/// Reads the row from a document of this collection.
pub(super) fn row_from_document(collection: &str, document: Document) -> Result<Row> {
    match collection {
        SYSTEMS => from_document(document).map(Row::System),
        KEYS => from_document(document).map(Row::Key),
        OPERATORS => from_document(document).map(Row::Operator),
        SESSIONS => from_document(document).map(Row::Session),
        LEASES => lease_from_document(document).map(Row::Lease),
        TENANTS => from_document(document).map(Row::Tenant),
        TOKENS => from_document(document).map(Row::Token),
        other => Err(corrupt(format!("a document of `{other}` where a row was expected"))),
    }
}

/// Replaces a row that cannot be read by its id. `None` if the id cannot be read either: nothing refers to that document.
pub(super) fn stored_row(collection: &str, id: &Bson, row: Result<Row>) -> Result<Option<StoredRow>> {
    match row {
        Ok(row) => Ok(Some(StoredRow::Readable(row))),
        Err(StoreError::Corrupt(cause)) => {
            tracing::error!(collection, %id, %cause, "unreadable row");
            Ok(id_from_bson(collection, id.clone()).ok().flatten().map(StoredRow::Unreadable))
        }
        Err(error) => Err(error),
    }
}

/// Reads the id of a row of this collection; `None` for the audit log, whose entries are no rows.
pub(super) fn id_from_bson(collection: &str, id: Bson) -> Result<Option<RowId>> {
    fn read<T: DeserializeOwned>(id: Bson) -> Result<T> {
        mongodb::bson::deserialize_from_bson(id).map_err(corrupt)
    }
    match collection {
        SYSTEMS => read(id).map(RowId::System).map(Some),
        KEYS => read(id).map(RowId::Key).map(Some),
        OPERATORS => read(id).map(RowId::Operator).map(Some),
        SESSIONS => read(id).map(RowId::Session).map(Some),
        LEASES => read(id).map(RowId::Lease).map(Some),
        TENANTS => read(id).map(RowId::Tenant).map(Some),
        TOKENS => read(id).map(RowId::Token).map(Some),
        AUDIT => Ok(None),
        other => Err(corrupt(format!("a document of `{other}` where a row was expected"))),
    }
}

pub(super) fn to_bson<T: Serialize>(value: &T) -> Result<Bson> {
    serialize_to_bson(value).map_err(corrupt)
}

pub(super) fn setting_id(name: &str) -> String {
    format!("{SETTING}{name}")
}

pub(super) fn marker_id(marker: &str) -> String {
    format!("{MARKER}{marker}")
}

/// A number of an entry or a revision. BSON integers are signed: a number that does not fit is greater than every stored
/// one.
pub(super) fn number_to_bson(number: u64) -> Bson {
    Bson::Int64(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(super) fn number_of(value: &Bson) -> Option<i64> {
    match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::serialize_to_raw_document_buf;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::domain::audit::{AuditAction, AuditActor, AuditEvent, AuditHead, Origin};
    use crate::domain::ids::{AuditEntryId, OperatorId, RequestId, SystemId, TenantId, TokenId};
    use crate::domain::keys::{KeyDigest, KeyEnd, Mark};
    use crate::domain::leases::Incarnation;
    use crate::domain::operators::PasswordHash;
    use crate::domain::permissions::{Permission, Permissions};
    use crate::domain::secrets::Fingerprint;
    use crate::domain::sessions::SessionSecret;
    use crate::domain::system_names::SystemName;
    use crate::domain::systems::NewKey;
    use crate::domain::time::Timestamp;
    use crate::domain::tokens::TokenKind;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn secret() -> Fingerprint {
        "0123456789abcdef".to_owned().try_into().unwrap()
    }

    fn new_key(n: u8, expires_at: Option<Timestamp>) -> NewKey {
        let mark = Mark::try_from(format!("abc{n}")).unwrap();
        let generated_by = AuditActor::command_line();
        NewKey { digest: KeyDigest::from_bytes([n; 32]), secret: secret(), mark, generated_by, expires_at }
    }

    fn rows() -> Vec<Row> {
        let mut rng = StdRng::seed_from_u64(1);
        let tenant: TenantId = "acme".parse().unwrap();
        let name = SystemName::parse("Straße").unwrap();
        let system = System::new(SystemId::new(NOW, &mut rng), tenant.clone(), name, NOW);
        let (system, key) = system.generate_key(new_key(7, None), NOW).unwrap();
        let (rotating, second) = system.rotate_key(new_key(8, Some(NOW)), Duration::from_hours(1), NOW).unwrap();
        let suspended = rotating.suspend(None, NOW).unwrap();
        let operator = Operator::new(
            OperatorId::new(NOW, &mut rng),
            tenant.clone(),
            "admin".parse().unwrap(),
            PasswordHash::from_phc("$argon2id$".to_owned()),
            [Permission::View, Permission::Delete].into_iter().collect(),
            NOW,
        );
        let with_first_password = operator.clone().with_first_password();
        let of_platform = operator.clone().of_platform();
        let session = Session {
            id: SessionSecret::generate(&mut rng).id(),
            tenant,
            operator: operator.id,
            password_version: operator.password_version,
            created_at: NOW,
            expires_at: NOW,
            network: Some([192, 0, 2, 7].into()),
            user_agent: Some("Firefox".into()),
        };
        let service_token = Token {
            id: TokenId::new(NOW, &mut rng),
            tenant: "acme".parse().unwrap(),
            name: SystemName::parse("Straße").unwrap(),
            kind: TokenKind::Service { permissions: Permissions::all_of(true), retiring: None },
            is_platform: true,
            digest: KeyDigest::from_bytes([9; 32]),
            mark: "9zZ0".to_owned().try_into().unwrap(),
            created_by: AuditActor::operator(&operator),
            expires_at: Some(NOW),
            revision: 1,
            created_at: NOW,
            updated_at: NOW,
        };
        let (digest, mark) = (KeyDigest::from_bytes([10; 32]), service_token.mark);
        let rotated =
            service_token.rotate(digest, mark, Duration::from_hours(1), None, NOW.minus(Duration::from_mins(1)));
        let verifier_token = Token { kind: TokenKind::Verifier, expires_at: None, ..service_token.clone() };
        let revoked = key.ended(KeyEnd::Revoked, NOW);
        let key_of_release_0_1 = Key { secret: None, ..key.clone() };
        let incarnation = Incarnation::generate(&mut rng);
        let length = Some(Duration::from_secs(12));
        let lease = Lease { incarnation, sequence: 1, applied: LogTime::new(u64::MAX), requests_ack: true, length };
        let of_release_0_1 = Lease { length: None, ..lease };
        vec![
            Row::System(system),
            Row::Key(key.in_system(&rotating)),
            Row::Key(second.in_system(&suspended)),
            Row::Key(key),
            Row::System(rotating),
            Row::System(suspended),
            Row::Key(revoked),
            Row::Key(key_of_release_0_1),
            Row::Operator(operator),
            Row::Operator(with_first_password),
            Row::Operator(of_platform),
            Row::Tenant(Tenant::new("acme".parse().unwrap(), SystemName::parse("Acme").unwrap(), NOW)),
            Row::Token(service_token),
            Row::Token(rotated.unwrap()),
            Row::Token(verifier_token),
            Row::Session(session),
            Row::Lease(lease),
            Row::Lease(of_release_0_1),
        ]
    }

    #[test]
    fn rows_round_trip() {
        for row in rows() {
            let collection = collection_of(&row.id());
            let document = to_document(&row).unwrap();
            assert_eq!(document.get("_id"), Some(&id_to_bson(&row.id()).unwrap()));
            let revision = if collection == LEASES { "sequence" } else { "revision" };
            assert_eq!(document.get_i64(revision).unwrap(), i64::try_from(row.revision()).unwrap());
            let id = id_from_bson(collection, document.get("_id").unwrap().clone()).unwrap();
            assert_eq!(id, Some(row.id()));
            if let Row::System(system) = &row {
                let bytes = serialize_to_raw_document_buf(&document).unwrap();
                assert_eq!(system_from_bytes(&bytes).unwrap(), *system);
            }
            assert_eq!(row_from_document(collection, document).unwrap(), row);
        }
    }

    #[test]
    fn bytes_of_a_newer_or_malformed_format_are_refused() {
        let system = rows().into_iter().find(|row| matches!(row, Row::System(_))).unwrap();
        let read = |format: Bson| {
            let mut document = to_document(&system).unwrap();
            document.insert(FORMAT, format);
            system_from_bytes(&serialize_to_raw_document_buf(&document).unwrap())
        };
        assert!(read(Bson::Int32(2)).is_ok() && read(Bson::Int64(2)).is_ok());
        for newer in [Bson::Int32(3), Bson::Int64(3)] {
            assert!(matches!(read(newer), Err(StoreError::NewerFormat { found: 3, known: KNOWN_FORMAT })));
        }
        assert!(matches!(read(Bson::String("3".to_owned())), Err(StoreError::Corrupt(_))));
    }

    #[test]
    fn only_a_generated_first_password_adds_a_member_to_an_operator() {
        let operators = rows().into_iter().filter(|row| matches!(row, Row::Operator(_)));
        let documents: Vec<_> = operators.map(|row| to_document(&row).unwrap()).collect();
        let members: Vec<_> = documents[0].keys().map(String::as_str).collect();
        assert_eq!(
            members,
            [
                "_id",
                "tenant",
                "username",
                "passwordHash",
                "permissions",
                "passwordVersion",
                "revision",
                "createdAt",
                "updatedAt"
            ],
            "those of release 0.1"
        );
        let end = documents[1].get_i64("passwordExpiresAt").unwrap();
        assert_eq!(end, NOW.plus(Duration::from_hours(24)).as_millis());
    }

    #[test]
    fn entries_round_trip_and_keep_their_hash() {
        let mut rng = StdRng::seed_from_u64(2);
        for address in ["127.0.0.1", "2001:db8::1"] {
            let origin = Origin {
                actor: AuditActor::command_line(),
                source_address: Some(address.parse().unwrap()),
                request_id: RequestId::new(NOW, &mut rng),
            };
            let event = AuditEvent::new(AuditEntryId::new(NOW, &mut rng), NOW, &origin, AuditAction::SignedIn)
                .with_permissions(Permissions::all_of(true));
            let entry = AuditEntry::after(&AuditHead::default(), "acme".parse().unwrap(), event);
            let document = entry_to_document(&entry).unwrap();
            assert_eq!(document.get_document("event").unwrap().get_str("sourceAddress").unwrap(), address);
            let bytes = serialize_to_raw_document_buf(&document).unwrap();
            assert_eq!(entry_from_bytes(&bytes).unwrap(), entry);
            let read = entry_from_document(document).unwrap();
            assert_eq!(read, entry);
            assert_eq!(read.check(&AuditHead::default()), Ok(()));
        }
    }
}
