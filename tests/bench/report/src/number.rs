//! Numbers as people read them.

use vetch_bench_record::Summary;

/// Digits in groups of three: `10,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits that count, more only where they stand before the point, fewer where more than three would stand
/// behind it. What is nothing in these has no sign.
pub fn value(number: f64) -> String {
    let size = number.abs();
    let sign = if number < 0.0 { "−" } else { "" };
    let decimals = match size {
        // Past 2^53 a float holds no units to group.
        s if !s.is_finite() || s >= 9e15 => return format!("{number:e}"),
        s if s >= 999.5 => return format!("{sign}{}", grouped(size.round() as u64)),
        s if s == 0.0 || s >= 99.95 => 0,
        s if s >= 9.995 => 1,
        s if s >= 0.9995 => 2,
        s if s >= 0.0005 => 3,
        _ => return "0.000".to_owned(),
    };
    format!("{sign}{size:.decimals$}")
}

/// For an axis, where room is short: `10k`.
pub fn compact(number: f64) -> String {
    let size = number.abs();
    let (scale, suffix) = match size {
        s if s >= 1e9 => (1e9, "G"),
        s if s >= 1e6 => (1e6, "M"),
        s if s >= 1e3 => (1e3, "k"),
        _ => (1.0, ""),
    };
    // Six digits hide what binary fractions add: 0.30000000000000004.
    let short = format!("{:.6}", number / scale);
    let short = short.trim_end_matches('0').trim_end_matches('.');
    format!("{}{suffix}", short.replace('-', "−"))
}

/// A ratio with as many digits as it takes to tell it from what it is held against.
pub fn ratio(number: f64, beside: &[f64]) -> String {
    let short = format!("{number:.2}");
    let hidden = |other: &f64| *other != number && format!("{other:.2}") == short;
    if beside.iter().any(hidden) {
        format!("{number:.3}")
    } else {
        short
    }
}

/// A median with its quartiles behind it: `1.02 (0.98–1.05)`. One sample has no spread.
pub fn spread(found: &Summary, show: impl Fn(f64) -> String) -> String {
    show(found.median) + &quartiles(found, show)
}

/// The same with words after the median: `1.02 × direct (0.98–1.05)`.
pub fn spread_of(found: &Summary, words: &str, show: impl Fn(f64) -> String) -> String {
    format!("{} {words}{}", show(found.median), quartiles(found, show))
}

fn quartiles(found: &Summary, show: impl Fn(f64) -> String) -> String {
    match found.count {
        1 => String::new(),
        _ => format!(" ({}–{})", show(found.low), show(found.high)),
    }
}

/// A relative change with its sign.
pub fn percent(change: f64) -> String {
    let size = change.abs() * 100.0;
    let decimals = usize::from(size < 99.95);
    let text = format!("{size:.decimals$}");
    let sign = match change {
        c if c < 0.0 && text != "0.0" => "−",
        c if c > 0.0 && text != "0.0" => "+",
        _ => "",
    };
    format!("{sign}{text} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_three_digits() {
        for (number, wanted) in [
            (0.0, "0"),
            (0.004, "0.004"),
            (-0.00406, "−0.004"),
            (0.0006, "0.001"),
            (0.0004, "0.000"),
            (-0.0004, "0.000"),
            (0.0096, "0.010"),
            (0.25, "0.250"),
            (1.0, "1.00"),
            (9.999, "10.0"),
            (29.96, "30.0"),
            (812.4, "812"),
            (999.6, "1,000"),
            (123_456.7, "123,457"),
            (-3.0, "−3.00"),
        ] {
            assert_eq!(value(number), wanted, "{number}");
        }
    }

    #[test]
    fn axes_are_short() {
        for (number, wanted) in [
            (0.1 + 0.2, "0.3"),
            (1.0, "1"),
            (1500.0, "1.5k"),
            (50_000.0, "50k"),
            (2.5e6, "2.5M"),
            (-20.0, "−20"),
        ] {
            assert_eq!(compact(number), wanted, "{number}");
        }
    }

    #[test]
    fn a_ratio_is_told_from_its_aim() {
        assert_eq!(ratio(1.021, &[1.15]), "1.02");
        assert_eq!(ratio(0.9964, &[1.0]), "0.996");
        assert_eq!(ratio(1.0, &[1.0]), "1.00");
    }

    #[test]
    fn one_sample_has_no_spread() {
        for (samples, wanted) in [(&[1.0][..], "1"), (&[1.0, 2.0, 3.0], "2 (1.5–2.5)")] {
            let found = Summary::of(samples).unwrap();
            assert_eq!(spread(&found, |number| number.to_string()), wanted);
            let with = wanted.replacen([' '], " s ", 1);
            let with = if with == wanted {
                format!("{wanted} s")
            } else {
                with
            };
            assert_eq!(spread_of(&found, "s", |number| number.to_string()), with);
        }
    }

    #[test]
    fn changes_have_a_sign() {
        for (change, wanted) in [
            (-0.05, "−5.0 %"),
            (0.123, "+12.3 %"),
            (0.0, "0.0 %"),
            (-0.0001, "0.0 %"),
            (1.5, "+150 %"),
        ] {
            assert_eq!(percent(change), wanted, "{change}");
        }
    }
}
