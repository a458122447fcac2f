//! Prometheus' text format 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! What reads a kubelet wants this one, with the times of samples and names that have no rule
//! (`container_start_time_seconds`); prometheus-client writes OpenMetrics, and no times.

use std::fmt::Write as _;

use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use jiff::Timestamp;

pub use vetch_runtime::metrics::Kind;

#[derive(Debug, Default)]
pub struct Text(String);

/// One name. Without a sample nothing of it is written.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
    kind: Kind,
    help: &'a str,
    begun: bool,
}

impl Text {
    /// `help` has one line.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &'a str) -> Family<'a> {
        Family {
            text: &mut self.0,
            name,
            kind,
            help,
            begun: false,
        }
    }
}

impl Family<'_> {
    /// `at`: when it was measured, where that is not now.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64, at: Option<Timestamp>) {
        // Writing to a String does not fail.
        let _ = self.write(labels, value, at);
    }

    fn write(
        &mut self,
        labels: &[(&str, &str)],
        value: f64,
        at: Option<Timestamp>,
    ) -> std::fmt::Result {
        let name = self.name;
        if !self.begun {
            self.begun = true;
            let kind = match self.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            writeln!(self.text, "# HELP {name} {}", self.help)?;
            writeln!(self.text, "# TYPE {name} {kind}")?;
        }
        self.text.push_str(name);
        let mut before = '{';
        for (key, value) in labels {
            write!(self.text, "{before}{key}=\"{}\"", escaped(value))?;
            before = ',';
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        write!(self.text, " {value}")?;
        if let Some(at) = at {
            write!(self.text, " {}", at.as_millisecond())?;
        }
        self.text.push('\n');
        Ok(())
    }
}

fn escaped(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', "\\\"")
        .replace('\n', r"\n")
}

impl From<Text> for String {
    fn from(text: Text) -> String {
        text.0
    }
}

impl IntoResponse for Text {
    fn into_response(self) -> Response {
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        ([(CONTENT_TYPE, kind)], self.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_samples() {
        let mut text = Text::default();
        let at = Timestamp::from_millisecond(1_700_000_000_123).unwrap();
        let mut family = text.family("a_total", Kind::Counter, "How many");
        family.sample(&[("k", "v"), ("q", "\"\\\n")], 1.5, Some(at));
        family.sample(&[], 66_000_000.0, None);
        text.family("none", Kind::Gauge, "Nothing has it");
        text.family("b", Kind::Gauge, "How much")
            .sample(&[], 0.0, None);
        let want = "\
# HELP a_total How many
# TYPE a_total counter
a_total{k=\"v\",q=\"\\\"\\\\\\n\"} 1.5 1700000000123
a_total 66000000
# HELP b How much
# TYPE b gauge
b 0
";
        assert_eq!(String::from(text), want);
    }
}
