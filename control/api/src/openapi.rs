//! OpenAPI v2 and v3 documents of everything the registry serves: built at first use, kept as bytes.

mod definitions;
mod gnostic;
mod operations;
mod v2;
mod v3;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::OnceLock;

use serde_json::{Value, json};

/// The version the documents speak of.
pub const KUBERNETES_VERSION: &str = "v1.36.0";

/// Media type of `v2_protobuf` as clients ask for it, and as the answer names it.
pub const V2_PROTOBUF_ACCEPT: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// A document and the hash of its bytes, for ETags and `?hash=`.
pub struct Document {
    pub bytes: Vec<u8>,
    pub hash: String,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Document {
        // The hasher's keys are fixed: the same document has the same hash in every process.
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        Document {
            hash: format!("{:016X}", hasher.finish()),
            bytes,
        }
    }

    fn json(value: &Value) -> Document {
        Document::new(value.to_string().into_bytes())
    }
}

/// GET /openapi/v2
pub fn v2_json() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| Document::json(&v2::document()))
}

/// GET /openapi/v2 of a client that accepts `V2_PROTOBUF_ACCEPT`.
pub fn v2_protobuf() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| Document::new(gnostic::encode(&v2::document())))
}

/// GET /openapi/v3
pub fn v3_index() -> &'static Document {
    static DOCUMENT: OnceLock<Document> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let paths: BTreeMap<&String, Value> = v3_documents()
            .iter()
            .map(|(path, document)| {
                (path, json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={}", document.hash)}))
            })
            .collect();
        Document::json(&json!({ "paths": paths }))
    })
}

/// GET /openapi/v3/<path>, where path is `api/v1` or `apis/apps/v1`.
pub fn v3(path: &str) -> Option<&'static Document> {
    v3_documents().get(path)
}

fn v3_documents() -> &'static BTreeMap<String, Document> {
    static DOCUMENTS: OnceLock<BTreeMap<String, Document>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        operations::group_versions()
            .into_iter()
            .map(|(group, version)| {
                let path = operations::prefix(group, version)
                    .trim_start_matches('/')
                    .to_string();
                (path, Document::json(&v3::document(group, version)))
            })
            .collect()
    })
}

#[cfg(test)]
mod tests;
