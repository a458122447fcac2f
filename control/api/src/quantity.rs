//! resource.Quantity: parsed, compared, and written in canonical form.

use std::cmp::Ordering;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    BinarySi,
    DecimalSi,
    DecimalExponent,
}

/// A number of nanos with the notation it was written in.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Power of ten, from nano up.
const DECIMAL: [(i32, &str); 10] = [
    (-9, "n"),
    (-6, "u"),
    (-3, "m"),
    (0, ""),
    (3, "k"),
    (6, "M"),
    (9, "G"),
    (12, "T"),
    (15, "P"),
    (18, "E"),
];

impl Quantity {
    pub fn parse(text: &str) -> Result<Quantity, Error> {
        let digits_end = text
            .char_indices()
            .find(|(i, c)| {
                !(c.is_ascii_digit() || *c == '.' || (*i == 0 && matches!(c, '+' | '-')))
            })
            .map_or(text.len(), |(i, _)| i);
        let (number, suffix) = text.split_at(digits_end);
        let unsigned = number.trim_start_matches(['+', '-']);
        if unsigned.is_empty() || !unsigned.bytes().any(|b| b.is_ascii_digit()) {
            return Err(Error::Format);
        }
        let (multiplier, exponent, format) = suffix_scale(suffix)?;
        let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
        if fraction.contains('.') {
            return Err(Error::Numeric);
        }
        let mut mantissa: i128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            mantissa = mantissa
                .checked_mul(10)
                .and_then(|m| m.checked_add(i128::from(byte - b'0')))
                .ok_or(Error::Numeric)?;
        }
        let scale = exponent + 9 - i32::try_from(fraction.len()).map_err(|_| Error::Numeric)?;
        let mut nanos = mantissa.checked_mul(multiplier).ok_or(Error::Numeric)?;
        if scale >= 0 {
            let power = 10_i128
                .checked_pow(scale.unsigned_abs())
                .ok_or(Error::Numeric)?;
            nanos = nanos.checked_mul(power).ok_or(Error::Numeric)?;
        } else {
            // Below a nano is rounded up, away from zero.
            let divisor = 10_i128
                .checked_pow(scale.unsigned_abs())
                .ok_or(Error::Numeric)?;
            nanos = (nanos + divisor - 1) / divisor;
        }
        if number.starts_with('-') {
            nanos = -nanos;
        }
        Ok(Quantity { nanos, format })
    }

    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// Rounded up, as `Value()` does.
    pub fn value(&self) -> i64 {
        clamp(div_up(self.nanos, NANO))
    }

    /// Rounded up, as `MilliValue()` does.
    pub fn milli_value(&self) -> i64 {
        clamp(div_up(self.nanos, NANO / 1000))
    }

    pub fn is_integer(&self) -> bool {
        self.nanos % NANO == 0
    }
}

/// Of one resource, as schedulers count: cpu in thousandths, all others in units. `None`: it is no
/// quantity.
pub fn amount(resource: &str, text: &str) -> Option<i64> {
    let quantity = Quantity::parse(text).ok()?;
    Some(match resource {
        "cpu" => quantity.milli_value(),
        _ => quantity.value(),
    })
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

fn div_up(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

/// (factor, power of ten, notation)
fn suffix_scale(suffix: &str) -> Result<(i128, i32, Format), Error> {
    if !suffix
        .chars()
        .all(|c| "eEinumkKMGTP+-0123456789".contains(c))
    {
        return Err(Error::Format);
    }
    if !suffix.is_empty()
        && let Some(power) = BINARY.iter().position(|s| *s == suffix)
    {
        return Ok((1 << (10 * power), 0, Format::BinarySi));
    }
    if let Some((power, _)) = DECIMAL.iter().find(|(_, s)| *s == suffix) {
        return Ok((1, *power, Format::DecimalSi));
    }
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']) {
        let power: i32 = exponent.parse().map_err(|_| Error::Suffix)?;
        return Ok((1, power, Format::DecimalExponent));
    }
    Err(Error::Suffix)
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        self.nanos.partial_cmp(&other.nanos)
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;

    /// In the notation of the first, unless that is nothing.
    fn add(self, other: Quantity) -> Quantity {
        let format = match self.is_zero() {
            true => other.format,
            false => self.format,
        };
        Quantity {
            nanos: self.nanos.saturating_add(other.nanos),
            format,
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANO == 0;
        // A binary quantity below 1024 or with a fraction is written in decimal.
        if self.format == Format::BinarySi && whole && (self.nanos / NANO).abs() >= 1024 {
            let mut value = self.nanos / NANO;
            let mut power = 0;
            while value % 1024 == 0 && power + 1 < BINARY.len() {
                value /= 1024;
                power += 1;
            }
            return write!(f, "{value}{}", BINARY[power]);
        }
        let mut value = self.nanos;
        let mut step = 0;
        while value % 1000 == 0 && step + 1 < DECIMAL.len() {
            value /= 1000;
            step += 1;
        }
        let (power, suffix) = DECIMAL[step];
        match self.format {
            Format::DecimalExponent if power != 0 => write!(f, "{value}e{power}"),
            Format::DecimalExponent => write!(f, "{value}"),
            _ => write!(f, "{value}{suffix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_canonical() {
        let table = [
            ("0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("1.5", "1500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("128974848", "128974848"),
            ("1000k", "1M"),
            ("129e6", "129e6"),
            ("1e3", "1e3"),
            ("12e", ""),
            ("512", "512"),
            ("0.5Ki", "512"),
            ("-1", "-1"),
            (".5", "500m"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("5E", "5E"),
            ("1Kii", ""),
            ("1x", ""),
            ("", ""),
            ("1 Gi", ""),
        ];
        for (text, expected) in table {
            match Quantity::parse(text) {
                Ok(q) => assert_eq!(q.to_string(), expected, "{text}"),
                Err(_) => assert_eq!("", expected, "{text}"),
            }
        }
    }

    #[test]
    fn sums_are_written_as_their_first() {
        let q = |text| Quantity::parse(text).unwrap();
        for (one, other, sum) in [
            ("512Mi", "512Mi", "1Gi"),
            ("500m", "1", "1500m"),
            ("0", "1Ki", "1Ki"),
            ("1M", "1Mi", "2048576"),
        ] {
            assert_eq!((q(one) + q(other)).to_string(), sum, "{one} + {other}");
        }
    }

    #[test]
    fn quantities_compare_across_notations() {
        let q = |text| Quantity::parse(text).unwrap();
        assert!(q("1Gi") > q("1G"));
        assert!(q("1000m") == q("1"));
        assert_eq!(
            (
                q("1500m").value(),
                q("1500m").milli_value(),
                q("-1500m").value()
            ),
            (2, 1500, -1)
        );
    }

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
