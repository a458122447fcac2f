//! What is to be done with a ServiceCIDR.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::{Value, json};

use crate::key::{is_deleted, name_of};

pub const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const READY: &str = "Ready";

#[derive(Debug, PartialEq)]
pub enum Step {
    /// Write these finalizers.
    Finalizers(Vec<String>),
    Condition(Condition),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Ready,
    Terminating,
}

impl Condition {
    /// In Kubernetes' words; without a time.
    pub fn to_value(self) -> Value {
        match self {
            Condition::Ready => json!({
                "type": READY, "status": "True", "reason": "",
                "message": "Kubernetes Service CIDR is ready",
            }),
            Condition::Terminating => json!({
                "type": READY, "status": "False", "reason": "Terminating",
                "message": "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR",
            }),
        }
    }

    fn is_told(self, cidr: &ServiceCIDR) -> bool {
        let wanted = self.to_value();
        conditions(cidr).iter().any(|own| {
            ["type", "status", "reason", "message"]
                .iter()
                .all(|field| own[field] == wanted[field])
        })
    }
}

fn conditions(cidr: &ServiceCIDR) -> Vec<Value> {
    let status = cidr.status.as_ref();
    let all = status.and_then(|status| status.conditions.as_ref());
    let values = all.into_iter().flatten().map(serde_json::to_value);
    values.filter_map(Result::ok).collect()
}

/// The conditions, with this one in its place.
pub fn with(cidr: &ServiceCIDR, condition: Value) -> Vec<Value> {
    let mut all = conditions(cidr);
    all.retain(|own| own["type"] != condition["type"]);
    all.push(condition);
    all
}

fn networks(cidr: &ServiceCIDR) -> Vec<IpNet> {
    let listed = cidr.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
    let texts = listed.into_iter().flatten();
    texts.filter_map(|text| text.parse().ok()).collect()
}

pub fn covers(cidr: &ServiceCIDR, address: IpAddr) -> bool {
    networks(cidr).iter().any(|own| own.contains(&address))
}

/// `addresses`: those that Services have; asked for only where the ServiceCIDR is being deleted.
pub fn plan(cidr: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[IpAddr]) -> Vec<Step> {
    let finalizers = cidr.metadata.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|own| own == FINALIZER);
    let tell = |condition: Condition| match condition.is_told(cidr) {
        true => Vec::new(),
        false => vec![Step::Condition(condition)],
    };
    if !is_deleted(cidr) {
        let mut steps = Vec::new();
        if !held {
            let more = finalizers.into_iter().chain([FINALIZER.to_owned()]);
            steps.push(Step::Finalizers(more.collect()));
        }
        steps.extend(tell(Condition::Ready));
        return steps;
    }
    if !held {
        return Vec::new();
    }
    let others: Vec<&Arc<ServiceCIDR>> = all
        .iter()
        .filter(|other| {
            !is_deleted::<ServiceCIDR>(other) && name_of::<ServiceCIDR>(other) != name_of(cidr)
        })
        .collect();
    let orphaned = addresses.iter().any(|address| {
        covers(cidr, *address) && !others.iter().any(|other| covers(other, *address))
    });
    if orphaned {
        return tell(Condition::Terminating);
    }
    let rest = finalizers.into_iter().filter(|own| own != FINALIZER);
    vec![Step::Finalizers(rest.collect())]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(name: &str, network: &str, meta: Value, told: Option<Condition>) -> ServiceCIDR {
        let mut object = json!({"metadata": meta, "spec": {"cidrs": [network]}});
        object["metadata"]["name"] = name.into();
        if let Some(told) = told {
            let mut condition = told.to_value();
            condition["lastTransitionTime"] = "2026-01-01T00:00:00Z".into();
            object["status"] = json!({"conditions": [condition]});
        }
        serde_json::from_value(object).expect("a ServiceCIDR")
    }

    fn going(told: Option<Condition>) -> ServiceCIDR {
        let meta =
            json!({"finalizers": ["a/b", FINALIZER], "deletionTimestamp": "2026-01-01T00:00:00Z"});
        cidr("more", "10.97.0.0/24", meta, told)
    }

    #[test]
    fn one_that_is_here_is_held_and_ready() {
        let fresh = cidr("more", "10.97.0.0/24", json!({}), None);
        let ready = Step::Condition(Condition::Ready);
        assert_eq!(
            plan(&fresh, &[], &[]),
            [Step::Finalizers(vec![FINALIZER.to_owned()]), ready]
        );
        let meta = json!({"finalizers": [FINALIZER]});
        let done = cidr("more", "10.97.0.0/24", meta, Some(Condition::Ready));
        assert!(plan(&done, &[], &[]).is_empty());
    }

    #[test]
    fn one_that_goes_is_held_by_the_addresses_it_gave_out() {
        let here = |network: &str| Arc::new(cidr("other", network, json!({}), None));
        let gone = going(None);
        let also_going = Arc::new(ServiceCIDR {
            metadata: gone.metadata.clone(),
            ..cidr("also", "10.97.0.0/16", json!({}), None)
        });
        let (ours, theirs) = ("10.97.0.9", "10.96.0.9");
        let held = vec![Step::Condition(Condition::Terminating)];
        let free = vec![Step::Finalizers(vec!["a/b".to_owned()])];
        for (others, addresses, wanted) in [
            (vec![], vec![ours, theirs], &held),
            (vec![], vec![theirs], &free),
            (vec![], vec![], &free),
            (vec![here("10.97.0.0/16")], vec![ours], &free),
            (vec![here("10.98.0.0/16")], vec![ours], &held),
            (vec![also_going], vec![ours], &held),
        ] {
            let mut all = others;
            all.push(Arc::new(gone.clone()));
            let addresses: Vec<IpAddr> = addresses
                .iter()
                .map(|address| address.parse().expect("an address"))
                .collect();
            assert_eq!(&plan(&gone, &all, &addresses), wanted, "{addresses:?}");
        }
        let told = going(Some(Condition::Terminating));
        let ours = [ours.parse().expect("an address")];
        assert!(plan(&told, &[], &ours).is_empty(), "said once");
    }
}
