//! Who holds a number, as its reservation says.

use jiff::Timestamp;
use serde_json::{Value, json};

/// Who manages an IPAddress, as Kubernetes' own allocator says it; others' are left alone by its repair.
const ALLOCATOR: &str = "ipallocator.k8s.io";

/// A service.
pub struct Holder<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a Value,
}

impl Holder<'_> {
    pub fn port(&self) -> Value {
        json!({"namespace": self.namespace, "name": self.name, "uid": self.uid})
    }

    /// The IPAddress of this name.
    pub fn address(&self, name: &str, family: &str) -> Value {
        json!({
            "kind": "IPAddress",
            "apiVersion": "networking.k8s.io/v1",
            "metadata": {
                "name": name,
                "uid": uuid::Uuid::new_v4().to_string(),
                "creationTimestamp": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                "labels": {
                    "ipaddress.kubernetes.io/ip-family": family,
                    "ipaddress.kubernetes.io/managed-by": ALLOCATOR,
                },
            },
            "spec": {"parentRef": {
                "resource": "services", "namespace": self.namespace, "name": self.name,
            }},
        })
    }

    /// Is this reservation in the service's name?
    pub fn has(&self, reservation: &Value) -> bool {
        let holder = match reservation.pointer("/spec/parentRef") {
            Some(parent) if parent["resource"] == "services" => parent,
            Some(_) => return false,
            None => reservation,
        };
        holder["namespace"] == self.namespace && holder["name"] == self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_knows_its_holder() {
        let uid = json!("u");
        let holder = |namespace, name| Holder {
            namespace,
            name,
            uid: &uid,
        };
        let web = holder("default", "web");
        for reservation in [web.port(), web.address("10.96.0.9", "IPv4")] {
            assert!(web.has(&reservation), "{reservation}");
            for other in [holder("default", "db"), holder("other", "web")] {
                assert!(!other.has(&reservation), "{reservation}");
            }
        }
        let gate = json!({"spec": {"parentRef": {"resource": "gateways", "namespace": "default", "name": "web"}}});
        assert!(!web.has(&gate));
        let errors =
            (vetch_api::kinds::ip_address::ROW.validate_create)(&web.address("10.96.0.9", "IPv4"));
        assert!(errors.is_empty(), "{errors:?}");
    }
}
