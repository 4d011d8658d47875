//! External ids: what a platform calls its customer's application.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use unicode_segmentation::UnicodeSegmentation;

use super::system_names::{fold, is_invisible};

/// Maximum length of an external id in characters: extended grapheme clusters.
pub const MAX_EXTERNAL_ID_CHARACTERS: usize = 200;
/// Maximum length of an external id in bytes of UTF-8. Percent-encoded for a header, it is three times as long, which
/// gateways take with the other headers in their default buffer of 4 KiB.
pub const MAX_EXTERNAL_ID_BYTES: usize = 800;

/// The platform's own id of a system: trimmed, not empty, and without invisible characters. It is compared exactly, so it
/// is not normalized.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExternalId(Box<str>);

/// The reason for which a text is not an external id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ExternalIdError {
    #[error(
        "The external id is too long. Use at most {MAX_EXTERNAL_ID_CHARACTERS} characters and {MAX_EXTERNAL_ID_BYTES} \
         bytes."
    )]
    TooLong,
    #[error("The external id contains U+{:04X}. Remove control, bidirectional and invisible characters.", u32::from(*.0))]
    Invisible(char),
}

impl ExternalId {
    /// Parses an external id as it was entered. `None` if it is empty.
    pub fn parse(typed: &str) -> Result<Option<Self>, ExternalIdError> {
        let text = typed.trim();
        if text.len() > MAX_EXTERNAL_ID_BYTES || text.graphemes(true).count() > MAX_EXTERNAL_ID_CHARACTERS {
            return Err(ExternalIdError::TooLong);
        }
        match text.chars().find(|c| is_invisible(*c)) {
            Some(found) => Err(ExternalIdError::Invisible(found)),
            None => Ok((!text.is_empty()).then(|| Self(text.into()))),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which external ids are searched.
    pub fn folded(&self) -> String {
        fold(&self.0)
    }
}

impl fmt::Display for ExternalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn external_ids_are_trimmed_bounded_and_otherwise_kept_as_they_are() {
        let parse = |typed: &str| ExternalId::parse(typed).map(|parsed| parsed.map(|id| id.to_string()));
        assert_eq!(parse(" \t "), Ok(None));
        assert_eq!(parse(" cus_42 / EU ").unwrap().unwrap(), "cus_42 / EU");
        assert_eq!(parse("Cafe\u{301}").unwrap().unwrap(), "Cafe\u{301}", "not normalized");
        assert_ne!(ExternalId::parse("cus_1"), ExternalId::parse("CUS_1"));
        assert!(parse(&"x".repeat(200)).is_ok() && parse(&"😀".repeat(200)).is_ok());
        assert_eq!(parse(&"x".repeat(201)), Err(ExternalIdError::TooLong));
        assert_eq!(parse(&"e\u{301}\u{323}".repeat(200)), Err(ExternalIdError::TooLong), "800 bytes at most");
        for (text, found) in [("a\0b", '\0'), ("a\nb", '\n'), ("a\u{200d}b", '\u{200d}'), ("a\u{202e}b", '\u{202e}')] {
            assert_eq!(parse(text), Err(ExternalIdError::Invisible(found)));
        }
    }
}
