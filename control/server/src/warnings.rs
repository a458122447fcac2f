//! Warning headers: what a client should know of a request that went well all the same.

use std::collections::HashSet;

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use vetch_api::resource::SubresourceKind;
use vetch_store::Object;

use crate::state::presented;
use crate::write::Request;

pub(crate) type Warnings = Vec<String>;

/// kube-apiserver's bounds, in characters: past the first, each warning is cut to the second.
const ALL: usize = 4096;
const ONE: usize = 256;

/// What the row has to say of what was written; `code` tells an object that was made from one that was changed.
pub(crate) fn of_written(request: &Request<'_>, code: StatusCode, object: &Object) -> Warnings {
    let resource = request.target.resource;
    let Some(warn) = resource.warn else {
        return Warnings::new();
    };
    let of = match request.target.kind() {
        None if code == StatusCode::CREATED => warn.create,
        None => warn.update,
        Some(SubresourceKind::Status) => warn.status,
        Some(_) => return Warnings::new(),
    };
    of(&presented(resource, object))
}

/// The response with its warnings, each once.
pub(crate) fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    let mut seen = HashSet::new();
    let distinct: Vec<&String> = warnings.iter().filter(|text| seen.insert(*text)).collect();
    let long = distinct.iter().map(|text| length(text)).sum::<usize>() > ALL;
    let mut written = 0;
    for text in distinct {
        if long && written >= ALL {
            break;
        }
        let text: String = match long {
            true => text.chars().take(ONE).collect(),
            false => text.clone(),
        };
        written += length(&text);
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        let value = format!("299 - \"{quoted}\"");
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}

fn length(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(warnings: &[String]) -> Vec<String> {
        let response = with_warnings(Response::default(), warnings);
        let headers = response.headers().get_all(header::WARNING);
        let texts = headers
            .iter()
            .map(|own| String::from_utf8_lossy(own.as_bytes()));
        texts.map(|own| own.into_owned()).collect()
    }

    #[test]
    fn a_warning_is_a_header() {
        for (warnings, wanted) in [
            (vec![], vec![]),
            (
                vec!["unknown field \"spec.foo\""],
                vec![r#"299 - "unknown field \"spec.foo\"""#],
            ),
            (vec!["a", "b", "a"], vec![r#"299 - "a""#, r#"299 - "b""#]),
            (vec!["naïve"], vec![r#"299 - "naïve""#]),
            // No header can have this.
            (vec!["a\nb", "c"], vec![r#"299 - "c""#]),
        ] {
            let warnings: Vec<String> = warnings.into_iter().map(str::to_owned).collect();
            assert_eq!(headers(&warnings), wanted);
        }
    }

    #[test]
    fn many_words_are_cut() {
        let warnings = |count: usize, length: usize| -> Vec<String> {
            (0..count).map(|at| format!("{at:0>length$}")).collect()
        };
        let frame = "299 - \"\"".len();
        for (count, length, wanted, each) in [
            (8, 512, 8, 512),
            (9, 512, 9, 256),
            (100, 512, 16, 256),
            (100, 100, 41, 100),
        ] {
            let headers = headers(&warnings(count, length));
            assert_eq!(headers.len(), wanted, "{count} of {length}");
            assert!(headers.iter().all(|own| own.len() == each + frame));
        }
    }
}
