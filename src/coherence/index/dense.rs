//! Rows side by side in one vector, found by a table of 32-bit slots.
//!
//! A map that holds its rows itself has room for twice as many just after it has grown. Here only the slots, of 5
//! bytes each, double; the rows grow by an eighth.

use hashbrown::HashTable;

use crate::domain::keys::KeyDigest;

/// The shard of a digest is its first byte, which its rows need not repeat: what follows is the rest.
pub const SHARDS: usize = 256;

/// Which shard holds the digest.
pub fn shard_of(digest: &KeyDigest) -> usize {
    usize::from(digest.as_bytes()[0])
}

/// The digest without the byte that picks its shard.
pub fn rest_of(digest: &KeyDigest) -> &[u8; 31] {
    digest.as_bytes().last_chunk().expect("31 of 32 bytes")
}

/// Something kept of a key.
pub trait Row {
    /// The digest's first bytes after the one that picks the shard: as many as tell rows apart, at least 8.
    fn digest_rest(&self) -> &[u8];

    /// Bytes that it holds elsewhere.
    fn heap_bytes(&self) -> usize;
}

/// The rows of one shard, one for each digest.
pub struct Dense<R> {
    slots: HashTable<u32>,
    rows: Vec<R>,
    /// The sum of the rows' own.
    heap_bytes: usize,
}

impl<R> Default for Dense<R> {
    fn default() -> Self {
        Self { slots: HashTable::new(), rows: Vec::new(), heap_bytes: 0 }
    }
}

impl<R: Row> Dense<R> {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// What the shard holds elsewhere, room to grow included.
    pub fn allocated_bytes(&self) -> usize {
        self.slots.allocation_size() + self.rows.capacity() * size_of::<R>() + self.heap_bytes
    }

    pub fn find(&self, digest: &KeyDigest) -> Option<&R> {
        let slot = self.slots.find(hash(rest_of(digest)), |slot| is_of(&self.rows[*slot as usize], digest))?;
        Some(&self.rows[*slot as usize])
    }

    /// The row of `digest` from now on.
    pub fn put(&mut self, digest: &KeyDigest, row: R) {
        let Self { slots, rows, heap_bytes } = self;
        *heap_bytes += row.heap_bytes();
        let hash_here = hash(rest_of(digest));
        if let Some(slot) = slots.find(hash_here, |slot| is_of(&rows[*slot as usize], digest)) {
            let previous = std::mem::replace(&mut rows[*slot as usize], row);
            *heap_bytes -= previous.heap_bytes();
            return;
        }
        if rows.len() == rows.capacity() {
            rows.reserve_exact(spare(rows.len()));
        }
        let slot = u32::try_from(rows.len()).expect("a shard has fewer rows than 2^32: they are 160 GB at least");
        rows.push(row);
        slots.insert_unique(hash_here, slot, |slot| hash(rows[*slot as usize].digest_rest()));
    }

    /// Whether there was a row of `digest`.
    pub fn remove(&mut self, digest: &KeyDigest) -> bool {
        let Self { slots, rows, heap_bytes } = self;
        let Ok(entry) = slots.find_entry(hash(rest_of(digest)), |slot| is_of(&rows[*slot as usize], digest)) else {
            return false;
        };
        let (slot, _) = entry.remove();
        // The last row moves to where the removed one was; its slot must say so.
        let last = rows.len() - 1;
        let removed = rows.swap_remove(slot as usize);
        *heap_bytes -= removed.heap_bytes();
        if let Some(moved) = rows.get(slot as usize) {
            let mended = slots.find_mut(hash(moved.digest_rest()), |other| *other as usize == last);
            *mended.expect("every row has a slot") = slot;
        }
        if rows.len() < rows.capacity() / 2 {
            let room = rows.len() + spare(rows.len());
            rows.shrink_to(room);
            slots.shrink_to(room, |slot| hash(rows[*slot as usize].digest_rest()));
        }
        true
    }
}

/// How much room to add to `len` rows: an eighth, so that at most a ninth of the room stands empty.
fn spare(len: usize) -> usize {
    (len / 8).max(4)
}

/// Digests are outputs of HMAC-SHA-256 under a secret: uniformly distributed, whatever keys somebody presents. So
/// 8 bytes of one are a hash as they are.
fn hash(rest: &[u8]) -> u64 {
    u64::from_le_bytes(*rest.first_chunk().expect("at least 8 bytes of the digest are kept"))
}

/// Need not take the same time for every digest: whoever times it learns bytes of digests of keys that exist, and
/// can steer no presented key towards them, nor compute one from them, without the pepper.
fn is_of<R: Row>(row: &R, digest: &KeyDigest) -> bool {
    rest_of(digest).starts_with(row.digest_rest())
}
