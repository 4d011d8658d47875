//! Names of systems, and how a search finds them.

use std::fmt;

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use icu_properties::props::{BidiControl, DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use serde::{Deserialize, Serialize};
use unicode_segmentation::UnicodeSegmentation;

/// Fewest and most characters of a name, as people count them: extended grapheme clusters (Unicode annex 29).
pub const NAME_CHARACTERS: std::ops::RangeInclusive<usize> = 3..=64;
/// Most bytes of a name in UTF-8.
pub const NAME_BYTES: usize = 256;
/// Maximum length of a folded name in bytes of UTF-8: no character folds to more than 11 times its bytes (U+FDFA,
/// 3 bytes to 33). A longer search text matches no name.
pub const MAX_FOLDED_NAME_BYTES: usize = NAME_BYTES * 11;

/// The name of a system: trimmed, in NFC, of [`NAME_CHARACTERS`] and [`NAME_BYTES`], free of invisible characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SystemName(Box<str>);

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    Empty,
    TooShort,
    TooLong,
    Invisible(char),
}

impl SystemName {
    /// Reads what a person typed: white space around it goes, the rest is brought to NFC.
    pub fn parse(typed: &str) -> Result<Self, NameError> {
        // Bounds the work on hostile input; NFC never shortens a text to a third of its bytes.
        if typed.len() > 16 * NAME_BYTES {
            return Err(NameError::TooLong);
        }
        let name = ComposingNormalizer::new_nfc().normalize(typed.trim()).into_owned();
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if let Some(c) = name.chars().find(|c| is_refused(*c)) {
            return Err(NameError::Invisible(c));
        }
        let characters = name.graphemes(true).count();
        if characters < *NAME_CHARACTERS.start() {
            return Err(NameError::TooShort);
        }
        if characters > *NAME_CHARACTERS.end() || name.len() > NAME_BYTES {
            return Err(NameError::TooLong);
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What makes two names the same, and what a search looks through.
    pub fn folded(&self) -> String {
        fold(&self.0)
    }
}

impl fmt::Display for SystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("A name is needed."),
            Self::TooShort => write!(f, "A name has at least {} characters.", NAME_CHARACTERS.start()),
            Self::TooLong => {
                write!(f, "A name has at most {} characters and {NAME_BYTES} bytes.", NAME_CHARACTERS.end())
            }
            Self::Invisible(c) => write!(
                f,
                "A name has no control, bidirectional or invisible characters; this one has U+{:04X}.",
                u32::from(*c)
            ),
        }
    }
}

/// Controls, format and bidirectional characters, whatever is drawn as nothing, and code points that mean nothing
/// (unassigned, private, line separators): two names must not differ by something that nobody sees.
fn is_refused(c: char) -> bool {
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
        || c == '\u{2800}' // the blank Braille pattern: a symbol by category, nothing on the screen
}

/// NFKC case folding, as Unicode defines a compatibility caseless match (The Unicode Standard, section 3.13, D146):
/// full case folding and compatibility normalisation, twice, since each can give the other something to do.
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

/// What a search looks for: text, never a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Search {
    /// Every system.
    All,
    /// Systems whose folded name contains this folded text.
    Containing(String),
    /// No name can contain what was asked for.
    Nothing,
}

impl Search {
    pub fn parse(typed: &str) -> Self {
        if typed.is_empty() {
            return Self::All;
        }
        // Folding may shorten a text (ligatures decompose, but combining marks compose): bound the work first.
        if typed.len() > 4 * MAX_FOLDED_NAME_BYTES || typed.contains(char::is_control) {
            return Self::Nothing;
        }
        let needle = fold(typed);
        if needle.len() > MAX_FOLDED_NAME_BYTES { Self::Nothing } else { Self::Containing(needle) }
    }

    pub fn matches(&self, folded_name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Containing(needle) => folded_name.contains(needle.as_str()),
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
