//! metav1.Time and MicroTime.

use jiff::Timestamp;

pub(super) fn parse(text: &str) -> Result<Timestamp, String> {
    // jiff also takes dates without a zone in other types; an instant needs `Z` or an offset, as RFC 3339 says.
    text.parse::<Timestamp>().map_err(|_| {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")
    })
}

/// `2026-11-24T14:53:01Z`
pub fn format_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-11-24T14:53:01.000000Z`
pub fn format_micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}
