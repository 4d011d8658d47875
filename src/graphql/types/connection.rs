//! Pages by the Relay cursor connections specification (<https://relay.dev/graphql/connections.htm>).

use async_graphql::{Error, SimpleObject};

use crate::domain::pages::{Page, PageEnd, PageRequest};
use crate::domain::refusal::{ErrorCode, Refusal};
use crate::graphql::error::{refuse, with_code};
use crate::graphql::limits::{DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE};

/// The paging arguments of a connection field.
pub(crate) struct Paging {
    pub first: Option<i32>,
    pub after: Option<String>,
    pub last: Option<i32>,
    pub before: Option<String>,
}

impl Paging {
    /// Returns the requested page, with cursors decoded by `decode`.
    ///
    /// # Errors
    ///
    /// `BAD_USER_INPUT` for a size out of range, both sizes, or an invalid cursor.
    pub(crate) fn request<K>(&self, decode: impl Fn(&str) -> Result<K, Refusal>) -> Result<PageRequest<K>, Error> {
        let (size, from) = match (self.first, self.last) {
            (Some(_), Some(_)) => {
                return Err(with_code("Set either `first` or `last`, not both.", ErrorCode::BadUserInput));
            }
            (None, Some(last)) => (last, PageEnd::Last),
            (first, None) => (first.unwrap_or(DEFAULT_PAGE_SIZE.into()), PageEnd::First),
        };
        let limit =
            usize::try_from(size).ok().filter(|_| (1..=MAX_PAGE_SIZE.into()).contains(&size)).ok_or_else(|| {
                with_code(format!("`first` and `last` must be between 1 and {MAX_PAGE_SIZE}."), ErrorCode::BadUserInput)
            })?;
        let read = |cursor: &Option<String>| cursor.as_deref().map(&decode).transpose().map_err(|e| refuse(&e));
        Ok(PageRequest { after: read(&self.after)?, before: read(&self.before)?, limit, from })
    }
}

/// Cursors of a page's ends, and whether there are further pages.
#[derive(SimpleObject)]
pub(super) struct PageInfo {
    /// Whether there are items after this page. With `last`: whether `before` was set.
    has_next_page: bool,
    /// Whether there are items before this page. With `first`: whether `after` was set.
    has_previous_page: bool,
    /// Cursor of the page's first item, to be passed as `before`. Null if the page is empty.
    start_cursor: Option<String>,
    /// Cursor of the page's last item, to be passed as `after`. Null if the page is empty.
    end_cursor: Option<String>,
}

impl PageInfo {
    /// The list was read in one direction only. In the other one, a cursor of the client is the only sign of further
    /// items.
    pub(super) fn of<T, K>(page: &Page<T>, request: &PageRequest<K>, cursor: impl Fn(&T) -> String) -> Self {
        let (has_next_page, has_previous_page) = match request.from {
            PageEnd::First => (page.has_more, request.after.is_some()),
            PageEnd::Last => (request.before.is_some(), page.has_more),
        };
        Self {
            has_next_page,
            has_previous_page,
            start_cursor: page.items.first().map(&cursor),
            end_cursor: page.items.last().map(&cursor),
        }
    }
}
