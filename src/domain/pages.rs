//! Pages of ordered lists, by keyset.

/// A stretch of an ordered list, by keyset: it stays right while rows come and go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest<K> {
    /// Only what stands after this place, which need not exist any more.
    pub after: Option<K>,
    /// Only what stands before this place.
    pub before: Option<K>,
    /// Most items, at least 1.
    pub limit: usize,
    /// Which end of the stretch the items are taken from.
    pub from: PageEnd,
}

impl<K> PageRequest<K> {
    /// The first items of the whole list.
    pub fn first(limit: usize) -> Self {
        Self { after: None, before: None, limit, from: PageEnd::First }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageEnd {
    First,
    Last,
}

/// The items, always in the order of the list, whichever end they were taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Whether the stretch holds more: after the items when taken from its first end, before them from its last.
    pub has_more: bool,
}
