//! resource.Quantity: parsed, compared, and written in canonical form.
//!
//! As Kubernetes' API has it, none is more than 2^63-1 or finer than a nano: larger ones are capped, finer ones
//! rounded up, away from zero.

use std::cmp::Ordering;
use std::fmt;
use std::iter;

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
/// In nanos, of either sign. Sums of them have room in an i128.
const MOST: i128 = i64::MAX as i128 * NANO;
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Power of ten, from nano up.
const DECIMAL: [(i64, &str); 10] = [
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
        let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
        let point = i64::try_from(whole.len()).unwrap_or(i64::MAX);
        let nanos = nanos(&digits, point.saturating_add(exponent), multiplier);
        let nanos = match number.starts_with('-') {
            true => -nanos,
            false => nanos,
        };
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

    /// How many of `unit` it is, rounded up. `None`: that is nothing, or negative.
    pub fn in_units_of(&self, unit: &Quantity) -> Option<i64> {
        (unit.nanos > 0).then(|| clamp(div_up(self.nanos, unit.nanos)))
    }

    pub fn nanos(&self) -> i128 {
        self.nanos
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

/// `digits` with the point behind `point` of them, times `factor`, which is 2^60 at most.
fn nanos(digits: &[u8], point: i64, factor: i128) -> i128 {
    let of = |digit: &u8| i128::from(digit - b'0');
    // Wherever the point is.
    if digits.iter().all(|digit| *digit == b'0') {
        return 0;
    }
    let before = usize::try_from(point.max(0)).unwrap_or(usize::MAX);
    let (whole, fraction) = digits.split_at(before.min(digits.len()));
    let zeros = iter::repeat_n(0, before - whole.len());
    let mut units = 0;
    for digit in whole.iter().map(of).chain(zeros) {
        units = units * 10 + digit;
        if units > MOST / NANO {
            return MOST;
        }
    }
    let unit = factor * NANO;
    // From the last digit on: what is behind the point, and whether there is more than that.
    let (mut part, mut more) = (0, false);
    for digit in fraction.iter().rev().map(of) {
        let sum = digit * unit + part;
        part = sum / 10;
        more |= sum % 10 != 0;
    }
    // Where nothing is left, further zeros change nothing.
    let mut zeros = point.min(0).unsigned_abs();
    while zeros > 0 && part != 0 {
        more |= part % 10 != 0;
        part /= 10;
        zeros -= 1;
    }
    let whole = units.checked_mul(unit).unwrap_or(MOST);
    whole.saturating_add(part + i128::from(more)).min(MOST)
}

/// (factor, power of ten, notation)
fn suffix_scale(suffix: &str) -> Result<(i128, i64, Format), Error> {
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
        let power: i64 = exponent.parse().map_err(|_| Error::Suffix)?;
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
mod tests;
