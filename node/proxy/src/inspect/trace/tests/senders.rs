//! Who sends: a pod, the node, the network.

use super::*;

#[test]
fn what_a_pod_sends() {
    check(
        &snapshot(),
        &[
            (
                "a pod here",
                POD,
                "10.1.0.2:80/TCP",
                "pod from_pod delivered",
            ),
            ("a ping", POD, OTHER, "pod from_pod delivered"),
            ("itself", POD, "10.1.0.1:80/TCP", "pod pod delivered"),
            (
                "its loopback",
                POD,
                "127.0.0.1:30080/TCP",
                "pod pod delivered",
            ),
            (
                "a pod elsewhere",
                POD,
                "10.2.0.9:80/TCP",
                "pod from_pod leaves",
            ),
            ("a pod behind a router", POD, BEHIND, "pod from_pod leaves"),
            ("its node", POD, "192.0.2.1:22/TCP", "pod stack delivered"),
            (
                "the world",
                POD,
                "203.0.113.7:443/TCP",
                "pod stack to_net leaves",
            ),
            (
                "nowhere",
                POD,
                "198.51.100.99:80/TCP",
                "pod stack unreachable",
            ),
            (
                "a service at the socket",
                POD,
                "10.96.0.1:80/TCP",
                "pod connect: 10.1.0.2:8080 from_pod delivered | 10.2.0.9:8080 from_pod leaves",
            ),
            (
                "a node port",
                POD,
                "192.0.2.1:30080/TCP",
                "pod connect: 10.1.0.2:8080 from_pod delivered | 10.2.0.9:8080 from_pod leaves",
            ),
            (
                "itself by a service",
                OTHER,
                "10.96.0.1:80/TCP",
                "pod connect: 10.1.0.2:8080 pod delivered | 10.2.0.9:8080 from_pod leaves",
            ),
            (
                "no endpoints",
                POD,
                "10.96.0.2:80/TCP",
                "pod connect refused no-endpoints",
            ),
            (
                "a port that is none",
                POD,
                "10.96.0.1:81/TCP",
                "pod connect refused unknown-port",
            ),
            (
                "none that is here",
                POD,
                "10.96.0.4:80/TCP",
                "pod connect from_pod dropped no-local-endpoints",
            ),
            (
                "an external address from inside",
                POD,
                "192.0.2.1:30081/TCP",
                "pod connect: 10.2.0.9:8080 from_pod leaves",
            ),
            (
                "a datagram is balanced by the packet, and then the stack's",
                POD,
                "10.96.0.3:53/UDP",
                "pod from_pod: 10.3.0.9:5353 stack stack leaves",
            ),
            (
                "source ranges ask for a packet",
                POD,
                "198.18.0.5:80/TCP",
                "pod from_pod dropped source-range",
            ),
        ],
    );
}

#[test]
fn what_the_node_sends() {
    check(
        &snapshot(),
        &[
            (
                "a pod here",
                NODE,
                "10.1.0.2:80/TCP",
                "node stack delivered",
            ),
            ("a pod elsewhere", NODE, FAR, "node stack stack leaves"),
            ("itself", NODE, "192.0.2.1:22/TCP", "node stack delivered"),
            (
                "the world",
                NODE,
                "203.0.113.7:443/TCP",
                "node stack stack leaves",
            ),
            (
                "a service",
                NODE,
                "10.96.0.1:80/TCP",
                "node connect: 10.1.0.2:8080 stack delivered | 10.2.0.9:8080 stack stack leaves",
            ),
            (
                "a node port at its loopback",
                "127.0.0.1",
                "127.0.0.1:30080/TCP",
                "node connect: 10.1.0.2:8080 stack delivered | 10.2.0.9:8080 stack stack leaves",
            ),
            (
                "a datagram at the socket",
                NODE,
                "10.96.0.3:53/UDP",
                "node connect: 10.3.0.9:5353 stack stack leaves",
            ),
            (
                "none that is here",
                NODE,
                "10.96.0.4:80/TCP",
                "node connect to_net dropped no-local-endpoints",
            ),
            (
                "source ranges that it is not in",
                NODE,
                "198.18.0.5:80/TCP",
                "node to_net dropped source-range",
            ),
        ],
    );
}

#[test]
fn what_comes_from_the_network() {
    let maps = snapshot();
    check(
        &maps,
        &[
            (
                "to a pod",
                CLIENT,
                "10.1.0.2:80/TCP",
                "from_net from_net delivered",
            ),
            (
                "from a pod behind a router",
                BEHIND,
                "10.1.0.2:80/TCP",
                "from_tunnel from_tunnel delivered",
            ),
            (
                "to the node",
                CLIENT,
                "192.0.2.1:22/TCP",
                "from_net stack delivered",
            ),
            (
                "to a node port",
                CLIENT,
                "192.0.2.1:30080/TCP",
                "from_net from_net: 10.1.0.2:8080 from_net delivered | 10.2.0.9:8080 nat from_net leaves",
            ),
            (
                "to one of which none is here",
                CLIENT,
                "192.0.2.1:30081/TCP",
                "from_net from_net dropped no-local-endpoints",
            ),
            (
                "from the source ranges",
                CLIENT,
                "198.18.0.5:80/TCP",
                "from_net from_net: 10.1.0.2:8080 from_net delivered",
            ),
            (
                "from others",
                HOST,
                "198.18.0.5:80/TCP",
                "from_net from_net dropped source-range",
            ),
            (
                "to a port that is none",
                CLIENT,
                "10.96.0.1:81/TCP",
                "from_net from_net refused unknown-port",
            ),
        ],
    );
    let direct = Snapshot {
        loaded: LoadedFor {
            settings: Settings {
                direct_return: true,
                ..maps.loaded.settings
            },
            ..maps.loaded
        },
        ..maps
    };
    let traced = trace(&direct, &asked(CLIENT, "192.0.2.1:30080/TCP"));
    let last = traced.ways[1].hops.last().unwrap();
    assert!(last.what.contains("IP in IP"), "{traced:#?}");
    // Whom the node knows is answered by the way it came.
    let inside = trace(&direct, &asked("10.2.0.8", "192.0.2.1:30080/TCP"));
    let last = inside.ways[1].hops.last().unwrap();
    assert!(!last.what.contains("IP in IP"), "{inside:#?}");
}

#[test]
fn pods_that_ask_for_it_go_by_the_stack() {
    let mut maps = snapshot();
    maps.pods.get_mut(&ip(POD)).unwrap().flags |= Pod::BY_STACK | Pod::TCP_BY_PACKET;
    maps.pods.get_mut(&ip(OTHER)).unwrap().flags |= Pod::SHAPED;
    check(
        &maps,
        &[
            ("a pod here", POD, OTHER, "pod stack to_pod delivered"),
            ("a pod elsewhere", POD, FAR, "pod stack stack leaves"),
            (
                "its TCP by the packet",
                POD,
                "10.96.0.1:80/TCP",
                "pod from_pod: 10.1.0.2:8080 stack to_pod delivered | 10.2.0.9:8080 stack stack leaves",
            ),
            (
                "where packets wait",
                CLIENT,
                OTHER,
                "from_net from_net delivered",
            ),
        ],
    );
    let traced = trace(&maps, &asked(CLIENT, OTHER));
    let last = traced.ways[0].hops.last().unwrap();
    assert!(last.what.contains("egress of veth5"), "{last:?}");
}
