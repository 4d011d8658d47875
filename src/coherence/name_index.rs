//! The names of one tenant's systems, to be searched through: 37 bytes a system and those of its folded name, and
//! about an eighth more while systems come and go.
//!
//! A needle that is nowhere costs one sweep through all names. One that is everywhere costs a few chunks, however many
//! systems there are: chunks are looked at from the one that can hold the first item of the list on, until none that
//! is left can hold one that stands before the last item found.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::Arc;

use memchr::memmem::Finder;

use crate::domain::ids::SystemId;
use crate::domain::pages::{Page, PageEnd, PageRequest};
use crate::domain::systems::{Direction, ListedSystem, SortValue, SystemOrder, SystemOrderField, SystemSortKey};
use crate::domain::time::Timestamp;

/// Most systems of a chunk: what one change moves, or copies when somebody searches at that time (some 30 KB).
const CHUNK: usize = 512;
/// Stands behind each name. No text in UTF-8 has this byte, so that no needle is found across two names.
const SEPARATOR: u8 = 0xff;

type Id = [u8; 16];

/// Systems by id. A clone is a snapshot, which costs a pointer a chunk.
#[derive(Clone, Default)]
pub(super) struct NameIndex {
    /// By id; none is empty.
    chunks: Vec<Arc<Chunk>>,
    len: usize,
}

/// Rows, column by column, by id.
#[derive(Clone, Default)]
struct Chunk {
    /// Folded names, each with a separator behind it.
    text: Vec<u8>,
    /// Where the separators are.
    ends: Vec<u32>,
    ids: Vec<Id>,
    updated: Vec<Timestamp>,
    created: Vec<Timestamp>,
    /// By what can be sorted, as in [`FIELDS`].
    extremes: [Extremes; 3],
}

/// The rows of the least and the greatest value.
#[derive(Clone, Copy, Default)]
struct Extremes {
    least: u16,
    greatest: u16,
}

/// What rows are sorted by, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Value<'a> {
    Name(&'a [u8]),
    At(Timestamp),
}

/// A place in an order, which sorts before another one if it is nearer to the end that a page is taken from.
#[derive(PartialEq, Eq)]
struct Rank<'a> {
    place: (Value<'a>, Id),
    upwards: bool,
}

impl Ord for Rank<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.upwards { self.place.cmp(&other.place) } else { other.place.cmp(&self.place) }
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

    /// Bytes of memory that it holds, room to grow included.
    pub(super) fn bytes(&self) -> usize {
        // An `Arc` has two counts before its chunk.
        let each = size_of::<Chunk>() + 2 * size_of::<usize>();
        let chunks = self.chunks.iter().map(|chunk| each + chunk.allocated_bytes());
        self.chunks.capacity() * size_of::<Arc<Chunk>>() + chunks.sum::<usize>()
    }

    /// The system is so from now on.
    pub(super) fn put(&mut self, system: &ListedSystem) {
        let id = system.id.to_bytes();
        let Some(place) = self.chunk_of(&id) else {
            self.chunks.push(Arc::new(Chunk::of(system)));
            self.len = 1;
            return;
        };
        let is_last = place + 1 == self.chunks.len();
        let chunk = Arc::make_mut(&mut self.chunks[place]);
        match chunk.ids.binary_search(&id) {
            Ok(row) => {
                chunk.remove(row);
                chunk.insert(row, system);
                // Those of the removed one may be among the known ones.
                chunk.find_extremes(0);
                return;
            }
            Err(row) if chunk.ids.len() < CHUNK => chunk.insert(row, system),
            // Ids grow with time: what comes behind all others leaves full chunks behind it.
            Err(CHUNK) if is_last => {
                chunk.shrink();
                self.chunks.push(Arc::new(Chunk::of(system)));
            }
            Err(row) => {
                let mut upper = chunk.split();
                let half = chunk.ids.len();
                let (into, row) = if row <= half { (&mut *chunk, row) } else { (&mut upper, row - half) };
                into.insert(row, system);
                self.chunks.insert(place + 1, Arc::new(upper));
            }
        }
        self.len += 1;
    }

    pub(super) fn remove(&mut self, id: SystemId) {
        let id = id.to_bytes();
        let Some(place) = self.chunk_of(&id) else { return };
        let Ok(row) = self.chunks[place].ids.binary_search(&id) else { return };
        self.len -= 1;
        if self.chunks[place].ids.len() == 1 {
            self.chunks.remove(place);
            return;
        }
        let chunk = Arc::make_mut(&mut self.chunks[place]);
        chunk.remove(row);
        chunk.find_extremes(0);
        if chunk.ids.len() < chunk.ids.capacity() / 2 {
            chunk.shrink();
        }
    }

    /// How many systems have this in their folded names, which is not empty.
    pub(super) fn count(&self, needle: &str) -> usize {
        let finder = Finder::new(needle);
        let mut count = 0;
        self.chunks.iter().for_each(|chunk| chunk.each_match(&finder, |_| count += 1));
        count
    }

    /// The places of the systems that have this in their folded names, which is not empty, as
    /// [`list_systems`](crate::store::Store::list_systems) would give them.
    pub(super) fn page<'a>(
        &'a self,
        needle: &str,
        order: SystemOrder,
        page: &'a PageRequest<SystemSortKey>,
    ) -> Page<SystemSortKey> {
        let ascending = order.direction == Direction::Ascending;
        let (low, high) = if ascending { (&page.after, &page.before) } else { (&page.before, &page.after) };
        let (low, high) = (low.as_ref().map(place_of), high.as_ref().map(place_of));
        let upwards = ascending == (page.from == PageEnd::First);
        let rank = |place| Rank { place, upwards };
        let finder = Finder::new(needle);

        let best_of = |chunk: &'a Chunk| {
            let Extremes { least, greatest } = chunk.extremes[order.field as usize];
            // Rows that share a value, as times may be shared by all, differ by their ids.
            let (row, id) = if upwards { (least, 0) } else { (greatest, chunk.ids.len() - 1) };
            rank((chunk.value(order.field, row.into()), chunk.ids[id]))
        };
        let mut chunks: Vec<_> = self.chunks.iter().map(|chunk| (best_of(chunk), chunk)).collect();
        chunks.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        // One more than asked for says whether there are more.
        let most = page.limit.saturating_add(1);
        let mut found = BinaryHeap::with_capacity(most.min(256));
        for (best, chunk) in chunks {
            if found.len() == most && found.peek().is_some_and(|last| *last < best) {
                break;
            }
            chunk.each_match(&finder, |row| {
                let place = (chunk.value(order.field, row), chunk.ids[row]);
                if low.is_some_and(|low| place <= low) || high.is_some_and(|high| place >= high) {
                    return;
                }
                if found.len() < most {
                    found.push(rank(place));
                } else if let Some(mut last) = found.peek_mut()
                    && rank(place) < *last
                {
                    *last = rank(place);
                }
            });
        }
        let has_more = found.len() == most;
        let mut items: Vec<_> = found.into_sorted_vec().iter().map(|rank| key_of(rank.place)).collect();
        items.truncate(page.limit);
        if page.from == PageEnd::Last {
            items.reverse();
        }
        Page { items, has_more }
    }

    /// The place of the chunk that the id is in, or belongs in.
    fn chunk_of(&self, id: &Id) -> Option<usize> {
        let after = self.chunks.partition_point(|chunk| chunk.ids[0] <= *id);
        (!self.chunks.is_empty()).then(|| after.saturating_sub(1))
    }
}

impl Chunk {
    fn of(system: &ListedSystem) -> Self {
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

    /// Gives each row whose name has the needle in it.
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
        // Rows behind it have moved; where there are none, as while all are loaded, it need but be looked at itself.
        let moved = row + 1 < self.ids.len();
        self.find_extremes(if moved { 0 } else { row });
    }

    /// Leaves the extremes to be found anew.
    fn remove(&mut self, row: usize) {
        let (start, end) = (self.start(row), self.ends[row] as usize + 1);
        self.text.drain(start..end);
        self.ends.remove(row);
        self.ends[row..].iter_mut().for_each(|later| *later -= offset(end - start));
        self.ids.remove(row);
        self.updated.remove(row);
        self.created.remove(row);
    }

    /// Keeps the lower half, and gives the upper one.
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
        self.find_extremes(0);
        upper.find_extremes(0);
        upper
    }

    /// Finds the extremes, where they are right for the rows before `from`.
    fn find_extremes(&mut self, from: usize) {
        for field in FIELDS {
            let mut known = if from == 0 { Extremes::default() } else { self.extremes[field as usize] };
            for row in from..self.ids.len() {
                let value = self.value(field, row);
                if value < self.value(field, known.least.into()) {
                    known.least = row_number(row);
                }
                if value > self.value(field, known.greatest.into()) {
                    known.greatest = row_number(row);
                }
            }
            self.extremes[field as usize] = known;
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

/// The index of each is its place in a chunk's extremes.
const FIELDS: [SystemOrderField; 3] =
    [SystemOrderField::Name, SystemOrderField::UpdatedAt, SystemOrderField::CreatedAt];

/// A chunk's names have fewer bytes than 2^32: each has a few thousand at most.
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a chunk is small")
}

fn row_number(row: usize) -> u16 {
    u16::try_from(row).expect("a chunk has few rows")
}

fn place_of(key: &SystemSortKey) -> (Value<'_>, Id) {
    let value = match &key.value {
        SortValue::Name(folded) => Value::Name(folded.as_bytes()),
        SortValue::At(at) => Value::At(*at),
    };
    (value, key.id.to_bytes())
}

fn key_of((value, id): (Value<'_>, Id)) -> SystemSortKey {
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

    /// Few letters, so that needles occur often and names have prefixes in common; some take several bytes.
    fn system(n: u8, name: &str, updated: i64) -> ListedSystem {
        let mut id = [0; 16];
        // Neither in the order in which systems come nor in that of their names.
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

    /// What a store would list.
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
        fn what_is_found_is_what_a_plain_list_gives(
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
    fn a_system_costs_at_most_60_bytes_and_70_while_systems_come_and_go() {
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
    fn pages_of_many_chunks_are_those_of_a_plain_list() {
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
