//! Texts that people write about systems: descriptions, and reasons for changes.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use unicode_segmentation::UnicodeSegmentation;

use super::system_names::{fold, is_invisible};

/// Maximum length of a description in characters: extended grapheme clusters.
pub const MAX_DESCRIPTION_CHARACTERS: usize = 500;
/// Maximum length of a reason in extended grapheme clusters.
pub const MAX_REASON_CHARACTERS: usize = 200;
/// Bytes of UTF-8 for each character that is allowed; combining marks can make a character longer.
const MAX_BYTES_PER_CHARACTER: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    #[error("The {what} is too long. Use at most {max} characters.")]
    TooLong { what: &'static str, max: usize },
    #[error("The {what} contains U+{:04X}. Remove control, bidirectional and invisible characters.", u32::from(*.found))]
    Invisible { what: &'static str, found: char },
}

/// What a system is for, in one or more lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Description(Box<str>);

impl Description {
    /// Parses a description as it was entered. `None` if it is empty.
    pub fn parse(typed: &str) -> Result<Option<Self>, TextError> {
        Ok(parse(typed, "description", MAX_DESCRIPTION_CHARACTERS)?.map(Self))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which descriptions are searched.
    pub fn folded(&self) -> String {
        fold(&self.0)
    }
}

/// Why an operator revoked, suspended or deleted something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reason(Box<str>);

impl Reason {
    /// Parses a reason as it was entered. `None` if it is empty.
    pub fn parse(typed: &str) -> Result<Option<Self>, TextError> {
        Ok(parse(typed, "reason", MAX_REASON_CHARACTERS)?.map(Self))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse(typed: &str, what: &'static str, max: usize) -> Result<Option<Box<str>>, TextError> {
    let text = typed.trim();
    if text.len() > max * MAX_BYTES_PER_CHARACTER || text.graphemes(true).count() > max {
        return Err(TextError::TooLong { what, max });
    }
    // Joiners belong to words and emoji; unlike names, texts need not differ visibly.
    let is_refused = |c: &char| !matches!(c, '\n' | '\u{200c}' | '\u{200d}' | '\u{fe0f}') && is_invisible(*c);
    let text = text.replace("\r\n", "\n");
    match text.chars().find(is_refused) {
        Some(found) => Err(TextError::Invisible { what, found }),
        None => Ok((!text.is_empty()).then(|| text.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_trimmed_and_bounded() {
        assert_eq!(Reason::parse("  \n ").unwrap(), None);
        assert_eq!(Reason::parse(" leaked ").unwrap().unwrap().as_str(), "leaked");
        assert_eq!(Description::parse("one\r\ntwo 👩‍👩‍👧").unwrap().unwrap().as_str(), "one\ntwo 👩‍👩‍👧");
        assert!(Reason::parse(&"é".repeat(200)).is_ok());
        assert_eq!(Reason::parse(&"é".repeat(201)), Err(TextError::TooLong { what: "reason", max: 200 }));
        assert_eq!(
            Description::parse("a\u{202e}b"),
            Err(TextError::Invisible { what: "description", found: '\u{202e}' })
        );
    }
}
