//! Rows side by side in chunks, found by a table of 32-bit slots.
//!
//! A map that holds its rows itself has room for twice as many just after it has grown. Here only the slots, of 5
//! bytes each, double. Rows never move for growth: a vector of them, grown by an eighth at a time, left so many holes
//! behind that the program held 27 bytes more for each key of a million (174 resident, against 147).

use hashbrown::HashTable;

use crate::domain::keys::KeyDigest;

/// The shard of a digest is its first byte, which its rows need not repeat: what follows is the rest.
pub(super) const SHARDS: usize = 256;

/// Which shard holds the digest.
pub(super) fn shard_of(digest: &KeyDigest) -> usize {
    usize::from(digest.as_bytes()[0])
}

/// The digest without the byte that picks its shard.
pub(super) fn rest_of(digest: &KeyDigest) -> &[u8; 31] {
    digest.as_bytes().last_chunk().expect("31 of 32 bytes")
}

/// Something kept of a key.
pub(super) trait Row {
    /// The digest's first bytes after the one that picks the shard: as many as tell rows apart, at least 8.
    fn digest_rest(&self) -> &[u8];

    /// Bytes that it holds elsewhere.
    fn heap_bytes(&self) -> usize;
}

/// Rows of a chunk. Few, since a shard has half a chunk to spare on average; and 32 rows of 40 or 80 bytes are a
/// quarter more than a power of two, which is a size that allocators have blocks of.
const CHUNK: usize = 32;

/// The rows of one shard, one for each digest.
pub(super) struct Dense<R> {
    slots: HashTable<u32>,
    rows: Chunks<R>,
    /// The sum of the rows' own.
    heap_bytes: usize,
}

/// Rows by slot. Every chunk is full but the last, which is not empty.
struct Chunks<R>(Vec<Vec<R>>);

impl<R> Default for Dense<R> {
    fn default() -> Self {
        Self { slots: HashTable::new(), rows: Chunks(Vec::new()), heap_bytes: 0 }
    }
}

impl<R: Row> Dense<R> {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// What the shard holds elsewhere, room to grow included.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.slots.allocation_size() + self.rows.allocated_bytes() + self.heap_bytes
    }

    pub(super) fn find(&self, digest: &KeyDigest) -> Option<&R> {
        let slot = self.slots.find(hash(rest_of(digest)), |slot| is_of(self.rows.get(*slot), digest))?;
        Some(self.rows.get(*slot))
    }

    /// The row of `digest` from now on.
    pub(super) fn put(&mut self, digest: &KeyDigest, row: R) {
        let Self { slots, rows, heap_bytes } = self;
        *heap_bytes += row.heap_bytes();
        let hash_here = hash(rest_of(digest));
        if let Some(slot) = slots.find(hash_here, |slot| is_of(rows.get(*slot), digest)) {
            let previous = std::mem::replace(rows.get_mut(*slot), row);
            *heap_bytes -= previous.heap_bytes();
            return;
        }
        let slot = u32::try_from(slots.len()).expect("a shard has fewer rows than 2^32: they are 160 GB at least");
        rows.push(row);
        slots.insert_unique(hash_here, slot, |slot| hash(rows.get(*slot).digest_rest()));
    }

    /// Forgets the row of `digest`, if there is one.
    pub(super) fn remove(&mut self, digest: &KeyDigest) {
        let Self { slots, rows, heap_bytes } = self;
        let Ok(entry) = slots.find_entry(hash(rest_of(digest)), |slot| is_of(rows.get(*slot), digest)) else {
            return;
        };
        let (slot, _) = entry.remove();
        let moved_from = slots.len();
        let last = rows.pop().expect("there is a row for every slot");
        *heap_bytes -= if slot as usize == moved_from {
            last.heap_bytes()
        } else {
            // The last row moves to where the removed one was; its slot must say so.
            let mended = slots.find_mut(hash(last.digest_rest()), |other| *other as usize == moved_from);
            *mended.expect("there is a slot for every row") = slot;
            std::mem::replace(rows.get_mut(slot), last).heap_bytes()
        };
        if slots.len() < slots.capacity() / 4 {
            slots.shrink_to(2 * slots.len(), |slot| hash(rows.get(*slot).digest_rest()));
        }
    }
}

impl<R> Chunks<R> {
    fn get(&self, slot: u32) -> &R {
        &self.0[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn get_mut(&mut self, slot: u32) -> &mut R {
        &mut self.0[slot as usize / CHUNK][slot as usize % CHUNK]
    }

    fn push(&mut self, row: R) {
        match self.0.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(row),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
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
        self.0.capacity() * size_of::<Vec<R>>() + self.0.len() * CHUNK * size_of::<R>()
    }
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
