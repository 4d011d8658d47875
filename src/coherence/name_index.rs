//! An index of the names, descriptions and external ids of one tenant's systems, and of what else their lists are filtered and sorted
//! by. A system takes 77 bytes plus its folded texts, and about an eighth more while systems are created and deleted.
//!
//! A search for a rare text and a filter sweep through all systems. A search for a common text visits only a few chunks,
//! however many systems there are: chunks are visited in the order of their best system, and the search stops when no
//! remaining chunk can contain a system that sorts before the last one found. Orders by use or by times of keys visit
//! every chunk.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::num::NonZeroU32;
use std::sync::Arc;

use memchr::memmem::Finder;

use super::last_uses::LastUses;
use crate::domain::ids::{ActorId, SystemId};
use crate::domain::keys::Mark;
use crate::domain::pages::{Page, PageEnd, PageRequest};
use crate::domain::system_lists::{
    CurrentKeyFacts, KeyFacts, ListField, ListOrder, ListedSystem, SystemFacts, SystemFilter, SystemQuery,
};
use crate::domain::system_names::Search;
use crate::domain::systems::{Direction, SortValue, SystemOrderField, SystemSortKey};
use crate::domain::time::Timestamp;

/// A change moves at most this many rows, some 30 KB, or copies them if a search holds a snapshot.
const MAX_CHUNK_ROWS: usize = 512;
/// Follows each system's texts. This byte does not occur in UTF-8, so no match spans two systems.
const SEPARATOR: u8 = 0xff;
/// Comes before a description and before an external id. It does not occur in UTF-8 either.
const TEXT_SEPARATOR: u8 = 0xfe;
/// A key without an end.
const NO_END: Timestamp = Timestamp::from_millis(i64::MAX);
/// A page is rarely larger; the heap grows if it is.
const INITIAL_HEAP_CAPACITY: usize = 256;

type Id = [u8; 16];

/// Systems sorted by id. A clone is a snapshot and copies one pointer per chunk.
#[derive(Clone, Default)]
pub(super) struct NameIndex {
    /// Sorted by id; none is empty.
    chunks: Vec<Arc<Chunk>>,
    len: usize,
    operators: Arc<Operators>,
}

/// The operators who generated keys, numbered from 1. None is removed.
#[derive(Clone, Default)]
struct Operators {
    ids: Vec<ActorId>,
    numbers: HashMap<ActorId, NonZeroU32>,
}

/// Rows sorted by id, stored by column.
#[derive(Clone, Default)]
struct Chunk {
    /// Folded names, each with the description and the external id after it, if there are any, and followed by a separator.
    text: Vec<u8>,
    /// Offsets of the separators.
    ends: Vec<u32>,
    ids: Vec<Id>,
    updated: Vec<Timestamp>,
    created: Vec<Timestamp>,
    keys: Vec<Keys>,
    /// One for each of [`FIELDS`].
    extremes: [Extremes; 3],
}

/// The keys of a system. The fields of an absent key have any value.
#[derive(Clone, Copy)]
struct Keys {
    generated_at: Timestamp,
    expires_at: Timestamp,
    generated_by: Option<NonZeroU32>,
    retiring_generated_by: Option<NonZeroU32>,
    mark: Option<Mark>,
    retiring_mark: Option<Mark>,
    is_suspended: bool,
    name_bytes: u16,
}

/// The rows of the least and the greatest value.
#[derive(Clone, Copy, Default)]
struct Extremes {
    least: u16,
    greatest: u16,
}

/// A borrowed [`SortValue`]. Systems without a value come last in either direction, so they are first in the ascending order
/// that a descending list reverses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Value<'a> {
    AbsentFirst,
    Name(&'a [u8]),
    At(Timestamp),
    AbsentLast,
}

/// The systems to find.
struct Sweep<'a> {
    /// `None` for every text.
    finder: Option<Finder<'a>>,
    filter: Option<&'a SystemFilter>,
    uses: &'a LastUses,
    operators: &'a Operators,
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
        self.chunks.capacity() * size_of::<Arc<Chunk>>() + chunks.sum::<usize>() + self.operators.allocated_bytes()
    }

    /// Inserts or replaces the system.
    pub(super) fn put(&mut self, system: &ListedSystem) {
        let id = system.id.to_bytes();
        let keys = self.keys_of(system);
        let system = (system, keys);
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

    /// Number of systems that match. `uses` is read only if [`SystemQuery::reads_use`].
    pub(super) fn count(&self, query: &SystemQuery, uses: &LastUses) -> usize {
        let Some(sweep) = self.sweep(query, uses) else { return 0 };
        let mut count = 0;
        self.chunks.iter().for_each(|chunk| chunk.each_match(&sweep, |_| count += 1));
        count
    }

    /// Sort keys of the systems that match, as [`list_systems`](crate::store::SystemStore::list_systems) would list
    /// them. `uses` is read only if [`SystemQuery::reads_use`].
    pub(super) fn page<'a>(
        &'a self,
        query: &SystemQuery,
        uses: &LastUses,
        order: ListOrder,
        page: &'a PageRequest<SystemSortKey>,
    ) -> Page<SystemSortKey> {
        let Some(sweep) = self.sweep(query, uses) else { return Page { items: Vec::new(), has_more: false } };
        let ascending = order.direction == Direction::Ascending;
        let absent = if ascending { Value::AbsentLast } else { Value::AbsentFirst };
        let (low, high) = if ascending { (&page.after, &page.before) } else { (&page.before, &page.after) };
        let bound = |key: &'a Option<SystemSortKey>| key.as_ref().map(|key| borrowed_key(key, absent));
        let (low, high) = (bound(low), bound(high));
        let smallest_first = ascending == (page.from == PageEnd::First);
        let rank = |key| Rank { key, smallest_first };

        // `None` in an order that chunks have no extremes of.
        let best_of = |chunk: &'a Chunk| {
            let ListField::Stored(field) = order.field else { return None };
            let Extremes { least, greatest } = chunk.extremes[field as usize];
            // Rows with the same value, as all may have the same time, are sorted by id.
            let (row, id) = if smallest_first { (least, 0) } else { (greatest, chunk.ids.len() - 1) };
            Some(rank((chunk.stored_value(field, row.into()), chunk.ids[id])))
        };
        let mut chunks: Vec<_> = self.chunks.iter().map(|chunk| (best_of(chunk), chunk)).collect();
        chunks.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        // One more than requested, to find out whether there are more.
        let wanted = page.limit.saturating_add(1);
        let mut found = BinaryHeap::with_capacity(wanted.min(INITIAL_HEAP_CAPACITY));
        for (best, chunk) in chunks {
            if found.len() == wanted && best.is_some_and(|best| found.peek().is_some_and(|last| *last < best)) {
                break;
            }
            let mut walk = uses.walk();
            chunk.each_match(&sweep, |row| {
                let at = |at: Option<Timestamp>| at.map_or(absent, Value::At);
                let value = match order.field {
                    ListField::Stored(field) => chunk.stored_value(field, row),
                    ListField::LastUsedAt => at(walk.find(SystemId::from_bytes(chunk.ids[row]))),
                    ListField::KeyGeneratedAt => at(chunk.current(row).map(|key| key.generated_at)),
                    ListField::KeyExpiresAt => at(chunk.current(row).and_then(|key| key.expires_at())),
                };
                let key = (value, chunk.ids[row]);
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

    /// `None` if nothing can match.
    fn sweep<'a>(&'a self, query: &'a SystemQuery, uses: &'a LastUses) -> Option<Sweep<'a>> {
        let finder = match &query.search {
            Search::All => None,
            Search::Containing(needle) => (!needle.is_empty()).then(|| Finder::new(needle)),
            Search::Nothing => return None,
        };
        let filter = (!query.filter.is_empty()).then_some(&query.filter);
        Some(Sweep { finder, filter, uses, operators: &self.operators })
    }

    fn keys_of(&mut self, system: &ListedSystem) -> Keys {
        let SystemFacts { is_suspended, current, retiring, .. } = system.facts;
        let mut number = |key: Option<KeyFacts>| {
            let operator = key?.generated_by?;
            let known = self.operators.numbers.get(&operator).copied();
            Some(known.unwrap_or_else(|| Arc::make_mut(&mut self.operators).add(operator)))
        };
        Keys {
            generated_at: current.map(|key| key.generated_at).unwrap_or_default(),
            expires_at: current.and_then(|key| key.expires_at).unwrap_or(NO_END),
            generated_by: number(current.map(|current| current.key)),
            retiring_generated_by: number(retiring),
            mark: current.map(|current| current.key.mark),
            retiring_mark: retiring.map(|key| key.mark),
            is_suspended,
            name_bytes: u16::try_from(system.folded_name.len()).expect("a folded name has at most 2,816 bytes"),
        }
    }

    /// Index of the chunk that contains the id or into which it would be inserted; `None` if there are no chunks.
    fn chunk_index(&self, id: &Id) -> Option<usize> {
        let after = self.chunks.partition_point(|chunk| chunk.ids[0] <= *id);
        (!self.chunks.is_empty()).then(|| after.saturating_sub(1))
    }
}

impl Operators {
    fn add(&mut self, id: ActorId) -> NonZeroU32 {
        self.ids.push(id);
        let count = u32::try_from(self.ids.len()).ok().and_then(NonZeroU32::new);
        let number = count.expect("a tenant has less than 4,294,967,296 operators");
        self.numbers.insert(id, number);
        number
    }

    fn id(&self, number: NonZeroU32) -> Option<ActorId> {
        self.ids.get(number.get() as usize - 1).copied()
    }

    fn allocated_bytes(&self) -> usize {
        self.ids.capacity() * size_of::<ActorId>() + self.numbers.capacity() * size_of::<(ActorId, NonZeroU32)>()
    }
}

impl Keys {
    fn expires_at(&self) -> Option<Timestamp> {
        (self.expires_at != NO_END).then_some(self.expires_at)
    }
}

impl Chunk {
    fn new(system: (&ListedSystem, Keys)) -> Self {
        let mut chunk = Self::default();
        chunk.insert(0, system);
        chunk
    }

    fn name(&self, row: usize) -> &[u8] {
        let start = self.start(row);
        &self.text[start..start + usize::from(self.keys[row].name_bytes)]
    }

    fn start(&self, row: usize) -> usize {
        row.checked_sub(1).map_or(0, |before| self.ends[before] as usize + 1)
    }

    fn stored_value(&self, field: SystemOrderField, row: usize) -> Value<'_> {
        match field {
            SystemOrderField::Name => Value::Name(self.name(row)),
            SystemOrderField::UpdatedAt => Value::At(self.updated[row]),
            SystemOrderField::CreatedAt => Value::At(self.created[row]),
        }
    }

    /// The keys of a system that has a current one.
    fn current(&self, row: usize) -> Option<&Keys> {
        let keys = &self.keys[row];
        keys.mark.map(|_| keys)
    }

    fn facts(&self, row: usize, operators: &Operators) -> SystemFacts {
        let keys = &self.keys[row];
        let key = |mark: Option<Mark>, by: Option<NonZeroU32>| {
            mark.map(|mark| KeyFacts { mark, generated_by: by.and_then(|number| operators.id(number)) })
        };
        SystemFacts {
            updated_at: self.updated[row],
            created_at: self.created[row],
            is_suspended: keys.is_suspended,
            current: key(keys.mark, keys.generated_by).map(|key| CurrentKeyFacts {
                key,
                generated_at: keys.generated_at,
                expires_at: keys.expires_at(),
            }),
            retiring: key(keys.retiring_mark, keys.retiring_generated_by),
        }
    }

    /// Calls `visit` with each row that matches, in the order of ids.
    fn each_match(&self, sweep: &Sweep, mut visit: impl FnMut(usize)) {
        let mut walk = sweep.uses.walk();
        let mut visit = |row: usize| {
            let matches = sweep.filter.is_none_or(|filter| {
                let used = filter.unused_since.and_then(|_| walk.find(SystemId::from_bytes(self.ids[row])));
                filter.matches(&self.facts(row, sweep.operators), used)
            });
            if matches {
                visit(row);
            }
        };
        let Some(finder) = &sweep.finder else {
            (0..self.ids.len()).for_each(visit);
            return;
        };
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

    fn insert(&mut self, row: usize, (system, keys): (&ListedSystem, Keys)) {
        let (start, name) = (self.start(row), system.folded_name.as_bytes());
        let mut texts = name.to_vec();
        for text in [&system.folded_description, &system.folded_external_id] {
            if !text.is_empty() {
                texts.push(TEXT_SEPARATOR);
                texts.extend_from_slice(text.as_bytes());
            }
        }
        let bytes = texts.len();
        self.text.splice(start..start, texts.into_iter().chain([SEPARATOR]));
        self.ends.insert(row, offset(start + bytes));
        self.ends[row + 1..].iter_mut().for_each(|end| *end += offset(bytes + 1));
        self.ids.insert(row, system.id.to_bytes());
        self.updated.insert(row, system.facts.updated_at);
        self.created.insert(row, system.facts.created_at);
        self.keys.insert(row, keys);
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
        self.keys.remove(row);
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
            keys: self.keys.split_off(half),
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
                let value = self.stored_value(field, row);
                if value < self.stored_value(field, extremes.least.into()) {
                    extremes.least = row_number(row);
                }
                if value > self.stored_value(field, extremes.greatest.into()) {
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
        self.keys.shrink_to_fit();
    }

    fn allocated_bytes(&self) -> usize {
        self.text.capacity()
            + self.ends.capacity() * size_of::<u32>()
            + self.ids.capacity() * size_of::<Id>()
            + (self.updated.capacity() + self.created.capacity()) * size_of::<Timestamp>()
            + self.keys.capacity() * size_of::<Keys>()
    }
}

/// In the order of a chunk's extremes.
const FIELDS: [SystemOrderField; 3] =
    [SystemOrderField::Name, SystemOrderField::UpdatedAt, SystemOrderField::CreatedAt];

/// Fits in 32 bits, as the texts of each system of a chunk have some 34,000 bytes at most.
fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a chunk's texts take less than 4 GiB")
}

fn row_number(row: usize) -> u16 {
    u16::try_from(row).expect("a chunk has at most 512 rows")
}

fn borrowed_key<'a>(key: &'a SystemSortKey, absent: Value<'a>) -> (Value<'a>, Id) {
    let value = match &key.value {
        SortValue::Name(folded) => Value::Name(folded.as_bytes()),
        SortValue::At(at) => Value::At(*at),
        SortValue::Absent => absent,
    };
    (value, key.id.to_bytes())
}

fn owned_key((value, id): (Value<'_>, Id)) -> SystemSortKey {
    let value = match value {
        Value::Name(folded) => SortValue::Name(String::from_utf8_lossy(folded).into_owned()),
        Value::At(at) => SortValue::At(at),
        Value::AbsentFirst | Value::AbsentLast => SortValue::Absent,
    };
    SystemSortKey { value, id: SystemId::from_bytes(id) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::system_lists::KeyState;
    use crate::domain::system_names::fold;

    const ORDERS: [ListField; 6] = [
        ListField::Stored(SystemOrderField::Name),
        ListField::Stored(SystemOrderField::UpdatedAt),
        ListField::Stored(SystemOrderField::CreatedAt),
        ListField::LastUsedAt,
        ListField::KeyGeneratedAt,
        ListField::KeyExpiresAt,
    ];

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn id(n: u8) -> SystemId {
        let mut id = [0; 16];
        // Ids in neither the order of creation nor the order of names.
        id[0] = n.wrapping_mul(37);
        id[15] = n;
        SystemId::from_bytes(id)
    }

    fn operator(n: u8) -> ActorId {
        format!("op_{n:026}").parse().unwrap()
    }

    fn mark(n: u8) -> Mark {
        Mark::try_from(format!("abc{n}")).unwrap()
    }

    fn facts(updated: i64, created: i64) -> SystemFacts {
        let (updated_at, created_at) = (at(updated), at(created));
        SystemFacts { updated_at, created_at, is_suspended: false, current: None, retiring: None }
    }

    fn key() -> impl Strategy<Value = KeyFacts> {
        let by = proptest::option::of((0_u8..4).prop_map(operator));
        (0_u8..4, by).prop_map(|(n, generated_by)| KeyFacts { mark: mark(n), generated_by })
    }

    fn current_key() -> impl Strategy<Value = CurrentKeyFacts> {
        let expiry = proptest::option::of((0_i64..20).prop_map(at));
        let parts = (key(), (0_i64..20).prop_map(at), expiry);
        parts.prop_map(|(key, generated_at, expires_at)| CurrentKeyFacts { key, generated_at, expires_at })
    }

    /// Names with few letters, so that searches match often and names share prefixes. Some letters take several bytes.
    fn system() -> impl Strategy<Value = (u8, ListedSystem)> {
        let texts = ("[abßé]{0,4}", "[abßé\n]{0,6}", "[abßé]{0,3}");
        let keys = (proptest::option::of(current_key()), proptest::option::of(key()), any::<bool>());
        (any::<u8>(), texts, 0_i64..20, keys).prop_map(
            |(n, (name, description, external_id), updated, (current, retiring, is_suspended))| {
                let facts = SystemFacts { current, retiring, is_suspended, ..facts(updated, i64::from(n / 8)) };
                let (folded_name, folded_description) = (format!("{}{n}", fold(&name)), fold(&description));
                let folded_external_id = fold(&external_id);
                (n, ListedSystem { id: id(n), folded_name, folded_description, folded_external_id, facts })
            },
        )
    }

    fn uses() -> impl Strategy<Value = BTreeMap<SystemId, Timestamp>> {
        proptest::collection::btree_map(any::<u8>().prop_map(id), (0_i64..20).prop_map(at), 0..100)
    }

    fn filter() -> impl Strategy<Value = SystemFilter> {
        let time = || proptest::option::weighted(0.2, (0_i64..22).prop_map(at));
        let state = proptest::sample::select(vec![KeyState::NotGenerated, KeyState::Active, KeyState::Suspended]);
        let state = proptest::option::weighted(0.3, state);
        let generated_by = proptest::option::weighted(0.2, (0_u8..5).prop_map(operator));
        let key_mark = proptest::option::weighted(0.2, (0_u8..5).prop_map(mark));
        (state, time(), time(), time(), generated_by, key_mark).prop_map(
            |(key_state, unused_since, expires_before, generated_before, generated_by, key_mark)| SystemFilter {
                key_state,
                unused_since,
                expires_before,
                generated_before,
                generated_by,
                key_mark,
            },
        )
    }

    fn query() -> impl Strategy<Value = SystemQuery> {
        let search = prop_oneof![
            Just(Search::All),
            Just(Search::Nothing),
            Just(Search::Containing(String::new())),
            "[abs1é]{1,2}".prop_map(Search::Containing),
            "[abs1é]{1,2}".prop_map(Search::Containing),
        ];
        (search, filter()).prop_map(|(search, filter)| SystemQuery { filter, ..search.into() })
    }

    fn value(field: ListField, system: &ListedSystem, last_used_at: Option<Timestamp>) -> SortValue {
        let at = match field {
            ListField::Stored(SystemOrderField::Name) => return SortValue::Name(system.folded_name.clone()),
            ListField::Stored(SystemOrderField::UpdatedAt) => Some(system.facts.updated_at),
            ListField::Stored(SystemOrderField::CreatedAt) => Some(system.facts.created_at),
            ListField::LastUsedAt => last_used_at,
            ListField::KeyGeneratedAt => system.facts.current.map(|key| key.generated_at),
            ListField::KeyExpiresAt => system.facts.current.and_then(|key| key.expires_at),
        };
        at.map_or(SortValue::Absent, SortValue::At)
    }

    /// Systems and their last uses, as plain lists.
    #[derive(Clone, Default)]
    struct Model {
        systems: BTreeMap<SystemId, ListedSystem>,
        uses: BTreeMap<SystemId, Timestamp>,
    }

    impl Model {
        fn last_uses(&self) -> LastUses {
            LastUses::new(self.uses.iter().map(|(id, at)| (*id, *at)).collect())
        }

        fn key(&self, field: ListField, system: &ListedSystem) -> SystemSortKey {
            SystemSortKey { value: value(field, system, self.uses.get(&system.id).copied()), id: system.id }
        }

        fn page(
            &self,
            query: &SystemQuery,
            order: ListOrder,
            page: &PageRequest<SystemSortKey>,
        ) -> Page<SystemSortKey> {
            let used = |system: &ListedSystem| self.uses.get(&system.id).copied();
            let matching = self.systems.values().filter(|system| query.matches(system, used(system)));
            let mut keys: Vec<_> = matching.map(|system| self.key(order.field, system)).collect();
            let compare = |one: &SystemSortKey, other: &SystemSortKey| {
                let is_absent = |key: &SystemSortKey| key.value == SortValue::Absent;
                let ascending = one.cmp(other);
                let directed = if order.direction == Direction::Ascending { ascending } else { ascending.reverse() };
                is_absent(one).cmp(&is_absent(other)).then(directed)
            };
            keys.sort_by(compare);
            keys.retain(|key| page.after.as_ref().is_none_or(|after| compare(after, key) == Ordering::Less));
            keys.retain(|key| page.before.as_ref().is_none_or(|before| compare(key, before) == Ordering::Less));
            let more = keys.len().saturating_sub(page.limit);
            let items = match page.from {
                PageEnd::First => keys[..keys.len() - more].to_vec(),
                PageEnd::Last => keys[more..].to_vec(),
            };
            Page { items, has_more: more > 0 }
        }

        fn count(&self, query: &SystemQuery) -> usize {
            self.page(query, ListOrder::default(), &PageRequest::first(usize::MAX)).items.len()
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(Box<ListedSystem>),
        Remove(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => system().prop_map(|(_, system)| Step::Put(Box::new(system))),
            1 => any::<u8>().prop_map(Step::Remove),
        ]
    }

    fn order() -> impl Strategy<Value = ListOrder> {
        let direction = prop_oneof![Just(Direction::Ascending), Just(Direction::Descending)];
        (proptest::sample::select(ORDERS.to_vec()), direction)
            .prop_map(|(field, direction)| ListOrder { field, direction })
    }

    proptest! {
        #[test]
        fn index_agrees_with_a_plain_list(
            steps in proptest::collection::vec(step(), 0..120),
            uses in uses(),
            (query, order) in (query(), order()),
            (after, before) in (proptest::option::of(system()), proptest::option::of(system())),
            limit in 1_usize..12,
            from in prop_oneof![Just(PageEnd::First), Just(PageEnd::Last)],
        ) {
            let (mut names, mut model) = (NameIndex::default(), Model { uses, ..Model::default() });
            let uses = model.last_uses();
            for step in steps {
                let before = (names.clone(), model.clone());
                match step {
                    Step::Put(system) => {
                        names.put(&system);
                        model.systems.insert(system.id, *system);
                    }
                    Step::Remove(n) => {
                        names.remove(id(n));
                        model.systems.remove(&id(n));
                    }
                }
                prop_assert_eq!(names.len(), model.systems.len());
                prop_assert_eq!(before.0.count(&query, &uses), before.1.count(&query));
            }
            let place = |place: Option<(u8, ListedSystem)>| place.map(|(_, system)| model.key(order.field, &system));
            let page = PageRequest { after: place(after), before: place(before), limit, from };
            prop_assert_eq!(names.page(&query, &uses, order, &page), model.page(&query, order, &page));
            prop_assert_eq!(names.count(&query, &uses), model.count(&query));
        }
    }

    #[test]
    fn no_search_matches_the_end_of_a_text_with_the_next_one_after_it() {
        let mut names = NameIndex::default();
        let system = ListedSystem {
            folded_name: "billing".to_owned(),
            folded_description: "of invoices".to_owned(),
            folded_external_id: "cus_42".to_owned(),
            ..one_of_many(1)
        };
        names.put(&system);
        let count = |needle: &str| names.count(&Search::parse(needle).into(), &LastUses::default());
        assert_eq!(["billing", "invoices", "gof", "g of", "ling"].map(count), [1, 1, 0, 0, 1]);
        assert_eq!(["cus_42", "S_4", "scus", "s cus"].map(count), [1, 1, 0, 0]);
    }

    /// The `n`-th of many systems, with a name of 20 bytes. Every other system has a key, and every other key an end.
    fn one_of_many(n: u64) -> ListedSystem {
        let millis = |n: u64| at(i64::try_from(n).unwrap());
        let key = KeyFacts { mark: mark((n % 10) as u8), generated_by: Some(operator((n % 7) as u8)) };
        let current = CurrentKeyFacts {
            key,
            generated_at: millis(n * 7_919 % 1_009),
            expires_at: n.is_multiple_of(4).then(|| millis(n * 7_919 % 2_003)),
        };
        let facts = facts(i64::try_from(n * 104_729 % 99_991).unwrap(), 1);
        ListedSystem {
            id: SystemId::from_bytes(u128::from(n).to_be_bytes()),
            folded_name: format!("system {:013}", n * 7_919 % 1_000_003),
            folded_description: String::new(),
            folded_external_id: String::new(),
            facts: SystemFacts { current: n.is_multiple_of(2).then_some(current), ..facts },
        }
    }

    #[test]
    fn system_takes_at_most_100_bytes_and_112_after_many_changes() {
        let mut names = NameIndex::default();
        (0..50_000).for_each(|n| names.put(&one_of_many(n)));
        let each = names.bytes() / names.len();
        assert!((97..=100).contains(&each), "{each} bytes");
        for n in 0..25_000 {
            names.put(&ListedSystem { folded_name: format!("renamed {n:012}"), ..one_of_many(n * 2) });
            names.remove(one_of_many(n * 2 + 1).id);
        }
        (0..25_000).for_each(|n| names.put(&one_of_many(n * 2 + 1)));
        let each = names.bytes() / names.len();
        assert!((97..=112).contains(&each), "{each} bytes after many changes");
        (0..50_000).for_each(|n| names.remove(one_of_many(n).id));
        assert_eq!((names.len(), names.chunks.len()), (0, 0));
    }

    #[test]
    fn pages_across_many_chunks_agree_with_a_plain_list() {
        let (mut names, mut model) = (NameIndex::default(), Model::default());
        for n in 0..5_000 {
            let system = one_of_many(n * 7_919 % 5_003);
            names.put(&system);
            if n.is_multiple_of(3) {
                model.uses.insert(system.id, at((n % 17) as i64));
            }
            model.systems.insert(system.id, system);
        }
        let uses = model.last_uses();
        let active = SystemFilter { key_state: Some(KeyState::Active), ..SystemFilter::default() };
        let unused = SystemFilter { unused_since: Some(at(9)), ..SystemFilter::default() };
        let queries = [
            Search::parse("system").into(),
            Search::parse("99").into(),
            SystemQuery { filter: active, ..Search::All.into() },
            SystemQuery { filter: unused, ..Search::parse("7").into() },
        ];
        let ends = [(Direction::Ascending, PageEnd::First), (Direction::Ascending, PageEnd::Last)];
        let ends =
            ends.into_iter().chain([(Direction::Descending, PageEnd::First), (Direction::Descending, PageEnd::Last)]);
        for (direction, from) in ends {
            for (field, query) in ORDERS.iter().flat_map(|field| queries.iter().map(move |query| (*field, query))) {
                let order = ListOrder { field, direction };
                let all = model.page(query, order, &PageRequest { from, ..PageRequest::first(usize::MAX - 1) }).items;
                let (mut page, mut read) = (PageRequest { from, ..PageRequest::first(300) }, Vec::new());
                loop {
                    let found = names.page(query, &uses, order, &page);
                    match from {
                        PageEnd::First => {
                            page.after = found.items.last().cloned();
                            read.extend(found.items);
                        }
                        PageEnd::Last => {
                            page.before = found.items.first().cloned();
                            read.splice(0..0, found.items);
                        }
                    }
                    if !found.has_more {
                        break;
                    }
                }
                assert_eq!(read, all, "{order:?} {query:?}");
            }
        }
    }
}
