//! Use of keys: counters in documents of a system, of a system and a day, and of a system and a month.
//!
//! A flush is one transaction, which also writes its number to the document of its instance. That makes it happen once:
//! an update with `$inc` that is sent again after a lost response would count twice. The feed does not watch these
//! collections.
//!
//! Members of `keys` are marks. In a summary each has `used`, `refused` and `refusals`; in the other documents, the members
//! are buckets, counted from the Unix epoch, each with `a` (accepted) and `r` (refused).

use std::collections::HashSet;

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use mongodb::error::TRANSIENT_TRANSACTION_ERROR;
use mongodb::options::{Hint, SessionOptions};
use mongodb::{ClientSession, Collection};
use rand::RngExt;
use tokio::time::{Duration, Instant};

use super::collections::{USAGE, USAGE_DAYS, USAGE_FLUSHES, USAGE_HOURS};
use super::commit::{INITIAL_RETRY_DELAY, MAX_RETRY_DELAY, WRITE_CONFLICT, abort_abandoned};
use super::errors::{DUPLICATE_KEY, TimedOut, code_of, corrupt, store_error};
use super::migrations;
use super::reads::BY_ID;
use super::rows::{number_of, number_to_bson, to_bson};
use super::store::MongoStore;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::keys::Mark;
use crate::domain::time::Timestamp;
use crate::domain::usage::{
    BucketCounts, Counts, Flush, KeySummary, KeyUse, MAX_KEYS_PER_SYSTEM, Resolution, UsageRange, UsageRetention,
    UsageSummary, surplus_keys,
};
use crate::store::{Cause, Result, StoreError, UsageStore};

/// Summaries that a purge looks at together.
const BATCH: u32 = 500;
/// A process that has not flushed for this long repeats no flush.
const FLUSH_RETENTION: Duration = Duration::from_hours(24);

/// Why an attempt to add a flush failed.
enum Failure {
    /// Another transaction won, or the server was lost before the commit.
    Retry(Cause),
    Final(StoreError),
}

#[async_trait]
impl UsageStore for MongoStore {
    async fn add_usage(&self, flush: &Flush) -> Result<()> {
        let statements = statements_of(flush)?;
        let options = SessionOptions::builder().default_transaction_options(self.transaction_options()).build();
        let mut session = self.bounded("session", self.client.start_session().with_options(options)).await?;
        let (began, mut max_delay) = (Instant::now(), INITIAL_RETRY_DELAY);
        loop {
            let cause = match self.try_add(&mut session, &statements).await {
                Ok(()) => return Ok(()),
                Err(Failure::Retry(cause)) => cause,
                Err(Failure::Final(error)) => {
                    tokio::spawn(abort_abandoned(session, self.database.clone(), self.limits));
                    return Err(error);
                }
            };
            let _ = self.bounded("add_usage", session.abort_transaction()).await;
            let delay = self.environment.rng().random_range(Duration::ZERO..=max_delay);
            if began.elapsed() + delay > self.limits.call {
                return Err(StoreError::Unavailable(cause));
            }
            tokio::time::sleep(delay).await;
            max_delay = (max_delay * 2).min(MAX_RETRY_DELAY);
        }
    }

    async fn find_usage(&self, tenant: &TenantId, system: SystemId, range: &UsageRange) -> Result<Vec<BucketCounts>> {
        let ids: Vec<_> = range.rows().map(|row| series_id(system, row)).collect();
        let collection = self.usage_series(range.resolution);
        let find = collection
            .find(doc! { "_id": { "$in": ids }, "tenant": tenant.as_str() })
            .hint(Hint::Name(BY_ID.to_owned()))
            .max_time(self.limits.call);
        let found = self.collect("find_usage", find).await?;
        let counted = found.iter().flat_map(counts_of).filter(|counted| range.contains(counted.bucket));
        Ok(counted.collect())
    }

    async fn find_usage_summaries(&self, tenant: &TenantId, systems: &[SystemId]) -> Result<Vec<UsageSummary>> {
        if systems.is_empty() {
            return Ok(Vec::new());
        }
        let find = self
            .usage
            .find(doc! { "_id": { "$in": to_bson(&systems)? }, "tenant": tenant.as_str() })
            .hint(Hint::Name(BY_ID.to_owned()))
            .max_time(self.limits.call);
        self.collect("find_usage_summaries", find).await?.iter().map(summary_of).collect()
    }

    async fn list_last_uses(&self, tenant: &TenantId, since: Timestamp) -> Result<Vec<(SystemId, Timestamp)>> {
        let find = self
            .usage
            .find(doc! { "tenant": tenant.as_str(), "writtenAt": { "$gte": since.as_millis() } })
            .projection(doc! { "lastUsedAt": 1 })
            .hint(Hint::Name(migrations::USAGE_WRITTEN.to_owned()));
        let found = self.collect("list_last_uses", find).await?;
        let last_use = |found: &Document| Some((system_of(found).ok()?, time(found, "lastUsedAt")?));
        Ok(found.iter().filter_map(last_use).collect())
    }

    async fn purge_usage(&self, now: Timestamp, retention: UsageRetention, unused_since: Timestamp) -> Result<u64> {
        let mut removed = 0;
        for resolution in [Resolution::Hour, Resolution::Day] {
            let past = doc! { "row": { "$lt": i64::from(retention.first_row(resolution, now)) } };
            removed += self.remove_all(self.usage_series(resolution), &past, migrations::USAGE_ROW).await?;
        }
        let idle = doc! { "at": { "$lt": now.minus(FLUSH_RETENTION).as_millis() } };
        self.remove_all(&self.usage_flushes, &idle, BY_ID).await?;
        self.remove_surplus_keys().await?;
        Ok(removed + self.remove_orphans(unused_since).await?)
    }
}

impl MongoStore {
    pub(super) fn usage_series(&self, resolution: Resolution) -> &Collection<Document> {
        match resolution {
            Resolution::Hour => &self.usage_hours,
            Resolution::Day => &self.usage_days,
        }
    }

    async fn try_add(
        &self,
        session: &mut ClientSession,
        statements: &[(&'static str, Vec<Document>)],
    ) -> Result<(), Failure> {
        let late = || Failure::Final(TimedOut::new("add_usage").into());
        let begin = tokio::time::timeout(self.limits.call, session.start_transaction()).await;
        begin.map_err(|_| late())?.map_err(failure_of)?;
        for (collection, updates) in statements {
            let command = doc! { "update": *collection, "updates": updates, "ordered": true };
            let call = self.database.run_command(command).session(&mut *session);
            let response = match tokio::time::timeout(self.limits.call, call).await {
                Ok(response) => response,
                Err(_) => return Err(late()),
            };
            let code = match &response {
                Ok(response) => code_in(response),
                Err(error) => code_of(error),
            };
            match code {
                // This flush or a later one of the instance was added.
                Some(DUPLICATE_KEY) if *collection == USAGE_FLUSHES => {
                    let _ = self.bounded("add_usage", session.abort_transaction()).await;
                    return Ok(());
                }
                // Another transaction created the document.
                Some(code @ (DUPLICATE_KEY | WRITE_CONFLICT)) => {
                    return Err(Failure::Retry(format!("error {code} in {collection}").into()));
                }
                Some(code) => {
                    return Err(Failure::Final(StoreError::Unavailable(
                        format!("error {code} in {collection}").into(),
                    )));
                }
                None => drop(response.map_err(failure_of)?),
            }
        }
        match tokio::time::timeout(self.limits.call, session.commit_transaction()).await {
            Ok(committed) => committed.map_err(failure_of),
            Err(_) => Err(late()),
        }
    }

    /// Removes the summaries of deleted systems that were not presented a key since.
    async fn remove_orphans(&self, unused_since: Timestamp) -> Result<u64> {
        let mut removed = 0;
        let mut after = Bson::MinKey;
        loop {
            let find = self
                .usage
                .find(doc! { "_id": { "$gt": after }, "writtenAt": { "$lt": unused_since.as_millis() } })
                .projection(doc! { "_id": 1 })
                .sort(doc! { "_id": 1 })
                .hint(Hint::Name(BY_ID.to_owned()))
                .limit(i64::from(BATCH))
                .batch_size(BATCH + 1);
            let found = self.collect("purge_usage", find).await?;
            let ids: Vec<_> = found.iter().filter_map(|found| found.get("_id").cloned()).collect();
            let Some(last) = ids.last().cloned() else { return Ok(removed) };
            let find = self
                .systems
                .find(doc! { "_id": { "$in": &ids } })
                .projection(doc! { "_id": 1 })
                .hint(Hint::Name(BY_ID.to_owned()));
            let present = self.collect("purge_usage", find).await?;
            let present: HashSet<_> = present.iter().filter_map(|found| found.get_str("_id").ok()).collect();
            let orphans: Vec<_> =
                ids.into_iter().filter(|id| id.as_str().is_some_and(|id| !present.contains(id))).collect();
            if !orphans.is_empty() {
                let these = doc! { "_id": { "$in": orphans }, "writtenAt": { "$lt": unused_since.as_millis() } };
                removed += self.bounded("purge_usage", self.usage.delete_many(these)).await?.deleted_count;
            }
            after = last;
        }
    }

    async fn remove_surplus_keys(&self) -> Result<()> {
        let count = doc! { "$size": { "$objectToArray": "$keys" } };
        let many = i64::try_from(MAX_KEYS_PER_SYSTEM).unwrap_or(i64::MAX);
        let find = self.usage.find(doc! { "$expr": { "$gt": [count, many] } });
        for found in self.collect("purge_usage", find).await? {
            let surplus = surplus_keys(&summary_of(&found)?.keys);
            let members: Document = surplus.iter().map(|mark| (format!("keys.{mark}"), Bson::from(""))).collect();
            if !members.is_empty() {
                let change = self.usage.update_one(doc! { "_id": found.get("_id") }, doc! { "$unset": members });
                self.bounded("purge_usage", change).await?;
            }
        }
        Ok(())
    }
}

/// The updates of a flush by collection, that of its instance first.
fn statements_of(flush: &Flush) -> Result<Vec<(&'static str, Vec<Document>)>> {
    let number = number_to_bson(flush.number);
    let own = doc! {
        "q": { "_id": to_bson(&flush.instance)?, "number": { "$lt": number.clone() } },
        "u": { "$set": { "number": number, "at": flush.at.as_millis() } },
        "upsert": true,
    };
    let mut statements =
        vec![(USAGE_FLUSHES, vec![own]), (USAGE, Vec::new()), (USAGE_HOURS, Vec::new()), (USAGE_DAYS, Vec::new())];
    // Only the row of another client has another mark. A member of a document cannot have every name.
    for used in flush.uses.iter().filter(|used| used.mark.as_str().bytes().all(|b| b.is_ascii_alphanumeric())) {
        statements[1].1.push(summary_update(used, flush.at)?);
        statements[2].1.push(series_update(used, Resolution::Hour));
        statements[3].1.push(series_update(used, Resolution::Day));
    }
    statements.retain(|(_, updates)| !updates.is_empty());
    Ok(statements)
}

fn summary_update(used: &KeyUse, at: Timestamp) -> Result<Document> {
    let key = format!("keys.{}", used.mark);
    let mut latest = doc! { "writtenAt": at.as_millis() };
    if let Some(at) = used.last_used_at {
        latest.insert("lastUsedAt", at.as_millis());
        latest.insert(format!("{key}.used"), at.as_millis());
    }
    if let Some(at) = used.last_refused_at {
        latest.insert(format!("{key}.refused"), at.as_millis());
    }
    Ok(doc! {
        "q": { "_id": to_bson(&used.system)? },
        "u": {
            "$setOnInsert": { "tenant": used.tenant.as_str() },
            "$max": latest,
            "$inc": { format!("{key}.refusals"): number_to_bson(used.counts.refused) },
        },
        "upsert": true,
    })
}

fn series_update(used: &KeyUse, resolution: Resolution) -> Document {
    let bucket = used.bucket(resolution);
    let row = resolution.row_of(bucket);
    let Counts { accepted, refused } = used.counts;
    let counts = [("a", accepted), ("r", refused)].into_iter().filter(|(_, count)| *count > 0);
    let added: Document =
        counts.map(|(name, count)| (format!("keys.{}.{bucket}.{name}", used.mark), number_to_bson(count))).collect();
    doc! {
        "q": { "_id": series_id(used.system, row) },
        "u": { "$setOnInsert": { "tenant": used.tenant.as_str(), "row": i64::from(row) }, "$inc": added },
        "upsert": true,
    }
}

pub(super) fn series_id(system: SystemId, row: u32) -> String {
    format!("{system}/{row}")
}

fn system_of(summary: &Document) -> Result<SystemId> {
    summary.get_str("_id").map_err(corrupt)?.parse().map_err(corrupt)
}

fn time(document: &Document, member: &str) -> Option<Timestamp> {
    document.get(member).and_then(number_of).map(Timestamp::from_millis)
}

fn count(document: &Document, member: &str) -> u64 {
    document.get(member).and_then(number_of).and_then(|count| u64::try_from(count).ok()).unwrap_or(0)
}

/// The members of `keys`, without those that are no marks with documents.
fn keys_of(document: &Document) -> impl Iterator<Item = (Mark, &Document)> {
    let keys = document.get_document("keys").ok();
    keys.into_iter().flatten().filter_map(|(mark, key)| Some((mark.clone().try_into().ok()?, key.as_document()?)))
}

pub(super) fn summary_of(document: &Document) -> Result<UsageSummary> {
    let key = |(mark, key): (Mark, &Document)| {
        let (last_used_at, last_refused_at) = (time(key, "used"), time(key, "refused"));
        (mark, KeySummary { last_used_at, last_refused_at, refusals: count(key, "refusals") })
    };
    Ok(UsageSummary {
        system: system_of(document)?,
        written_at: time(document, "writtenAt").unwrap_or_default(),
        last_used_at: time(document, "lastUsedAt"),
        keys: keys_of(document).map(key).collect(),
    })
}

pub(super) fn counts_of(document: &Document) -> impl Iterator<Item = BucketCounts> {
    keys_of(document).flat_map(|(mark, buckets)| {
        buckets.iter().filter_map(move |(bucket, counts)| {
            let counts = counts.as_document()?;
            let counts = Counts { accepted: count(counts, "a"), refused: count(counts, "r") };
            Some(BucketCounts { mark, bucket: bucket.parse().ok()?, counts })
        })
    })
}

/// The code of the first of a response's `writeErrors`.
fn code_in(response: &Document) -> Option<i32> {
    let errors = response.get_array("writeErrors").ok()?;
    let code = errors.first()?.as_document()?.get("code").and_then(number_of)?;
    i32::try_from(code).ok()
}

fn failure_of(error: mongodb::error::Error) -> Failure {
    // A commit without a response has another label: its outcome is unknown.
    if error.contains_label(TRANSIENT_TRANSACTION_ERROR) {
        Failure::Retry(error.into())
    } else {
        Failure::Final(store_error(error))
    }
}
