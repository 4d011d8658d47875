//! A compact hash table: rows in chunks, located through a table of 32-bit slots.
//!
//! A map that contains its rows has room for twice as many just after it has grown. Here only the slots double, which
//! take 5 bytes each. Rows never move when the table grows: with a vector of rows, grown by an eighth at a time,
//! fragmentation cost 27 bytes for each of a million keys (174 resident bytes a key instead of 147).

use hashbrown::HashTable;

use crate::domain::keys::KeyDigest;

/// The first byte of a digest selects its shard. Rows need not repeat it; the other bytes are the digest's rest.
pub(in crate::coherence) const SHARDS: usize = 256;

pub(super) fn shard_of(digest: &KeyDigest) -> usize {
    usize::from(digest.as_bytes()[0])
}

/// The digest without the byte that selects the shard.
pub(super) fn rest_of(digest: &KeyDigest) -> &[u8; 31] {
    digest.as_bytes().last_chunk().expect("31 of 32 bytes")
}

pub(super) trait Row {
    /// A prefix of the digest's rest that identifies the row; at least 8 bytes.
    fn digest_rest(&self) -> &[u8];

    /// Bytes that the row has allocated elsewhere.
    fn heap_bytes(&self) -> usize;
}

/// Few, since half a chunk of each shard is unused on average.
const ROWS_PER_CHUNK: usize = 32;

/// The rows of one shard, by digest.
pub(super) struct RowTable<R> {
    slots: HashTable<u32>,
    rows: Chunks<R>,
    /// Sum of the rows' [`heap_bytes`](Row::heap_bytes).
    heap_bytes: usize,
}

/// Rows by slot. Every chunk is full except the last, which is never empty.
struct Chunks<R>(Vec<Vec<R>>);

impl<R> Default for RowTable<R> {
    fn default() -> Self {
        Self { slots: HashTable::new(), rows: Chunks(Vec::new()), heap_bytes: 0 }
    }
}

impl<R: Row> RowTable<R> {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes that the table has allocated, including unused capacity.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.slots.allocation_size() + self.rows.allocated_bytes() + self.heap_bytes
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = &R> {
        self.rows.0.iter().flatten()
    }

    pub(super) fn find(&self, digest: &KeyDigest) -> Option<&R> {
        let slot = self.slots.find(hash(rest_of(digest)), |slot| matches(self.rows.get(*slot), digest))?;
        Some(self.rows.get(*slot))
    }

    /// Inserts or replaces the row of `digest`.
    pub(super) fn put(&mut self, digest: &KeyDigest, row: R) {
        let Self { slots, rows, heap_bytes } = self;
        *heap_bytes += row.heap_bytes();
        let hash_here = hash(rest_of(digest));
        if let Some(slot) = slots.find(hash_here, |slot| matches(rows.get(*slot), digest)) {
            let previous = std::mem::replace(rows.get_mut(*slot), row);
            *heap_bytes -= previous.heap_bytes();
            return;
        }
        let slot = u32::try_from(slots.len()).expect("2^32 rows of a shard would take 160 GB");
        rows.push(row);
        slots.insert_unique(hash_here, slot, |slot| hash(rows.get(*slot).digest_rest()));
    }

    pub(super) fn remove(&mut self, digest: &KeyDigest) {
        let Self { slots, rows, heap_bytes } = self;
        let Ok(entry) = slots.find_entry(hash(rest_of(digest)), |slot| matches(rows.get(*slot), digest)) else {
            return;
        };
        let (slot, _) = entry.remove();
        let moved_from = slots.len();
        let last = rows.pop().expect("every slot has a row");
        *heap_bytes -= if slot as usize == moved_from {
            last.heap_bytes()
        } else {
            // The last row moves into the place of the removed one, and its slot is updated.
            let moved = slots.find_mut(hash(last.digest_rest()), |other| *other as usize == moved_from);
            *moved.expect("every row has a slot") = slot;
            std::mem::replace(rows.get_mut(slot), last).heap_bytes()
        };
        if slots.len() < slots.capacity() / 4 {
            slots.shrink_to(2 * slots.len(), |slot| hash(rows.get(*slot).digest_rest()));
        }
    }
}

impl<R> Chunks<R> {
    fn get(&self, slot: u32) -> &R {
        &self.0[slot as usize / ROWS_PER_CHUNK][slot as usize % ROWS_PER_CHUNK]
    }

    fn get_mut(&mut self, slot: u32) -> &mut R {
        &mut self.0[slot as usize / ROWS_PER_CHUNK][slot as usize % ROWS_PER_CHUNK]
    }

    fn push(&mut self, row: R) {
        match self.0.last_mut() {
            Some(chunk) if chunk.len() < ROWS_PER_CHUNK => chunk.push(row),
            _ => {
                let mut chunk = Vec::with_capacity(ROWS_PER_CHUNK);
                chunk.push(row);
                self.0.push(chunk);
            }
        }
    }

    fn pop(&mut self) -> Option<R> {
        let chunk = self.0.last_mut()?;
        let row = chunk.pop();
        if chunk.is_empty() {
            self.0.pop();
        }
        row
    }

    fn allocated_bytes(&self) -> usize {
        self.0.capacity() * size_of::<Vec<R>>() + self.0.len() * ROWS_PER_CHUNK * size_of::<R>()
    }
}

/// Digests are outputs of HMAC-SHA-256 under a secret, so they are uniformly distributed whatever keys an attacker
/// presents, and 8 bytes of one can serve as a hash.
fn hash(rest: &[u8]) -> u64 {
    u64::from_le_bytes(*rest.first_chunk().expect("at least 8 bytes of the digest are kept"))
}

/// Need not run in constant time. Timing could reveal bytes of the digests of existing keys, but without the pepper an
/// attacker can neither choose a key with a given digest nor compute a key from its digest.
fn matches<R: Row>(row: &R, digest: &KeyDigest) -> bool {
    rest_of(digest).starts_with(row.digest_rest())
}

/// Bytes that an allocator spends on a block of `bytes`: common ones round small blocks up to 16 bytes.
pub(super) fn allocated_block(bytes: usize) -> usize {
    bytes.next_multiple_of(16)
}
