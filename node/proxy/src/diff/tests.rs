use std::collections::BTreeSet;

use vetch_ebpf_common::Protocol;

use super::*;
use crate::model::Backend;

fn frontend(n: u8) -> Frontend {
    Frontend {
        addr: [10, 96, 0, n].into(),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

fn target(ns: &[u8]) -> Target {
    let backend = |n: &u8| Backend {
        addr: [10, 244, 0, *n].into(),
        port: 8080,
    };
    Target {
        cluster: ns.iter().map(backend).collect(),
        ..Target::default()
    }
}

fn port(frontends: &[u8], to: &[u8]) -> ServicePort {
    ServicePort {
        frontends: frontends
            .iter()
            .map(|n| (frontend(*n), Exposure::CLUSTER))
            .collect(),
        target: target(to),
    }
}

fn current(services: &[(ServiceId, &[u8], &[u8])]) -> Current {
    let mut current = Current::default();
    for (service, frontends, to) in services {
        current.services.insert(*service, target(to));
        let to = Pointer {
            service: *service,
            exposure: Exposure::CLUSTER,
        };
        let pointers = frontends.iter().map(|n| (frontend(*n), to));
        current.frontends.extend(pointers);
    }
    current
}

/// One letter a step: +service published, >frontend pointed, -frontend, xservice.
fn read(ops: &[MapOp]) -> String {
    let step = |op: &MapOp| match op {
        MapOp::Publish { service, target } => format!("+{service}({})", target.cluster.len()),
        MapOp::Point { frontend, to } => format!(">{}:{}", last(frontend), to.service),
        MapOp::Unpoint { frontend } => format!("-{}", last(frontend)),
        MapOp::Retire { service } => format!("x{service}"),
    };
    ops.iter().map(step).collect::<Vec<_>>().join(" ")
}

fn last(frontend: &Frontend) -> u8 {
    vetch_ebpf_common::Address::from(frontend.addr).octets()[15]
}

fn plan(current: &Current, wanted: &[ServicePort]) -> Vec<MapOp> {
    let scope: BTreeSet<Frontend> = current
        .frontends
        .keys()
        .copied()
        .chain(
            wanted
                .iter()
                .flat_map(|port| port.frontends.keys().copied()),
        )
        .collect();
    let mut fresh = (100..).filter(|id| !current.services.contains_key(id));
    let (ops, left_out) = diff(current, &scope, wanted, &mut fresh);
    assert!(left_out.is_empty());
    ops
}

fn answer(current: &Current, frontend: &Frontend) -> Option<Target> {
    let to = current.frontends.get(frontend)?;
    Some(
        current
            .services
            .get(&to.service)
            .cloned()
            .unwrap_or_default(),
    )
}

/// Runs the steps one by one; a process may be killed after any of them.
fn every_step_is_safe(case: &str, before: &Current, wanted: &[ServicePort], ops: &[MapOp]) {
    let target = |frontend: &Frontend| {
        wanted
            .iter()
            .find(|port| port.frontends.contains_key(frontend))
            .map(|port| port.target.clone())
    };
    let mut state = before.clone();
    for op in ops {
        state.record(op);
        for (frontend, to) in &state.frontends {
            assert!(
                state.services.contains_key(&to.service),
                "{case}: after {op:?} {frontend} leads nowhere"
            );
            let now = answer(&state, frontend);
            // What nobody wants any more may answer with anything until it is gone.
            assert!(
                now == answer(before, frontend)
                    || now == target(frontend)
                    || target(frontend).is_none(),
                "{case}: after {op:?} {frontend} answers with {now:?}"
            );
        }
        for frontend in before
            .frontends
            .keys()
            .filter(|frontend| target(frontend).is_some())
        {
            assert!(
                state.frontends.contains_key(frontend),
                "{case}: after {op:?} {frontend} is gone"
            );
        }
    }
    let end: BTreeSet<_> = state.frontends.keys().copied().collect();
    let all: BTreeSet<_> = wanted
        .iter()
        .flat_map(|port| port.frontends.keys().copied())
        .collect();
    assert_eq!(end, all, "{case}");
    for frontend in &end {
        assert_eq!(answer(&state, frontend), target(frontend), "{case}");
    }
    assert_eq!(
        state.services.len(),
        state
            .frontends
            .values()
            .map(|to| to.service)
            .collect::<BTreeSet<_>>()
            .len(),
        "{case}"
    );
}

#[test]
fn steps_and_their_order() {
    let cases: &[(&str, Current, Vec<ServicePort>, &str)] = &[
        (
            "nothing to do",
            current(&[(1, &[1], &[1, 2])]),
            vec![port(&[1], &[1, 2])],
            "",
        ),
        (
            "first service",
            current(&[]),
            vec![port(&[1], &[1, 2])],
            "+100(2) >1:100",
        ),
        (
            "service without endpoints",
            current(&[]),
            vec![port(&[1], &[])],
            "+100(0) >1:100",
        ),
        (
            "endpoints change",
            current(&[(1, &[1], &[1, 2])]),
            vec![port(&[1], &[2, 3])],
            "+1(2)",
        ),
        (
            "endpoints vanish",
            current(&[(1, &[1], &[1])]),
            vec![port(&[1], &[])],
            "+1(0)",
        ),
        ("service goes", current(&[(1, &[1], &[1])]), vec![], "-1 x1"),
        (
            "one goes, one comes",
            current(&[(1, &[1], &[1])]),
            vec![port(&[2], &[1])],
            "+100(1) >2:100 -1 x1",
        ),
        (
            "more addresses",
            current(&[(1, &[1], &[1])]),
            vec![port(&[1, 2], &[1])],
            ">2:1",
        ),
        (
            "fewer addresses",
            current(&[(1, &[1, 2], &[1])]),
            vec![port(&[2], &[1])],
            "-1",
        ),
        (
            "address and endpoints",
            current(&[(1, &[1], &[1])]),
            vec![port(&[1, 2], &[3])],
            "+1(1) >2:1",
        ),
        (
            "two become one",
            current(&[(1, &[1], &[1]), (2, &[2], &[2])]),
            vec![port(&[1, 2], &[1])],
            ">2:1 x2",
        ),
        (
            "one becomes two",
            current(&[(1, &[1, 2], &[1])]),
            vec![port(&[1], &[1]), port(&[2], &[1])],
            "+100(1) >2:100",
        ),
        (
            "one becomes two, both changed",
            current(&[(1, &[1, 2], &[1])]),
            vec![port(&[1], &[2]), port(&[2], &[3])],
            "+100(1) +101(1) >1:100 >2:101 x1",
        ),
        (
            "many at once",
            current(&[(1, &[1], &[1]), (2, &[2], &[2]), (3, &[3], &[3])]),
            vec![port(&[1], &[9]), port(&[2], &[2]), port(&[4], &[4])],
            "+1(1) +100(1) >4:100 -3 x3",
        ),
    ];
    for (case, before, wanted, expected) in cases {
        let ops = plan(before, wanted);
        assert_eq!(read(&ops), *expected, "{case}");
        every_step_is_safe(case, before, wanted, &ops);
    }
}

/// All pairs of small states: what the table above did not think of.
#[test]
fn every_step_is_safe_between_any_two_states() {
    type Shape<'a> = &'a [(ServiceId, &'a [u8], &'a [u8])];
    let shapes: &[Shape<'_>] = &[
        &[],
        &[(1, &[1], &[1])],
        &[(1, &[1], &[])],
        &[(1, &[1, 2], &[1])],
        &[(1, &[1], &[1]), (2, &[2], &[2])],
        &[(1, &[2], &[1]), (2, &[1], &[2])],
        &[(1, &[1, 3], &[1]), (2, &[2, 4], &[2])],
        &[(1, &[1, 4], &[1]), (2, &[3, 2], &[2, 3])],
        &[(1, &[3], &[]), (2, &[1, 2, 4], &[1])],
    ];
    for before in shapes {
        for after in shapes {
            let wanted: Vec<ServicePort> = after
                .iter()
                .map(|(_, frontends, to)| port(frontends, to))
                .collect();
            let before = current(before);
            every_step_is_safe(
                &format!("{before:?} -> {after:?}"),
                &before,
                &wanted,
                &plan(&before, &wanted),
            );
        }
    }
}

#[test]
fn what_is_outside_the_scope_is_left_alone() {
    let before = current(&[(1, &[1], &[1]), (2, &[2], &[2])]);
    let (ops, _) = diff(
        &before,
        &BTreeSet::from([frontend(1)]),
        &[],
        &mut std::iter::empty(),
    );
    assert_eq!(read(&ops), "-1 x1");
}

#[test]
fn without_a_free_number_the_port_is_left_out_and_the_rest_goes_on() {
    let before = current(&[(1, &[1], &[1])]);
    let wanted = [port(&[2], &[2]), port(&[1], &[3])];
    let scope = BTreeSet::from([frontend(1), frontend(2)]);
    let (ops, left_out) = diff(&before, &scope, &wanted, &mut std::iter::empty());
    assert_eq!(read(&ops), "+1(1)");
    assert_eq!(left_out, wanted[..1]);
}
