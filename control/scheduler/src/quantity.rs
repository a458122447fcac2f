//! Amounts of resources as whole numbers.

/// What a quantity is counted in: cpu in thousandths, everything else in units. Rounded up, as
/// Kubernetes does. None: it is no quantity.
pub fn amount(resource: &str, text: &str) -> Option<i64> {
    let nanos = nanos(text)?;
    let unit = if resource == "cpu" {
        1_000_000
    } else {
        1_000_000_000
    };
    let whole = nanos.div_euclid(unit) + i128::from(nanos.rem_euclid(unit) != 0);
    Some(i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX }))
}

fn nanos(text: &str) -> Option<i128> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let mantissa: i128 = digits.parse().ok()?;
    let (factor, exponent) = scale(suffix)?;
    let exponent = exponent + 9 - i32::try_from(fraction.len()).ok()?;
    let scaled = mantissa.checked_mul(factor)?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    let nanos = match exponent {
        0.. => scaled.checked_mul(power)?,
        _ => scaled.div_euclid(power) + i128::from(scaled.rem_euclid(power) != 0),
    };
    Some(if negative { -nanos } else { nanos })
}

/// (factor, power of ten)
fn scale(suffix: &str) -> Option<(i128, i32)> {
    const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(index) = BINARY.iter().position(|binary| *binary == suffix) {
        return Some((1_i128 << (10 * (index + 1)), 0));
    }
    let exponent = match suffix {
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
        _ => suffix
            .strip_prefix(['e', 'E'])?
            .parse()
            .ok()
            .filter(|exponent: &i32| exponent.abs() <= 18)?,
    };
    Some((1, exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        let table = [
            ("cpu", "100m", Some(100)),
            ("cpu", "1.5", Some(1500)),
            ("cpu", "2", Some(2000)),
            ("cpu", "1u", Some(1)),
            ("memory", "1Ki", Some(1024)),
            ("memory", "1.5Gi", Some(1_610_612_736)),
            ("memory", "128M", Some(128_000_000)),
            ("memory", "1e3", Some(1000)),
            ("memory", "100m", Some(1)),
            ("memory", "-1", Some(-1)),
            ("memory", "9Ei", Some(i64::MAX)),
            ("memory", "x", None),
            ("memory", "", None),
            ("memory", "1Zi", None),
        ];
        for (resource, text, wanted) in table {
            assert_eq!(amount(resource, text), wanted, "{resource} {text}");
        }
    }
}
