//! Every key in memory, by digest: at most 150 bytes for a current one whose system's name has 20 bytes, and at most
//! 70 for a revoked one, room to grow included.

mod dense;
mod tenants;

use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use dense::{Dense, Row, SHARDS, rest_of, shard_of};
use tenants::Tenants;

use crate::domain::ids::SystemId;
use crate::domain::keys::{Key, KeyDigest, Mark};
use crate::domain::names::SystemName;
use crate::domain::time::Timestamp;
use crate::domain::verdict::{Found, Identity, RevokedKey};

/// Bytes of a digest that are kept of a revoked key, after the one that picks the shard.
const TOMBSTONE_DIGEST_BYTES: usize = 12;

/// Every current key, and every revoked one that is remembered.
///
/// Rows may come in any order and more than once: the greatest revision stands, and a revoked key stays revoked. Only
/// [`remove`](Self::remove) leaves nothing behind that a row read earlier could be compared with: rows of a scan must
/// be in before the feed is followed from where the scan began.
///
/// Each of 256 shards has a lock of its own, held for one row, or for as long as a shard takes to grow.
pub struct Index {
    shards: Box<[RwLock<Shard>]>,
    tenants: Tenants,
}

/// A digest is in one of the two tables at most.
#[derive(Default)]
struct Shard {
    current: Dense<CurrentRow>,
    revoked: Dense<Tombstone>,
}

/// 80 bytes, and the name's.
struct CurrentRow {
    digest: KeyDigest,
    /// A [`SystemId`] is aligned to 16 bytes, which would make the row 96.
    system: [u8; 16],
    system_name: SystemName,
    revision: u64,
    tenant: u32,
    mark: Mark,
}

/// 40 bytes.
///
/// With the byte that picks its shard, 104 bits of the digest are kept. Two keys that have them in common are taken
/// for one once the first is revoked: at worst, one chance in 2^104 for each pair of keys, a key is refused as revoked
/// that is good or unknown, and none is ever accepted for it.
struct Tombstone {
    digest: [u8; TOMBSTONE_DIGEST_BYTES],
    system: [u8; 16],
    tenant: u32,
    mark: Mark,
    /// Seconds since the Unix epoch, rounded down: good until 2106.
    revoked_at: u32,
}

#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<CurrentRow>() == 80 && size_of::<Tombstone>() == 40);

impl Index {
    pub fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| RwLock::default()).collect(), tenants: Tenants::default() }
    }

    /// Takes in a row as the feed or a scan gives it, unless what is there is newer.
    pub fn put(&self, key: &Key) {
        let tenant = self.tenants.number(&key.tenant);
        let mut shard = self.write(&key.digest);
        if let Some(at) = key.revoked_at {
            shard.current.remove(&key.digest);
            if shard.revoked.find(&key.digest).is_none() {
                shard.revoked.put(&key.digest, Tombstone::new(key, tenant, at));
            }
            return;
        }
        let known = shard.current.find(&key.digest).map_or(0, |row| row.revision);
        if key.revision > known && shard.revoked.find(&key.digest).is_none() {
            shard.current.put(&key.digest, CurrentRow::new(key, tenant));
        }
    }

    /// Forgets a key that was purged.
    pub fn remove(&self, digest: &KeyDigest) {
        let mut shard = self.write(digest);
        shard.revoked.remove(digest);
        shard.current.remove(digest);
    }

    /// The key of this digest, current or revoked.
    pub fn find(&self, digest: &KeyDigest) -> Option<Found> {
        let shard = self.read(digest);
        if let Some(row) = shard.current.find(digest) {
            return Some(Found::Current(row.identity(&self.tenants)));
        }
        shard.revoked.find(digest).map(|row| Found::Revoked(row.revoked_key(digest, &self.tenants)))
    }

    /// How many keys are current. Counted shard by shard, as the other counts are.
    pub fn current(&self) -> usize {
        self.sum(|shard| shard.current.len())
    }

    /// How many revoked keys are remembered.
    pub fn revoked(&self) -> usize {
        self.sum(|shard| shard.revoked.len())
    }

    /// Bytes of memory that it holds, room to grow included.
    pub fn bytes(&self) -> usize {
        let shards = size_of_val(&*self.shards)
            + self.sum(|shard| shard.current.allocated_bytes() + shard.revoked.allocated_bytes());
        size_of::<Self>() + shards + self.tenants.allocated_bytes()
    }

    fn sum(&self, of: impl Fn(&Shard) -> usize) -> usize {
        self.shards.iter().map(|shard| of(&shard.read().expect(NO_PANIC))).sum()
    }

    fn read(&self, digest: &KeyDigest) -> RwLockReadGuard<'_, Shard> {
        self.shards[shard_of(digest)].read().expect(NO_PANIC)
    }

    fn write(&self, digest: &KeyDigest) -> RwLockWriteGuard<'_, Shard> {
        self.shards[shard_of(digest)].write().expect(NO_PANIC)
    }
}

/// A shard that a panic left half written must answer nothing: it could have lost a revocation.
const NO_PANIC: &str = "no writer panics while it holds the lock";

impl Default for Index {
    fn default() -> Self {
        Self::new()
    }
}

impl CurrentRow {
    fn new(key: &Key, tenant: u32) -> Self {
        Self {
            digest: key.digest,
            system: key.system.to_bytes(),
            system_name: key.system_name.clone(),
            revision: key.revision,
            tenant,
            mark: key.mark,
        }
    }

    fn identity(&self, tenants: &Tenants) -> Identity {
        Identity {
            tenant: tenants.get(self.tenant),
            system: SystemId::from_bytes(self.system),
            system_name: self.system_name.clone(),
            mark: self.mark,
        }
    }
}

impl Row for CurrentRow {
    fn digest_rest(&self) -> &[u8] {
        rest_of(&self.digest)
    }

    fn heap_bytes(&self) -> usize {
        allocation(self.system_name.as_str().len())
    }
}

impl Tombstone {
    fn new(key: &Key, tenant: u32, revoked_at: Timestamp) -> Self {
        let seconds = revoked_at.as_millis().div_euclid(1000).clamp(0, i64::from(u32::MAX));
        Self {
            digest: *rest_of(&key.digest).first_chunk().expect("12 of 31 bytes"),
            system: key.system.to_bytes(),
            tenant,
            mark: key.mark,
            revoked_at: u32::try_from(seconds).expect("within bounds by the line above"),
        }
    }

    fn revoked_key(&self, digest: &KeyDigest, tenants: &Tenants) -> RevokedKey {
        RevokedKey {
            digest: *digest,
            tenant: tenants.get(self.tenant),
            system: SystemId::from_bytes(self.system),
            mark: self.mark,
            revoked_at: Timestamp::from_millis(i64::from(self.revoked_at) * 1000),
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

/// What an allocator spends on `bytes`: the usual ones hand out small blocks in steps of 16 bytes.
fn allocation(bytes: usize) -> usize {
    bytes.next_multiple_of(16)
}
