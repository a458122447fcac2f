//! The network's configuration on stdin.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Value, json};
use vetch_cni_proto::v1::{Bandwidth, PortMapping};
use vetch_cni_proto::{Failure, code};

use crate::environment::{Args, is_identifier};
use crate::version::Version;

/// Where a node is, unless the configuration says otherwise.
const RUN_DIR: &str = "/run/vetch";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Config {
    #[serde(default)]
    pub name: String,
    /// The node's; its socket and records are there.
    #[serde(default = "run_dir")]
    pub run_dir: PathBuf,
    #[serde(default)]
    ipam: Option<Value>,
    #[serde(default)]
    dns: Option<Value>,
    #[serde(default)]
    runtime_config: RuntimeConfig,
    #[serde(default)]
    args: Option<ByPlugin>,
    #[serde(default)]
    pub prev_result: Option<Value>,
    #[serde(default, rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<Valid>>,
    /// As libcni 1.2.0 called it, and newer ones call it too.
    #[serde(default, rename = "cni.dev/attachments")]
    valid_before: Option<Vec<Valid>>,
}

fn run_dir() -> PathBuf {
    RUN_DIR.into()
}

/// Capabilities: CNI's CONVENTIONS.md.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConfig {
    #[serde(default)]
    port_mappings: Vec<Mapping>,
    #[serde(default)]
    ips: Vec<String>,
    #[serde(default)]
    mac: Option<String>,
    #[serde(default)]
    bandwidth: Option<Rates>,
    #[serde(default)]
    dns: Option<RuntimeDns>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    #[serde(default)]
    host_port: u32,
    #[serde(default)]
    container_port: u32,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

/// In bits a second; 0 is no limit. Its bursts are left out: what passes at once is for the network to
/// choose, and the greatest number there is, which runtimes send with the rates of Kubernetes'
/// annotations, would be no limit.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rates {
    ingress_rate: u64,
    egress_rate: u64,
}

#[derive(Debug, Deserialize)]
struct RuntimeDns {
    #[serde(default)]
    servers: Vec<String>,
    #[serde(default)]
    searches: Vec<String>,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct ByPlugin {
    #[serde(default)]
    cni: Option<OfCni>,
}

#[derive(Debug, Deserialize)]
struct OfCni {
    #[serde(default)]
    ips: Vec<String>,
    #[serde(default)]
    mac: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Valid {
    #[serde(rename = "containerID")]
    pub container_id: String,
    pub ifname: String,
}

/// What an ADD asks for.
#[derive(Debug, PartialEq)]
pub struct Wanted {
    pub port_mappings: Vec<PortMapping>,
    pub ips: Vec<IpAddr>,
    pub bandwidth: Option<Bandwidth>,
}

/// The document; an empty one is none, as for VERSION.
pub fn document(input: &[u8]) -> Result<Value, Failure> {
    if input.iter().all(u8::is_ascii_whitespace) {
        return Ok(json!({}));
    }
    let parsed = serde_json::from_slice(input).map_err(|error| {
        let words = "the configuration on stdin is no JSON";
        Failure::new(code::DECODE, words).with_details(error.to_string())
    });
    match parsed? {
        object @ Value::Object(_) => Ok(object),
        _ => Err(invalid(
            "the configuration on stdin is no JSON object".to_owned(),
        )),
    }
}

/// As the document says it; a document that says none is of 0.1.0, by the specification.
pub fn version(document: &Value) -> Result<Version, Failure> {
    let name = document
        .get("cniVersion")
        .map_or(Some("0.1.0"), Value::as_str);
    let found = name.and_then(Version::find);
    found.ok_or_else(|| {
        let said = document.get("cniVersion");
        let said = said.map_or("missing, which means 0.1.0".to_owned(), Value::to_string);
        let supported = crate::version::SUPPORTED.map(Version::name).join(", ");
        let words = format!("cniVersion is {said}, and this plugin speaks {supported}");
        Failure::new(code::INCOMPATIBLE_VERSION, words)
    })
}

impl Config {
    pub fn read(document: Value) -> Result<Self, Failure> {
        let config: Self = serde_json::from_value(document).map_err(|error| {
            invalid("the configuration does not fit the specification".to_owned())
                .with_details(error.to_string())
        })?;
        if !is_identifier(&config.name) {
            let name = &config.name;
            return Err(invalid(format!(
                "name: {name:?} is not letters and digits, and '_', '.', '-' after the first"
            )));
        }
        if !config.run_dir.is_absolute() {
            let path = config.run_dir.display();
            return Err(invalid(format!("runDir: {path} is no absolute path")));
        }
        Ok(config)
    }

    /// # Errors
    /// For what this network cannot do.
    pub fn wanted(&self, args: &Args) -> Result<Wanted, Failure> {
        let kind = self.ipam.as_ref().and_then(|ipam| ipam.get("type"));
        if let Some(kind) = kind.filter(|kind| *kind != "") {
            return Err(unsupported(
                "ipam.type",
                kind,
                "the node gives its pods addresses itself",
            ));
        }
        let given = self.args.as_ref().and_then(|args| args.cni.as_ref());
        let mac = self.runtime_config.mac.as_ref().or(args.mac.as_ref());
        let mac = mac.or(given.and_then(|given| given.mac.as_ref()));
        if let Some(mac) = mac.filter(|mac| !mac.is_empty()) {
            let why = "a link's address follows from its container, so that none is given twice";
            return Err(unsupported("mac", &mac.as_str().into(), why));
        }
        let mut ips: Vec<IpAddr> = args.ip.into_iter().collect();
        let by_convention = given.map_or(&[][..], |given| &given.ips);
        for text in self.runtime_config.ips.iter().chain(by_convention) {
            let ip = address(text)?;
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        let mappings = self.runtime_config.port_mappings.iter();
        let port_mappings = mappings.map(|mapping| PortMapping {
            host_port: mapping.host_port,
            container_port: mapping.container_port,
            protocol: mapping.protocol.clone(),
            host_ip: mapping.host_ip.clone(),
        });
        let rates = self.runtime_config.bandwidth.as_ref();
        let bandwidth = rates.map(|rates| Bandwidth {
            ingress: rates.ingress_rate,
            egress: rates.egress_rate,
        });
        Ok(Wanted {
            port_mappings: port_mappings.collect(),
            ips,
            bandwidth,
        })
    }

    /// For the result: what the runtime says wins over the configuration.
    pub fn dns(&self) -> Option<Value> {
        match &self.runtime_config.dns {
            Some(dns) => Some(json!({
                "nameservers": dns.servers,
                "search": dns.searches,
                "options": dns.options,
            })),
            None => self.dns.clone(),
        }
    }

    /// The addresses of prevResult that a CHECK is about.
    pub fn believed(&self) -> Result<Vec<IpAddr>, Failure> {
        let missing = || invalid("CHECK needs prevResult".to_owned());
        let result = self.prev_result.as_ref().ok_or_else(missing)?;
        let ips = result.get("ips").and_then(Value::as_array);
        let texts = ips
            .into_iter()
            .flatten()
            .map(|one| one.get("address").and_then(Value::as_str));
        texts
            .map(|text| address(text.unwrap_or_default()))
            .collect()
    }

    /// Of a GC. A document without any list is none that anything may be deleted by.
    pub fn valid(self) -> Result<Vec<Valid>, Failure> {
        let words = "GC needs cni.dev/valid-attachments";
        let list = self.valid.or(self.valid_before);
        list.ok_or_else(|| invalid(words.to_owned()))
    }
}

/// With or without a length, which is the network's to say.
fn address(text: &str) -> Result<IpAddr, Failure> {
    let ip = text.split_once('/').map_or(text, |(ip, _)| ip);
    ip.parse()
        .map_err(|_| invalid(format!("ips: {text:?} is no IP address")))
}

fn unsupported(field: &str, value: &Value, why: &str) -> Failure {
    let words = format!("{field}: {value} is not supported: {why}");
    Failure::new(code::UNSUPPORTED_FIELD, words)
}

fn invalid(words: String) -> Failure {
    Failure::new(code::INVALID_CONFIG, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(more: Value) -> Result<Config, Failure> {
        let mut document = json!({ "cniVersion": "1.1.0", "name": "net", "type": "vetch-cni" });
        let (Value::Object(all), Value::Object(more)) = (&mut document, more) else {
            panic!("objects");
        };
        all.extend(more);
        Config::read(document)
    }

    fn wanted(more: Value) -> Result<Wanted, (u32, String)> {
        let wanted = read(more).and_then(|config| config.wanted(&Args::default()));
        wanted.map_err(|told| (told.code, told.msg))
    }

    #[test]
    fn documents_are_objects_of_a_version() {
        for (input, expected) in [
            (&b"{"[..], code::DECODE),
            (b"[]", code::INVALID_CONFIG),
            (b"\"x\"", code::INVALID_CONFIG),
        ] {
            assert_eq!(document(input).unwrap_err().code, expected);
        }
        assert_eq!(document(b" \n").unwrap(), json!({}));
        assert_eq!(
            version(&json!({ "cniVersion": "0.4.0" })),
            Ok(Version::V0_4_0)
        );
        for (wrong, words) in [
            (json!({}), "0.1.0"),
            (json!({ "cniVersion": "0.2.0" }), "0.2.0"),
            (json!({ "cniVersion": "2.0.0" }), "2.0.0"),
            (json!({ "cniVersion": 1 }), "is 1,"),
        ] {
            let told = version(&wrong).unwrap_err();
            assert_eq!(told.code, code::INCOMPATIBLE_VERSION);
            assert!(told.msg.contains(words), "{}", told.msg);
        }
    }

    #[test]
    fn names_and_places_are_checked() {
        assert_eq!(read(json!({})).unwrap().run_dir, PathBuf::from(RUN_DIR));
        for wrong in [
            json!({ "name": "" }),
            json!({ "name": "a/b" }),
            json!({ "runDir": "run" }),
            json!({ "runtimeConfig": { "ips": "10.0.0.1" } }),
        ] {
            assert_eq!(read(wrong).unwrap_err().code, code::INVALID_CONFIG);
        }
    }

    #[test]
    fn capabilities_are_taken_or_refused_with_field_and_value() {
        let all = wanted(json!({
            "runtimeConfig": {
                "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "" }],
                "ips": ["10.0.0.7/24", "fd00::7"],
                "aliases": ["a"],
            },
            "args": { "cni": { "ips": ["10.0.0.7"] } },
        }));
        let all = all.unwrap();
        assert_eq!(all.port_mappings[0].host_port, 8080);
        let ips: Vec<String> = all.ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.0.0.7", "fd00::7"]);
        for (asked, words) in [
            (
                json!({ "runtimeConfig": { "mac": "02:00:00:00:00:01" } }),
                "02:00:00:00:00:01",
            ),
            (
                json!({ "args": { "cni": { "mac": "02:00:00:00:00:01" } } }),
                "mac",
            ),
            (json!({ "ipam": { "type": "host-local" } }), "host-local"),
        ] {
            let (code, told) = wanted(asked).unwrap_err();
            assert_eq!(code, super::code::UNSUPPORTED_FIELD);
            assert!(told.contains(words), "{told}");
        }
        let (code, _) = wanted(json!({ "runtimeConfig": { "ips": ["x"] } })).unwrap_err();
        assert_eq!(code, super::code::INVALID_CONFIG);
        assert!(wanted(json!({ "ipam": {} })).is_ok());
    }

    #[test]
    fn rates_are_taken_without_their_bursts() {
        let most = u64::from(u32::MAX);
        for (asked, expected) in [
            (json!({}), Ok(None)),
            (json!({ "bandwidth": null }), Ok(None)),
            (json!({ "bandwidth": {} }), Ok(Some([0, 0]))),
            (
                json!({ "bandwidth": { "ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0 } }),
                Ok(Some([0, 0])),
            ),
            (
                json!({ "bandwidth": { "ingressRate": 1_000_000, "ingressBurst": most } }),
                Ok(Some([1_000_000, 0])),
            ),
            (
                json!({ "bandwidth": { "ingressRate": 1, "egressRate": 1_000_000_000_000_000_u64, "egressBurst": most } }),
                Ok(Some([1, 1_000_000_000_000_000])),
            ),
            (
                json!({ "bandwidth": { "egressRate": -1 } }),
                Err(code::INVALID_CONFIG),
            ),
            (
                json!({ "bandwidth": { "egressRate": "10M" } }),
                Err(code::INVALID_CONFIG),
            ),
        ] {
            let wanted = wanted(json!({ "runtimeConfig": asked.clone() }));
            let rates = wanted.map(|all| all.bandwidth.map(|one| [one.ingress, one.egress]));
            assert_eq!(rates.map_err(|(code, _)| code), expected, "{asked}");
        }
    }

    #[test]
    fn dns_is_the_runtimes_before_the_configurations() {
        let own = json!({ "nameservers": ["10.96.0.10"], "domain": "x" });
        let config = read(json!({ "dns": own.clone() })).unwrap();
        assert_eq!(config.dns(), Some(own.clone()));
        let runtime = json!({ "servers": ["1.1.1.1"], "searches": ["a"], "options": ["ndots:5"] });
        let both = json!({ "dns": own, "runtimeConfig": { "dns": runtime } });
        let expected =
            json!({ "nameservers": ["1.1.1.1"], "search": ["a"], "options": ["ndots:5"] });
        assert_eq!(read(both).unwrap().dns(), Some(expected));
        assert_eq!(read(json!({})).unwrap().dns(), None);
    }

    #[test]
    fn lists_of_checks_and_collections_must_be_there() {
        let result = json!({ "prevResult": { "ips": [{ "address": "10.0.0.2/32" }, { "address": "fd00::2/128" }] } });
        assert_eq!(read(result).unwrap().believed().unwrap().len(), 2);
        assert!(read(json!({})).unwrap().believed().is_err());
        let one = json!([{ "containerID": "a", "ifname": "eth0" }]);
        for name in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let valid = read(json!({ name: one.clone() })).unwrap().valid().unwrap();
            assert_eq!(valid[0].container_id, "a");
        }
        assert!(read(json!({})).unwrap().valid().is_err());
    }
}
