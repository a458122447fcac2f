//! Stop signals by name or number, as images write them.

use std::str::FromStr;

use crate::Error;

pub fn parse(name: &str) -> Result<i32, Error> {
    let unknown = || Error::UnknownSignal(name.to_owned());
    let number = if let Ok(number) = name.parse::<i32>() {
        number
    } else {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("SIG").unwrap_or(&upper);
        // The kernel's numbers: glibc keeps the first two for itself.
        if let Some(rest) = short.strip_prefix("RTMIN") {
            realtime(34, rest).ok_or_else(unknown)?
        } else if let Some(rest) = short.strip_prefix("RTMAX") {
            realtime(64, rest).ok_or_else(unknown)?
        } else {
            nix::sys::signal::Signal::from_str(&format!("SIG{short}")).map_err(|_| unknown())?
                as i32
        }
    };
    if (1..=64).contains(&number) {
        Ok(number)
    } else {
        Err(unknown())
    }
}

/// `offset` is nothing, or a number with a sign.
fn realtime(from: i32, offset: &str) -> Option<i32> {
    if offset.is_empty() {
        return Some(from);
    }
    from.checked_add(offset.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers() {
        for (name, want) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGRTMAX+1", None),
            ("SIGRTMIN+30", Some(64)),
            ("SIGRTMIN+31", None),
            ("SIGRTMIN+2147483647", None),
            ("SIGRTMIN+2147483648", None),
            ("SIGRTMAX-2147483648", None),
            ("RTMAX+2147483647", None),
            ("0", None),
            ("SIGNOTHING", None),
            ("", None),
        ] {
            assert_eq!(parse(name).ok(), want, "{name}");
        }
    }
}
