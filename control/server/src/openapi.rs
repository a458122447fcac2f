//! /openapi/v2 and /openapi/v3, from the documents the rows' schemas make.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use vetch_api::openapi::{self, Document};

pub(crate) fn answer(path: &str, headers: &HeaderMap) -> Option<Response> {
    let (document, media) = match path {
        "/openapi/v2" if wants_protobuf(headers) => (openapi::v2_protobuf(), openapi::V2_PROTOBUF),
        "/openapi/v2" => (openapi::v2_json(), "application/json"),
        "/openapi/v3" => (openapi::v3_index(), "application/json"),
        _ => (
            openapi::v3(path.strip_prefix("/openapi/v3/")?)?,
            "application/json",
        ),
    };
    Some(response(document, media, headers))
}

/// The first of the media types that the client names and we write; older kubectl takes nothing but protobuf.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    accept
        .split(',')
        .map(|media| media.split(';').next().unwrap_or_default().trim())
        .find(|media| [openapi::V2_PROTOBUF_ACCEPT, "application/json"].contains(media))
        == Some(openapi::V2_PROTOBUF_ACCEPT)
}

fn response(document: &'static Document, media: &'static str, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", document.hash);
    let known = headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value.as_bytes() == tag.as_bytes());
    let mut response = match known {
        true => Response::new(Body::empty()),
        false => Response::new(Body::from(document.bytes.as_slice())),
    };
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let fields = response.headers_mut();
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    fields.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        fields.insert(header::ETAG, tag);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, accept: &'static str) -> Option<Response> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
        answer(path, &headers)
    }

    #[test]
    fn the_client_chooses_the_encoding() {
        let table = [
            ("/openapi/v2", "application/json", "application/json"),
            (
                "/openapi/v2",
                openapi::V2_PROTOBUF_ACCEPT,
                openapi::V2_PROTOBUF,
            ),
            ("/openapi/v2", "*/*", "application/json"),
            ("/openapi/v3", "application/json, */*", "application/json"),
            (
                "/openapi/v3/apis/apps/v1",
                "application/json",
                "application/json",
            ),
        ];
        for (path, accept, media) in table {
            assert_eq!(
                get(path, accept).unwrap().headers()[header::CONTENT_TYPE],
                media,
                "{path} {accept}"
            );
        }
        assert!(get("/openapi/v3/apis/none/v1", "*/*").is_none());
        assert!(get("/nothing", "*/*").is_none());
    }

    #[test]
    fn a_known_document_is_not_sent_again() {
        let mut headers = HeaderMap::new();
        let tag = answer("/openapi/v3", &headers).unwrap().headers()[header::ETAG].clone();
        headers.insert(header::IF_NONE_MATCH, tag);
        assert_eq!(
            answer("/openapi/v3", &headers).unwrap().status(),
            StatusCode::NOT_MODIFIED
        );
    }
}
