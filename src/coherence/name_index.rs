//! A substring index of the names of one tenant's systems. A system takes 37 bytes plus its folded name, and about an
//! eighth more while systems are created and deleted.
//!
//! A search for a rare text sweeps through all names. A search for a common one visits only a few chunks, however many
//! systems there are: chunks are visited in the order of their best system, and the search stops when no remaining
//! chunk can contain a system that sorts before the last one found.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use memchr::memmem::Finder;

use crate::domain::ids::SystemId;
use crate::domain::pages::{Page, PageEnd, PageRequest};
use crate::domain::systems::{Direction, ListedSystem, SortValue, SystemOrder, SystemOrderField, SystemSortKey};
use crate::domain::time::Timestamp;

/// A change moves at most this many rows, some 30 KB, or copies them if a search holds a snapshot.
const MAX_CHUNK_ROWS: usize = 512;
/// Follows each name. This byte does not occur in UTF-8, so no match spans two names.
const SEPARATOR: u8 = 0xff;
/// A page is rarely larger; the heap grows if it is.
const INITIAL_HEAP_CAPACITY: usize = 256;

type Id = [u8; 16];

/// Systems sorted by id. A clone is a snapshot and copies one pointer per chunk.
#[derive(Clone, Default)]
pub(super) struct NameIndex {
    /// Sorted by id; none is empty.
    chunks: Vec<Arc<Chunk>>,
    len: usize,
}

/// Rows sorted by id, stored by column.
#[derive(Clone, Default)]
struct Chunk {
    /// Folded names, each followed by a separator.
    text: Vec<u8>,
    /// Offsets of the separators.
    ends: Vec<u32>,
    ids: Vec<Id>,
    updated: Vec<Timestamp>,
    created: Vec<Timestamp>,
    /// One for each of [`FIELDS`].
    extremes: [Extremes; 3],
}

/// The rows of the least and the greatest value.
#[derive(Clone, Copy, Default)]
struct Extremes {
    least: u16,
    greatest: u16,
}

/// A borrowed [`SortValue`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Value<'a> {
    Name(&'a [u8]),
    At(Timestamp),
}

/// Orders systems so that the nearest to the end that a page is taken from comes first.
#[derive(PartialEq, Eq)]
struct Rank<'a> {
    key: (Value<'a>, Id),
    smallest_first: bool,
}

impl Ord for Rank<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.smallest_first { self.key.cmp(&other.key) } else { other.key.cmp(&self.key) }
    }
}

impl PartialOrd for Rank<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl NameIndex {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory used, including unused capacity.
    pub(super) fn bytes(&self) -> usize {
        // An `Arc` stores two counts with its chunk.
        let each = size_of::<Chunk>() + 2 * size_of::<usize>();
        let chunks = self.chunks.iter().map(|chunk| each + chunk.allocated_bytes());
        self.chunks.capacity() * size_of::<Arc<Chunk>>() + chunks.sum::<usize>()
    }

    /// Inserts or replaces the system.
    pub(super) fn put(&mut self, system: &ListedSystem) {
        let id = system.id.to_bytes();
        let Some(index) = self.chunk_index(&id) else {
            self.chunks.push(Arc::new(Chunk::new(system)));
            self.len = 1;
            return;
        };
        let is_last = index + 1 == self.chunks.len();
        let chunk = Arc::make_mut(&mut self.chunks[index]);
        match chunk.ids.binary_search(&id) {
            Ok(row) => {
                chunk.remove(row);
                chunk.insert(row, system);
                // The replaced row may have been an extreme.
                chunk.update_extremes(0);
                return;
            }
            Err(row) if chunk.ids.len() < MAX_CHUNK_ROWS => chunk.insert(row, system),
            // Ids grow with time, so a system is usually the last one: starting a new chunk keeps the others full.
            Err(MAX_CHUNK_ROWS) if is_last => {
                chunk.shrink();
                self.chunks.push(Arc::new(Chunk::new(system)));
            }
            Err(row) => {
                let mut upper = chunk.split();
                let half = chunk.ids.len();
                let (into, row) = if row <= half { (&mut *chunk, row) } else { (&mut upper, row - half) };
                into.insert(row, system);
                self.chunks.insert(index + 1, Arc::new(upper));
            }
        }
        self.len += 1;
    }

    pub(super) fn remove(&mut self, id: SystemId) {
        let id = id.to_bytes();
        let Some(index) = self.chunk_index(&id) else { return };
        let Ok(row) = self.chunks[index].ids.binary_search(&id) else { return };
        self.len -= 1;
        if self.chunks[index].ids.len() == 1 {
            self.chunks.remove(index);
            return;
        }
        let chunk = Arc::make_mut(&mut self.chunks[index]);
        chunk.remove(row);
        chunk.update_extremes(0);
        if chunk.ids.len() < chunk.ids.capacity() / 2 {
            chunk.shrink();
        }
    }

    /// Number of systems whose folded name contains `needle`, which must not be empty.
    pub(super) fn count(&self, needle: &str) -> usize {
        let finder = Finder::new(needle);
        let mut count = 0;
        self.chunks.iter().for_each(|chunk| chunk.each_match(&finder, |_| count += 1));
        count
    }

    /// Sort keys of the systems whose folded name contains `needle`, which must not be empty, as
    /// [`list_systems`](crate::store::SystemStore::list_systems) would list them.
    pub(super) fn page<'a>(
        &'a self,
        needle: &str,
        order: SystemOrder,
        page: &'a PageRequest<SystemSortKey>,
    ) -> Page<SystemSortKey> {
        let ascending = order.direction == Direction::Ascending;
        let (low, high) = if ascending { (&page.after, &page.before) } else { (&page.before, &page.after) };
        let (low, high) = (low.as_ref().map(borrowed_key), high.as_ref().map(borrowed_key));
        let smallest_first = ascending == (page.from == PageEnd::First);
        let rank = |key| Rank { key, smallest_first };
        let finder = Finder::new(needle);

        let best_of = |chunk: &'a Chunk| {
            let Extremes { least, greatest } = chunk.extremes[order.field as usize];
            // Rows with the same value, as all may have the same time, are sorted by id.
            let (row, id) = if smallest_first { (least, 0) } else { (greatest, chunk.ids.len() - 1) };
            rank((chunk.value(order.field, row.into()), chunk.ids[id]))
        };
        let mut chunks: Vec<_> = self.chunks.iter().map(|chunk| (best_of(chunk), chunk)).collect();
        chunks.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        // One more than requested, to find out whether there are more.
        let wanted = page.limit.saturating_add(1);
        let mut found = BinaryHeap::with_capacity(wanted.min(INITIAL_HEAP_CAPACITY));
        for (best, chunk) in chunks {
            if found.len() == wanted && found.peek().is_some_and(|last| *last < best) {
                break;
            }
            chunk.each_match(&finder, |row| {
                let key = (chunk.value(order.field, row), chunk.ids[row]);
                if low.is_some_and(|low| key <= low) || high.is_some_and(|high| key >= high) {
                    return;
                }
                if found.len() < wanted {
                    found.push(rank(key));
                } else if let Some(mut last) = found.peek_mut()
                    && rank(key) < *last
                {
                    *last = rank(key);
                }
            });
        }
        let has_more = found.len() == wanted;
        let mut items: Vec<_> = found.into_sorted_vec().iter().map(|rank| owned_key(rank.key)).collect();
        items.truncate(page.limit);
        if page.from == PageEnd::Last {
            items.reverse();
        }
        Page { items, has_more }
    }

    /// Index of the chunk that contains the id or into which it would be inserted; `None` if there are no chunks.
    fn chunk_index(&self, id: &Id) -> Option<usize> {
        let after = self.chunks.partition_point(|chunk| chunk.ids[0] <= *id);
        (!self.chunks.is_empty()).then(|| after.saturating_sub(1))
    }
}

impl Chunk {
    fn new(system: &ListedSystem) -> Self {
        let mut chunk = Self::default();
        chunk.insert(0, system);
        chunk
    }

    fn name(&self, row: usize) -> &[u8] {
        &self.text[self.start(row)..self.ends[row] as usize]
    }

    fn start(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.ends[before] as usize + 1)
    }

    fn value(&self, field: SystemOrderField, row: usize) -> Value<'_> {
        match field {
            SystemOrderField::Name => Value::Name(self.name(row)),
            SystemOrderField::UpdatedAt => Value::At(self.updated[row]),
            SystemOrderField::CreatedAt => Value::At(self.created[row]),
        }
    }

    /// Calls `visit` with each row whose name contains the needle.
    fn each_match(&self, finder: &Finder, mut visit: impl FnMut(usize)) {
        let (mut row, mut start) = (0, 0);
        while let Some(found) = finder.find(&self.text[start..]) {
            let at = start + found;
            while (self.ends[row] as usize) < at {
                row += 1;
            }
            visit(row);
            start = self.ends[row] as usize + 1;
            row += 1;
        }
    }

    fn insert(&mut self, row: usize, system: &ListedSystem) {
        let (start, name) = (self.start(row), system.folded_name.as_bytes());
        self.text.splice(start..start, name.iter().copied().chain([SEPARATOR]));
        self.ends.insert(row, offset(start + name.len()));
        self.ends[row + 1..].iter_mut().for_each(|end| *end += offset(name.len() + 1));
        self.ids.insert(row, system.id.to_bytes());
        self.updated.insert(row, system.updated_at);
        self.created.insert(row, system.created_at);
        // The rows after it have moved. If there are none, as while names are loaded, only the new row can be an extreme.
        let moved = row + 1 < self.ids.len();
        self.update_extremes(if moved { 0 } else { row });
    }

    /// The caller must update the extremes.
    fn remove(&mut self, row: usize) {
        let (start, end) = (self.start(row), self.ends[row] as usize + 1);
        self.text.drain(start..end);
        self.ends.remove(row);
        self.ends[row..].iter_mut().for_each(|later| *later -= offset(end - start));
        self.ids.remove(row);
        self.updated.remove(row);
        self.created.remove(row);
    }

    /// Keeps the lower half and returns the upper one.
    fn split(&mut self) -> Self {
        let half = self.ids.len() / 2;
        let start = self.start(half);
        let mut upper = Self {
            text: self.text.split_off(start),
            ends: self.ends.split_off(half),
            ids: self.ids.split_off(half),
            updated: self.updated.split_off(half),
            created: self.created.split_off(half),
            extremes: Default::default(),
        };
        upper.ends.iter_mut().for_each(|end| *end -= offset(start));
        self.update_extremes(0);
        upper.update_extremes(0);
        upper
    }

    /// Updates the extremes, which must be correct for the rows before `from`.
    fn update_extremes(&mut self, from: usize) {
        for field in FIELDS {
            let mut extremes = if from == 0 { Extremes::default() } else { self.extremes[field as usize] };
            for row in from..self.ids.len() {
                let value = self.value(field, row);
                if value < self.value(field, extremes.least.into()) {
                    extremes.least = row_number(row);
                }
                if value > self.value(field, extremes.greatest.into()) {
                    extremes.greatest = row_number(row);
                }
            }
            self.extremes[field as usize] = extremes;
        }
    }

    fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.ids.shrink_to_fit();
        self.updated.shrink_to_fit();
        self.created.shrink_to_fit();
    }

    fn allocated_bytes(&self) -> usize {
        self.text.capacity()
            + self.ends.capacity() * size_of::<u32>()
            + self.ids.capacity() * size_of::<Id>()
            + (self.updated.capacity() + self.created.capacity()) * size_of::<Timestamp>()
    }
}

/// In the order of a chunk's extremes.
const FIELDS: [SystemOrderField; 3] =
    [SystemOrderField::Name, SystemOrderField::UpdatedAt, SystemOrderField::CreatedAt];

/// Fits in 32 bits, as each name of a chunk has a few thousand bytes at most.
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a chunk's names take less than 4 GiB")
}

fn row_number(row: usize) -> u16 {
    u16::try_from(row).expect("a chunk has at most 512 rows")
}

fn borrowed_key(key: &SystemSortKey) -> (Value<'_>, Id) {
    let value = match &key.value {
        SortValue::Name(folded) => Value::Name(folded.as_bytes()),
        SortValue::At(at) => Value::At(*at),
    };
    (value, key.id.to_bytes())
}

fn owned_key((value, id): (Value<'_>, Id)) -> SystemSortKey {
    let value = match value {
        Value::Name(folded) => SortValue::Name(String::from_utf8_lossy(folded).into_owned()),
        Value::At(at) => SortValue::At(at),
    };
    SystemSortKey { value, id: SystemId::from_bytes(id) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::system_names::fold;

    /// Names with few letters, so that searches match often and names share prefixes. Some letters take several bytes.
    fn system(n: u8, name: &str, updated: i64) -> ListedSystem {
        let mut id = [0; 16];
        // Ids in neither the order of creation nor the order of names.
        id[0] = n.wrapping_mul(37);
        id[15] = n;
        ListedSystem {
            id: SystemId::from_bytes(id),
            folded_name: format!("{}{n}", fold(name)),
            updated_at: Timestamp::from_millis(updated),
            created_at: Timestamp::from_millis(i64::from(n / 8)),
        }
    }

    fn key(field: SystemOrderField, system: &ListedSystem) -> SystemSortKey {
        let value = match field {
            SystemOrderField::Name => SortValue::Name(system.folded_name.clone()),
            SystemOrderField::UpdatedAt => SortValue::At(system.updated_at),
            SystemOrderField::CreatedAt => SortValue::At(system.created_at),
        };
        SystemSortKey { value, id: system.id }
    }

    /// The page that a store would list.
    fn listed(
        systems: &BTreeMap<SystemId, ListedSystem>,
        needle: &str,
        order: SystemOrder,
        page: &PageRequest<SystemSortKey>,
    ) -> Page<SystemSortKey> {
        let matching = systems.values().filter(|system| system.folded_name.contains(needle));
        let mut keys: Vec<_> = matching.map(|system| key(order.field, system)).collect();
        keys.sort();
        if order.direction == Direction::Descending {
            keys.reverse();
        }
        let precedes = |one: &SystemSortKey, other: &SystemSortKey| match order.direction {
            Direction::Ascending => one < other,
            Direction::Descending => one > other,
        };
        keys.retain(|key| page.after.as_ref().is_none_or(|after| precedes(after, key)));
        keys.retain(|key| page.before.as_ref().is_none_or(|before| precedes(key, before)));
        let more = keys.len().saturating_sub(page.limit);
        let items = match page.from {
            PageEnd::First => keys[..keys.len() - more].to_vec(),
            PageEnd::Last => keys[more..].to_vec(),
        };
        Page { items, has_more: more > 0 }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(ListedSystem),
        Remove(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        let put = (any::<u8>(), "[abßé]{0,4}", 0_i64..20);
        prop_oneof![
            4 => put.prop_map(|(n, name, updated)| Step::Put(system(n, &name, updated))),
            1 => any::<u8>().prop_map(Step::Remove),
        ]
    }

    fn order() -> impl Strategy<Value = SystemOrder> {
        let direction = prop_oneof![Just(Direction::Ascending), Just(Direction::Descending)];
        (proptest::sample::select(FIELDS.to_vec()), direction)
            .prop_map(|(field, direction)| SystemOrder { field, direction })
    }

    proptest! {
        #[test]
        fn index_agrees_with_a_plain_list(
            steps in vec_of(step()),
            needle in "[abs1é]{1,2}",
            order in order(),
            (after, before) in (proptest::option::of((any::<u8>(), "[ab]{0,4}", 0_i64..20)),
                proptest::option::of((any::<u8>(), "[ab]{0,4}", 0_i64..20))),
            limit in 1_usize..12,
            from in prop_oneof![Just(PageEnd::First), Just(PageEnd::Last)],
        ) {
            let (mut names, mut model) = (NameIndex::default(), BTreeMap::new());
            for step in steps {
                let before = (names.clone(), model.clone());
                match step {
                    Step::Put(system) => {
                        names.put(&system);
                        model.insert(system.id, system);
                    }
                    Step::Remove(n) => {
                        let id = system(n, "", 0).id;
                        names.remove(id);
                        model.remove(&id);
                    }
                }
                prop_assert_eq!(names.len(), model.len());
                prop_assert_eq!(before.0.count("a"), listed(&before.1, "a", order, &PageRequest::first(999)).items.len());
            }
            let place = |place: Option<(u8, String, i64)>| {
                place.map(|(n, name, updated)| key(order.field, &system(n, &name, updated)))
            };
            let page = PageRequest { after: place(after), before: place(before), limit, from };
            prop_assert_eq!(names.page(&needle, order, &page), listed(&model, &needle, order, &page));
            prop_assert_eq!(names.count(&needle), listed(&model, &needle, order, &PageRequest::first(999)).items.len());
        }
    }

    fn vec_of<S: Strategy>(element: S) -> impl Strategy<Value = Vec<S::Value>> {
        proptest::collection::vec(element, 0..120)
    }

    /// The `n`-th of many systems, with a name of 20 bytes.
    fn one_of_many(n: u64) -> ListedSystem {
        ListedSystem {
            id: SystemId::from_bytes(u128::from(n).to_be_bytes()),
            folded_name: format!("system {:013}", n * 7_919 % 1_000_003),
            updated_at: Timestamp::from_millis(i64::try_from(n * 104_729 % 99_991).unwrap()),
            created_at: Timestamp::from_millis(1),
        }
    }

    #[test]
    fn system_takes_at_most_60_bytes_and_70_after_many_changes() {
        let mut names = NameIndex::default();
        (0..50_000).for_each(|n| names.put(&one_of_many(n)));
        let each = names.bytes() / names.len();
        assert!((57..=60).contains(&each), "{each} bytes");
        for n in 0..25_000 {
            names.put(&ListedSystem { folded_name: format!("renamed {n:012}"), ..one_of_many(n * 2) });
            names.remove(one_of_many(n * 2 + 1).id);
        }
        (0..25_000).for_each(|n| names.put(&one_of_many(n * 2 + 1)));
        let each = names.bytes() / names.len();
        assert!((57..=70).contains(&each), "{each} bytes after many changes");
        (0..50_000).for_each(|n| names.remove(one_of_many(n).id));
        assert_eq!((names.len(), names.chunks.len()), (0, 0));
    }

    #[test]
    fn pages_across_many_chunks_agree_with_a_plain_list() {
        let (mut names, mut model) = (NameIndex::default(), BTreeMap::new());
        for n in 0..5_000 {
            let system = one_of_many(n * 7_919 % 5_003);
            names.put(&system);
            model.insert(system.id, system);
        }
        for field in FIELDS {
            for direction in [Direction::Ascending, Direction::Descending] {
                for (from, needle) in [(PageEnd::First, "system"), (PageEnd::Last, "system"), (PageEnd::First, "99")] {
                    let order = SystemOrder { field, direction };
                    let mut page = PageRequest { from, ..PageRequest::first(300) };
                    loop {
                        let found = names.page(needle, order, &page);
                        assert_eq!(found, listed(&model, needle, order, &page), "{order:?} {page:?}");
                        match from {
                            PageEnd::First => page.after = found.items.last().cloned(),
                            PageEnd::Last => page.before = found.items.first().cloned(),
                        }
                        if !found.has_more {
                            break;
                        }
                    }
                }
            }
        }
    }
}
