//! Keyset pagination of ordered lists.

/// A range of an ordered list, bounded by keys, so that pages stay consistent while rows are inserted and deleted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl<T> Page<T> {
    /// Returns the requested page of a whole list, which is in the order of its keys.
    pub fn of_list<K: Ord>(list: Vec<T>, request: &PageRequest<K>, key: impl Fn(&T) -> K) -> Self {
        let is_in_range = |item: &T| {
            let key = key(item);
            request.after.as_ref().is_none_or(|after| key > *after)
                && request.before.as_ref().is_none_or(|before| key < *before)
        };
        let mut items: Vec<T> = list.into_iter().filter(is_in_range).collect();
        let has_more = items.len() > request.limit;
        match request.from {
            PageEnd::First => items.truncate(request.limit),
            PageEnd::Last => drop(items.drain(..items.len().saturating_sub(request.limit))),
        }
        Self { items, has_more }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_list_have_each_item_once_in_either_direction() {
        let list: Vec<u32> = (1..=7).collect();
        let page = |request: &PageRequest<u32>| Page::of_list(list.clone(), request, |item| *item);
        let mut request = PageRequest::first(3);
        let mut seen = Vec::new();
        loop {
            let Page { items, has_more } = page(&request);
            request.after = items.last().copied();
            seen.extend(items);
            if !has_more {
                break;
            }
        }
        assert_eq!(seen, list);
        let last = PageRequest { after: None, before: Some(6), limit: 3, from: PageEnd::Last };
        assert_eq!(page(&last), Page { items: vec![3, 4, 5], has_more: true });
        let rest = PageRequest { before: Some(3), ..last };
        assert_eq!(page(&rest), Page { items: vec![1, 2], has_more: false });
    }
}
