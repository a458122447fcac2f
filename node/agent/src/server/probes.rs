//! `GET /metrics/probes`: how often probes asked, and what came of it.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};

use super::Shared;
use super::prometheus::{Kind, Text};
use crate::pods::ProbeNumbers;

pub async fn get(State(shared): State<Shared>) -> Response {
    render(&shared.probes).into_response()
}

fn render(probes: &ProbeNumbers) -> Text {
    let mut text = Text::default();
    let help =
        "Cumulative number of a liveness, readiness or startup probe for a container by result.";
    let mut family = text.family("prober_probe_total", Kind::Counter, help);
    for asked in probes.all() {
        for (result, count) in asked.counts() {
            let labels = [
                ("container", asked.container.as_str()),
                ("namespace", &asked.namespace),
                ("pod", &asked.pod),
                ("pod_uid", &asked.pod_uid),
                ("probe_type", asked.kind),
                ("result", result),
            ];
            family.sample(&labels, f64::from(count), None);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::Asked;

    #[test]
    fn what_probes_found() {
        let probes = ProbeNumbers::default();
        let asked = |container: &str| Asked {
            kind: "Liveness",
            namespace: "shop".into(),
            pod: "web".into(),
            pod_uid: "u".into(),
            container: container.into(),
            ..Asked::default()
        };
        let app = probes.follow(asked("app"));
        let gone = probes.follow(asked("gone"));
        app.count(Some(true));
        app.count(Some(true));
        app.count(None);
        gone.count(Some(false));
        drop(gone);
        let of = |result: &str| {
            format!(
                "prober_probe_total{{container=\"app\",namespace=\"shop\",pod=\"web\",pod_uid=\"u\",probe_type=\"Liveness\",result=\"{result}\"}}"
            )
        };
        let text = String::from(render(&probes));
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                format!("{} 2", of("successful")),
                format!("{} 1", of("unknown"))
            ]
        );
    }
}
