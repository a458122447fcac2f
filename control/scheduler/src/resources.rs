//! What pods ask for and nodes have.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerStatus, Node, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use vetch_api::quantity::amount;

pub const CPU: &str = "cpu";
pub const MEMORY: &str = "memory";
/// How many pods fit on a node is a resource, too.
pub const PODS: &str = "pods";

/// What a container that does not say is taken to need when nodes are scored, or such pods would
/// pile up on one node. Thousandths, and bytes; Kubernetes' numbers.
const DEFAULT_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

/// Amounts by resource name; cpu in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu: i64,
    pub memory: i64,
    others: BTreeMap<String, i64>,
}

impl Resources {
    pub fn get(&self, name: &str) -> i64 {
        match name {
            CPU => self.cpu,
            MEMORY => self.memory,
            other => self.others.get(other).copied().unwrap_or(0),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        let others = self
            .others
            .iter()
            .map(|(name, amount)| (name.as_str(), *amount));
        [(CPU, self.cpu), (MEMORY, self.memory)]
            .into_iter()
            .chain(others)
    }

    pub fn add(&mut self, other: &Resources) {
        self.merge(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Resources) {
        self.merge(other, i64::saturating_sub);
    }

    /// Raises every amount to the other's.
    fn at_least(&mut self, other: &Resources) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, other: &Resources, with: impl Fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        for (name, amount) in &other.others {
            match self.others.get_mut(name) {
                Some(own) => *own = with(*own, *amount),
                None => {
                    self.others.insert(name.clone(), with(0, *amount));
                }
            }
        }
    }

    fn set(&mut self, name: &str, amount: i64) {
        match name {
            CPU => self.cpu = amount,
            MEMORY => self.memory = amount,
            other => {
                self.others.insert(other.to_owned(), amount);
            }
        }
    }

    /// Quantities that cannot be read were refused by the API server; they count as absent.
    fn from_quantities(quantities: Option<&BTreeMap<String, Quantity>>) -> Resources {
        let mut resources = Resources::default();
        for (name, quantity) in quantities.into_iter().flatten() {
            if let Some(amount) = amount(name, &quantity.0) {
                resources.set(name, amount);
            }
        }
        resources
    }
}

fn quantities(resources: Option<&ResourceRequirements>) -> Option<&BTreeMap<String, Quantity>> {
    resources.and_then(|resources| resources.requests.as_ref())
}

fn requests(container: &Container) -> Resources {
    Resources::from_quantities(quantities(container.resources.as_ref()))
}

/// What scores count: cpu and memory, the defaults where the container is silent.
fn scored_requests(container: &Container) -> Resources {
    let quantities = quantities(container.resources.as_ref());
    let given = |name: &str| quantities.is_some_and(|own| own.contains_key(name));
    let own = Resources::from_quantities(quantities);
    Resources {
        cpu: if given(CPU) { own.cpu } else { DEFAULT_CPU },
        memory: if given(MEMORY) {
            own.memory
        } else {
            DEFAULT_MEMORY
        },
        others: BTreeMap::new(),
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The most the pod needs at any time. Of one that runs and is being resized a container counts with
/// what it wants, was allocated or still has, whichever is the most.
pub fn of_pod(pod: &Pod) -> Resources {
    let refused = is_resize_infeasible(pod);
    largest_moment(pod, |container| {
        let Some(status) = status_of(pod, container) else {
            return requests(container);
        };
        let mut most = Resources::from_quantities(quantities(status.resources.as_ref()));
        most.at_least(&Resources::from_quantities(
            status.allocated_resources.as_ref(),
        ));
        // What the node never grants is not waited for.
        if !refused {
            most.at_least(&requests(container));
        }
        most
    })
}

/// Of a container whose node tells what it has.
fn status_of<'a>(pod: &'a Pod, container: &Container) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let mut all = init.chain(status.container_statuses.iter().flatten());
    all.find(|status| status.name == container.name && status.resources.is_some())
}

fn is_resize_infeasible(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    let mut conditions = status
        .and_then(|status| status.conditions.as_ref())
        .into_iter()
        .flatten();
    conditions.any(|condition| {
        condition.type_ == "PodResizePending" && condition.reason.as_deref() == Some("Infeasible")
    })
}

/// The same, as scores count it.
pub fn scored_of_pod(pod: &Pod) -> Resources {
    largest_moment(pod, scored_requests)
}

/// The containers together with the sidecars, or one init container with the sidecars started
/// before it; and the sandbox's own overhead.
fn largest_moment(pod: &Pod, of_container: impl Fn(&Container) -> Resources) -> Resources {
    let Some(spec) = &pod.spec else {
        return Resources::default();
    };
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of_container(container));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut own = of_container(container);
        if is_sidecar(container) {
            sidecars.add(&own);
            running.add(&own);
            starting.at_least(&sidecars);
        } else {
            own.add(&sidecars);
            starting.at_least(&own);
        }
    }
    running.at_least(&starting);
    // Requests of the pod as a whole stand before its containers'.
    let whole = quantities(spec.resources.as_ref());
    for (name, quantity) in whole.into_iter().flatten() {
        if let Some(amount) = amount(name, &quantity.0) {
            running.set(name, amount);
        }
    }
    running.add(&Resources::from_quantities(spec.overhead.as_ref()));
    running.others.retain(|_, amount| *amount != 0);
    running
}

pub fn of_node(node: &Node) -> Resources {
    let status = node.status.as_ref();
    Resources::from_quantities(status.and_then(|status| status.allocatable.as_ref()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({ "spec": spec })).expect("a pod")
    }

    fn cpu(amount: &str) -> Value {
        json!({"requests": {"cpu": amount}})
    }

    #[test]
    fn a_pod_needs_its_largest_moment() {
        let wanted = of_pod(&pod(json!({
            "overhead": {"cpu": "10m"},
            "initContainers": [
                {"name": "a", "resources": cpu("300m")},
                {"name": "side", "restartPolicy": "Always", "resources": cpu("50m")},
                {"name": "b", "resources": cpu("400m")},
            ],
            "containers": [
                {"name": "x", "resources": cpu("100m")},
                {"name": "y", "resources": {"requests": {"cpu": "100m", "memory": "1Mi", "a.b/gpu": "2"}}},
            ],
        })));
        assert_eq!(
            wanted.cpu, 460,
            "b with the sidecar before it, and overhead"
        );
        assert_eq!(wanted.memory, 1 << 20);
        assert_eq!(wanted.get("a.b/gpu"), 2);
    }

    #[test]
    fn requests_of_the_whole_pod_stand_first() {
        let wanted = of_pod(&pod(json!({
            "resources": {"requests": {"cpu": "1"}},
            "containers": [{"name": "x", "resources": {"requests": {"cpu": "100m", "memory": "5"}}}],
        })));
        assert_eq!((wanted.cpu, wanted.memory), (1000, 5));
    }

    #[test]
    fn a_pod_under_resize_counts_with_the_most() {
        let refused =
            json!([{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]);
        let deferred =
            json!([{"type": "PodResizePending", "status": "True", "reason": "Deferred"}]);
        for (wants, allocated, has, conditions, wanted) in [
            ("2", "1", "1", &json!([]), 2000),
            ("1", "1", "2", &json!([]), 2000),
            ("1", "3", "2", &json!([]), 3000),
            ("5", "2", "2", &deferred, 5000),
            ("5", "2", "1", &refused, 2000),
        ] {
            let status = |name: &str| {
                json!({
                    "name": name, "image": "", "imageID": "", "ready": true, "restartCount": 0,
                    "allocatedResources": {"cpu": allocated}, "resources": cpu(has),
                })
            };
            let object = json!({
                "spec": {
                    "initContainers": [{"name": "side", "restartPolicy": "Always", "resources": cpu(wants)}],
                    "containers": [{"name": "x", "resources": cpu(wants)}, {"name": "new", "resources": cpu("1")}],
                },
                "status": {
                    "conditions": conditions,
                    "initContainerStatuses": [status("side")], "containerStatuses": [status("x")],
                },
            });
            let pod: Pod = serde_json::from_value(object).expect("a pod");
            assert_eq!(
                of_pod(&pod).cpu,
                2 * wanted + 1000,
                "{wants} {allocated} {has}"
            );
        }
    }

    #[test]
    fn scores_count_silent_containers() {
        let pod = pod(json!({"containers": [{"name": "x"}, {"name": "y", "resources": cpu("0")}]}));
        let (real, scored) = (of_pod(&pod), scored_of_pod(&pod));
        assert_eq!((real.cpu, real.memory), (0, 0));
        assert_eq!((scored.cpu, scored.memory), (100, 400 << 20));
    }
}
