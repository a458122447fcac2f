//! Measures, conditions and outcomes in English.
//!
//! A measure that is not in the table gets its words from its name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use vetch_bench_record::Report;

use crate::number;

/// Name, title, the words inside a sentence, whether those are a plural.
const MEASURES: &[(&str, &str, &str, bool)] = &[
    ("keepalive", "Keep-alive requests", "keep-alive", false),
    ("connect", "New connections", "new connections", true),
    ("stream", "Streaming", "streaming", false),
    ("udp", "UDP round trips", "UDP round trips", true),
    (
        "keepalive-latency",
        "Keep-alive latency",
        "keep-alive latency",
        false,
    ),
    (
        "connect-latency",
        "Latency of a new connection",
        "latency of a new connection",
        false,
    ),
    (
        "keepalive-cpu",
        "CPU of a keep-alive request",
        "CPU of a keep-alive request",
        false,
    ),
    (
        "connect-cpu",
        "CPU of a new connection",
        "CPU of a new connection",
        false,
    ),
    (
        "keepalive-machine-cpu",
        "CPU of the whole machine, a keep-alive request",
        "CPU of the whole machine",
        false,
    ),
    (
        "connect-machine-cpu",
        "CPU of the whole machine, a new connection",
        "CPU of the whole machine",
        false,
    ),
    (
        "keepalive-machine-cycles",
        "Cycles of the whole machine, a keep-alive request",
        "cycles of the whole machine",
        true,
    ),
    (
        "connect-machine-cycles",
        "Cycles of the whole machine, a new connection",
        "cycles of the whole machine",
        true,
    ),
    (
        "endpoint-effect",
        "Endpoint change to effect",
        "an endpoint change to its effect",
        false,
    ),
    (
        "program-from-nothing",
        "Services from nothing",
        "programming from nothing",
        false,
    ),
    (
        "program-rules",
        "Laying the rules",
        "laying the rules",
        false,
    ),
    (
        "update-cost",
        "CPU of an endpoint update",
        "CPU of an endpoint update",
        false,
    ),
    (
        "proxy-memory",
        "Memory of the proxy",
        "memory of the proxy",
        false,
    ),
    (
        "map-memory",
        "Memory of the maps",
        "memory of the maps",
        false,
    ),
    (
        "create-services",
        "Making the Services",
        "making the Services",
        false,
    ),
    (
        "remove-services",
        "Removing the Services",
        "removing the Services",
        false,
    ),
    (
        "created-ready",
        "Created to Ready",
        "created to Ready",
        false,
    ),
    (
        "created-last-ready",
        "Created to last Ready",
        "created to last Ready",
        false,
    ),
    ("deleted-gone", "Deleted to gone", "deleted to gone", false),
    ("step", "Steps of a pod", "steps of a pod", true),
    (
        "daemon-memory",
        "Memory of the daemon",
        "memory of the daemon",
        false,
    ),
    (
        "supervisor-memory",
        "Memory of the supervisors",
        "memory of the supervisors",
        false,
    ),
    ("watch-latency", "Watch latency", "watch latency", false),
    ("dns", "Questions to the name server", "questions", true),
    (
        "dns-core",
        "Questions a busy core",
        "questions a busy core",
        true,
    ),
    (
        "dns-latency",
        "Latency of a name",
        "latency of a name",
        false,
    ),
    ("dns-cpu", "CPU of a question", "CPU of a question", false),
];

/// The order people read conditions in; others follow by name.
const CONDITIONS: &[&str] = &[
    "placement",
    "frontend",
    "mode",
    "services",
    "endpoints",
    "pods",
    "step",
    "quantile",
];

/// A measure without what is only a variant of it, and that variant as a condition:
/// `keepalive-latency-p99` is `keepalive-latency` at quantile p99.
pub fn family(measure: &str) -> (&str, Option<(&'static str, &str)>) {
    if let Some(step) = measure.strip_prefix("step-")
        && !step.is_empty()
    {
        return ("step", Some(("step", step)));
    }
    if let Some((base, tail)) = measure.rsplit_once('-') {
        let digits = tail.strip_prefix('p').unwrap_or_default();
        let is_quantile = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_quantile && !base.is_empty() {
            return (base, Some(("quantile", tail)));
        }
    }
    (measure, None)
}

/// For a heading; `measure` may be a family or not.
pub fn title(measure: &str) -> String {
    let (base, variant) = family(measure);
    let known = MEASURES.iter().find(|row| row.0 == base);
    let title = known.map_or_else(|| capital(&base.replace('-', " ")), |row| row.1.to_owned());
    match variant {
        Some((_, variant)) => format!("{title}, {variant}"),
        None => title,
    }
}

/// For a sentence, and whether a plural verb follows.
pub fn noun(measure: &str) -> (String, bool) {
    match MEASURES.iter().find(|row| row.0 == measure) {
        Some(row) => (row.2.to_owned(), row.3),
        None => (measure.replace('-', " "), false),
    }
}

/// Where a measure stands among the others.
pub fn rank(family: &str) -> usize {
    let place = MEASURES.iter().position(|row| row.0 == family);
    place.unwrap_or(MEASURES.len())
}

pub fn condition_rank(key: &str) -> usize {
    let place = CONDITIONS.iter().position(|known| *known == key);
    place.unwrap_or(CONDITIONS.len())
}

/// As it is, without the quotes of a JSON string.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(_) => match value.as_u64() {
            Some(number) => number::grouped(number),
            None => value.to_string(),
        },
        other => other.to_string(),
    }
}

/// A condition in a few words: `one node`, `1,000 services`.
pub fn condition(key: &str, value: &Value) -> String {
    let text = plain(value);
    match key {
        "placement" => match text.as_str() {
            "same-node" => "one node".into(),
            "across-nodes" => "across nodes".into(),
            _ => text,
        },
        "mode" => text.replace('-', " "),
        "frontend" | "quantile" | "step" => text,
        "query" => format!("{text} names"),
        "services" | "endpoints" | "pods" => {
            let one = value.as_u64() == Some(1);
            let name = if one { key.trim_end_matches('s') } else { key };
            format!("{text} {name}")
        }
        _ => format!("{} {text}", key.replace('-', " ")),
    }
}

/// The conditions whose keys are wanted, in reading order.
pub fn conditions(
    conditions: &BTreeMap<String, Value>,
    wanted: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut keys: Vec<_> = conditions.iter().filter(|pair| wanted(pair.0)).collect();
    keys.sort_by_key(|(key, _)| (condition_rank(key), key.to_owned()));
    keys.into_iter()
        .map(|(key, value)| condition(key, value))
        .collect()
}

/// How a sentence begins: `At 1,000 services on one node`. Of the conditions beside number of
/// services and placement it names those in `varying`; the frontend has a place of its own.
pub fn place(conditions: &BTreeMap<String, Value>, varying: &BTreeSet<String>) -> String {
    let mut words = Vec::new();
    let endpoints = conditions
        .get("endpoints")
        .filter(|_| varying.contains("endpoints"));
    if let Some(services) = conditions.get("services") {
        words.push(format!("at {}", condition("services", services)));
        if let Some(endpoints) = endpoints {
            words.push(format!("with {} each", condition("endpoints", endpoints)));
        }
    } else if let Some(endpoints) = endpoints {
        words.push(format!("with {}", condition("endpoints", endpoints)));
    }
    if let Some(placement) = conditions.get("placement") {
        words.push(match plain(placement).as_str() {
            "same-node" => "on one node".into(),
            _ => condition("placement", placement),
        });
    }
    let told = ["services", "endpoints", "placement", "frontend"];
    let rest = self::conditions(conditions, |key| {
        !told.contains(&key) && varying.contains(key)
    });
    if !rest.is_empty() {
        words.push(format!("({})", rest.join(", ")));
    }
    capital(&words.join(" "))
}

/// `through the ClusterIP`.
pub fn through(conditions: &BTreeMap<String, Value>) -> String {
    let frontend = conditions.get("frontend").map(plain);
    frontend.map_or_else(String::new, |name| format!(" through the {name}"))
}

/// The conditions in which the figures of a measure differ.
pub fn varying(report: &Report, measure: &str) -> BTreeSet<String> {
    let of_measure = report
        .figures
        .iter()
        .filter(|figure| figure.measure == measure);
    differing(of_measure.map(|figure| &figure.conditions))
}

/// The keys that do not have one and the same value everywhere.
pub fn differing<'a>(all: impl Iterator<Item = &'a BTreeMap<String, Value>>) -> BTreeSet<String> {
    let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut count = 0;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for conditions in all {
        count += 1;
        for (key, value) in conditions {
            values.entry(key).or_default().insert(value.to_string());
            *seen.entry(key).or_default() += 1;
        }
    }
    let differs = |key: &str| values[key].len() > 1 || seen[key] < count;
    values
        .keys()
        .filter(|key| differs(key))
        .map(|key| (*key).to_owned())
        .collect()
}

pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// `a, b and c`.
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_told_from_their_family() {
        for (measure, base, variant) in [
            ("keepalive", "keepalive", None),
            (
                "keepalive-latency-p999",
                "keepalive-latency",
                Some(("quantile", "p999")),
            ),
            ("step-image", "step", Some(("step", "image"))),
            ("step-", "step-", None),
            ("-p50", "-p50", None),
            ("map-pages", "map-pages", None),
        ] {
            assert_eq!(family(measure), (base, variant), "{measure}");
        }
    }

    #[test]
    fn unknown_measures_get_words_of_their_name() {
        assert_eq!(title("list-all-pods"), "List all pods");
        assert_eq!(title("keepalive-latency-p99"), "Keep-alive latency, p99");
        assert_eq!(noun("list-all").0, "list all");
    }

    #[test]
    fn a_sentence_begins_with_where_it_was() {
        let conditions = BTreeMap::from([
            ("services".to_owned(), Value::from(1000)),
            ("endpoints".to_owned(), Value::from(10)),
            ("placement".to_owned(), Value::from("same-node")),
            ("frontend".to_owned(), Value::from("ClusterIP")),
            ("pace".to_owned(), Value::from("slow")),
        ]);
        assert_eq!(
            place(&conditions, &BTreeSet::new()),
            "At 1,000 services on one node"
        );
        let all = conditions.keys().cloned().collect();
        assert_eq!(
            place(&conditions, &all),
            "At 1,000 services with 10 endpoints each on one node (pace slow)"
        );
        assert_eq!(through(&conditions), " through the ClusterIP");
        assert_eq!(place(&BTreeMap::new(), &all), "");
    }

    #[test]
    fn a_key_that_only_some_have_differs() {
        let with = BTreeMap::from([("a".to_owned(), Value::from(1)), ("b".into(), 1.into())]);
        let without = BTreeMap::from([("a".to_owned(), Value::from(1))]);
        let keys = differing([&with, &without].into_iter());
        assert_eq!(keys, BTreeSet::from(["b".to_owned()]));
    }
}
