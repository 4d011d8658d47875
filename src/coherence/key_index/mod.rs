//! The cached keys of all tenants, by digest. A live key whose system's name has 20 bytes takes at most 160 bytes,
//! and an ended key at most 70, including unused capacity. A live key with an expiry, and one of a system
//! that is suspended or has an external id, takes some 100 more.

mod row_table;
mod secrets;
mod tenants;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

pub(super) use row_table::SHARDS;
use row_table::{Row, RowTable, allocated_block, rest_of, shard_of};
use secrets::{SecretNumber, Secrets};
use tenants::Tenants;

use super::locks::{read, write};
use super::pending_uses::PendingUses;
use crate::domain::external_ids::ExternalId;
use crate::domain::ids::{SystemId, TenantId};
use crate::domain::keys::{Key, KeyDigest, KeyRole, Mark};
use crate::domain::secrets::Fingerprint;
use crate::domain::system_names::SystemName;
use crate::domain::time::Timestamp;
use crate::domain::usage::{Counts, KeyUse};
use crate::domain::verdict::{Identity, KeyStatus, RefusalReason, RefusedKey};

/// Bytes of the digest kept for a revoked key, in addition to the one that selects its shard.
const TOMBSTONE_DIGEST_BYTES: usize = 11;

/// Live keys, and ended ones until they are purged.
///
/// Rows may be put in any order and more than once: the greatest revision wins, and an ended key stays ended. Only
/// [`remove`](Self::remove) leaves no trace to compare an older row with. Therefore all rows of a scan must be put before
/// any change that the feed delivers after the scan began.
///
/// Each of 256 shards has its own lock, held for one row, or while the shard grows.
pub struct KeyIndex {
    shards: Box<[RwLock<Shard>]>,
    tenants: Tenants,
    secrets: Secrets,
    /// Receives the counts of rows that are removed.
    pending_uses: Arc<PendingUses>,
}

/// A digest is in at most one of the two tables.
#[derive(Default)]
struct Shard {
    current: RowTable<CurrentRow>,
    revoked: RowTable<Tombstone>,
    /// The extras of live keys. Few keys have any; the row of each says whether it does.
    extras: HashMap<KeyDigest, Extras>,
}

/// What few live keys have.
#[derive(Default)]
struct Extras {
    expires_at: Option<Timestamp>,
    suspended_at: Option<Timestamp>,
    external_id: Option<ExternalId>,
}

impl Extras {
    /// `None` if the key has none.
    fn of(key: &Key) -> Option<Self> {
        let Key { expires_at, suspended_at, ref external_id, .. } = *key;
        let has_any = expires_at.is_some() || suspended_at.is_some() || external_id.is_some();
        has_any.then(|| Self { expires_at, suspended_at, external_id: external_id.clone() })
    }
}

/// 88 bytes, and those of the name.
struct CurrentRow {
    digest: KeyDigest,
    /// Not a [`SystemId`], whose alignment of 16 bytes would make the row longer.
    system: [u8; 16],
    system_name: SystemName,
    /// Saturates, long after any key has been changed as often.
    revision: u32,
    tenant: u32,
    mark: Mark,
    secret: SecretNumber,
    role: KeyRole,
    /// Whether the shard has [`Extras`] of the key.
    has_extras: bool,
    /// Verifications that accepted the key since its uses were last taken. Wraps after 4 billion, which takes longer than
    /// the interval at which they are taken.
    accepted: AtomicU32,
    /// When the last of them was, in seconds since the Unix epoch; saturates in 2106.
    last_used_at: AtomicU32,
}

/// 40 bytes.
///
/// With the byte that selects its shard, 96 bits of the digest are kept. If two keys agree in them, which has a
/// probability of 2^-96 for each pair of keys, and one is revoked, the other is refused as revoked too. No key is ever
/// accepted because of it.
struct Tombstone {
    digest: [u8; TOMBSTONE_DIGEST_BYTES],
    system: [u8; 16],
    tenant: u32,
    mark: Mark,
    /// Seconds since the Unix epoch, rounded down; saturates in 2106.
    ended_at: u32,
    /// Whether it ended by time, and was not revoked.
    is_expired: bool,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<CurrentRow>() == 88 && size_of::<Tombstone>() == 40);

impl KeyIndex {
    /// An index whose counts of removed rows go to `pending_uses`.
    pub fn new(pending_uses: Arc<PendingUses>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            tenants: Tenants::default(),
            secrets: Secrets::default(),
            pending_uses,
        }
    }

    /// Stores the key unless a newer revision is cached.
    pub fn put(&self, key: &Key) {
        let tenant = self.tenants.number(&key.tenant);
        let mut shard = self.write(&key.digest);
        let cached = shard.current.find(&key.digest).map_or(0, |row| row.revision);
        if shard.revoked.find(&key.digest).is_none() && (key.revoked_at.is_some() || narrow(key.revision) > cached) {
            self.store(&mut shard, key, tenant);
        }
    }

    /// Sets since when the tenant is suspended, and with it all keys that it has or will have.
    pub fn suspend_tenant(&self, tenant: &TenantId, at: Option<Timestamp>) {
        self.tenants.suspend(tenant, at);
    }

    /// Stores the key whatever is cached.
    pub fn overwrite(&self, key: &Key) {
        let tenant = self.tenants.number(&key.tenant);
        let mut shard = self.write(&key.digest);
        shard.revoked.remove(&key.digest);
        self.store(&mut shard, key, tenant);
    }

    /// Stores a key that has no tombstone.
    fn store(&self, shard: &mut Shard, key: &Key, tenant: u32) {
        match key.revoked_at {
            Some(at) => {
                self.remove_current(shard, &key.digest);
                shard.revoked.put(&key.digest, Tombstone::new(key, tenant, at));
            }
            None => {
                let secret = self.secrets.add(key.secret);
                let extras = Extras::of(key);
                let mut row = CurrentRow::new(key, tenant, secret, extras.is_some());
                if let Some(replaced) = shard.current.find(&key.digest) {
                    self.secrets.remove(replaced.secret);
                    row.accepted = AtomicU32::new(replaced.accepted.load(Ordering::Relaxed));
                    row.last_used_at = AtomicU32::new(replaced.last_used_at.load(Ordering::Relaxed));
                }
                match extras {
                    Some(extras) => drop(shard.extras.insert(key.digest, extras)),
                    None => drop(shard.extras.remove(&key.digest)),
                }
                shard.current.put(&key.digest, row);
            }
        }
    }

    fn remove_current(&self, shard: &mut Shard, digest: &KeyDigest) {
        if let Some(row) = shard.current.find(digest) {
            self.secrets.remove(row.secret);
            if let Some(used) = row.take_use(&self.tenants) {
                self.pending_uses.add(used);
            }
            shard.current.remove(digest);
            shard.extras.remove(digest);
        }
    }

    /// Removes a key that was purged, current or revoked.
    pub fn remove(&self, digest: &KeyDigest) {
        let mut shard = self.write(digest);
        shard.revoked.remove(digest);
        self.remove_current(&mut shard, digest);
    }

    /// Whether a current key has this digest and its row names this root secret.
    pub fn names_secret(&self, digest: &KeyDigest, secret: Fingerprint) -> bool {
        let shard = self.read(digest);
        shard.current.find(digest).is_some_and(|row| self.secrets.find(row.secret) == Some(secret))
    }

    /// Number of current keys by the root secret that their row names.
    pub fn by_secret(&self) -> Vec<(Option<Fingerprint>, usize)> {
        self.secrets.counts()
    }

    pub fn find(&self, digest: &KeyDigest) -> Option<KeyStatus> {
        self.find_and_count(digest, |_| None)
    }

    /// Finds the key. If it is live, counts a use at the time that `used_at` returns for its status, while its row cannot
    /// change.
    pub fn find_and_count(
        &self,
        digest: &KeyDigest,
        used_at: impl FnOnce(&KeyStatus) -> Option<Timestamp>,
    ) -> Option<KeyStatus> {
        let shard = self.read(digest);
        if let Some(row) = shard.current.find(digest) {
            let none = Extras::default();
            let extras = if row.has_extras { shard.extras.get(digest) } else { None }.unwrap_or(&none);
            let suspended_at = extras.suspended_at.or_else(|| self.tenants.suspended_at(row.tenant));
            let identity = row.identity(extras, &self.tenants);
            let status = KeyStatus::Live { digest: *digest, identity, suspended_at };
            if let Some(at) = used_at(&status) {
                row.count_use(at);
            }
            return Some(status);
        }
        shard.revoked.find(digest).map(|row| KeyStatus::Ended(row.refused_key(digest, &self.tenants)))
    }

    /// Takes the uses counted in this shard.
    pub(super) fn take_uses(&self, shard: usize) -> Vec<KeyUse> {
        let shard = read(&self.shards[shard]);
        shard.current.rows().filter_map(|row| row.take_use(&self.tenants)).collect()
    }

    /// Takes the uses counted for these keys.
    pub(super) fn take_uses_of(&self, digests: &[KeyDigest]) -> Vec<KeyUse> {
        let take = |digest| self.read(digest).current.find(digest).and_then(|row| row.take_use(&self.tenants));
        digests.iter().filter_map(take).collect()
    }

    /// The systems with a retiring key. Such a key has an expiry.
    pub(super) fn systems_in_rotation(&self) -> HashSet<SystemId> {
        let mut systems = HashSet::new();
        for shard in &self.shards {
            let shard = read(shard);
            let rows = shard.extras.keys().filter_map(|digest| shard.current.find(digest));
            let retiring = rows.filter(|row| row.role == KeyRole::Retiring);
            systems.extend(retiring.map(|row| SystemId::from_bytes(row.system)));
        }
        systems
    }

    /// The digests of the live keys of these systems. Reads all rows.
    pub(super) fn digests_of(&self, systems: &HashSet<SystemId>) -> Vec<KeyDigest> {
        let mut digests = Vec::new();
        if systems.is_empty() {
            return digests;
        }
        for shard in &self.shards {
            let shard = read(shard);
            let rows = shard.current.rows().filter(|row| systems.contains(&SystemId::from_bytes(row.system)));
            digests.extend(rows.map(|row| row.digest));
        }
        digests
    }

    /// Number of current keys. Like the other totals, it is summed shard by shard while keys may change.
    pub fn current(&self) -> usize {
        self.sum(|shard| shard.current.len())
    }

    pub fn revoked(&self) -> usize {
        self.sum(|shard| shard.revoked.len())
    }

    /// Number of live keys whose end is after `now` and at most `within` away.
    pub fn expiring(&self, now: Timestamp, within: Duration) -> usize {
        let is_near = |end: Timestamp| end > now && end.since(now) <= within;
        self.sum(|shard| shard.extras.values().filter(|extras| extras.expires_at.is_some_and(is_near)).count())
    }

    /// Number of live keys that are refused, since their system is suspended.
    pub fn suspended(&self) -> usize {
        self.sum(|shard| shard.extras.values().filter(|extras| extras.suspended_at.is_some()).count())
    }

    /// Bytes of memory used, including unused capacity.
    pub fn bytes(&self) -> usize {
        let shards = size_of_val(&*self.shards) + self.sum(Shard::allocated_bytes);
        size_of::<Self>() + shards + self.tenants.allocated_bytes()
    }

    fn sum(&self, of: impl Fn(&Shard) -> usize) -> usize {
        self.shards.iter().map(|shard| of(&read(shard))).sum()
    }

    fn read(&self, digest: &KeyDigest) -> RwLockReadGuard<'_, Shard> {
        read(&self.shards[shard_of(digest)])
    }

    fn write(&self, digest: &KeyDigest) -> RwLockWriteGuard<'_, Shard> {
        write(&self.shards[shard_of(digest)])
    }
}

impl Default for KeyIndex {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl Shard {
    fn allocated_bytes(&self) -> usize {
        // hashbrown fills 7 of 8 slots, each with a control byte.
        let extras = self.extras.capacity() * 8 / 7 * (size_of::<(KeyDigest, Extras)>() + 1);
        let ids = self.extras.values().filter_map(|extras| extras.external_id.as_ref());
        let ids: usize = ids.map(|id| allocated_block(id.as_str().len())).sum();
        self.current.allocated_bytes() + self.revoked.allocated_bytes() + extras + ids
    }
}

impl CurrentRow {
    fn new(key: &Key, tenant: u32, secret: SecretNumber, has_extras: bool) -> Self {
        Self {
            digest: key.digest,
            system: key.system.to_bytes(),
            system_name: key.system_name.clone(),
            revision: narrow(key.revision),
            tenant,
            mark: key.mark,
            secret,
            role: key.role,
            has_extras,
            accepted: AtomicU32::new(0),
            last_used_at: AtomicU32::new(0),
        }
    }

    /// The time is written first, so that whoever takes the count finds it.
    fn count_use(&self, at: Timestamp) {
        let at = seconds(at);
        if at > self.last_used_at.load(Ordering::Relaxed) {
            self.last_used_at.fetch_max(at, Ordering::Relaxed);
        }
        self.accepted.fetch_add(1, Ordering::Release);
    }

    fn take_use(&self, tenants: &Tenants) -> Option<KeyUse> {
        // Written only where there is something to take: most keys are not in use.
        if self.accepted.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let accepted = self.accepted.swap(0, Ordering::Acquire);
        (accepted > 0).then(|| KeyUse {
            tenant: tenants.get(self.tenant),
            system: SystemId::from_bytes(self.system),
            mark: self.mark,
            counts: Counts { accepted: u64::from(accepted), refused: 0 },
            last_used_at: Some(at_second(self.last_used_at.load(Ordering::Relaxed))),
            last_refused_at: None,
        })
    }

    fn identity(&self, extras: &Extras, tenants: &Tenants) -> Identity {
        Identity {
            tenant: tenants.get(self.tenant),
            system: SystemId::from_bytes(self.system),
            system_name: self.system_name.clone(),
            external_id: extras.external_id.clone(),
            mark: self.mark,
            role: self.role,
            expires_at: extras.expires_at,
        }
    }
}

/// Seconds since the Unix epoch, rounded down; saturates in 2106.
fn seconds(at: Timestamp) -> u32 {
    let seconds = at.as_millis().div_euclid(1000).clamp(0, i64::from(u32::MAX));
    u32::try_from(seconds).expect("within bounds by the line above")
}

fn at_second(seconds: u32) -> Timestamp {
    Timestamp::from_millis(i64::from(seconds) * 1000)
}

fn narrow(revision: u64) -> u32 {
    u32::try_from(revision).unwrap_or(u32::MAX)
}

impl Row for CurrentRow {
    fn digest_rest(&self) -> &[u8] {
        rest_of(&self.digest)
    }

    fn heap_bytes(&self) -> usize {
        allocated_block(self.system_name.as_str().len())
    }
}

impl Tombstone {
    fn new(key: &Key, tenant: u32, ended_at: Timestamp) -> Self {
        Self {
            digest: *rest_of(&key.digest).first_chunk().expect("11 of 31 bytes"),
            system: key.system.to_bytes(),
            tenant,
            mark: key.mark,
            ended_at: seconds(ended_at),
            is_expired: RefusalReason::of_end(key.end) == RefusalReason::Expired,
        }
    }

    fn refused_key(&self, digest: &KeyDigest, tenants: &Tenants) -> RefusedKey {
        RefusedKey {
            digest: *digest,
            tenant: tenants.get(self.tenant),
            system: SystemId::from_bytes(self.system),
            mark: self.mark,
            reason: if self.is_expired { RefusalReason::Expired } else { RefusalReason::Revoked },
            since: at_second(self.ended_at),
        }
    }
}

impl Row for Tombstone {
    fn digest_rest(&self) -> &[u8] {
        &self.digest
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::keys::KeyEnd;

    /// The digest of the `n`-th of 64 keys in two shards. Groups of four have the same hash.
    fn digest(n: u8) -> KeyDigest {
        let mut bytes = [0; 32];
        (bytes[0], bytes[1], bytes[9]) = (n % 2, n / 8, n);
        KeyDigest::from_bytes(bytes)
    }

    /// Everything that a look-up returns follows from `n` and the revision, so that a mixture of two rows is noticed.
    fn key(n: u8, revision: u64) -> Key {
        Key {
            digest: digest(n),
            tenant: format!("tenant-{}", n % 5).parse().unwrap(),
            system: SystemId::from_bytes([n; 16]),
            system_name: SystemName::parse(&format!("System {n} {}", "x".repeat((revision % 40) as usize))).unwrap(),
            external_id: ExternalId::parse(&"id".repeat((revision % 7) as usize)).unwrap(),
            mark: Mark::try_from(format!("{:04}", revision % 10_000)).unwrap(),
            revision,
            revoked_at: None,
            end: None,
            secret: None,
            role: if revision % 4 == 1 { KeyRole::Retiring } else { KeyRole::Current },
            expires_at: (revision % 3 == 1).then(|| Timestamp::from_millis(i64::try_from(revision).unwrap())),
            suspended_at: (revision % 5 == 1).then(|| Timestamp::from_millis(i64::from(n))),
            warned_days: None,
        }
    }

    fn revoked(n: u8, revision: u64) -> Key {
        let end = if n.is_multiple_of(3) { KeyEnd::Expired } else { KeyEnd::Revoked };
        key(n, revision).ended(end, Timestamp::from_millis(i64::from(n) * 1000))
    }

    fn expected(key: &Key) -> KeyStatus {
        key.clone().into()
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Put(u8, u64),
        Revoke(u8, u64),
        Purge(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u8..64, 1u64..50).prop_map(|(n, revision)| Step::Put(n, revision)),
            1 => (0u8..64, 1u64..50).prop_map(|(n, revision)| Step::Revoke(n, revision)),
            3 => (0u8..64).prop_map(Step::Purge),
        ]
    }

    proptest! {
        #[test]
        fn index_agrees_with_a_plain_map(steps in vec(step(), 0..400)) {
            let (index, mut model) = (KeyIndex::default(), HashMap::<u8, Key>::new());
            for step in steps {
                match step {
                    Step::Put(n, revision) => {
                        let key = key(n, revision);
                        index.put(&key);
                        let stored = model.entry(n).or_insert_with(|| key.clone());
                        if stored.revoked_at.is_none() && stored.revision < revision {
                            *stored = key;
                        }
                    }
                    Step::Revoke(n, revision) => {
                        let key = revoked(n, revision);
                        index.put(&key);
                        let stored = model.entry(n).or_insert_with(|| key.clone());
                        if stored.revoked_at.is_none() {
                            *stored = key;
                        }
                    }
                    Step::Purge(n) => {
                        index.remove(&digest(n));
                        model.remove(&n);
                    }
                }
            }
            for n in 0..64 {
                prop_assert_eq!(index.find(&digest(n)), model.get(&n).map(expected));
            }
            let (revoked, current): (Vec<&Key>, Vec<&Key>) = model.values().partition(|key| key.revoked_at.is_some());
            prop_assert_eq!((index.current(), index.revoked()), (current.len(), revoked.len()));
        }

        #[test]
        fn order_in_which_rows_are_put_does_not_matter(
            rows in Just((1..=8).flat_map(|n| (1..=5).map(move |revision| (n, revision))).collect::<Vec<_>>())
                .prop_shuffle(),
        ) {
            let index = KeyIndex::default();
            for (n, revision) in rows {
                // Every other key is revoked by its last row.
                let revokes = n % 2 == 0 && revision == 5;
                index.put(&if revokes { revoked(n, revision - 1) } else { key(n, revision) });
            }
            for n in 1..=8 {
                let last = if n % 2 == 0 { revoked(n, 4) } else { key(n, 5) };
                prop_assert_eq!(index.find(&digest(n)), Some(expected(&last)));
            }
        }
    }

    #[test]
    fn revocation_time_is_kept_to_the_second() {
        let index = KeyIndex::default();
        for (at, kept) in [(1_700_000_000_999, 1_700_000_000_000), (-1, 0), (i64::MAX, i64::from(u32::MAX) * 1000)] {
            index.remove(&digest(1));
            index.put(&key(1, 1).ended(KeyEnd::Revoked, Timestamp::from_millis(at)));
            let Some(KeyStatus::Ended(found)) = index.find(&digest(1)) else { panic!("not revoked") };
            assert_eq!(found.since, Timestamp::from_millis(kept));
        }
    }

    /// Rows move when another one is removed, and change when a system is renamed.
    #[test]
    fn readers_never_see_a_mixture_of_two_rows() {
        let (index, over) = (KeyIndex::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let index = &index;
                    scope.spawn(move || {
                        for round in 1..2_000 {
                            for n in (0..64).filter(|n| n / 2 % 2 == writer) {
                                index.put(&key(n, round));
                                if (u64::from(n) + round) % 7 == 0 {
                                    index.remove(&digest(n));
                                }
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        for n in 0..64 {
                            let Some(found) = index.find(&digest(n)) else { continue };
                            let KeyStatus::Live { identity, .. } = &found else { panic!("{found:?}") };
                            let revision = identity.mark.as_str().parse().unwrap();
                            assert_eq!(found, expected(&key(n, revision)));
                        }
                    }
                });
            }
            let ended: Vec<_> = writers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
            over.store(true, Ordering::Relaxed);
            assert!(ended.iter().all(Result::is_ok));
        });
    }

    const AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// Counts of all keys by mark.
    fn taken(uses: impl IntoIterator<Item = KeyUse>) -> HashMap<String, u64> {
        let mut counts = HashMap::new();
        for used in uses {
            assert_eq!(used.last_used_at, Some(AT));
            *counts.entry(used.mark.to_string()).or_default() += used.counts.accepted;
        }
        counts
    }

    fn use_times(index: &KeyIndex, n: u8, times: usize) {
        (0..times).for_each(|_| drop(index.find_and_count(&digest(n), |_| Some(AT))));
    }

    fn all_uses(index: &KeyIndex) -> Vec<KeyUse> {
        (0..SHARDS).flat_map(|shard| index.take_uses(shard)).collect()
    }

    #[test]
    fn uses_are_taken_once() {
        let index = KeyIndex::default();
        (1..=3).for_each(|n| index.put(&key(n, u64::from(n))));
        use_times(&index, 1, 5);
        use_times(&index, 3, 7);
        assert!(index.find(&digest(2)).is_some(), "a look-up counts nothing");
        assert_eq!(taken(index.take_uses_of(&[digest(3), digest(9)])), [("0003".to_owned(), 7)].into());
        use_times(&index, 3, 1);
        assert_eq!(taken(all_uses(&index)), [("0001".to_owned(), 5), ("0003".to_owned(), 1)].into());
        assert_eq!(all_uses(&index), []);
    }

    #[test]
    fn changed_row_keeps_its_uses_and_a_removed_one_hands_them_over() {
        let pending = Arc::new(PendingUses::default());
        let index = KeyIndex::new(Arc::clone(&pending));
        (1..=3).for_each(|n| index.put(&key(n, 1)));
        (1..=3).for_each(|n| use_times(&index, n, usize::from(n)));
        index.put(&key(1, 2));
        index.put(&revoked(2, 2));
        index.remove(&digest(3));
        assert_eq!(taken(all_uses(&index)), [("0002".to_owned(), 1)].into(), "under the mark of the new row");
        let mut handed_over = pending.take();
        handed_over.sort_by_key(|used| used.system);
        assert_eq!(handed_over.iter().map(|used| used.counts.accepted).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn systems_in_rotation_are_those_with_a_retiring_key() {
        let index = KeyIndex::default();
        let in_system =
            |n, role, expires_at| Key { system: SystemId::from_bytes([7; 16]), role, expires_at, ..key(n, 2) };
        let end = Timestamp::from_millis(1);
        index.put(&in_system(1, KeyRole::Current, None));
        index.put(&Key { external_id: ExternalId::parse("cus_1").unwrap(), ..in_system(4, KeyRole::Current, None) });
        index.put(&Key { expires_at: Some(end), role: KeyRole::Current, ..key(9, 2) });
        assert_eq!(index.systems_in_rotation(), HashSet::new());
        index.put(&in_system(2, KeyRole::Retiring, Some(end)));
        let systems = index.systems_in_rotation();
        assert_eq!(systems, [SystemId::from_bytes([7; 16])].into());
        let mut digests = index.digests_of(&systems);
        digests.sort();
        let mut expected = [digest(1), digest(2), digest(4)];
        expected.sort();
        assert_eq!(digests, expected);
    }

    #[test]
    fn no_use_is_lost_while_rows_change() {
        const READERS: usize = 2;
        const USES: usize = 20_000;
        let pending = Arc::new(PendingUses::default());
        let index = KeyIndex::new(Arc::clone(&pending));
        let count = |used: &KeyUse| used.counts.accepted;
        let counted = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..READERS)
                .map(|_| {
                    scope.spawn(|| {
                        let found = (0..USES).filter(|n| {
                            let digest = digest(u8::try_from(n % 4).unwrap());
                            index.find_and_count(&digest, |_| Some(AT)).is_some()
                        });
                        found.count()
                    })
                })
                .collect();
            let mut taken = 0;
            let mut revision = 1;
            while readers.iter().any(|reader| !reader.is_finished()) {
                revision += 1;
                (0..4).for_each(|n| index.put(&key(n, revision)));
                index.remove(&digest(u8::try_from(revision % 4).unwrap()));
                taken += all_uses(&index).iter().map(count).sum::<u64>();
            }
            let found: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
            (found as u64, taken)
        });
        let (found, taken) = counted;
        let rest: u64 = all_uses(&index).iter().chain(&pending.take()).map(count).sum();
        assert_eq!(taken + rest, found);
    }

    /// The `n`-th of many keys, with a uniformly distributed digest and a name of 20 bytes.
    fn one_of_many(n: u32) -> Key {
        use sha2::Digest;
        Key {
            digest: KeyDigest::from_bytes(sha2::Sha256::digest(n.to_be_bytes()).into()),
            system_name: SystemName::parse(&format!("System {n:013}")).unwrap(),
            external_id: None,
            ..key(0, 2)
        }
    }

    #[test]
    fn current_key_takes_at_most_160_bytes_and_a_revoked_key_at_most_70() {
        let index = KeyIndex::default();
        let at = Timestamp::from_millis(1_700_000_000_000);
        let mut filled = 0;
        for count in [60_000, 100_000, 115_000, 130_000] {
            (filled..count).for_each(|n| index.put(&one_of_many(n)));
            filled = count;
            let each = index.bytes() / count as usize;
            assert!((112..=160).contains(&each), "{each} bytes for each of {count}");
        }
        (0..filled).for_each(|n| index.put(&one_of_many(n).ended(KeyEnd::Revoked, at)));
        let each = index.bytes() / filled as usize;
        assert!((45..=70).contains(&each), "{each} bytes for each of {filled} revoked ones");
        (0..filled).for_each(|n| index.remove(&one_of_many(n).digest));
        assert!(index.bytes() < 500_000, "{} bytes after all keys were removed", index.bytes());
    }
}
