//! The cached keys of all tenants, by digest. A live key whose system's name has 20 bytes takes at most 150 bytes,
//! and an ended key at most 70, including unused capacity. A live key with an expiry, and one of a suspended system,
//! takes some 80 more.

mod row_table;
mod secrets;
mod tenants;

use std::collections::HashMap;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use row_table::{Row, RowTable, SHARDS, allocated_block, rest_of, shard_of};
use secrets::{SecretNumber, Secrets};
use tenants::Tenants;

use super::locks::{read, write};
use crate::domain::ids::SystemId;
use crate::domain::keys::{Key, KeyDigest, KeyRole, Mark};
use crate::domain::secrets::Fingerprint;
use crate::domain::system_names::SystemName;
use crate::domain::time::Timestamp;
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
}

/// A digest is in at most one of the two tables.
#[derive(Default)]
struct Shard {
    current: RowTable<CurrentRow>,
    revoked: RowTable<Tombstone>,
    /// The limits of the few live keys that have any: those whose row says so.
    limits: HashMap<KeyDigest, Limits>,
}

/// What limits a live key.
#[derive(Clone, Copy)]
struct Limits {
    expires_at: Option<Timestamp>,
    suspended_at: Option<Timestamp>,
}

/// 80 bytes, and those of the name.
struct CurrentRow {
    digest: KeyDigest,
    /// Not a [`SystemId`], whose alignment of 16 bytes would make the row 96 bytes long.
    system: [u8; 16],
    system_name: SystemName,
    /// Saturates, long after any key has been changed as often.
    revision: u32,
    tenant: u32,
    mark: Mark,
    secret: SecretNumber,
    role: KeyRole,
    /// Whether the shard has [`Limits`] of the key.
    is_limited: bool,
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
const _: () = assert!(size_of::<CurrentRow>() == 80 && size_of::<Tombstone>() == 40);

impl KeyIndex {
    pub fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            tenants: Tenants::default(),
            secrets: Secrets::default(),
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
                if let Some(row) = shard.current.find(&key.digest) {
                    self.secrets.remove(row.secret);
                }
                let secret = self.secrets.add(key.secret);
                let row = CurrentRow::new(key, tenant, secret);
                if row.is_limited {
                    let Key { expires_at, suspended_at, .. } = *key;
                    shard.limits.insert(key.digest, Limits { expires_at, suspended_at });
                } else {
                    shard.limits.remove(&key.digest);
                }
                shard.current.put(&key.digest, row);
            }
        }
    }

    fn remove_current(&self, shard: &mut Shard, digest: &KeyDigest) {
        if let Some(row) = shard.current.find(digest) {
            self.secrets.remove(row.secret);
            shard.current.remove(digest);
            shard.limits.remove(digest);
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
        let shard = self.read(digest);
        if let Some(row) = shard.current.find(digest) {
            let limits = if row.is_limited { shard.limits.get(digest) } else { None };
            let (expires_at, suspended_at) = limits.map_or((None, None), |l| (l.expires_at, l.suspended_at));
            let identity = Identity { expires_at, ..row.identity(&self.tenants) };
            return Some(KeyStatus::Live { digest: *digest, identity, suspended_at });
        }
        shard.revoked.find(digest).map(|row| KeyStatus::Ended(row.refused_key(digest, &self.tenants)))
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
        self.sum(|shard| shard.limits.values().filter(|limits| limits.expires_at.is_some_and(is_near)).count())
    }

    /// Number of live keys that are refused, since their system is suspended.
    pub fn suspended(&self) -> usize {
        self.sum(|shard| shard.limits.values().filter(|limits| limits.suspended_at.is_some()).count())
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
        Self::new()
    }
}

impl Shard {
    fn allocated_bytes(&self) -> usize {
        // hashbrown fills 7 of 8 slots, each with a control byte.
        let limits = self.limits.capacity() * 8 / 7 * (size_of::<(KeyDigest, Limits)>() + 1);
        self.current.allocated_bytes() + self.revoked.allocated_bytes() + limits
    }
}

impl CurrentRow {
    fn new(key: &Key, tenant: u32, secret: SecretNumber) -> Self {
        Self {
            digest: key.digest,
            system: key.system.to_bytes(),
            system_name: key.system_name.clone(),
            revision: narrow(key.revision),
            tenant,
            mark: key.mark,
            secret,
            role: key.role,
            is_limited: key.expires_at.is_some() || key.suspended_at.is_some(),
        }
    }

    fn identity(&self, tenants: &Tenants) -> Identity {
        Identity {
            tenant: tenants.get(self.tenant),
            system: SystemId::from_bytes(self.system),
            system_name: self.system_name.clone(),
            mark: self.mark,
            role: self.role,
            expires_at: None,
        }
    }
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
        let seconds = ended_at.as_millis().div_euclid(1000).clamp(0, i64::from(u32::MAX));
        Self {
            digest: *rest_of(&key.digest).first_chunk().expect("11 of 31 bytes"),
            system: key.system.to_bytes(),
            tenant,
            mark: key.mark,
            ended_at: u32::try_from(seconds).expect("within bounds by the line above"),
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
            since: Timestamp::from_millis(i64::from(self.ended_at) * 1000),
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
        let end = if n % 3 == 0 { KeyEnd::Expired } else { KeyEnd::Revoked };
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
            let (index, mut model) = (KeyIndex::new(), HashMap::<u8, Key>::new());
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
            let index = KeyIndex::new();
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
        let index = KeyIndex::new();
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
        let (index, over) = (KeyIndex::new(), AtomicBool::new(false));
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

    /// The `n`-th of many keys, with a uniformly distributed digest and a name of 20 bytes.
    fn one_of_many(n: u32) -> Key {
        use sha2::Digest;
        Key {
            digest: KeyDigest::from_bytes(sha2::Sha256::digest(n.to_be_bytes()).into()),
            system_name: SystemName::parse(&format!("System {n:013}")).unwrap(),
            ..key(0, 2)
        }
    }

    #[test]
    fn current_key_takes_at_most_150_bytes_and_a_revoked_key_at_most_70() {
        let index = KeyIndex::new();
        let at = Timestamp::from_millis(1_700_000_000_000);
        let mut filled = 0;
        for count in [60_000, 100_000, 115_000, 130_000] {
            (filled..count).for_each(|n| index.put(&one_of_many(n)));
            filled = count;
            let each = index.bytes() / count as usize;
            assert!((112..=150).contains(&each), "{each} bytes for each of {count}");
        }
        (0..filled).for_each(|n| index.put(&one_of_many(n).ended(KeyEnd::Revoked, at)));
        let each = index.bytes() / filled as usize;
        assert!((45..=70).contains(&each), "{each} bytes for each of {filled} revoked ones");
        (0..filled).for_each(|n| index.remove(&one_of_many(n).digest));
        assert!(index.bytes() < 500_000, "{} bytes after all keys were removed", index.bytes());
    }
}
