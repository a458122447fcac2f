use std::collections::BTreeSet;

use vetch_ebpf_common::{Site, Tuple};

use super::*;

fn end(text: &str) -> Endpoint {
    let end: SocketAddr = text.parse().unwrap();
    Endpoint::new(end.ip().into(), end.port().to_be_bytes())
}

fn time() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn begun(kind: EventKind, site: Site, from: [&str; 2], to: [&str; 2]) -> Beginning {
    let [src, dst] = from.map(end);
    let mut event = Event::begun(kind, site, 1);
    (event.src, event.sport) = (src.addr(), src.port());
    (event.dst, event.dport) = (dst.addr(), dst.port());
    event.protocol = 17;
    let [src, dst] = to.map(end);
    Beginning {
        event,
        to: Tuple::new(src, dst, 17),
        identities: [0; 2],
    }
}

#[test]
fn what_begins_says_what_it_became() {
    const POD: &str = "10.244.1.2:40000";
    let shown = |begun: &Beginning| begun_event(begun, time(), &Callers::new()).unwrap();
    let mut translated = begun(
        EventKind::Translate,
        Site::FromPod,
        [POD, "10.96.0.10:53"],
        [POD, "10.244.2.3:5353"],
    );
    translated.event.service = 3;
    translated.identities = [7, 0];
    let event = shown(&translated);
    assert_eq!(
        (event.verdict, event.hook),
        (Verdict::Translate, "from_pod")
    );
    assert_eq!(event.backend, "10.244.2.3:5353".parse().ok());
    assert_eq!((event.seen_as, event.reason), (None, None));
    assert_eq!(
        (event.source_identity, event.destination_identity),
        (Some(7), None)
    );
    assert_eq!((event.service, event.ifindex), (Some(3), None));

    let out = ["203.0.113.7:443"; 2];
    let masqueraded = begun(
        EventKind::Masquerade,
        Site::ToNet,
        [POD, out[0]],
        ["192.0.2.1:61000", out[1]],
    );
    let event = shown(&masqueraded);
    assert_eq!((event.verdict, event.backend), (Verdict::Masquerade, None));
    assert_eq!(event.seen_as, "192.0.2.1:61000".parse().ok());

    let both = [POD, "10.244.2.3:80"];
    let allowed = shown(&begun(EventKind::Allow, Site::FromPod, both, both));
    assert_eq!((allowed.backend, allowed.seen_as), (None, None));
    assert_eq!(allowed.verdict, Verdict::Allow);
}

#[test]
fn a_caller_is_known_by_its_namespace() {
    let none = "[::]:0";
    let mut called = begun(
        EventKind::Translate,
        Site::Connect,
        [none, "10.96.0.10:80"],
        [none, "10.244.2.3:8080"],
    );
    called.event.netns = 7;
    let pod: IpAddr = "10.244.1.2".parse().unwrap();
    for (callers, source) in [
        (Callers::from([(7, vec![pod])]), Some(pod)),
        // A process of the node.
        (Callers::from([(8, vec![pod])]), None),
    ] {
        let event = begun_event(&called, time(), &callers).unwrap();
        assert_eq!((event.source, event.source_port), (source, None));
        assert_eq!(event.seen_as, None);
        assert_eq!(event.backend, "10.244.2.3:8080".parse().ok());
    }
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let both = ["10.244.1.2:40000", "10.244.2.3:80"];
    let mut begun = begun(
        EventKind::Translate,
        Site::FromPod,
        [both[0], "10.96.0.10:80"],
        both,
    );
    begun.event.service = 3;
    let event = begun_event(&begun, time(), &Callers::new()).unwrap();
    let pod = |text: &str| FlowFilter {
        pod: text.parse().ok(),
        ..FlowFilter::default()
    };
    let services = |numbers: &[ServiceId]| FlowFilter {
        services: Some(numbers.iter().copied().collect()),
        ..FlowFilter::default()
    };
    let verdict = |verdict| FlowFilter {
        verdicts: BTreeSet::from([verdict]),
        ..FlowFilter::default()
    };
    for (what, filter, shown) in [
        ("all", FlowFilter::default(), true),
        ("the client", pod("10.244.1.2"), true),
        ("what was dialled", pod("10.96.0.10"), true),
        ("the backend", pod("10.244.2.3"), true),
        ("another", pod("10.244.2.4"), false),
        ("its service", services(&[1, 3]), true),
        ("another service", services(&[1]), false),
        ("none that is served", services(&[]), false),
        ("its verdict", verdict(Verdict::Translate), true),
        ("another verdict", verdict(Verdict::Drop), false),
    ] {
        assert_eq!(filter.lets(&event), shown, "{what}");
    }
    for verdict in Verdict::ALL {
        assert_eq!(verdict.as_str().parse(), Ok(verdict));
    }
    assert!("dropped".parse::<Verdict>().is_err());
}
