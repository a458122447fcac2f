//! cgroup v2 values from requests and limits.
//!
//! Where the pod has limits as a whole (KEP-2837), a container without one of
//! its own has the pod's. No container swaps: what the kubelet's NoSwap writes,
//! its default. Huge pages that nobody asks for are none.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use vetch_runtime::{QosClass, Resources};

use super::memory::MemoryQos;
use super::qos::class;
use crate::pods::quantity::{self, ResourceList};
use crate::pods::spec;

const HUGE_PAGES: &str = "hugepages-";
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;
/// Of cpu.max, in microseconds.
pub const PERIOD: u64 = 100_000;
/// The kernel refuses less than a millisecond.
const MIN_QUOTA: i64 = 1000;

/// Of one container, without its OOM score.
pub fn container(pod: &Pod, container: &Container, qos: Option<&MemoryQos>) -> Resources {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|r| r.requests.as_ref());
    let limits = limits(pod, container);
    let limit = milli(Some(&limits));
    // A request of nothing is one.
    let request = match requests.is_some_and(|requests| requests.contains_key("cpu")) {
        true => milli(requests),
        false => limit,
    };
    let resources = Resources {
        cpu_weight: Some(weight(shares(request))),
        cpu_max: quota(limit),
        memory_max: memory(Some(&limits)).filter(|bytes| *bytes > 0),
        swap_max: Some(0),
        hugetlb_max: Some(huge_pages(&limits)),
        ..Resources::default()
    };
    super::memory::container(pod, container, class(pod), qos, resources)
}

/// Whether a container's CPU or memory is limited by what its pod has.
pub fn inherits(pod: &Pod, container: &Container) -> bool {
    let own = container.resources.as_ref().and_then(|r| r.limits.as_ref());
    ["cpu", "memory"]
        .iter()
        .any(|name| !has(own, name) && own_limit(pod, name).is_some())
}

/// Its own ones, and the pod's where it has none.
pub(super) fn limits(pod: &Pod, container: &Container) -> ResourceList {
    let own = container.resources.as_ref().and_then(|r| r.limits.as_ref());
    let mut limits = own.cloned().unwrap_or_default();
    let whole = spec::spec(pod).resources.as_ref();
    for (name, quantity) in whole.and_then(|r| r.limits.as_ref()).into_iter().flatten() {
        if !has(own, name) {
            limits.insert(name.clone(), quantity.clone());
        }
    }
    limits
}

/// Zero is no limit of CPU or memory.
fn has(limits: Option<&ResourceList>, name: &str) -> bool {
    let limit = limits.and_then(|limits| limits.get(name));
    limit.is_some_and(|limit| name.starts_with(HUGE_PAGES) || quantity::value(limit) > 0)
}

/// Bytes by the size of a page.
fn huge_pages(amounts: &ResourceList) -> BTreeMap<u64, i64> {
    let sized = amounts.iter().filter_map(|(name, quantity)| {
        let size = Quantity(name.strip_prefix(HUGE_PAGES)?.to_owned());
        let size = u64::try_from(quantity::value(&size)).ok()?;
        Some((size, quantity::value(quantity)))
    });
    sized.collect()
}

/// Of the whole pod: limits only where every container has one.
pub fn pod(pod: &Pod, class: QosClass, qos: Option<&MemoryQos>) -> Resources {
    let all_requests = pod_requests(pod);
    let requests = milli(Some(&all_requests));
    let limits = pod_limits(pod);
    let declared = |name: &str| {
        own_limit(pod, name).is_some()
            || spec::all_containers(pod).all(|container| {
                let limits = container.resources.as_ref().and_then(|r| r.limits.as_ref());
                has(limits, name)
            })
    };
    let cpu = milli(Some(&limits));
    let shares = match (class, requests) {
        (QosClass::BestEffort, _) => MIN_SHARES,
        (_, 0) => shares(cpu),
        (_, requests) => shares(requests),
    };
    let resources = Resources {
        cpu_weight: Some(weight(shares)),
        cpu_max: quota(cpu).filter(|_| class != QosClass::BestEffort && declared("cpu")),
        memory_max: memory(Some(&limits))
            .filter(|bytes| *bytes > 0 && class != QosClass::BestEffort && declared("memory")),
        hugetlb_max: Some(huge_pages(&all_requests)),
        ..Resources::default()
    };
    super::memory::pod(pod, class, qos, resources)
}

/// Of the cgroups above pods, as the kubelet has them: a class has as much CPU,
/// when it is short, as its pods ask for; all pods have what the node has, and
/// nothing of what the rest of the machine needs (enforceNodeAllocatable).
/// Guaranteed pods are right below all others' classes.
pub fn classes(
    node: &ResourceList,
    guaranteed: &[ResourceList],
    burstable: &[ResourceList],
    qos: Option<&MemoryQos>,
) -> [(QosClass, Resources); 3] {
    let weighted = |milli_cpu| Resources {
        cpu_weight: Some(weight(shares(milli_cpu))),
        ..Resources::default()
    };
    let asked = burstable.iter().map(|requests| milli(Some(requests)));
    let all = Resources {
        memory_max: memory(Some(node)).filter(|bytes| *bytes > 0),
        ..weighted(milli(Some(node)))
    };
    let all = [
        (QosClass::Guaranteed, all),
        (
            QosClass::Burstable,
            weighted(asked.fold(0, i64::saturating_add)),
        ),
        (QosClass::BestEffort, weighted(0)),
    ];
    super::memory::classes(guaranteed, burstable, qos, all)
}

/// What the scheduler counts: the sum of the containers and sidecars, or the
/// largest init container with the sidecars before it, plus overhead. What the
/// pod asks for as a whole comes before that.
pub fn pod_requests(pod: &Pod) -> ResourceList {
    total(pod, |resources| resources.requests.as_ref())
}

/// The sum of what containers may have, in the same way.
pub fn pod_limits(pod: &Pod) -> ResourceList {
    total(pod, |resources| resources.limits.as_ref())
}

fn own_limit<'a>(pod: &'a Pod, name: &str) -> Option<&'a Quantity> {
    let own = spec::spec(pod).resources.as_ref()?;
    let limit = own.limits.as_ref()?.get(name)?;
    (quantity::value(limit) > 0).then_some(limit)
}

/// What the containers ask for at the pod's largest moment; without what the
/// pod asks for as a whole, and without overhead.
pub fn containers_requests(pod: &Pod) -> ResourceList {
    quantities(largest(pod, |resources| resources.requests.as_ref()))
}

type Nanos = BTreeMap<String, i128>;

fn total(pod: &Pod, list: impl Fn(&ResourceRequirements) -> Option<&ResourceList>) -> ResourceList {
    let mut sum = largest(pod, &list);
    let own = spec::spec(pod).resources.as_ref().and_then(&list);
    for (name, quantity) in own.into_iter().flatten() {
        sum.insert(name.clone(), quantity::nanos(quantity).unwrap_or(0));
    }
    add(&mut sum, spec::spec(pod).overhead.as_ref());
    quantities(sum)
}

fn quantities(amounts: Nanos) -> ResourceList {
    let text = |nanos: i128| Quantity(format!("{nanos}n"));
    let amounts = amounts.into_iter();
    amounts.map(|(name, nanos)| (name, text(nanos))).collect()
}

fn add(to: &mut Nanos, list: Option<&ResourceList>) {
    for (name, quantity) in list.into_iter().flatten() {
        *to.entry(name.clone()).or_default() += quantity::nanos(quantity).unwrap_or(0);
    }
}

fn largest(pod: &Pod, list: impl Fn(&ResourceRequirements) -> Option<&ResourceList>) -> Nanos {
    let raise = |to: &mut Nanos, floor: &Nanos| {
        for (name, amount) in floor {
            let entry = to.entry(name.clone()).or_default();
            *entry = (*entry).max(*amount);
        }
    };
    let of = |container: &Container| list(container.resources.as_ref()?).cloned();
    let mut sum = Nanos::new();
    for container in spec::containers(pod) {
        add(&mut sum, of(container).as_ref());
    }
    let (mut sidecars, mut largest) = (Nanos::new(), Nanos::new());
    for container in spec::init_containers(pod) {
        if spec::is_sidecar(container) {
            add(&mut sum, of(container).as_ref());
            add(&mut sidecars, of(container).as_ref());
            raise(&mut largest, &sidecars);
        } else {
            let mut alone = sidecars.clone();
            add(&mut alone, of(container).as_ref());
            raise(&mut largest, &alone);
        }
    }
    raise(&mut sum, &largest);
    sum
}

fn milli(list: Option<&ResourceList>) -> i64 {
    list.and_then(|list| list.get("cpu"))
        .map_or(0, quantity::milli)
}

pub(super) fn memory(list: Option<&ResourceList>) -> Option<i64> {
    list?.get("memory").map(quantity::value)
}

fn shares(milli_cpu: i64) -> u64 {
    let milli = u64::try_from(milli_cpu).unwrap_or(0);
    milli
        .saturating_mul(1024)
        .checked_div(1000)
        .unwrap_or(0)
        .clamp(MIN_SHARES, MAX_SHARES)
}

/// The formula runtimes agreed on for cgroup v2 (2, 1024, 262144 shares are
/// weight 1, 100, 10000):
/// <https://kubernetes.io/blog/2026/01/30/new-cgroup-v1-to-v2-cpu-conversion-formula/>.
fn weight(shares: u64) -> u64 {
    if shares <= MIN_SHARES {
        return 1;
    }
    if shares >= MAX_SHARES {
        return 10_000;
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 2^18")]
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 1 and 10000 for shares in their range"
    )]
    let weight = 10_f64.powf(exponent).ceil() as u64;
    weight.clamp(1, 10_000)
}

fn quota(milli_cpu: i64) -> Option<(i64, u64)> {
    if milli_cpu <= 0 {
        return None;
    }
    let quota = milli_cpu.saturating_mul(100_000) / 1000;
    Some((quota.max(MIN_QUOTA), PERIOD))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod_of(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn shares_and_weights() {
        for (milli, want_shares, want_weight) in [
            (0, 2, 1),
            (1, 2, 1),
            (100, 102, 17),
            (1000, 1024, 100),
            (2000, 2048, 174),
            (1_000_000, 262_144, 10_000),
        ] {
            assert_eq!(shares(milli), want_shares, "{milli}");
            assert_eq!(weight(shares(milli)), want_weight, "{milli}");
        }
    }

    #[test]
    fn of_a_container() {
        for (resources, weight_of, max, bytes) in [
            (json!({}), 0, None, None),
            (json!({"requests": {"cpu": "1"}}), 1000, None, None),
            (
                json!({"limits": {"cpu": "500m", "memory": "64Mi"}}),
                500,
                Some((50_000, PERIOD)),
                Some(64 << 20),
            ),
            (
                json!({"limits": {"cpu": "1m"}}),
                1,
                Some((1000, PERIOD)),
                None,
            ),
            (
                json!({"requests": {"cpu": "0"}, "limits": {"cpu": "1"}}),
                0,
                Some((100_000, PERIOD)),
                None,
            ),
        ] {
            let parsed: Container =
                serde_json::from_value(json!({"name": "c", "resources": resources})).unwrap();
            let got = container(&Pod::default(), &parsed, None);
            assert_eq!(
                got.cpu_weight,
                Some(weight(shares(weight_of))),
                "{resources}"
            );
            assert_eq!(got.cpu_max, max, "{resources}");
            assert_eq!(got.memory_max, bytes, "{resources}");
            assert_eq!(got.swap_max, Some(0), "{resources}");
        }
    }

    #[test]
    fn containers_have_limits_of_their_pod() {
        let whole = json!({"cpu": "1", "memory": "64Mi", "hugepages-2Mi": "8Mi"});
        for (limits, cpu, bytes, pages, inherited) in [
            (json!({}), 1000, 64 << 20, 8 << 20, true),
            (json!({"cpu": "500m"}), 500, 64 << 20, 8 << 20, true),
            (
                json!({"cpu": "0", "memory": "0"}),
                1000,
                64 << 20,
                8 << 20,
                true,
            ),
            (
                json!({"cpu": "500m", "memory": "1Mi", "hugepages-2Mi": "2Mi"}),
                500,
                1 << 20,
                2 << 20,
                false,
            ),
        ] {
            let pod = pod_of(json!({
                "containers": [{"name": "c", "resources": {"limits": limits}}],
                "resources": {"limits": whole},
            }));
            let own = &spec::containers(&pod)[0];
            let got = container(&pod, own, None);
            assert_eq!(got.cpu_weight, Some(weight(shares(cpu))), "{limits}");
            assert_eq!(got.cpu_max, Some((cpu * 100, PERIOD)), "{limits}");
            assert_eq!(got.memory_max, Some(bytes), "{limits}");
            assert_eq!(got.hugetlb_max, Some([(2 << 20, pages)].into()), "{limits}");
            assert_eq!(inherits(&pod, own), inherited, "{limits}");
        }
        let alone = pod_of(json!({"containers": [{"name": "c"}]}));
        let own = &spec::containers(&alone)[0];
        assert_eq!(container(&alone, own, None).hugetlb_max, Some([].into()));
        assert!(!inherits(&alone, own));
    }

    #[test]
    fn the_pods_own_limits_need_none_of_its_containers() {
        let sized =
            json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1", "hugepages-1Gi": "1Gi"}});
        let whole = pod_of(json!({"containers": [{"name": "c"}], "resources": sized}));
        let got = pod(&whole, QosClass::Burstable, None);
        assert_eq!(got.cpu_weight, Some(100));
        assert_eq!(
            (got.cpu_max, got.memory_max),
            (Some((200_000, PERIOD)), None)
        );
        assert_eq!(got.hugetlb_max, Some([(1 << 30, 1 << 30)].into()));
    }

    #[test]
    fn of_the_classes() {
        let list = |value: Value| -> ResourceList { serde_json::from_value(value).unwrap() };
        let node = list(json!({"cpu": "2", "memory": "4Gi"}));
        let asked = [
            list(json!({"cpu": "600m"})),
            list(json!({"cpu": "400m"})),
            list(json!({})),
        ];
        let [all, burstable, best_effort] = classes(&node, &[], &asked, None);
        let shown = |(qos, has): (QosClass, Resources)| (qos, has.cpu_weight, has.memory_max);
        let want = (QosClass::Guaranteed, Some(174), Some(4 << 30));
        assert_eq!(shown(all), want);
        assert_eq!(shown(burstable), (QosClass::Burstable, Some(100), None));
        assert_eq!(shown(best_effort), (QosClass::BestEffort, Some(1), None));
        let [_, burstable, _] = classes(&node, &[], &[], None);
        assert_eq!(burstable.1.cpu_weight, Some(1));
    }

    #[test]
    fn of_a_pod_whose_containers_are_all_limited() {
        let limited = json!({"limits": {"cpu": "1", "memory": "1Mi"}, "requests": {"cpu": "500m"}});
        let one = |resources: &Value| json!({"name": "c", "resources": resources});
        let all = pod_of(json!({"containers": [one(&limited), one(&limited)]}));
        let got = pod(&all, QosClass::Burstable, None);
        assert_eq!(got.cpu_weight, Some(100));
        assert_eq!(got.cpu_max, Some((200_000, PERIOD)));
        assert_eq!(got.memory_max, Some(2 << 20));

        let some = pod_of(json!({"containers": [one(&limited), one(&json!({}))]}));
        let got = pod(&some, QosClass::Burstable, None);
        assert_eq!((got.cpu_max, got.memory_max), (None, None));
    }

    #[test]
    fn what_the_pod_asks_for_as_a_whole_comes_first() {
        let one = json!({"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Mi"}}});
        let pod = pod_of(json!({"containers": [one], "resources": {"requests": {"cpu": "3"}}}));
        let requests = pod_requests(&pod);
        assert_eq!(milli(Some(&requests)), 3000);
        assert_eq!(memory(Some(&requests)), Some(1 << 20));
    }

    #[test]
    fn requests_count_sidecars_and_the_largest_init_container() {
        let cpu = |name: &str, cpu: &str, policy: Option<&str>| json!({"name": name, "restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}});
        for (init, want) in [
            (json!([]), 1000),
            (json!([cpu("a", "3", None)]), 3000),
            (json!([cpu("a", "1", Some("Always"))]), 2000),
            (
                json!([cpu("a", "1", Some("Always")), cpu("b", "3", None)]),
                4000,
            ),
            (
                json!([cpu("b", "3", None), cpu("a", "1", Some("Always"))]),
                3000,
            ),
        ] {
            let pod = pod_of(
                json!({"containers": [cpu("c", "1", None)], "initContainers": init, "overhead": {"cpu": "0"}}),
            );
            assert_eq!(milli(Some(&pod_requests(&pod))), want, "{init}");
        }
    }
}
