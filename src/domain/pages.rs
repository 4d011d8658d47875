//! Keyset pagination of ordered lists.

/// A range of an ordered list, bounded by keys, so that pages stay consistent while rows are inserted and deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest<K> {
    /// Exclusive lower bound in the order of the list. Its row need not exist.
    pub after: Option<K>,
    /// Exclusive upper bound in the order of the list. Its row need not exist.
    pub before: Option<K>,
    /// Maximum number of items, at least 1.
    pub limit: usize,
    /// The end of the range from which items are taken.
    pub from: PageEnd,
}

impl<K> PageRequest<K> {
    /// Requests the first items of the whole list.
    pub fn first(limit: usize) -> Self {
        Self { after: None, before: None, limit, from: PageEnd::First }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageEnd {
    First,
    Last,
}

/// Items in the order of the list, whichever end of the range they were taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Whether the range has more items: after these if taken from its first end, before these if taken from its last.
    pub has_more: bool,
}
