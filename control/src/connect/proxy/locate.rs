//! Which server a pod's or a service's proxy leads to.

use std::net::{IpAddr, SocketAddr};

use http::StatusCode;
use serde_json::Value;
use vetch_server::status::{Result, Status};

use crate::admission::{list, text};

/// `[SCHEME:]NAME[:PORT]`; the port may be empty.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    pub https: bool,
    pub name: &'a str,
    pub port: &'a str,
}

/// A server in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub https: bool,
    pub address: SocketAddr,
}

impl<'a> Asked<'a> {
    pub fn parse(text: &'a str) -> Option<Asked<'a>> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let known = matches!(scheme, "" | "http" | "https");
        (known && !name.is_empty()).then_some(Asked {
            https: scheme == "https",
            name,
            port,
        })
    }

    /// Where this address is allowed to be asked.
    fn place(&self, address: &str, port: u16) -> Result<Place> {
        let ip = address.parse().ok().filter(is_global);
        let ip = ip.ok_or_else(|| Status::bad_request("address not allowed"))?;
        Ok(Place {
            https: self.https,
            address: SocketAddr::new(ip, port),
        })
    }
}

/// A pod may say that its address is the API server's own loopback: nobody is led there.
fn is_global(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local)
}

/// The pod's address, and its first port where none is asked for.
pub fn pod(pod: &Value, asked: &Asked<'_>) -> Result<Place> {
    let first = || {
        let containers = list(pod, "/spec/containers").iter();
        let mut ports = containers.flat_map(|container| list(container, "/ports"));
        ports.next()?["containerPort"].as_u64()
    };
    let port = match asked.port {
        "" => first().unwrap_or(if asked.https { 443 } else { 80 }),
        port => port
            .parse()
            .map_err(|_| Status::bad_request(format!("a pod's port is a number, not {port:?}")))?,
    };
    let port =
        u16::try_from(port).map_err(|_| Status::bad_request(format!("there is no port {port}")))?;
    asked.place(text(pod, "/status/podIP"), port)
}

/// The ready endpoints of the service's port: by number or by name, the nameless one where none is asked for.
pub fn service(
    service: &Value,
    endpoints: Option<&Value>,
    asked: &Asked<'_>,
) -> Result<Vec<Place>> {
    let name = match asked.port.parse::<u64>() {
        Err(_) => asked.port,
        Ok(number) => {
            let mut ports = list(service, "/spec/ports").iter();
            let port = ports.find(|port| port["port"].as_u64() == Some(number));
            let port = port.ok_or_else(|| {
                let name = asked.name;
                unavailable(format!(
                    "no service port {number} found for service {name:?}"
                ))
            })?;
            text(port, "/name")
        }
    };
    let mut places = Vec::new();
    for subset in endpoints.map_or(&[][..], |own| list(own, "/subsets")) {
        let ports = list(subset, "/ports").iter();
        let named = ports.filter(|port| text(port, "/name") == name);
        for port in named.filter_map(|port| u16::try_from(port["port"].as_u64()?).ok()) {
            for address in list(subset, "/addresses") {
                places.push(asked.place(text(address, "/ip"), port)?);
            }
        }
    }
    Ok(places)
}

pub fn no_endpoints(service: &str) -> Status {
    unavailable(format!("no endpoints available for service {service:?}"))
}

pub fn unavailable(message: String) -> Status {
    Status::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "ServiceUnavailable",
        message,
    )
}

#[cfg(test)]
mod tests {
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
    fn a_service_is_asked_at_the_ready_endpoints_of_a_port() {
        let web = json!({"spec": {"ports": [{"name": "http", "port": 80}, {"name": "tls", "port": 443}]}});
        let bare = json!({"spec": {"ports": [{"port": 80}]}});
        let endpoints = |names: [&str; 2]| {
            json!({"subsets": [
                {
                    "addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}],
                    "notReadyAddresses": [{"ip": "10.0.0.3"}],
                    "ports": [{"name": names[0], "port": 8080}, {"name": names[1], "port": 8443}],
                },
                {"notReadyAddresses": [{"ip": "10.0.0.4"}], "ports": [{"name": names[0], "port": 8080}]},
            ]})
        };
        let both = endpoints(["http", "tls"]);
        for (object, endpoints, asked, wanted) in [
            (
                &web,
                Some(&both),
                "web:http",
                Ok(vec!["10.0.0.1:8080", "10.0.0.2:8080"]),
            ),
            (
                &web,
                Some(&both),
                "web:443",
                Ok(vec!["10.0.0.1:8443", "10.0.0.2:8443"]),
            ),
            (&web, Some(&both), "web", Ok(vec![])),
            (&web, Some(&both), "web:none", Ok(vec![])),
            (&web, None, "web:http", Ok(vec![])),
            (
                &web,
                Some(&both),
                "web:81",
                Err("no service port 81 found for service \"web\""),
            ),
            (
                &bare,
                Some(&endpoints(["", "x"])),
                "web",
                Ok(vec!["10.0.0.1:8080", "10.0.0.2:8080"]),
            ),
            (
                &bare,
                Some(&endpoints(["", "x"])),
                "web:80",
                Ok(vec!["10.0.0.1:8080", "10.0.0.2:8080"]),
            ),
        ] {
            let places = service(object, endpoints, &Asked::parse(asked).unwrap());
            let places: Result<Vec<String>, String> = places
                .map(|all| all.iter().map(|own| own.address.to_string()).collect())
                .map_err(|status| status.message);
            let wanted = wanted
                .map(|all| all.into_iter().map(str::to_owned).collect())
                .map_err(str::to_owned);
            assert_eq!(places, wanted, "{asked}");
        }
    }
}
