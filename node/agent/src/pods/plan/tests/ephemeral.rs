use super::*;

#[test]
fn ephemeral_containers_are_started_once() {
    let with = |mut spec: Value| {
        spec["ephemeralContainers"] =
            json!([{"name": "d1", "image": "dbg:v1"}, {"name": "d2", "image": "dbg:v1"}]);
        spec
    };
    let running = || container("app", 0, Running);
    for (spec, containers, want, ended) in [
        (
            with(one()),
            vec![running()],
            vec!["start d1", "start d2"],
            false,
        ),
        (
            with(one()),
            vec![running(), container("d1", 0, Running)],
            vec!["start d2"],
            false,
        ),
        // However they ended, and one that was made and never ran.
        (
            with(one()),
            vec![running(), exited("d1", 0, 1), container("d2", 0, Created)],
            vec!["start d2"],
            false,
        ),
        (
            with(one()),
            vec![running(), exited("d1", 0, 0), container("d2", 0, Unknown)],
            vec![],
            false,
        ),
        // They do not wait for init containers.
        (
            with(with_init("Always", false)),
            vec![container("i1", 0, Running)],
            vec!["start d1", "start d2"],
            false,
        ),
        (
            with(with_init("Always", false)),
            vec![exited("i1", 0, 1), exited("d1", 0, 0)],
            vec!["start d2", "start i1"],
            false,
        ),
        // Nor does the pod wait for them.
        (
            with(two("Never")),
            vec![
                exited("a", 0, 0),
                exited("b", 0, 0),
                container("d1", 0, Running),
            ],
            vec![],
            true,
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

    // One that ran in a sandbox that is lost has had its turn, and so has one the runtime forgot.
    let mut case = Case::new(with(one()), vec![]);
    case.seen = Seen::new(vec![
        sandbox(0, SandboxState::NotReady, vec![container("d1", 0, Unknown)]),
        sandbox(1, SandboxState::Ready, vec![running()]),
    ]);
    case.past.insert("d2".into(), 137);
    assert_eq!(words(&case.plan()), [""; 0]);

    // What holds others back holds these back.
    let mut held = Case::new(with(one()), vec![running(), exited("d2", 0, 0)]);
    let waiting = Waiting::new("CreateContainerConfigError", "words");
    let until = at(1010);
    let hold = Hold {
        until,
        waiting: waiting.clone(),
        later: None,
    };
    held.holds.insert("d1".into(), hold);
    let plan = held.plan();
    assert_eq!((words(&plan), plan.wake_at), (vec![], Some(until)));
    assert_eq!(plan.waiting["d1"], waiting);
}
