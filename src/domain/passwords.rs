//! The rules for passwords that people choose.

use unicode_segmentation::UnicodeSegmentation;
use zeroize::Zeroizing;

use super::system_names::fold;

/// More than the 8 of ASVS 5, V6.2, and fewer than the 15 that NIST SP 800-63B-4 requires without a second factor.
pub const MIN_PASSWORD_CHARACTERS: usize = 12;
/// Bounds the work of hashing a password that an anonymous client sends. ASVS 5, V6.2, rules out a short limit.
pub const MAX_PASSWORD_BYTES: usize = 1024;
/// The names of tenants and products are the first guesses. A username of one or two letters is in too many passwords.
const PRODUCT: &str = "keymark";
const MIN_USERNAME_CHARACTERS_TO_EXCLUDE: usize = 3;

/// The rules in one sentence, as the schema, the console and the documentation state them.
pub const PASSWORD_RULE: &str = "A password has at least 12 characters (at most 1024 bytes), is none of the 10,000 most \
common ones, even if repeated or with digits and signs around it, and contains neither the username nor keymark.";

/// One password a line. Lines that begin with `#` state the source and its licence; no password begins so.
const COMMON_PASSWORDS: &str = include_str!("common_passwords.txt");

/// The rule that a chosen password breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnfitPassword {
    #[error("This password is too short. {PASSWORD_RULE}")]
    TooShort,
    #[error("This password is too long. {PASSWORD_RULE}")]
    TooLong,
    #[error("This password is too common. {PASSWORD_RULE}")]
    TooCommon,
    #[error("This password contains the username. {PASSWORD_RULE}")]
    ContainsUsername,
    #[error("This password contains keymark. {PASSWORD_RULE}")]
    ContainsProduct,
    #[error("This is the generated password. Choose a different one.")]
    Unchanged,
}

/// Checks a new password. Ignores case and width, except for its length.
pub(super) fn check_password(password: &str, username: &str) -> Result<(), UnfitPassword> {
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(UnfitPassword::TooLong);
    }
    if password.graphemes(true).take(MIN_PASSWORD_CHARACTERS).count() < MIN_PASSWORD_CHARACTERS {
        return Err(UnfitPassword::TooShort);
    }
    let folded = Zeroizing::new(fold(password));
    if folded.contains(PRODUCT) {
        return Err(UnfitPassword::ContainsProduct);
    }
    if username.len() >= MIN_USERNAME_CHARACTERS_TO_EXCLUDE && folded.contains(username) {
        return Err(UnfitPassword::ContainsUsername);
    }
    if is_common(&folded) { Err(UnfitPassword::TooCommon) } else { Ok(()) }
}

/// Returns true if the password is a common one, repeated or not, or one with digits and signs around it. Few common
/// passwords are as long as required: people extend them so.
fn is_common(folded: &str) -> bool {
    let core = folded.trim_matches(|character: char| !character.is_alphabetic());
    let mut common = COMMON_PASSWORDS.lines().filter(|line| !line.starts_with('#'));
    common.any(|common| repeats(folded, common) || repeats(core, common) || surrounds(folded, common))
}

/// Returns true if the text is `part`, once or more; the last time it may be cut off.
fn repeats(text: &str, part: &str) -> bool {
    text.len() >= part.len() && text.bytes().eq(part.bytes().cycle().take(text.len()))
}

/// Returns true if the text is `part` without letters before and after it, and `part` has a letter.
fn surrounds(text: &str, part: &str) -> bool {
    let has_letter = |text: &str| text.contains(char::is_alphabetic);
    has_letter(part) && text.split_once(part).is_some_and(|(before, after)| !has_letter(before) && !has_letter(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(password: &str) -> Result<(), UnfitPassword> {
        check_password(password, "ada.l")
    }

    #[test]
    fn a_password_that_nobody_guesses_is_accepted() {
        for password in [
            "correct horse battery staple",
            "twelve chars",
            "x7#kQ2!mZ9@p",
            "пароль для входа",
            "fußballweltmeister 54",
            "password and something else",
            &"é".repeat(512),
        ] {
            assert_eq!(check(password), Ok(()), "{password}");
        }
    }

    #[test]
    fn length_is_counted_in_grapheme_clusters_and_bounded_in_bytes() {
        let family = "\u{1F468}\u{200D}\u{1F469}\u{200D}\u{1F467}";
        for (password, outcome) in [
            ("", Err(UnfitPassword::TooShort)),
            ("eleven char", Err(UnfitPassword::TooShort)),
            (&family.repeat(11), Err(UnfitPassword::TooShort)),
            (&"e\u{301}a".repeat(5), Err(UnfitPassword::TooShort)),
            (&family.repeat(12), Ok(())),
            (&"x\u{301}yz".repeat(256), Err(UnfitPassword::TooLong)),
            (&"é".repeat(513), Err(UnfitPassword::TooLong)),
        ] {
            assert_eq!(check(password), outcome, "{password}");
        }
    }

    #[test]
    fn common_passwords_and_their_extensions_are_refused() {
        for password in [
            "masturbation",
            "SonyEricsson",
            "ＦＩＮＡＬＦＡＮＴＡＳＹ",
            "passwordpassword",
            "passwordpass",
            "dragondragon1!",
            "123123123123",
            "123456789012",
            "111111111111",
            "Password1234!",
            "!!qwertyuiop!!",
            "2024-letmein-2025",
            "1qaz2wsx1qaz2wsx",
            "1234trustno1!",
        ] {
            assert_eq!(check(password), Err(UnfitPassword::TooCommon), "{password}");
        }
    }

    #[test]
    fn the_username_and_the_product_are_refused_in_any_case_and_width() {
        for password in ["my name is ADA.L!", "ada.lada.lada.l", "ａｄａ．ｌ and more"] {
            assert_eq!(check(password), Err(UnfitPassword::ContainsUsername), "{password}");
        }
        for password in ["KeyMark rocks 7", "the ｋｅｙｍａｒｋ server"] {
            assert_eq!(check(password), Err(UnfitPassword::ContainsProduct), "{password}");
        }
        assert_eq!(check_password("a very good phrase", "a"), Ok(()), "too short to exclude");
    }

    #[test]
    fn the_list_is_complete_and_the_rule_states_the_limits() {
        let passwords: Vec<_> = COMMON_PASSWORDS.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!((passwords.len(), passwords[0], passwords[9_999]), (10_000, "123456", "qqqqqq1"));
        assert!(passwords.iter().all(|password| !password.is_empty() && fold(password) == **password));
        assert!(PASSWORD_RULE.contains(&format!("at least {MIN_PASSWORD_CHARACTERS} characters")));
        assert!(PASSWORD_RULE.contains(&format!("at most {MAX_PASSWORD_BYTES} bytes")));
    }
}
