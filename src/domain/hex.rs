//! Bytes written as text: lower-case hex.

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// Reads `2 * N` hex digits.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |b: u8| char::from(b).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? << 4 | digit(pair[1])?).ok()?;
    }
    Some(bytes)
}

/// Has a newtype of a byte array written as hex by serde, and read back from nothing else.
macro_rules! written_in_hex {
    ($name:ident, $refusal:literal) => {
        impl From<$name> for String {
            fn from(bytes: $name) -> String {
                crate::domain::hex::hex(&bytes.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                crate::domain::hex::from_hex(&text).map(Self).ok_or($refusal)
            }
        }
    };
}
pub(super) use written_in_hex;
