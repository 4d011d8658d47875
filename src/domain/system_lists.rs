//! Lists of systems: searches, filters and orders.

use super::external_ids::ExternalId;
use super::ids::{ActorId, SystemId};
use super::keys::Mark;
use super::system_names::Search;
use super::systems::{CurrentKey, Direction, SortValue, System, SystemOrder, SystemOrderField, SystemSortKey};
use super::time::Timestamp;

/// Whether a system has a current key, and whether its keys are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    NotGenerated,
    Active,
    /// With or without a key.
    Suspended,
}

impl KeyState {
    pub fn of(is_suspended: bool, has_current_key: bool) -> Self {
        match (is_suspended, has_current_key) {
            (true, _) => Self::Suspended,
            (false, true) => Self::Active,
            (false, false) => Self::NotGenerated,
        }
    }
}

/// The members of a system by which lists are searched, filtered and sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSystem {
    pub id: SystemId,
    pub folded_name: String,
    /// Empty if there is no description.
    pub folded_description: String,
    /// Empty if there is no external id.
    pub folded_external_id: String,
    pub facts: SystemFacts,
}

/// The members of a [`ListedSystem`] besides its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemFacts {
    pub updated_at: Timestamp,
    pub created_at: Timestamp,
    pub is_suspended: bool,
    pub current: Option<CurrentKeyFacts>,
    pub retiring: Option<KeyFacts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurrentKeyFacts {
    pub key: KeyFacts,
    pub generated_at: Timestamp,
    pub expires_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    pub mark: Mark,
    /// The operator who generated the key. `None` if it was not an operator, or is not known.
    pub generated_by: Option<ActorId>,
}

impl From<&System> for ListedSystem {
    fn from(system: &System) -> Self {
        Self {
            id: system.id,
            folded_name: system.name.folded(),
            folded_description: system.description.as_ref().map(|text| text.folded()).unwrap_or_default(),
            folded_external_id: system.external_id.as_ref().map(|id| id.folded()).unwrap_or_default(),
            facts: SystemFacts::from(system),
        }
    }
}

impl From<&System> for SystemFacts {
    fn from(system: &System) -> Self {
        let facts = |key: &CurrentKey| KeyFacts { mark: key.mark, generated_by: key.origin_in(system).1.id };
        Self {
            updated_at: system.updated_at,
            created_at: system.created_at,
            is_suspended: system.suspended.is_some(),
            current: system.key.as_ref().map(|key| CurrentKeyFacts {
                key: facts(key),
                generated_at: key.origin_in(system).0,
                expires_at: key.expires_at,
            }),
            retiring: system.retiring.as_ref().map(facts),
        }
    }
}

impl SystemFacts {
    pub fn key_state(&self) -> KeyState {
        KeyState::of(self.is_suspended, self.current.is_some())
    }

    /// The current and the retiring key.
    fn live_keys(&self) -> impl Iterator<Item = KeyFacts> {
        self.current.map(|current| current.key).into_iter().chain(self.retiring)
    }
}

/// Conditions on systems, all of which must hold. The default matches every system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemFilter {
    pub key_state: Option<KeyState>,
    /// Last used before this time; if never used, created before it.
    pub unused_since: Option<Timestamp>,
    /// The current key expires before this time.
    pub expires_before: Option<Timestamp>,
    /// The current key was generated before this time.
    pub generated_before: Option<Timestamp>,
    /// This operator generated the current or the retiring key.
    pub generated_by: Option<ActorId>,
    /// The mark of the current or the retiring key.
    pub key_mark: Option<Mark>,
}

impl SystemFilter {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn matches(&self, facts: &SystemFacts, last_used_at: Option<Timestamp>) -> bool {
        let current = || facts.current;
        self.key_state.is_none_or(|state| facts.key_state() == state)
            && self.unused_since.is_none_or(|since| last_used_at.unwrap_or(facts.created_at) < since)
            && self.expires_before.is_none_or(|end| current().and_then(|key| key.expires_at).is_some_and(|at| at < end))
            && self.generated_before.is_none_or(|end| current().is_some_and(|key| key.generated_at < end))
            && self.generated_by.is_none_or(|operator| facts.live_keys().any(|key| key.generated_by == Some(operator)))
            && self.key_mark.is_none_or(|mark| facts.live_keys().any(|key| key.mark == mark))
    }
}

/// Systems that are named one by one. They are looked up, whatever the number of the tenant's systems. The default selects
/// every system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    pub ids: Option<Vec<SystemId>>,
    pub external_id: Option<ExternalId>,
}

impl Selection {
    /// Most ids of a selection.
    pub const MAX_IDS: usize = 200;

    /// Selects no system.
    pub fn nothing() -> Self {
        Self { ids: Some(Vec::new()), external_id: None }
    }

    pub fn is_of_all(&self) -> bool {
        *self == Self::default()
    }

    pub fn contains(&self, system: &System) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&system.id))
            && self.external_id.as_ref().is_none_or(|id| system.external_id.as_ref() == Some(id))
    }
}

/// The systems that a list contains: those that match all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemQuery {
    pub search: Search,
    pub filter: SystemFilter,
    pub selection: Selection,
}

impl From<Search> for SystemQuery {
    fn from(search: Search) -> Self {
        Self { search, filter: SystemFilter::default(), selection: Selection::default() }
    }
}

impl SystemQuery {
    /// Whether search and filter match a system that is selected.
    pub fn matches(&self, system: &ListedSystem, last_used_at: Option<Timestamp>) -> bool {
        let texts = [&system.folded_name, &system.folded_description, &system.folded_external_id];
        texts.into_iter().any(|text| self.search.matches(text)) && self.filter.matches(&system.facts, last_used_at)
    }

    /// Whether every system matches.
    pub fn is_of_all(&self) -> bool {
        let is_of_all = match &self.search {
            Search::All => true,
            Search::Containing(needle) => needle.is_empty(),
            Search::Nothing => false,
        };
        is_of_all && self.filter.is_empty() && self.selection.is_of_all()
    }

    /// Whether the last use of a system decides if, or where, a list in this order contains it.
    pub fn reads_use(&self, order: ListOrder) -> bool {
        self.filter.unused_since.is_some() || order.field == ListField::LastUsedAt
    }
}

/// The field by which a list of systems is sorted. The id breaks ties. Systems without a value come last in either
/// direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListField {
    /// A field that stores have an index of.
    Stored(SystemOrderField),
    LastUsedAt,
    /// When the current key was generated.
    KeyGeneratedAt,
    /// When the current key expires.
    KeyExpiresAt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListOrder {
    pub field: ListField,
    pub direction: Direction,
}

impl From<SystemOrder> for ListOrder {
    fn from(SystemOrder { field, direction }: SystemOrder) -> Self {
        Self { field: ListField::Stored(field), direction }
    }
}

impl Default for ListOrder {
    fn default() -> Self {
        SystemOrder::default().into()
    }
}

impl ListOrder {
    /// The order as stores know it, if they do.
    pub fn stored(self) -> Option<SystemOrder> {
        match self.field {
            ListField::Stored(field) => Some(SystemOrder { field, direction: self.direction }),
            _ => None,
        }
    }

    /// The position of a system in a list in this order.
    pub fn key_of(self, system: &System, last_used_at: Option<Timestamp>) -> SystemSortKey {
        let current = || SystemFacts::from(system).current;
        let at = match self.field {
            ListField::Stored(field) => return field.key_of(system),
            ListField::LastUsedAt => last_used_at,
            ListField::KeyGeneratedAt => current().map(|key| key.generated_at),
            ListField::KeyExpiresAt => current().and_then(|key| key.expires_at),
        };
        SystemSortKey { value: at.map_or(SortValue::Absent, SortValue::At), id: system.id }
    }
}
