use std::net::SocketAddr;

use super::*;

fn endpoint(text: &str) -> Endpoint {
    let address: SocketAddr = text.parse().unwrap();
    Endpoint::new(address.ip().into(), address.port().to_be_bytes())
}

fn pointed() -> Connection {
    Connection::new(
        endpoint("10.96.0.1:80"),
        endpoint("10.1.0.1:8080"),
        7,
        3,
        true,
    )
}

const SYN_SENT: u32 = 2;
const FIN_WAIT1: u32 = 4;

#[test]
fn a_connection_is_the_services_if_it_goes_where_it_was_pointed() {
    let backend = endpoint("10.1.0.1:8080");
    let mut connection = pointed();
    assert!(connection.begin(backend, 5));
    assert!(!connection.begin(backend, 6), "once");
    assert_eq!(connection.establish(1_005), Some(1_000));
    assert_eq!(connection.establish(1_006), None, "once");
    for elsewhere in ["10.1.0.1:8081", "10.1.0.2:8080", "[::ffff:10.1.0.3]:8080"] {
        assert!(!pointed().begin(endpoint(elsewhere), 5), "{elsewhere}");
    }
    assert_eq!(pointed().establish(5), None, "never begun");
    assert!(
        !Connection::default().begin(Endpoint::default(), 5),
        "never pointed"
    );
}

/// Name, states it goes through with what is received by then, acknowledged in
/// the end, payload sent and received.
type Case = (&'static str, &'static [(u32, u64)], u64, [u64; 2]);

#[test]
fn payload_is_what_is_left_without_first_and_last_packets() {
    let table: [Case; 9] = [
        (
            "closed here first; the kernel waits for the rest",
            &[(FIN_WAIT1, 100), (tcp::FIN_WAIT2, 100), (tcp::CLOSE, 100)],
            12,
            [10, 100],
        ),
        (
            "done here, and the rest was read",
            &[(FIN_WAIT1, 100), (tcp::FIN_WAIT2, 100), (tcp::CLOSE, 151)],
            12,
            [10, 150],
        ),
        (
            "the other end closed first",
            &[
                (tcp::CLOSE_WAIT, 101),
                (tcp::LAST_ACK, 101),
                (tcp::CLOSE, 101),
            ],
            12,
            [10, 100],
        ),
        (
            "both at once",
            &[(FIN_WAIT1, 100), (tcp::CLOSING, 101), (tcp::CLOSE, 101)],
            12,
            [10, 100],
        ),
        (
            "reset by the other end",
            &[(tcp::CLOSE, 100)],
            11,
            [10, 100],
        ),
        (
            "reset after the other end was done",
            &[(tcp::CLOSE_WAIT, 101), (tcp::CLOSE, 101)],
            11,
            [10, 100],
        ),
        (
            "reset, or given up, with the last not acknowledged",
            &[(FIN_WAIT1, 100), (tcp::CLOSE, 100)],
            11,
            [10, 100],
        ),
        ("nothing was said", &[(tcp::CLOSE, 0)], 1, [0, 0]),
        ("less than nothing", &[(tcp::CLOSE, 0)], 0, [0, 0]),
    ];
    for (name, states, acked, [sent, received]) in table {
        let mut connection = pointed();
        assert!(connection.begin(connection.backend, 5));
        assert!(connection.establish(6).is_some());
        let mut from = tcp::ESTABLISHED;
        let mut ended = None;
        for (to, by_then) in states {
            assert_eq!(ended, None, "{name}");
            ended = connection.change(from, *to, acked, *by_then);
            from = *to;
        }
        assert_eq!(ended, Some(Ended { sent, received }), "{name}");
        let again = connection.change(from, tcp::CLOSE, acked, received);
        assert_eq!(again, None, "{name}: it ends once");
        assert!(!connection.begin(connection.backend, 7), "{name}");
    }
}

#[test]
fn what_was_refused_has_no_payload_and_what_never_began_no_end() {
    let mut refused = pointed();
    assert!(refused.begin(refused.backend, 5));
    let nothing = Ended {
        sent: 0,
        received: 0,
    };
    assert_eq!(refused.change(SYN_SENT, tcp::CLOSE, 0, 0), Some(nothing));
    assert_eq!(refused.change(SYN_SENT, tcp::CLOSE, 0, 0), None);
    assert_eq!(pointed().change(SYN_SENT, tcp::CLOSE, 0, 0), None);
    assert_eq!(
        Connection::default().change(tcp::ESTABLISHED, tcp::CLOSE, 9, 9),
        None
    );
}
