//! PodLogOptions: what may be asked for, and what of it the kubelet is told.

use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use vetch_api::field::Path;
use vetch_api::resource::FieldError;
use vetch_server::request::Query;
use vetch_server::status::{Result, Status};

/// What the kubelet understands of them: what is true, and what has a value.
const FLAGS: [&str; 3] = ["follow", "previous", "timestamps"];
const PASSED_ON: [&str; 5] = [
    "sinceSeconds",
    "sinceTime",
    "tailLines",
    "limitBytes",
    "stream",
];

/// Kubernetes' refusal of options that cannot be read, or that make no sense.
pub fn check(query: &Query, pod: &str) -> Result<()> {
    if let Some(time) = query.text("sinceTime")
        && let Err(error) = time.parse::<Timestamp>()
    {
        return Err(Status::bad_request(format!(
            "parsing time {time:?} as \"2006-01-02T15:04:05Z07:00\": {error}"
        )));
    }
    let errors = invalid(query)?;
    if errors.is_empty() {
        return Ok(());
    }
    let causes: Vec<Value> = errors
        .iter()
        .map(
            |error| json!({"reason": error.reason, "message": error.message, "field": error.field}),
        )
        .collect();
    let message = vetch_api::field::invalid_message("", "PodLogOptions", pod, &errors);
    Err(Status {
        details: Some(json!({"name": pod, "kind": "PodLogOptions", "causes": causes})),
        ..Status::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    })
}

fn invalid(query: &Query) -> Result<Vec<FieldError>> {
    let mut errors = Vec::new();
    for (name, least, words) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        if let Some(value) = query.number(name)?.filter(|value| *value < least) {
            errors.push(Path::new(name).invalid(value, words));
        }
    }
    if query.text("sinceSeconds").is_some() && query.text("sinceTime").is_some() {
        errors.push(FieldError {
            reason: "FieldValueForbidden",
            field: String::new(),
            message: "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
                .into(),
        });
    }
    Ok(errors)
}

pub fn passed_on(query: &Query) -> Vec<(&'static str, &str)> {
    let flags = FLAGS
        .into_iter()
        .filter_map(|key| query.flag(key).then_some((key, "true")));
    let rest = PASSED_ON
        .into_iter()
        .filter_map(|key| Some((key, query.text(key)?)));
    flags.chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(&format!("/?{text}").parse().expect("a URI"))
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, code, message) in [
            (
                "tailLines=-1",
                422,
                "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                "limitBytes=0",
                422,
                "PodLogOptions \"p\" is invalid: limitBytes: Invalid value: 0: must be greater than 0",
            ),
            (
                "sinceSeconds=0",
                422,
                "PodLogOptions \"p\" is invalid: sinceSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
                422,
                "at most one of `sinceTime` or `sinceSeconds` may be specified",
            ),
            (
                "tailLines=x",
                400,
                "strconv.ParseInt: parsing \"x\": invalid syntax",
            ),
            ("sinceTime=x", 400, "parsing time \"x\" as"),
        ] {
            let refused = check(&query(text), "p").unwrap_err();
            assert_eq!(refused.code, code, "{text}");
            assert!(refused.message.contains(message), "{}", refused.message);
        }
    }

    #[test]
    fn the_kubelet_is_told_the_rest() {
        let query = query(
            "container=c&follow=true&tailLines=0&pretty=true&insecureSkipTLSVerifyBackend=true",
        );
        check(&query, "p").unwrap();
        assert_eq!(passed_on(&query), [("follow", "true"), ("tailLines", "0")]);
        let query = self::query("previous=&timestamps=yes&follow=FALSE&stream=");
        let told = [("previous", "true"), ("timestamps", "true")];
        assert_eq!(passed_on(&query), told);
    }
}
