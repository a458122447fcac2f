//! Which of a list a client wants.

use std::collections::{BTreeMap, HashMap};

/// Every key with that value.
pub fn has_labels(labels: &BTreeMap<String, String>, wanted: &HashMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// None or empty is all; an id may be cut short.
pub fn is_id(id: &str, wanted: &str) -> bool {
    id.starts_with(wanted)
}

/// CRI's maps have no order.
pub fn to_map(labels: &BTreeMap<String, String>) -> HashMap<String, String> {
    labels.clone().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_labels_have_to_match() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            pairs.iter().map(own).collect()
        };
        let labels = pairs(&[("app", "web"), ("tier", "front")])
            .into_iter()
            .collect();
        for (wanted, has) in [
            (&[][..], true),
            (&[("app", "web")], true),
            (&[("app", "web"), ("tier", "front")], true),
            (&[("app", "db")], false),
            (&[("app", "web"), ("zone", "a")], false),
        ] {
            let wanted: HashMap<_, _> = pairs(wanted).into_iter().collect();
            assert_eq!(has_labels(&labels, &wanted), has, "{wanted:?}");
        }
    }
}
