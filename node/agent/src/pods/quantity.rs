//! resource.Quantity as numbers: what the node computes with.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;

pub type ResourceList = BTreeMap<String, Quantity>;

/// In nanos; `None` for what is no quantity.
pub fn nanos(quantity: &Quantity) -> Option<i128> {
    vetch_network::quantity_nanos(&quantity.0)
}

fn div_up(value: i128, by: i128) -> i128 {
    value.div_euclid(by) + i128::from(value.rem_euclid(by) != 0)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

/// Rounded up, as `Value()`; zero for what is no quantity.
pub fn value(quantity: &Quantity) -> i64 {
    clamp(div_up(nanos(quantity).unwrap_or(0), NANO))
}

/// Rounded up, as `MilliValue()`.
pub fn milli(quantity: &Quantity) -> i64 {
    clamp(div_up(nanos(quantity).unwrap_or(0), NANO / 1000))
}

/// `value / divisor`, rounded up; the downward API's rule.
pub fn divided(quantity: &Quantity, divisor: &Quantity) -> i64 {
    let divisor = match nanos(divisor) {
        Some(divisor) if divisor > 0 => divisor,
        _ => NANO,
    };
    clamp(div_up(nanos(quantity).unwrap_or(0), divisor))
}

/// Of one resource: CPU in thousandths, all others in units.
pub fn amount(resource: &str, quantity: &Quantity) -> i64 {
    if resource == "cpu" {
        milli(quantity)
    } else {
        value(quantity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(text: &str) -> Quantity {
        Quantity(text.to_owned())
    }

    #[test]
    fn quantities_as_numbers() {
        for (text, want_value, want_milli) in [
            ("0", 0, 0),
            ("100m", 1, 100),
            ("0.1", 1, 100),
            ("1.5", 2, 1500),
            ("2", 2, 2000),
            ("1Ki", 1024, 1_024_000),
            ("1.5Gi", 1_610_612_736, 1_610_612_736_000),
            ("5e3", 5000, 5_000_000),
            ("3M", 3_000_000, 3_000_000_000),
            ("1n", 1, 1),
            ("-1", -1, -1000),
            ("9999Ei", i64::MAX, i64::MAX),
        ] {
            assert_eq!(value(&q(text)), want_value, "{text}");
            assert_eq!(milli(&q(text)), want_milli, "{text}");
        }
        for bad in ["", "x", "1x", "1.2.3", "Mi"] {
            assert_eq!(nanos(&q(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn division_rounds_up() {
        assert_eq!(divided(&q("1500m"), &q("1")), 2);
        assert_eq!(divided(&q("1500m"), &q("1m")), 1500);
        assert_eq!(divided(&q("64Mi"), &q("1Mi")), 64);
        assert_eq!(divided(&q("65000Ki"), &q("1Mi")), 64);
        assert_eq!(divided(&q("5"), &q("0")), 5);
    }
}
