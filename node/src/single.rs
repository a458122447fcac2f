//! What listings of single calls and packets have in common.

use std::net::{IpAddr, SocketAddr};

/// A line each, and of those that were not told of one by one how many there were.
pub fn text(lines: impl Iterator<Item = String>, missed: u64) -> String {
    let mut text: String = lines.map(|line| line + "\n").collect();
    if missed > 0 {
        text.push_str(&format!(
            "{missed} more were counted only: see vetch-node maps\n"
        ));
    }
    text
}

/// From or to where, as far as it is known.
pub fn end(ip: Option<IpAddr>, port: Option<u16>) -> String {
    match (ip, port) {
        (Some(ip), Some(port)) => SocketAddr::new(ip, port).to_string(),
        (Some(ip), None) => ip.to_string(),
        (None, _) => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_a_number() {
        for (lines, missed, want) in [
            (&[][..], 0, ""),
            (&["a", "b"], 0, "a\nb\n"),
            (
                &["a"],
                1,
                "a\n1 more were counted only: see vetch-node maps\n",
            ),
            (&[], 2, "2 more were counted only: see vetch-node maps\n"),
        ] {
            let said = lines.iter().map(|line| (*line).to_owned());
            assert_eq!(text(said, missed), want, "{lines:?} {missed}");
        }
    }

    #[test]
    fn ends_of_what_is_known() {
        for (ip, port, want) in [
            (None, None, "-"),
            (None, Some(80), "-"),
            (Some("10.0.0.1"), None, "10.0.0.1"),
            (Some("10.0.0.1"), Some(80), "10.0.0.1:80"),
            (Some("fd00::1"), None, "fd00::1"),
            (Some("fd00::1"), Some(80), "[fd00::1]:80"),
        ] {
            let ip = ip.map(|ip| ip.parse().unwrap());
            assert_eq!(end(ip, port), want);
        }
    }
}
