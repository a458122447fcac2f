mod ephemeral;
mod resize;
mod restart_all;

use std::time::Duration;

use serde_json::{Value, json};
use vetch_runtime::ContainerState::{Created, Exited, Running, Unknown};
use vetch_runtime::{ContainerStatus, SandboxState};

use super::*;
use crate::pods::probe::Kind;
use crate::pods::testing::{at, container, exited, pod, sandbox, seen};

/// A pod with everything ready, to be changed by each case.
struct Case {
    pod: Pod,
    seen: Seen,
    past: BTreeMap<String, i32>,
    results: ProbeResults,
    readiness: Readiness,
    crashes: Backoff,
    pulls: Backoff,
    pull_errors: BTreeMap<String, String>,
    resized: BTreeSet<ContainerId>,
    holds: BTreeMap<String, Hold>,
    busy: Busy,
    now: Timestamp,
}

impl Case {
    fn new(spec: Value, containers: Vec<ContainerStatus>) -> Case {
        let seconds = Duration::from_secs;
        Case {
            pod: pod(spec),
            seen: seen(containers),
            past: BTreeMap::new(),
            results: ProbeResults::new(),
            readiness: Readiness {
                network: true,
                addressed: true,
                volumes: true,
                sandbox_hold: None,
                volumes_hold: None,
            },
            crashes: Backoff::new(seconds(10), seconds(300)),
            pulls: Backoff::new(seconds(10), seconds(300)),
            pull_errors: BTreeMap::new(),
            resized: BTreeSet::new(),
            holds: BTreeMap::new(),
            busy: Busy::default(),
            now: at(1000),
        }
    }

    fn plan(&self) -> Plan {
        plan(&Observed {
            pod: &self.pod,
            seen: &self.seen,
            past: &self.past,
            results: &self.results,
            readiness: self.readiness,
            crashes: &self.crashes,
            pulls: &self.pulls,
            pull_errors: &self.pull_errors,
            resized: &self.resized,
            holds: &self.holds,
            busy: &self.busy,
            now: self.now,
        })
    }

    fn result(mut self, id: &str, kind: Kind, success: bool) -> Case {
        self.results
            .entry(ContainerId(id.into()))
            .or_default()
            .set(kind, success);
        self
    }
}

/// One word an action.
fn words(plan: &Plan) -> Vec<String> {
    plan.actions
        .iter()
        .map(|action| match action {
            Action::MakeSandbox { attempt, replaces } => format!("sandbox {attempt} {replaces}"),
            Action::Attach(id) => format!("attach {id}"),
            Action::SetUpVolumes => "volumes".to_owned(),
            Action::Start { container } => format!("start {container}"),
            Action::Kill { id, message, .. } => format!("kill {id}: {message}"),
            Action::RemoveContainer(id) => format!("remove {id}"),
            Action::RemoveSandbox(id) => format!("remove {id}"),
            Action::Reset { id, .. } => format!("reset {id}"),
        })
        .collect()
}

fn one() -> Value {
    json!({"containers": [{"name": "app", "image": "echo:v1"}]})
}

fn two(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [
        {"name": "a", "image": "echo:v1"}, {"name": "b", "image": "echo:v1"},
    ]})
}

fn with_init(policy: &str, sidecar: bool) -> Value {
    let own = sidecar.then_some("Always");
    json!({
        "restartPolicy": policy,
        "initContainers": [
            {"name": "i1", "image": "echo:v1"},
            {"name": "i2", "image": "echo:v1", "restartPolicy": own},
            {"name": "i3", "image": "echo:v1"},
        ],
        "containers": [{"name": "app", "image": "echo:v1"}],
    })
}

#[test]
fn sandbox_and_volumes_come_first_and_together() {
    let empty = |change: fn(&mut Case)| {
        let mut case = Case::new(one(), vec![]);
        case.seen = Seen::default();
        case.readiness.volumes = false;
        case.readiness.addressed = false;
        change(&mut case);
        case.plan()
    };
    assert_eq!(words(&empty(|_| {})), ["sandbox 0 false", "volumes"]);
    assert_eq!(words(&empty(|case| case.busy.sandbox = true)), ["volumes"]);
    assert_eq!(
        words(&empty(|case| case.busy.volumes = true)),
        ["sandbox 0 false"]
    );
    let held = empty(|case| {
        case.readiness.sandbox_hold = Some(at(1007));
        case.readiness.volumes_hold = Some(at(1005));
    });
    assert_eq!((words(&held), held.wake_at), (vec![], Some(at(1005))));
    let no_network = empty(|case| case.readiness.network = false);
    assert_eq!(words(&no_network), ["volumes"]);
    assert!(no_network.network_missing);

    let mut attach = Case::new(one(), vec![]);
    attach.readiness.addressed = false;
    assert_eq!(words(&attach.plan()), ["attach s0"]);
    let host = json!({"hostNetwork": true, "containers": [{"name": "app", "image": "echo:v1"}]});
    let mut host = Case::new(host, vec![]);
    host.readiness.addressed = false;
    host.readiness.network = false;
    assert_eq!(words(&host.plan()), ["start app"]);
}

#[test]
fn a_lost_sandbox_is_replaced_unless_the_pod_is_done() {
    for (spec, containers, want, ended) in [
        (one(), vec![], vec!["sandbox 1 true"], false),
        (
            one(),
            vec![container("app", 0, Unknown)],
            vec!["sandbox 1 true"],
            false,
        ),
        (
            two("OnFailure"),
            vec![exited("a", 0, 0), container("b", 0, Unknown)],
            vec!["sandbox 1 true"],
            false,
        ),
        (
            two("OnFailure"),
            vec![exited("a", 0, 0), exited("b", 0, 0)],
            vec![],
            true,
        ),
        (two("Never"), vec![container("a", 0, Unknown)], vec![], true),
        (two("Never"), vec![], vec!["sandbox 1 true"], false),
        (
            with_init("Never", false),
            vec![exited("i1", 0, 1)],
            vec![],
            true,
        ),
        (
            with_init("Never", false),
            vec![exited("i1", 0, 0)],
            vec!["sandbox 1 true"],
            false,
        ),
    ] {
        let text = format!("{spec} {containers:?}");
        let mut case = Case::new(spec, vec![]);
        case.seen = Seen::new(vec![sandbox(0, SandboxState::NotReady, containers)]);
        let plan = case.plan();
        assert_eq!(
            (words(&plan), plan.ended),
            (want.iter().map(|w| (*w).to_owned()).collect(), ended),
            "{text}"
        );
    }
}

#[test]
fn containers_are_started_kept_and_ended() {
    for (spec, containers, want, ended) in [
        (two("Always"), vec![], vec!["start a", "start b"], false),
        (
            two("Always"),
            vec![container("a", 0, Running)],
            vec!["start b"],
            false,
        ),
        (
            two("Always"),
            vec![container("a", 0, Running), container("b", 0, Running)],
            vec![],
            false,
        ),
        (
            two("Always"),
            vec![container("a", 0, Exited), container("b", 0, Created)],
            vec!["start a", "start b"],
            false,
        ),
        (
            two("OnFailure"),
            vec![exited("a", 0, 0), exited("b", 0, 1)],
            vec!["start b"],
            false,
        ),
        (
            two("OnFailure"),
            vec![exited("a", 0, 0), exited("b", 0, 0)],
            vec![],
            true,
        ),
        (
            two("Never"),
            vec![exited("a", 0, 1), container("b", 0, Running)],
            vec![],
            false,
        ),
        (
            two("Never"),
            vec![exited("a", 0, 1), exited("b", 0, 0)],
            vec![],
            true,
        ),
        (
            two("Never"),
            vec![exited("a", 0, 1)],
            vec!["start b"],
            false,
        ),
    ] {
        let text = format!("{spec} {containers:?}");
        let plan = Case::new(spec, containers).plan();
        assert_eq!(
            (words(&plan), plan.ended),
            (want.iter().map(|w| (*w).to_owned()).collect(), ended),
            "{text}"
        );
    }
}

#[test]
fn init_containers_run_in_order() {
    for (policy, containers, want, ended) in [
        ("Always", vec![], vec!["start i1"], false),
        ("Always", vec![container("i1", 0, Running)], vec![], false),
        ("Always", vec![exited("i1", 0, 1)], vec!["start i1"], false),
        ("Never", vec![exited("i1", 0, 1)], vec![], true),
        ("Never", vec![exited("i1", 0, 0)], vec!["start i2"], false),
        (
            "Always",
            vec![exited("i1", 0, 0), exited("i2", 0, 0)],
            vec!["start i3"],
            false,
        ),
        // An earlier one was removed since.
        ("Always", vec![exited("i2", 0, 0)], vec!["start i3"], false),
        ("Always", vec![exited("i3", 0, 0)], vec!["start app"], false),
        // Once a regular container was made, all that is past.
        (
            "Always",
            vec![exited("app", 0, 1)],
            vec!["start app"],
            false,
        ),
        ("Always", vec![container("app", 0, Running)], vec![], false),
    ] {
        let text = format!("{policy} {containers:?}");
        let plan = Case::new(with_init(policy, false), containers).plan();
        assert_eq!(
            (words(&plan), plan.ended),
            (want.iter().map(|w| (*w).to_owned()).collect(), ended),
            "{text}"
        );
    }
}

#[test]
fn sidecars_stay_up_beside_the_others() {
    for (containers, want, ended) in [
        (
            vec![exited("i1", 0, 0), container("i2", 0, Running)],
            vec!["start i3"],
            false,
        ),
        (
            vec![exited("i1", 0, 0), exited("i2", 0, 0)],
            vec!["start i2"],
            false,
        ),
        // It fell while the next one runs.
        (
            vec![exited("i2", 0, 1), container("i3", 0, Running)],
            vec!["start i2"],
            false,
        ),
        (
            vec![exited("i2", 0, 1), container("app", 0, Running)],
            vec!["start i2"],
            false,
        ),
        // The pod is done: it is not started again.
        (vec![exited("i2", 0, 1), exited("app", 0, 0)], vec![], true),
    ] {
        let text = format!("{containers:?}");
        let plan = Case::new(with_init("OnFailure", true), containers).plan();
        assert_eq!(
            (words(&plan), plan.ended),
            (want.iter().map(|w| (*w).to_owned()).collect(), ended),
            "{text}"
        );
    }
    // With a startup probe it counts when that has succeeded.
    let mut spec = with_init("Always", true);
    spec["initContainers"][1]["startupProbe"] = json!({"tcpSocket": {"port": 1}});
    let running = || vec![exited("i1", 0, 0), container("i2", 0, Running)];
    assert_eq!(words(&Case::new(spec.clone(), running()).plan()), [""; 0]);
    let passed = Case::new(spec.clone(), running()).result("i2-0", Kind::Startup, true);
    assert_eq!(words(&passed.plan()), ["start i3"]);
    let failed = Case::new(spec, running()).result("i2-0", Kind::Startup, false);
    assert_eq!(
        words(&failed.plan()),
        ["kill i2-0: Init container i2 failed startup probe"]
    );
}

#[test]
fn probes_kill() {
    let spec = |policy: &str| {
        json!({"restartPolicy": policy, "containers": [{
            "name": "app", "image": "echo:v1",
            "livenessProbe": {"tcpSocket": {"port": 1}}, "startupProbe": {"tcpSocket": {"port": 1}},
        }]})
    };
    let running = || vec![container("app", 0, Running)];
    for (policy, kind, success, want) in [
        (
            "Always",
            Kind::Liveness,
            false,
            vec!["kill app-0: Container app failed liveness probe, will be restarted"],
        ),
        (
            "OnFailure",
            Kind::Startup,
            false,
            vec!["kill app-0: Container app failed startup probe, will be restarted"],
        ),
        (
            "Never",
            Kind::Liveness,
            false,
            vec!["kill app-0: Container app failed liveness probe"],
        ),
        ("Always", Kind::Liveness, true, vec![]),
        ("Always", Kind::Readiness, false, vec![]),
    ] {
        let case = Case::new(spec(policy), running()).result("app-0", kind, success);
        assert_eq!(words(&case.plan()), want, "{policy} {kind:?} {success}");
    }
    let mut busy = Case::new(spec("Always"), running()).result("app-0", Kind::Liveness, false);
    busy.busy.kills.insert(ContainerId("app-0".into()));
    assert_eq!(words(&busy.plan()), [""; 0]);
}

#[test]
fn another_image_is_another_container() {
    let spec = json!({"containers": [{"name": "app", "image": "echo:v2"}]});
    let case = Case::new(spec, vec![container("app", 0, Running)]);
    assert_eq!(
        words(&case.plan()),
        ["kill app-0: Container app definition changed, will be restarted"]
    );
}

#[test]
fn crash_loops_back_off() {
    // The second exit, at 101 seconds.
    let crashed = || vec![container("app", 0, Exited), container("app", 1, Exited)];
    let mut case = Case::new(one(), crashed());
    let key = crash_key(&case.pod.spec.as_ref().unwrap().containers[0]);
    case.crashes.next(&key, at(1), at(1));
    for (now, want) in [(101, vec![]), (110, vec![]), (111, vec!["start app"])] {
        case.now = at(now);
        let plan = case.plan();
        assert_eq!(words(&plan), want, "{now}");
        if want.is_empty() {
            assert_eq!(plan.wake_at, Some(at(111)));
            let waiting = Waiting::new(
                "CrashLoopBackOff",
                "back-off 10s restarting failed container=app pod=web_shop(u)",
            );
            assert_eq!(plan.waiting["app"], waiting);
            assert_eq!(plan.backing_off.len(), 1);
        }
    }
    // A first exit is answered at once.
    let first = Case::new(one(), vec![container("app", 0, Exited)]);
    assert_eq!(words(&first.plan()), ["start app"]);
}

#[test]
fn the_image_of_a_volume_holds_who_mounts_it() {
    let spec = json!({
        "containers": [
            {"name": "a", "image": "echo:v1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]},
            {"name": "b", "image": "echo:v1"},
        ],
        "volumes": [{"name": "v", "image": {"reference": "files:v1"}}],
    });
    let mut case = Case::new(spec, vec![]);
    case.pulls.next("files:v1", at(1000), at(1000));
    case.pull_errors.insert("files:v1".into(), "words".into());
    let plan = case.plan();
    assert_eq!(words(&plan), ["start b"]);
    assert_eq!(
        plan.waiting["a"],
        Waiting::new(
            "ImagePullBackOff",
            "Back-off pulling image \"files:v1\": ErrImagePull: words"
        )
    );
    case.now = at(1010);
    assert_eq!(words(&case.plan()), ["start a", "start b"]);
}

#[test]
fn a_failed_pull_is_told_twice_and_holds_both_containers() {
    let mut case = Case::new(two("Always"), vec![]);
    let later = Waiting::new("ImagePullBackOff", "later");
    let hold = Hold {
        until: at(1010),
        waiting: Waiting::new("ErrImagePull", "first"),
        later: Some((at(1005), later)),
    };
    case.holds.insert("a".into(), hold);
    case.pulls.next("echo:v1", at(1000), at(1000));
    case.pull_errors.insert("echo:v1".into(), "words".into());

    let plan = case.plan();
    assert_eq!((words(&plan), plan.wake_at), (vec![], Some(at(1005))));
    assert_eq!(plan.waiting["a"].reason, "ErrImagePull");
    assert_eq!(
        plan.waiting["b"],
        Waiting::new(
            "ImagePullBackOff",
            "Back-off pulling image \"echo:v1\": ErrImagePull: words"
        )
    );
    case.now = at(1005);
    let plan = case.plan();
    assert_eq!((words(&plan), plan.wake_at), (vec![], Some(at(1010))));
    assert_eq!(plan.waiting["a"].reason, "ImagePullBackOff");
    assert_eq!(plan.backing_off.len(), 2);
    case.now = at(1010);
    assert_eq!(words(&case.plan()), ["start a", "start b"]);
}

#[test]
fn what_is_under_way_is_not_begun_again() {
    let mut case = Case::new(two("Always"), vec![]);
    case.busy.start = Some("a".into());
    assert_eq!(words(&case.plan()), ["start b"]);
}

#[test]
fn old_containers_and_sandboxes_go() {
    let history = (0..4).map(|attempt| exited("app", attempt, 1)).collect();
    let mut case = Case::new(one(), history);
    assert_eq!(words(&case.plan())[..2], ["remove app-1", "remove app-0"]);
    case.busy.sweeps.insert("app-1".into());
    assert_eq!(words(&case.plan())[..1], ["remove app-0"]);

    let mut case = Case::new(one(), vec![]);
    let lost = |attempt| sandbox(attempt, SandboxState::NotReady, vec![]);
    let present = sandbox(3, SandboxState::Ready, vec![container("app", 3, Running)]);
    case.seen = Seen::new(vec![lost(0), lost(1), lost(2), present]);
    assert_eq!(words(&case.plan()), ["remove s1", "remove s0"]);

    // Of init containers the last one is enough.
    let runs = vec![exited("i1", 0, 1), exited("i1", 1, 1)];
    let case = Case::new(with_init("Always", false), runs);
    assert_eq!(words(&case.plan()), ["remove i1-0", "start i1"]);
}

#[test]
fn after_the_machine_was_restarted() {
    for (spec, past, want, ended) in [
        (one(), vec![("app", 137)], vec!["sandbox 0 false"], false),
        (two("Never"), vec![("a", 137), ("b", 137)], vec![], true),
        (two("Never"), vec![("a", 0)], vec![], true),
        (two("Never"), vec![], vec!["sandbox 0 false"], false),
        (two("OnFailure"), vec![("a", 0), ("b", 0)], vec![], true),
        (
            two("OnFailure"),
            vec![("a", 0), ("b", 137)],
            vec!["sandbox 0 false"],
            false,
        ),
        (with_init("Never", false), vec![("i1", 1)], vec![], true),
    ] {
        let text = format!("{spec} {past:?}");
        let mut case = Case::new(spec, vec![]);
        case.seen = Seen::default();
        case.past = past
            .into_iter()
            .map(|(name, code)| (name.to_owned(), code))
            .collect();
        let plan = case.plan();
        assert_eq!(words(&plan), want, "{text}");
        assert_eq!(plan.ended, ended, "{text}");
    }
    // In the new sandbox, one that had succeeded stays so.
    let mut case = Case::new(two("OnFailure"), vec![]);
    case.past.insert("a".into(), 0);
    assert_eq!(words(&case.plan()), ["start b"]);
}

#[test]
fn a_sandbox_lost_at_once_is_not_made_in_a_busy_loop() {
    let mut case = Case::new(one(), vec![]);
    case.seen = Seen::new(vec![sandbox(7, SandboxState::NotReady, vec![])]);
    // It was made at seven seconds.
    for (now, want, wake_at) in [(7, vec![], Some(at(8))), (8, vec!["sandbox 8 true"], None)] {
        case.now = at(now);
        let plan = case.plan();
        assert_eq!(
            (words(&plan), plan.wake_at),
            (want.iter().map(|w| (*w).to_owned()).collect(), wake_at)
        );
    }
}
