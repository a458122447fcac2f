//! What comes from the network for services, and the way back.

use vetch_ebpf_common::{
    Frontend, Pod,
    Protocol::{self, Sctp, Tcp, Udp},
    Reason, State, Terms, addresses,
};
use vetch_ebpf_tests::{
    At, Body, Frame, Lab, NODE_V4, NODE_V6, PASS, POD_1, POD_2, Service, To, UPLINK, endpoint, ip,
    opening, syn, tuple,
};

const NET: At = At("from_net", UPLINK);
const OUT: At = At("to_net", UPLINK);
const POD: At = At("from_pod", POD_2);
const INTO_POD: To = To::Pod(POD_2);

const CLIENT: &str = "192.0.2.1:40000";
const CLIENT6: &str = "[2001:db8::1]:40000";
const HERE: &str = "10.1.0.2:8080";
const HERE6: &str = "[fd00::2]:8080";
const FAR: &str = "10.2.0.7:8080";
const FAR6: &str = "[fd01::7]:8080";
/// At the node's address.
const NODE_PORT: &str = "192.168.0.10:30080";
const NODE_PORT6: &str = "[fd00:ff::10]:30080";
const VIP: &str = "198.51.100.1:80";

fn lab() -> Lab {
    node(Lab::new())
}

fn node(mut lab: Lab) -> Lab {
    for (address, ifindex, flags) in [
        ("10.1.0.1", POD_1, 0),
        ("10.1.0.2", POD_2, 0),
        ("fd00::2", POD_2, 0),
        ("10.1.0.3", POD_2, Pod::BY_STACK),
    ] {
        lab.pod(address, ifindex, flags);
    }
    lab.own_addresses();
    lab.address("198.51.100.1", addresses::SERVICE);
    lab
}

/// A NodePort, which is at every address of the node, with one backend.
fn node_port(lab: &mut Lab, number: u32, protocol: Protocol, backend: &str) {
    let any = if endpoint(backend).addr().is_v4() {
        "0.0.0.0:30080"
    } else {
        "[::]:30080"
    };
    lab.simple_service(number, any, protocol, backend);
    lab.frontend(any, protocol, number, Frontend::EXTERNAL);
}

#[test]
fn a_pod_of_this_node_sees_the_client() {
    let mut lab = lab();
    for (number, client, at, backend) in [
        (1, CLIENT, NODE_PORT, HERE),
        (2, CLIENT6, NODE_PORT6, HERE6),
    ] {
        for protocol in [Tcp, Udp] {
            node_port(&mut lab, number, protocol, backend);
            let out = opening(protocol, client, at);
            let back = opening(protocol, backend, client);
            for time in ["first", "next"] {
                let rewritten = out.clone().dst(backend);
                lab.expect(NET, &format!("{time} {out:?}"), &out, INTO_POD, &rewritten);
                // The stack would refuse the node's address as a source.
                let rewritten = back.clone().src(at);
                lab.expect(
                    POD,
                    &format!("{time} {back:?}"),
                    &back,
                    To::Link,
                    &rewritten,
                );
            }
        }
    }
    assert_eq!(lab.flows().len(), 8);
    assert!(lab.flows().values().all(|flow| flow.link == UPLINK));
}

/// What cannot go on is the stack's to say, of the packet that the pod knows.
#[test]
fn answers_that_are_too_old_or_too_long() {
    let mut lab = lab();
    node_port(&mut lab, 1, Tcp, HERE);
    lab.uplink(UPLINK, 1400);
    lab.run("from_net", UPLINK, &syn(CLIENT, NODE_PORT));
    let with = |payload, ttl| Frame {
        ttl,
        ..Frame::new(HERE, CLIENT, Body::Tcp { flags: 16, payload })
    };
    lab.expect_untouched(POD, "no hop left", &with(0, 1));
    lab.expect_untouched(POD, "too long", &with(1361, 64));
    for frame in [with(0, 2), with(1360, 64)] {
        lab.expect(
            POD,
            "just so",
            &frame,
            To::Link,
            &frame.clone().src(NODE_PORT),
        );
    }
}

#[test]
fn a_backend_elsewhere_sees_the_node() {
    let mut lab = lab();
    for (number, client, at, backend, node) in [
        (1, CLIENT, NODE_PORT, FAR, NODE_V4),
        (2, CLIENT6, NODE_PORT6, FAR6, NODE_V6),
    ] {
        for protocol in [Tcp, Udp] {
            node_port(&mut lab, number, protocol, backend);
            let out = opening(protocol, client, at);
            lab.run("from_net", UPLINK, &out);
            let to = lab.flow(&tuple(client, at, protocol)).to;
            assert_eq!(to.src, ip(node));
            let port = u16::from_be_bytes(to.sport);
            assert!(port >= 61000, "{port}");
            let node = match ip(node).is_v4() {
                true => format!("{node}:{port}"),
                false => format!("[{node}]:{port}"),
            };
            let rewritten = opening(protocol, &node, backend);
            lab.expect(NET, "question", &out, To::Stack, &rewritten);
            let back = opening(protocol, backend, &node);
            let rewritten = opening(protocol, at, client);
            lab.expect(NET, "answer", &back, To::Link, &rewritten);
        }
    }
}

#[test]
fn the_only_uplink_leads_to_every_node() {
    let mut lab = node(Lab::with_one_uplink());
    node_port(&mut lab, 1, Tcp, FAR);
    let client = "192.0.2.1:61234";
    let out = syn(client, NODE_PORT);
    let rewritten = syn(&format!("{NODE_V4}:61234"), FAR);
    lab.expect(NET, "question", &out, To::Link, &rewritten);

    let process = "192.168.0.10:10250";
    node_port(&mut lab, 2, Udp, process);
    let out = Frame::udp(CLIENT, NODE_PORT);
    lab.expect(
        NET,
        "to a process",
        &out,
        To::Stack,
        &out.clone().dst(process),
    );
    lab.simple_service(3, "10.96.0.1:80", Tcp, FAR);
    let out = syn("10.1.0.1:40000", "10.96.0.1:80");
    let at = At("from_pod", POD_1);
    lab.expect(at, "from a pod", &out, To::Stack, &out.clone().dst(FAR));
}

#[test]
fn a_process_of_the_node_sees_the_client() {
    let mut lab = lab();
    let process = "192.168.0.10:10250";
    node_port(&mut lab, 1, Tcp, process);
    let out = syn(CLIENT, NODE_PORT);
    lab.expect(NET, "question", &out, To::Stack, &syn(CLIENT, process));
    let back = syn(process, CLIENT);
    lab.expect(OUT, "answer", &back, To::Stack, &syn(NODE_PORT, CLIENT));
    lab.expect_untouched(OUT, "of another process", &syn("192.168.0.10:22", CLIENT));
}

#[test]
fn a_load_balancers_address() {
    let mut lab = lab();
    lab.simple_service(1, VIP, Tcp, HERE);
    lab.frontend(VIP, Tcp, 1, Frontend::EXTERNAL);
    let out = syn(CLIENT, VIP);
    lab.expect(NET, "question", &out, INTO_POD, &out.clone().dst(HERE));
    let back = syn(HERE, CLIENT);
    lab.expect(POD, "answer", &back, To::Link, &back.clone().src(VIP));
    lab.expect_refused(NET, "no such port", &syn(CLIENT, "198.51.100.1:81"));
    assert_eq!(lab.reason(Reason::UnknownPort), 1);
}

#[test]
fn policies_and_source_ranges() {
    let mut lab = lab();
    lab.service(&Service {
        number: 1,
        generation: 1,
        terms: Terms::new(Terms::EXTERNAL_LOCAL, 0),
        cluster: &[FAR],
        local: &[],
    });
    lab.frontend(VIP, Tcp, 1, Frontend::EXTERNAL);
    lab.expect_dropped(NET, "no backend here", &syn(CLIENT, VIP));
    assert_eq!(lab.reason(Reason::NoLocalEndpoints), 1);
    // Pods are inside: they reach every endpoint.
    let inside = syn("10.1.0.1:40000", VIP);
    lab.expect(
        At("from_pod", POD_1),
        "the short circuit",
        &inside,
        To::Stack,
        &inside.clone().dst(FAR),
    );

    lab.service(&Service {
        number: 1,
        generation: 2,
        terms: Terms::new(Terms::EXTERNAL_LOCAL, 0),
        cluster: &[FAR, HERE],
        local: &[HERE],
    });
    for port in 1..32 {
        let out = syn(&format!("192.0.2.1:{port}"), VIP);
        lab.expect(NET, "the one here", &out, INTO_POD, &out.clone().dst(HERE));
    }

    lab.service(&Service {
        number: 2,
        generation: 1,
        cluster: &[],
        ..Service::default()
    });
    lab.frontend("198.51.100.1:81", Tcp, 2, Frontend::EXTERNAL);
    lab.expect_refused(NET, "no endpoints", &syn(CLIENT, "198.51.100.1:81"));
    assert_eq!(lab.reason(Reason::NoEndpoints), 1);

    lab.simple_service(3, "198.51.100.1:82", Tcp, HERE);
    lab.frontend(
        "198.51.100.1:82",
        Tcp,
        3,
        Frontend::EXTERNAL | Frontend::SOURCE_RANGES,
    );
    let out = syn(CLIENT, "198.51.100.1:82");
    lab.expect_dropped(NET, "not invited", &out);
    lab.source_range(3, "192.0.2.0", 96 + 24);
    lab.expect(NET, "invited", &out, INTO_POD, &out.clone().dst(HERE));
    assert_eq!(lab.reason(Reason::SourceRange), 1);
}

#[test]
fn what_the_programs_have_nothing_to_do_with() {
    let mut lab = lab();
    node_port(&mut lab, 1, Tcp, HERE);
    lab.expect_untouched(NET, "a port of the node", &syn(CLIENT, "192.168.0.10:22"));
    lab.expect_untouched(NET, "another host", &syn(CLIENT, "203.0.113.1:30080"));
    lab.expect_untouched(NET, "a ping", &Frame::new(CLIENT, NODE_PORT, Body::Echo));
    // The stack sends an answer to its pod, the program at its link rewrites it.
    lab.expect_untouched(OUT, "what a process sends", &syn(NODE_PORT, CLIENT));
    assert_eq!(lab.flows().len(), 0);
    let back = syn(FAR, "10.1.0.1:40000");
    lab.expect(
        NET,
        "a pod's own peer",
        &back,
        To::Pod(POD_1),
        &back.clone(),
    );
}

#[test]
fn answers_from_elsewhere_go_into_the_pod() {
    let mut lab = lab();
    lab.simple_service(1, "10.96.0.1:80", Tcp, FAR);
    let client = "10.1.0.1:40000";
    lab.run("from_pod", POD_1, &syn(client, "10.96.0.1:80"));
    let back = syn(FAR, client);
    let rewritten = syn("10.96.0.1:80", client);
    lab.expect(NET, "answer", &back, To::Pod(POD_1), &rewritten);
}

#[test]
fn a_client_among_the_pods_of_the_node_is_left_to_the_stack() {
    let mut lab = lab();
    node_port(&mut lab, 1, Tcp, HERE);
    let out = syn("10.1.0.1:40000", NODE_PORT);
    lab.expect(NET, "spoofed", &out, To::Stack, &out.clone().dst(HERE));
}

/// The range of source ports: as long as there is one, it is found, and a
/// closed connection's is one.
#[test]
fn source_ports_run_out_and_come_back() {
    let mut lab = node(Lab::with_ports(61000, 61007));
    node_port(&mut lab, 1, Tcp, FAR);
    let client = |n: u16| format!("192.0.2.1:{}", 1000 + n);
    for n in 0..8 {
        let outcome = lab.run("from_net", UPLINK, &syn(&client(n), NODE_PORT));
        assert_eq!(outcome.verdict, PASS, "{n}");
    }
    let mut ports: Vec<u16> = lab
        .flows()
        .iter()
        .filter(|(key, _)| key.destination() == endpoint(NODE_PORT))
        .map(|(_, flow)| u16::from_be_bytes(flow.to.sport))
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, (61000..=61007).collect::<Vec<_>>());
    lab.expect_dropped(NET, "the ninth", &syn(&client(8), NODE_PORT));
    assert_eq!(lab.reason(Reason::SourcePorts), 1);
    assert_eq!(lab.flows().len(), 16);

    let reset = Frame::tcp(&client(3), NODE_PORT, State::RST);
    let to = lab.flow(&tuple(&client(3), NODE_PORT, Tcp)).to;
    let freed = u16::from_be_bytes(to.sport);
    lab.run("from_net", UPLINK, &reset);
    let rewritten = syn(&format!("{NODE_V4}:{freed}"), FAR);
    lab.expect(
        NET,
        "after a reset",
        &syn(&client(8), NODE_PORT),
        To::Stack,
        &rewritten,
    );
    // Both halves of the old flow are gone.
    assert_eq!(lab.flows().len(), 16);
    assert!(!lab.flows().contains_key(&tuple(&client(3), NODE_PORT, Tcp)));

    lab.expect_dropped(NET, "full again", &syn(&client(9), NODE_PORT));
    lab.flows_age(121);
    let outcome = lab.run("from_net", UPLINK, &syn(&client(9), NODE_PORT));
    assert_eq!(outcome.verdict, PASS, "after their time");
    assert_eq!(lab.flows().len(), 16);
}

/// What a process of the node sends to a service although the socket hooks
/// were there: it is to be dropped, or it is SCTP.
#[test]
fn processes_of_the_node() {
    let mut lab = lab();
    lab.service(&Service {
        number: 1,
        generation: 1,
        terms: Terms::new(Terms::INTERNAL_LOCAL, 0),
        cluster: &[FAR],
        local: &[],
    });
    lab.frontend(VIP, Tcp, 1, 0);
    let process = "192.168.0.10:40000";
    lab.expect_dropped(OUT, "policy Local", &syn(process, VIP));
    assert_eq!(lab.reason(Reason::NoLocalEndpoints), 1);
    lab.expect_dropped(OUT, "no such port", &syn(process, "198.51.100.1:9"));
    assert_eq!(lab.reason(Reason::UnknownPort), 1);

    let sctp = |src, dst| Frame::new(src, dst, Body::Sctp);
    lab.simple_service(2, VIP, Sctp, "10.1.0.2:80");
    let rewritten = sctp(process, "10.1.0.2:80");
    lab.expect(OUT, "sctp", &sctp(process, VIP), INTO_POD, &rewritten);
    let rewritten = sctp(VIP, process);
    lab.expect(
        POD,
        "sctp's answer",
        &sctp("10.1.0.2:80", process),
        To::Stack,
        &rewritten,
    );
    lab.simple_service(2, VIP, Sctp, "10.2.0.7:80");
    let another = "192.168.0.10:40001";
    let rewritten = sctp(another, "10.2.0.7:80");
    lab.expect(
        OUT,
        "sctp elsewhere",
        &sctp(another, VIP),
        To::Link,
        &rewritten,
    );
}

/// An uplink that shows everything, or a switch that does not know better.
#[test]
fn frames_of_other_hosts() {
    let mut lab = lab();
    lab.simple_service(1, VIP, Tcp, HERE);
    for at in [VIP, "198.51.100.1:81"] {
        let frame = syn(CLIENT, at).macs([2, 9, 9, 9, 9, 9], [2, 8, 8, 8, 8, 8]);
        let outcome = lab.run("from_net", UPLINK, &frame);
        assert_eq!((outcome.verdict, outcome.bytes), (PASS, frame.bytes()));
    }
    assert_eq!(lab.flows().len(), 0);
}

/// A packet of somebody else's that leaves by the uplink is none of to_net's.
#[test]
fn forwarded_packets_are_done_with() {
    let mut lab = lab();
    lab.simple_service(1, VIP, Tcp, HERE);
    lab.address("198.51.100.1", addresses::SERVICE);
    let out = syn("10.1.0.1:40000", VIP);
    let outcome = lab.run_forwarded("to_net", POD_1, UPLINK, &out);
    assert_eq!(outcome.verdict, PASS);
    assert_eq!(outcome.bytes, out.bytes());
    assert_eq!(lab.flows().len(), 0);
}
