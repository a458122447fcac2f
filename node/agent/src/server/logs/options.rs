//! What is asked of a log: the query of a request.

use jiff::{SignedDuration, Timestamp};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streams {
    #[default]
    All,
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub streams: Streams,
    /// Lines from the end.
    pub tail: Option<u64>,
    /// Older lines are left out.
    pub since: Option<Timestamp>,
    /// Bytes of output.
    pub limit: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    #[error("{name}: cannot read {value:?}: {expected}")]
    Unreadable {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    #[error("{name}: Invalid value: {value}: must be {bound}")]
    OutOfRange {
        name: &'static str,
        value: i64,
        bound: &'static str,
    },
    #[error("at most one of `sinceTime` or `sinceSeconds` may be specified")]
    TwoSinces,
    #[error("stream: Unsupported value: {0:?}: supported values: \"All\", \"Stderr\", \"Stdout\"")]
    Stream(String),
}

impl LogOptions {
    /// Names that Kubernetes does not know are left alone, as it does.
    pub fn parse(query: &[(String, String)], now: Timestamp) -> Result<LogOptions, OptionsError> {
        let find = |wanted: &str| {
            query
                .iter()
                .find(|(name, _)| name == wanted)
                .map(|(_, value)| value.as_str())
        };
        let flag = |name| find(name).is_some_and(truth);
        let seconds = number(find("sinceSeconds"), "sinceSeconds", 1)?;
        let time = find("sinceTime")
            .filter(|text| !text.is_empty())
            .map(|text| {
                text.parse::<Timestamp>()
                    .map_err(|_| OptionsError::Unreadable {
                        name: "sinceTime",
                        value: text.to_owned(),
                        expected: "a time as RFC 3339 has it",
                    })
            })
            .transpose()?;
        if seconds.is_some() && time.is_some() {
            return Err(OptionsError::TwoSinces);
        }
        let before = |seconds: u64| {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            now.saturating_sub(SignedDuration::from_secs(seconds))
                .unwrap_or(Timestamp::MIN)
        };
        Ok(LogOptions {
            follow: flag("follow"),
            previous: flag("previous"),
            timestamps: flag("timestamps"),
            streams: match find("stream") {
                None | Some("" | "All") => Streams::All,
                Some("Stdout") => Streams::Stdout,
                Some("Stderr") => Streams::Stderr,
                Some(other) => return Err(OptionsError::Stream(other.to_owned())),
            },
            tail: number(find("tailLines"), "tailLines", 0)?,
            since: seconds.map(before).or(time),
            limit: number(find("limitBytes"), "limitBytes", 1)?,
        })
    }
}

/// As apimachinery converts a query: whatever is not false is true.
fn truth(value: &str) -> bool {
    !matches!(value.to_ascii_lowercase().as_str(), "false" | "0")
}

fn number(
    value: Option<&str>,
    name: &'static str,
    least: i64,
) -> Result<Option<u64>, OptionsError> {
    let Some(text) = value.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let value: i64 = text.parse().map_err(|_| OptionsError::Unreadable {
        name,
        value: text.to_owned(),
        expected: "a whole number",
    })?;
    match u64::try_from(value) {
        Ok(number) if value >= least => Ok(Some(number)),
        _ => Err(OptionsError::OutOfRange {
            name,
            value,
            bound: match least {
                0 => "greater than or equal to 0",
                _ => "greater than 0",
            },
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<LogOptions, String> {
        let pairs: Vec<(String, String)> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap();
                (name.to_owned(), value.to_owned())
            })
            .collect();
        LogOptions::parse(&pairs, at("2026-01-01T00:01:00Z")).map_err(|error| error.to_string())
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn queries() {
        let none = LogOptions::default();
        let table = [
            ("", none.clone()),
            (
                "follow=true&previous=1&timestamps=&stream=Stderr",
                LogOptions {
                    follow: true,
                    previous: true,
                    timestamps: true,
                    streams: Streams::Stderr,
                    ..none.clone()
                },
            ),
            (
                "follow=false&previous=0&container=app&stream=All",
                none.clone(),
            ),
            (
                "tailLines=0&limitBytes=5&sinceSeconds=60",
                LogOptions {
                    tail: Some(0),
                    limit: Some(5),
                    since: Some(at("2026-01-01T00:00:00Z")),
                    ..none.clone()
                },
            ),
            (
                "sinceTime=2025-12-31T23:00:00.5Z",
                LogOptions {
                    since: Some(at("2025-12-31T23:00:00.5Z")),
                    ..none
                },
            ),
        ];
        for (query, want) in table {
            assert_eq!(parse(query), Ok(want), "{query}");
        }
    }

    #[test]
    fn refusals() {
        for (query, want) in [
            (
                "tailLines=x",
                "tailLines: cannot read \"x\": a whole number",
            ),
            (
                "tailLines=-1",
                "tailLines: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "limitBytes=0",
                "limitBytes: Invalid value: 0: must be greater than 0",
            ),
            (
                "sinceSeconds=0",
                "sinceSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                "sinceTime=yesterday",
                "sinceTime: cannot read \"yesterday\": a time as RFC 3339 has it",
            ),
            (
                "sinceSeconds=1&sinceTime=2025-12-31T23:00:00Z",
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
            (
                "stream=Both",
                "stream: Unsupported value: \"Both\": supported values: \"All\", \"Stderr\", \"Stdout\"",
            ),
        ] {
            assert_eq!(parse(query), Err(want.to_owned()), "{query}");
        }
    }
}
