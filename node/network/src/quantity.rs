//! Kubernetes' quantities as numbers: what annotations of bandwidth are written in.

/// In nanos; `None` for what is no quantity.
pub fn nanos(text: &str) -> Option<i128> {
    let text = text.trim();
    let end = text
        .char_indices()
        .find(|(i, c)| !(c.is_ascii_digit() || *c == '.' || (*i == 0 && matches!(c, '+' | '-'))))
        .map_or(text.len(), |(i, _)| i);
    let (number, suffix) = text.split_at(end);
    let (factor, power) = scale(suffix)?;
    let unsigned = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut mantissa: i128 = 0;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        mantissa = mantissa
            .checked_mul(10)?
            .checked_add((byte - b'0').into())?;
    }
    let power = power + 9 - i32::try_from(fraction.len()).ok()?;
    let mut value = mantissa.checked_mul(factor)?;
    let ten = 10_i128.checked_pow(power.unsigned_abs())?;
    value = if power >= 0 {
        value.checked_mul(ten)?
    } else {
        div_up(value, ten)
    };
    Some(if number.starts_with('-') {
        -value
    } else {
        value
    })
}

/// (factor, power of ten)
fn scale(suffix: &str) -> Option<(i128, i32)> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(index) = BINARY.iter().position(|name| *name == suffix) {
        return Some((1 << (10 * (index + 1)), 0));
    }
    let power = match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        _ => suffix.strip_prefix(['e', 'E'])?.parse().ok()?,
    };
    Some((1, power))
}

fn div_up(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_as_nanos() {
        const NANO: i128 = 1_000_000_000;
        for (text, want) in [
            ("0", Some(0)),
            ("100m", Some(NANO / 10)),
            (" 1.5 ", Some(NANO * 3 / 2)),
            ("1Ki", Some(1024 * NANO)),
            ("5e3", Some(5000 * NANO)),
            ("1n", Some(1)),
            // Up, as Kubernetes counts.
            ("0.1n", Some(1)),
            ("-1", Some(-NANO)),
            ("", None),
            ("1x", None),
            ("1.2.3", None),
        ] {
            assert_eq!(nanos(text), want, "{text:?}");
        }
    }
}
