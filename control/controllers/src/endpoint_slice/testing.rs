//! Endpoints of tables.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions};

/// Of the pod d/pNUMBER.
pub fn endpoint(number: usize, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![format!("10.0.{}.{}", number / 256, number % 256)],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        target_ref: Some(ObjectReference {
            namespace: Some("d".into()),
            name: Some(format!("p{number:04}")),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}
