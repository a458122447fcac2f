use serde_json::json;

use super::*;

#[test]
fn names_have_a_scheme_and_a_port() {
    let asked = |https, name, port| Some(Asked { https, name, port });
    for (text, wanted) in [
        ("web", asked(false, "web", "")),
        ("web:80", asked(false, "web", "80")),
        ("http:web:80", asked(false, "web", "80")),
        ("https:web:", asked(true, "web", "")),
        ("https:web:tls", asked(true, "web", "tls")),
        ("ftp:web:80", None),
        (":80", None),
        ("a:b:c:d", None),
    ] {
        assert_eq!(Asked::parse(text), wanted, "{text}");
    }
}

fn found(place: &Result<Place>) -> Result<String, (u16, String)> {
    match place {
        Ok(place) => Ok(format!("{} {}", place.https, place.address)),
        Err(status) => Err((status.code.as_u16(), status.message.clone())),
    }
}

#[test]
fn a_pod_is_asked_at_its_address() {
    let object = |ip: &str| {
        json!({
            "spec": {"containers": [{"name": "a"}, {"ports": [{"containerPort": 8080}, {"containerPort": 9}]}]},
            "status": {"podIP": ip},
        })
    };
    let bare = json!({"spec": {"containers": [{"name": "a"}]}, "status": {"podIP": "fd00::1"}});
    let refused = |message: &str| Err((400, message.to_owned()));
    for (object, asked, wanted) in [
        (object("10.0.0.1"), "p", Ok("false 10.0.0.1:8080")),
        (object("10.0.0.1"), "p:90", Ok("false 10.0.0.1:90")),
        (bare.clone(), "p", Ok("false [fd00::1]:80")),
        (bare.clone(), "https:p:", Ok("true [fd00::1]:443")),
        (object(""), "p", Err("address not allowed")),
        (object("127.0.0.1"), "p", Err("address not allowed")),
        (object("169.254.0.1"), "p", Err("address not allowed")),
        (object("::1"), "p", Err("address not allowed")),
        (
            object("10.0.0.1"),
            "p:web",
            Err("a pod's port is a number, not \"web\""),
        ),
        (object("10.0.0.1"), "p:65536", Err("there is no port 65536")),
    ] {
        let place = pod(&object, &Asked::parse(asked).unwrap());
        let wanted = wanted.map(str::to_owned).or_else(refused);
        assert_eq!(found(&place), wanted, "{asked}");
    }
}

#[test]
fn a_node_is_asked_at_its_kubelet() {
    let object = json!({"status": {
        "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "192.0.2.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1234}},
    }});
    let at = |https, port, is_kubelet| {
        Ok(OnNode {
            https,
            host: "192.0.2.1",
            port,
            is_kubelet,
        })
    };
    for (asked, wanted) in [
        ("n", at(true, 1234, true)),
        ("n:", at(true, 1234, true)),
        ("n:1234", at(true, 1234, true)),
        ("http:n:1234", at(true, 1234, true)),
        ("n:10256", at(false, 10256, false)),
        ("https:n:10256", at(true, 10256, false)),
        ("n:web", Err("a node's port is a number, not \"web\"")),
        ("n:65536", Err("there is no port 65536")),
    ] {
        let found = node(&object, &Asked::parse(asked).unwrap());
        let found = found.map_err(|status| (status.code.as_u16(), status.message));
        let wanted = wanted.map_err(|message| (400, message.to_owned()));
        assert_eq!(found, wanted, "{asked}");
    }
    let nowhere = node(&json!({}), &Asked::parse("n").unwrap()).unwrap_err();
    assert_eq!(
        (nowhere.code.as_u16(), nowhere.message.as_str()),
        (500, "no preferred addresses found; known addresses: []")
    );
}

#[test]
fn a_service_is_asked_at_the_ready_endpoints_of_a_port() {
    let web = json!({"spec": {
        "ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"name": "http", "port": 80}, {"name": "tls", "port": 443}],
    }});
    let bare = json!({"spec": {"ports": [{"port": 80}]}});
    let slice = |family: &str, ports: Value, endpoints: &[(&str, Option<bool>)]| {
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|(address, ready)| {
                json!({"addresses": [address, "192.0.2.9"], "conditions": {"ready": ready}})
            })
            .collect();
        json!({"addressType": family, "ports": ports, "endpoints": endpoints})
    };
    let both = || json!([{"name": "http", "port": 8080}, {"name": "tls", "port": 8443}]);
    let one = || json!([{"name": "http", "port": 8081}]);
    let all = [
        slice(
            "IPv6",
            both(),
            &[("fd00::1", Some(true)), ("fd00::2", Some(true))],
        ),
        slice(
            "IPv4",
            both(),
            &[("10.0.0.1", Some(true)), ("10.0.0.2", Some(false))],
        ),
        slice("IPv4", one(), &[("10.0.0.3", None)]),
    ];
    let waiting = [
        slice("IPv6", both(), &[("fd00::1", Some(true))]),
        slice("IPv4", both(), &[("10.0.0.1", Some(false))]),
    ];
    let nameless = [slice(
        "IPv4",
        json!([{"name": "", "port": 8080}]),
        &[("10.0.0.1", Some(true))],
    )];
    let portless = [slice(
        "IPv4",
        json!([{"name": "http"}]),
        &[("10.0.0.1", Some(true))],
    )];
    let missing = "no service port 81 found for service \"web\"";
    let table: &[(&Value, &[Value], &str, Result<&[(&str, u16)], &str>)] = &[
        (
            &web,
            &all,
            "web:http",
            Ok(&[("10.0.0.1", 8080), ("10.0.0.3", 8081)]),
        ),
        (&web, &all, "web:443", Ok(&[("10.0.0.1", 8443)])),
        (&web, &all, "web", Ok(&[])),
        (&web, &all, "web:none", Ok(&[])),
        (&web, &[], "web:http", Ok(&[])),
        (&web, &all, "web:81", Err(missing)),
        (&web, &waiting, "web:http", Ok(&[("fd00::1", 8080)])),
        (&web, &portless, "web:http", Ok(&[])),
        (&bare, &nameless, "web", Ok(&[("10.0.0.1", 8080)])),
        (&bare, &nameless, "web:80", Ok(&[("10.0.0.1", 8080)])),
    ];
    for (object, slices, asked, wanted) in table {
        let slices: Vec<&Value> = slices.iter().collect();
        let places = service(object, &slices, &Asked::parse(asked).unwrap());
        let places = places.map_err(|status| status.message);
        let wanted = wanted.map(<[_]>::to_vec).map_err(str::to_owned);
        assert_eq!(places, wanted, "{asked}");
    }
}
