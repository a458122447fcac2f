//! The aims, each a row: what the figures of a run are held against.

use vetch_bench_record::Figure;

use crate::{number, words};

/// Whose figures are held against the aims.
pub const OURS: &str = "vetch";
/// Plain routing from pod to pod.
pub const DIRECT: &str = "direct";

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aim {
    /// Of which bench.
    pub bench: &'static str,
    pub measure: &'static str,
    /// Conditions a figure must have to be meant.
    pub when: &'static [(&'static str, &'static str)],
    /// The number of services it is set for; at every one if none is named.
    pub services: Option<u64>,
    pub goal: Goal,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// Ours over another subject's, round by round.
    Ratio { over: &'static str, bound: Bound },
    /// The same, as the number of services grows.
    Growth { over: &'static str },
    /// The figure itself. The words lead from the place to the number: `programming takes`.
    Limit {
        words: &'static str,
        after: &'static str,
        most: f64,
        unit: &'static str,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    MoreThan(f64),
}

impl Bound {
    pub fn number(self) -> f64 {
        match self {
            Bound::AtLeast(number) | Bound::MoreThan(number) => number,
        }
    }

    pub fn sign(self) -> &'static str {
        match self {
            Bound::AtLeast(_) => "≥",
            Bound::MoreThan(_) => ">",
        }
    }

    pub fn holds(self, ratio: f64) -> bool {
        match self {
            Bound::AtLeast(number) => ratio >= number,
            Bound::MoreThan(number) => ratio > number,
        }
    }
}

type When = &'static [(&'static str, &'static str)];
const ONE_NODE: When = &[("placement", "same-node"), ("frontend", "ClusterIP")];
const ACROSS: When = &[("placement", "across-nodes"), ("frontend", "ClusterIP")];
const NODE_PORT: When = &[("placement", "across-nodes"), ("frontend", "NodePort")];

/// Its authors' figures, of another machine; what they are is among the settings of a report.
pub const COREDNS: &str = "coredns-published";

/// Rules of kube-proxy that every run can lay, and the real program, which has to be asked for.
pub const RULES: [&str; 2] = ["iptables", "nftables"];
pub const REAL: [&str; 2] = ["kube-proxy-iptables", "kube-proxy-nftables"];

/// All of them.
pub fn aims() -> Vec<Aim> {
    let mut all = Vec::new();
    for (measure, one_node, across) in [("keepalive", 1.15, 1.00), ("connect", 1.05, 0.99)] {
        for (when, least) in [(ONE_NODE, one_node), (ACROSS, across)] {
            all.push(ratio(measure, when, None, DIRECT, Bound::AtLeast(least)));
        }
    }
    for measure in ["keepalive", "connect"] {
        for over in RULES.into_iter().chain(REAL) {
            for when in [ONE_NODE, ACROSS] {
                all.push(ratio(measure, when, Some(1), over, Bound::MoreThan(1.0)));
                all.push(service(measure, when, None, Goal::Growth { over }));
            }
            all.push(ratio(measure, NODE_PORT, None, over, Bound::AtLeast(1.2)));
        }
    }
    let limit = |words, after, most, unit| Goal::Limit {
        words,
        after,
        most,
        unit,
    };
    let effect = limit("an endpoint change takes effect after", "", 5.0, "ms");
    all.push(service("endpoint-effect", &[], Some(10_000), effect));
    let program = limit("programming from nothing takes", "", 1.0, "s");
    let two = &[("endpoints", "2")];
    all.push(service("program-from-nothing", two, Some(10_000), program));
    let memory = limit("the proxy's part holds", " beside the maps", 30.0, "MiB");
    all.push(service("proxy-memory", &[], Some(10_000), memory));
    all.push(Aim {
        bench: "dns",
        ..ratio("dns-core", &[], None, COREDNS, Bound::MoreThan(1.0))
    });
    all
}

const fn service(measure: &'static str, when: When, services: Option<u64>, goal: Goal) -> Aim {
    Aim {
        bench: "service",
        measure,
        when,
        services,
        goal,
    }
}

const fn ratio(
    measure: &'static str,
    when: When,
    services: Option<u64>,
    over: &'static str,
    bound: Bound,
) -> Aim {
    service(measure, when, services, Goal::Ratio { over, bound })
}

impl Aim {
    /// Whether it is about this figure, whichever its number of services.
    pub fn covers(&self, figure: &Figure) -> bool {
        let (base, variant) = words::family(&figure.measure);
        // Where quantiles are kept apart, the aims mean the median.
        let quantile = variant.map(|(_, name)| name.to_owned());
        let quantile = quantile.or_else(|| figure.conditions.get("quantile").map(words::plain));
        let has = |(key, wanted): &(&str, &str)| {
            let value = figure.conditions.get(*key);
            value.is_some_and(|value| words::plain(value) == *wanted)
        };
        base == self.measure
            && figure.subject == OURS
            && quantile.is_none_or(|name| name == "p50")
            && self.when.iter().all(has)
    }

    /// Whether it is set for this figure's number of services.
    pub fn is_for(&self, figure: &Figure) -> bool {
        let services = figure
            .conditions
            .get("services")
            .and_then(|value| value.as_u64());
        self.covers(figure) && self.services.is_none_or(|wanted| services == Some(wanted))
    }

    /// As it stands beside a figure: `≥ 1.15 × direct`.
    pub fn short(&self) -> String {
        match self.goal {
            Goal::Ratio { over, bound } => {
                format!("{} {:.2} × {over}", bound.sign(), bound.number())
            }
            Goal::Growth { over } => format!("× {over} grows"),
            Goal::Limit { most, unit, .. } => format!("≤ {most} {unit}"),
        }
    }

    /// What its verdicts have in common, for a heading.
    pub fn heading(&self) -> String {
        let mut text = words::title(self.measure);
        match self.goal {
            Goal::Ratio { over, .. } | Goal::Growth { over } => {
                text.push_str(&format!(" ÷ {over}"))
            }
            Goal::Limit { .. } => {}
        }
        let when = self
            .when
            .iter()
            .filter(|(key, _)| *key != "frontend" || self.is_node_port());
        for (key, value) in when {
            let value = match value.parse::<u64>() {
                Ok(number) => number.into(),
                Err(_) => (*value).into(),
            };
            text.push_str(&format!(", {}", words::condition(key, &value)));
        }
        text
    }

    fn is_node_port(&self) -> bool {
        self.when.contains(&("frontend", "NodePort"))
    }
}

/// The least ratio to direct that is aimed at for this figure.
pub fn over_direct(bench: &str, figure: &Figure) -> Option<f64> {
    aims().iter().find_map(|aim| match aim.goal {
        Goal::Ratio { over, bound } if over == DIRECT => {
            (aim.bench == bench && aim.is_for(figure)).then(|| bound.number())
        }
        _ => None,
    })
}

/// The limit this figure is held against, in its own unit, and the name of that line.
pub fn limit(bench: &str, figure: &Figure) -> Option<(f64, String)> {
    aims().iter().find_map(|aim| match aim.goal {
        Goal::Limit { most, unit, .. } if aim.bench == bench && aim.is_for(figure) => {
            let at = aim
                .services
                .map(|services| format!(" at {}", number::compact(services as f64)));
            let label = format!("aim {most} {unit}{}", at.unwrap_or_default());
            Some((most * scale(unit, &figure.unit)?, label))
        }
        _ => None,
    })
}

/// How many of `wanted` one of `unit` is.
pub fn scale(unit: &str, wanted: &str) -> Option<f64> {
    let size = |unit: &str| match unit {
        "s" => Some((0, 1.0)),
        "ms" => Some((0, 1e-3)),
        "µs" | "us" => Some((0, 1e-6)),
        "B" | "bytes" => Some((1, 1.0)),
        "KiB" => Some((1, 1024.0)),
        "MiB" => Some((1, 1024.0 * 1024.0)),
        "GiB" => Some((1, 1024.0 * 1024.0 * 1024.0)),
        _ => None,
    };
    let ((kind, from), (other, to)) = (size(unit)?, size(wanted)?);
    (kind == other).then_some(from / to)
}
