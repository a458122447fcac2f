//! How fast a pod may receive and send, by its annotations.

use vetch_quantity::Quantity;

use super::Bandwidth;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";

/// What Kubernetes holds to be reasonable, in bits a second: 1k and 1P.
const LEAST: i64 = 1_000;
const MOST: i64 = 1_000_000_000_000_000;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BandwidthError {
    #[error("annotation {key} is {value:?}, which is no quantity of bits a second, such as 10M")]
    NoQuantity { key: &'static str, value: String },
    #[error("annotation {key} is {value:?}: less than 1k bits a second is unreasonable")]
    TooSmall { key: &'static str, value: String },
    #[error("annotation {key} is {value:?}: more than 1P bits a second is unreasonable")]
    TooLarge { key: &'static str, value: String },
}

impl Bandwidth {
    /// `annotation` finds one by its name.
    ///
    /// # Errors
    /// A value that is none: such a pod is not started, as with the kubelet and the CNI plugin `bandwidth`.
    pub fn of_annotations<'a>(
        annotation: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, BandwidthError> {
        let read = |key| annotation(key).map(|value| bits(key, value)).transpose();
        Ok(Self {
            ingress: read(INGRESS)?,
            egress: read(EGRESS)?,
        })
    }
}

fn bits(key: &'static str, text: &str) -> Result<u64, BandwidthError> {
    let value = || text.to_owned();
    let no_quantity = || BandwidthError::NoQuantity {
        key,
        value: value(),
    };
    let bits = Quantity::parse(text.trim()).map_err(|_| no_quantity())?;
    let bits = bits.value();
    match bits {
        ..LEAST => Err(BandwidthError::TooSmall {
            key,
            value: value(),
        }),
        LEAST..=MOST => u64::try_from(bits).map_err(|_| no_quantity()),
        _ => Err(BandwidthError::TooLarge {
            key,
            value: value(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(annotations: &[(&str, &str)]) -> Result<Bandwidth, String> {
        let find = |name: &str| {
            let mut all = annotations.iter();
            all.find(|(key, _)| *key == name).map(|(_, value)| *value)
        };
        Bandwidth::of_annotations(find).map_err(|error| error.to_string())
    }

    #[test]
    fn reasonable_quantities() {
        for (value, bits) in [
            ("1k", 1_000),
            ("10M", 10_000_000),
            ("1Mi", 1_048_576),
            ("1.5G", 1_500_000_000),
            ("999.5", 1_000),
            ("1P", 1_000_000_000_000_000),
        ] {
            let limits = of(&[(INGRESS, value)]).unwrap();
            assert_eq!(
                (limits.ingress, limits.egress),
                (Some(bits), None),
                "{value}"
            );
            let limits = of(&[(EGRESS, value)]).unwrap();
            assert_eq!(
                (limits.ingress, limits.egress),
                (None, Some(bits)),
                "{value}"
            );
        }
        assert_eq!(of(&[]), Ok(Bandwidth::default()));
    }

    #[test]
    fn others_are_said() {
        for (value, words) in [
            ("", "is \"\", which is no quantity"),
            ("fast", "is \"fast\", which is no quantity"),
            ("10Mbit", "is \"10Mbit\", which is no quantity"),
            ("999", "is \"999\": less than 1k"),
            ("0", "is \"0\": less than 1k"),
            ("-10M", "is \"-10M\": less than 1k"),
            ("2P", "is \"2P\": more than 1P"),
            ("1e2147483647", "is \"1e2147483647\": more than 1P"),
            ("1e-2147483648", "is \"1e-2147483648\": less than 1k"),
        ] {
            for key in [INGRESS, EGRESS] {
                let said = of(&[(key, value)]).unwrap_err();
                assert!(said.contains(words) && said.contains(key), "{said}");
            }
        }
    }
}
