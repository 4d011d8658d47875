//! Weights of content negotiation, by [RFC 9110, section 12.4.2](https://www.rfc-editor.org/rfc/rfc9110#section-12.4.2).

use http::HeaderMap;
use http::header::HeaderName;

/// An item of an `Accept` or `Accept-Encoding` header.
pub(super) struct Preference<'a> {
    /// In lower case.
    pub name: String,
    /// In thousandths. `None` if it is malformed.
    pub weight: Option<u16>,
    /// The parameters besides the weight.
    pub parameters: Vec<(&'a str, &'a str)>,
}

/// The items of a header, in order, from all its lines. A line that is not ASCII accepts nothing.
pub(super) fn preferences(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Preference<'_>> {
    let lines = headers.get_all(name).into_iter().map(|line| line.to_str().unwrap_or("*/*;q=0"));
    lines.flat_map(|line| line.split(',')).filter_map(|item| {
        let mut parts = item.split(';');
        let name = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        if name.is_empty() {
            return None;
        }
        let (mut weight, mut parameters) = (Some(1000), Vec::new());
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("q") {
                let quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality));
                weight = quality.map(|quality: f32| (quality * 1000.0).round() as u16);
            } else {
                parameters.push((name, value));
            }
        }
        Some(Preference { name, weight, parameters })
    })
}
