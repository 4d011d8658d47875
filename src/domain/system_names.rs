//! Names of systems, and searches for them.

use std::fmt;

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use icu_properties::props::{BidiControl, DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use unicode_segmentation::UnicodeSegmentation;

/// Minimum length of a name in characters as people count them: extended grapheme clusters
/// ([UAX #29](https://www.unicode.org/reports/tr29/)).
pub const MIN_NAME_CHARACTERS: usize = 3;
/// Maximum length of a name in extended grapheme clusters.
pub const MAX_NAME_CHARACTERS: usize = 64;
/// Maximum length of a name in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 256;
/// Maximum length of a folded name in bytes of UTF-8: no character folds to more than 11 times its bytes (U+FDFA,
/// 3 bytes to 33). A longer search text matches nothing.
pub const MAX_FOLDED_NAME_BYTES: usize = MAX_NAME_BYTES * 11;

/// The name of a system: trimmed, in NFC, within the limits of length, and without invisible characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SystemName(Box<str>);

/// The reason for which a text is not a valid name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("A name is required.")]
    Empty,
    #[error("The name is too short. Use at least {MIN_NAME_CHARACTERS} characters.")]
    TooShort,
    #[error("The name is too long. Use at most {MAX_NAME_CHARACTERS} characters and {MAX_NAME_BYTES} bytes.")]
    TooLong,
    #[error("The name contains U+{:04X}. Remove control, bidirectional and invisible characters.", u32::from(*.0))]
    Invisible(char),
}

impl SystemName {
    /// Parses a name as it was entered: trims white space and normalizes to NFC.
    pub fn parse(typed: &str) -> Result<Self, NameError> {
        Self::parse_with_minimum(typed, MIN_NAME_CHARACTERS)
    }

    /// Parses a name that may be shorter or must be longer than that of a system.
    pub(super) fn parse_with_minimum(typed: &str, min_characters: usize) -> Result<Self, NameError> {
        // Bounds the work on hostile input; NFC never shortens a text to a third of its bytes.
        if typed.len() > 16 * MAX_NAME_BYTES {
            return Err(NameError::TooLong);
        }
        let name = ComposingNormalizer::new_nfc().normalize(typed.trim()).into_owned();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(c) = name.chars().find(|c| is_invisible(*c)) {
            return Err(NameError::Invisible(c));
        }
        let characters = name.graphemes(true).count();
        if characters < min_characters {
            return Err(NameError::TooShort);
        }
        if characters > MAX_NAME_CHARACTERS || name.len() > MAX_NAME_BYTES {
            return Err(NameError::TooLong);
        }
        Ok(Self(name.into()))
    }

    /// A name that Keymark chose itself.
    pub(super) fn unchecked(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which names are compared and searched: two names are the same if their folded forms are equal.
    pub fn folded(&self) -> String {
        fold(&self.0)
    }
}

impl fmt::Display for SystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns true for control, format and bidirectional characters, for characters without a visible glyph, and for code
/// points without a meaning here (unassigned, private use, line separators): names must not differ invisibly.
pub(super) fn is_invisible(c: char) -> bool {
    use GeneralCategory as Gc;
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    matches!(
        category,
        Gc::Control
            | Gc::Format
            | Gc::Unassigned
            | Gc::PrivateUse
            | Gc::Surrogate
            | Gc::LineSeparator
            | Gc::ParagraphSeparator
    ) || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || CodePointSetData::new::<BidiControl>().contains(c)
        || c == '\u{2800}' // the blank Braille pattern: a symbol by category, but without a glyph
}

/// NFKC case folding for a compatibility caseless match (The Unicode Standard, section 3.13, D146): full case folding
/// and compatibility normalization, both twice, because either can produce characters that the other changes.
pub fn fold(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let cases = CaseMapper::new();
    let nfkc = ComposingNormalizer::new_nfkc();
    let decomposed = DecomposingNormalizer::new_nfd().normalize(text).into_owned();
    let once = nfkc.normalize(&cases.fold_string(&decomposed)).into_owned();
    nfkc.normalize(&cases.fold_string(&once)).into_owned()
}

/// A search by name and description. Its text is matched literally, never as a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Search {
    /// Every system.
    All,
    /// Systems whose folded name or description contains this folded text.
    Containing(String),
    /// No system: the text is longer than [`MAX_FOLDED_NAME_BYTES`], or contains a control character.
    Nothing,
}

impl Search {
    pub fn parse(typed: &str) -> Self {
        if typed.is_empty() {
            return Self::All;
        }
        // Bounds the work before folding, which may shorten a text (combining marks compose).
        if typed.len() > 4 * MAX_FOLDED_NAME_BYTES || typed.contains(char::is_control) {
            return Self::Nothing;
        }
        let needle = fold(typed);
        if needle.len() > MAX_FOLDED_NAME_BYTES { Self::Nothing } else { Self::Containing(needle) }
    }

    /// Whether a folded text of a system matches.
    pub fn matches(&self, folded: &str) -> bool {
        match self {
            Self::All => true,
            Self::Containing(needle) => folded.contains(needle.as_str()),
            Self::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(name: &str) -> String {
        SystemName::parse(name).unwrap().folded()
    }

    #[test]
    fn names_are_trimmed_and_composed_but_keep_their_spelling() {
        assert_eq!(SystemName::parse("  Cafe\u{301} App ").unwrap().as_str(), "Café App");
        for plain in ["app1", "api", "system", "日本語", "<img src=x onerror=alert(1)>", "a  b", "مرحبا"] {
            assert_eq!(SystemName::parse(plain).unwrap().as_str(), plain);
        }
    }

    #[test]
    fn characters_are_counted_as_people_count_them() {
        assert_eq!(SystemName::parse("ab"), Err(NameError::TooShort));
        assert_eq!(SystemName::parse("e\u{308}\u{323}e\u{308}\u{323}"), Err(NameError::TooShort));
        assert!(SystemName::parse(&"🇫🇷".repeat(3)).is_ok());
        assert!(SystemName::parse(&"🇫🇷".repeat(32)).is_ok());
        assert_eq!(SystemName::parse(&"🇫🇷".repeat(33)), Err(NameError::TooLong), "256 bytes at most");
        assert!(SystemName::parse(&"x".repeat(64)).is_ok());
        assert_eq!(SystemName::parse(&"x".repeat(65)), Err(NameError::TooLong));
        assert_eq!(SystemName::parse(&"x".repeat(1 << 20)), Err(NameError::TooLong));
        for empty in ["", "   ", "\u{3000}"] {
            assert_eq!(SystemName::parse(empty), Err(NameError::Empty));
        }
    }

    #[test]
    fn what_nobody_sees_is_refused() {
        for c in [
            '\0',
            '\n',
            '\u{7f}',
            '\u{85}',
            '\u{ad}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{202e}',
            '\u{2028}',
            '\u{2060}',
            '\u{2066}',
            '\u{2800}',
            '\u{3164}',
            '\u{115f}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{e000}',
            '\u{e0041}',
        ] {
            assert_eq!(SystemName::parse(&format!("abc{c}def")), Err(NameError::Invisible(c)), "U+{:04X}", c as u32);
        }
    }

    #[test]
    fn equal_names_fold_to_the_same_text() {
        for (one, other) in [
            ("Payments", "PAYMENTS"),
            ("ＡＢＣ app", "abc APP"),
            ("ﬁle store", "FILE STORE"),
            ("ſhop one", "Shop One"),
            ("Straße", "STRASSE"),
            ("Café", "CAFE\u{301}"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("ẞharp", "ssharp"),
            ("５G core", "5g CORE"),
        ] {
            assert_eq!(folded(one), folded(other), "{one} and {other}");
        }
        assert_ne!(folded("İstanbul"), folded("ıstanbul"));
    }

    #[test]
    fn a_search_is_never_a_pattern() {
        let name = folded("Billing (a+)+$ .* [x] \\ é");
        for hit in ["BILLING", "(a+)+$", ".*", "[X]", "\\", "É", "ｂｉｌｌｉｎｇ"] {
            assert!(Search::parse(hit).matches(&name), "{hit}");
        }
        for miss in ["b.lling", "^b", "x$", "a\0b", "[a-z]", &"x".repeat(10_000)] {
            assert!(!Search::parse(miss).matches(&name), "{miss}");
        }
        assert_eq!(Search::parse(""), Search::All);
    }

    proptest! {
        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,40}") {
            let once = fold(&text);
            prop_assert_eq!(fold(&once), once);
        }

        #[test]
        fn a_name_read_again_is_itself(text in "\\PC{0,80}") {
            if let Ok(name) = SystemName::parse(&text) {
                prop_assert_eq!(SystemName::parse(name.as_str()), Ok(name.clone()));
                prop_assert!(Search::parse(name.as_str()).matches(&name.folded()));
            }
        }
    }
}
