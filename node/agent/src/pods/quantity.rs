//! resource.Quantity as numbers: what the node computes with.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

pub type ResourceList = BTreeMap<String, Quantity>;

/// In nanos; `None` for what is no quantity.
pub fn nanos(quantity: &Quantity) -> Option<i128> {
    Some(parsed(quantity)?.nanos())
}

/// The API's JSON may have blanks around it.
fn parsed(quantity: &Quantity) -> Option<vetch_quantity::Quantity> {
    vetch_quantity::Quantity::parse(quantity.0.trim()).ok()
}

/// Rounded up, as `Value()`; zero for what is no quantity.
pub fn value(quantity: &Quantity) -> i64 {
    parsed(quantity).map_or(0, |own| own.value())
}

/// Rounded up, as `MilliValue()`.
pub fn milli(quantity: &Quantity) -> i64 {
    parsed(quantity).map_or(0, |own| own.milli_value())
}

/// `value / divisor`, rounded up; the downward API's rule.
pub fn divided(quantity: &Quantity, divisor: &Quantity) -> i64 {
    let Some(own) = parsed(quantity) else {
        return 0;
    };
    let divided = parsed(divisor).and_then(|divisor| own.in_units_of(&divisor));
    divided.unwrap_or_else(|| own.value())
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
            ("1e2147483647", i64::MAX, i64::MAX),
            (" 1.5 ", 2, 1500),
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
