//! What a runtime says in the environment.

use std::net::IpAddr;

use vetch_cni_proto::v1::Pod;
use vetch_cni_proto::{Failure, code};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    const ALL: [Self; 6] = [
        Self::Add,
        Self::Del,
        Self::Check,
        Self::Gc,
        Self::Status,
        Self::Version,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The variables without which it means nothing.
    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Self::Gc | Self::Status | Self::Version => &[],
        }
    }
}

/// Empty where the command needs none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    pub command: Command,
    pub container_id: String,
    pub netns: String,
    pub ifname: String,
    /// The namespace may be the one that the plugin is in.
    pub netns_override: bool,
    pub args: Args,
}

/// `CNI_ARGS`, as far as it concerns a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    pub ip: Option<IpAddr>,
    pub mac: Option<String>,
    pod_namespace: String,
    pod_name: String,
    pod_uid: String,
}

impl Args {
    /// As far as the runtime says whom it connects.
    pub fn pod(&self) -> Pod {
        Pod {
            namespace: self.pod_namespace.clone(),
            name: self.pod_name.clone(),
            uid: self.pod_uid.clone(),
        }
    }
}

/// # Errors
/// With the names of the variables that are missing or wrong.
pub fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Environment, Failure> {
    let get = |name: &str| variable(name).unwrap_or_default();
    let wanted = get("CNI_COMMAND");
    let known = Command::ALL.into_iter().find(|one| one.name() == wanted);
    let command = known.ok_or_else(|| match wanted.as_str() {
        "" => invalid("CNI_COMMAND is missing".to_owned()),
        other => invalid(format!("CNI_COMMAND: {other:?} is no command of CNI 1.1.0")),
    })?;
    let needs = command.needs();
    let missing: Vec<&str> = needs
        .iter()
        .copied()
        .filter(|name| get(name).is_empty())
        .collect();
    if !missing.is_empty() {
        return Err(invalid(format!(
            "{} needs {}: missing from the environment",
            command.name(),
            missing.join(", ")
        )));
    }
    let environment = Environment {
        command,
        container_id: get("CNI_CONTAINERID"),
        netns: get("CNI_NETNS"),
        ifname: get("CNI_IFNAME"),
        netns_override: is_true(&get("CNI_NETNS_OVERRIDE")),
        args: args(&get("CNI_ARGS"))?,
    };
    if !needs.is_empty() {
        let (id, ifname) = (&environment.container_id, &environment.ifname);
        if !is_identifier(id) {
            return Err(invalid(format!(
                "CNI_CONTAINERID: {id:?} is not letters and digits, and '_', '.', '-' after the first"
            )));
        }
        if !is_link_name(ifname) {
            return Err(invalid(format!(
                "CNI_IFNAME: {ifname:?} cannot name a link: 1 to 15 bytes without '/', ':' and spaces"
            )));
        }
    }
    Ok(environment)
}

fn args(text: &str) -> Result<Args, Failure> {
    let wrong = |words: String| invalid(format!("CNI_ARGS: {words}"));
    let (mut args, mut unknown, mut ignore) = (Args::default(), None, false);
    for pair in text.split(';').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| wrong(format!("{pair:?} is not KEY=VALUE")))?;
        match key {
            "IgnoreUnknown" => ignore = is_true(value),
            "IP" => {
                let ip = value.split_once('/').map_or(value, |(ip, _)| ip);
                let ip = ip.parse();
                args.ip = Some(ip.map_err(|_| wrong(format!("IP: {value:?} is no address")))?);
            }
            "MAC" => args.mac = Some(value.to_owned()),
            "K8S_POD_NAMESPACE" => args.pod_namespace = value.to_owned(),
            "K8S_POD_NAME" => args.pod_name = value.to_owned(),
            "K8S_POD_UID" => args.pod_uid = value.to_owned(),
            _ if key.starts_with("K8S_") => {}
            _ => unknown = Some(key),
        }
    }
    if let Some(key) = unknown.filter(|_| !ignore) {
        return Err(wrong(format!(
            "{key} is unknown, and IgnoreUnknown is not set"
        )));
    }
    Ok(args)
}

fn is_true(text: &str) -> bool {
    text == "1" || text.eq_ignore_ascii_case("true")
}

/// Of containers, and of networks.
pub fn is_identifier(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    text.bytes()
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && text.bytes().all(inner)
}

/// By the kernel's rule (`dev_valid_name`).
fn is_link_name(text: &str) -> bool {
    const MOST: usize = 15;
    let fits = (1..=MOST).contains(&text.len()) && text != "." && text != "..";
    fits && !text
        .chars()
        .any(|c| c == '/' || c == ':' || c.is_whitespace())
}

fn invalid(words: String) -> Failure {
    Failure::new(code::INVALID_ENVIRONMENT, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, String> {
        let find = |name: &str| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        parse(find).map_err(|told| {
            assert_eq!(told.code, code::INVALID_ENVIRONMENT);
            told.msg
        })
    }

    const ADD: [(&str, &str); 4] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "abc"),
        ("CNI_NETNS", "/run/netns/a"),
        ("CNI_IFNAME", "eth0"),
    ];

    #[test]
    fn each_command_has_what_it_needs() {
        for (command, needed) in [
            ("ADD", 3),
            ("CHECK", 3),
            ("DEL", 2),
            ("GC", 0),
            ("STATUS", 0),
            ("VERSION", 0),
        ] {
            let error = read(&[("CNI_COMMAND", command)]).err();
            let named = error.map_or(0, |words| words.matches("CNI_").count());
            assert_eq!(named, needed, "{command}");
            let mut all = ADD;
            all[0].1 = command;
            assert_eq!(read(&all).unwrap().command.name(), command);
        }
        let without = read(&[ADD[0], ADD[1], ("CNI_COMMAND", "DEL"), ADD[3]]);
        assert!(without.unwrap_err().contains("CNI_NETNS"));
        assert!(read(&[]).unwrap_err().contains("CNI_COMMAND"));
        assert!(read(&[("CNI_COMMAND", "add")]).unwrap_err().contains("add"));
    }

    #[test]
    fn names_are_names() {
        for (at, wrong) in [
            (1, "-a"),
            (1, "a/b"),
            (1, "a b"),
            (3, "."),
            (3, ".."),
            (3, "a/b"),
            (3, "a:b"),
            (3, "a b"),
            (3, "sixteen-letters-"),
        ] {
            let mut all = ADD;
            all[at].1 = wrong;
            assert!(read(&all).unwrap_err().contains(ADD[at].0), "{wrong}");
        }
    }

    #[test]
    fn args_are_known_or_ignored() {
        let with = |text| read(&[&ADD[..], &[("CNI_ARGS", text)]].concat());
        for (text, expected) in [
            (
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_UID=u-1;X=y",
                ["ns", "p", "u-1"],
            ),
            (
                "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=c",
                ["ns", "p", ""],
            ),
            ("K8S_POD_UID=", ["", "", ""]),
        ] {
            let pod = with(text).unwrap().args.pod();
            assert_eq!([pod.namespace, pod.name, pod.uid], expected, "{text}");
        }
        let args = with("IP=10.0.0.7/24;MAC=02:00:00:00:00:01;").unwrap().args;
        assert_eq!(args.ip, Some("10.0.0.7".parse().unwrap()));
        assert!(args.mac.is_some());
        for (wrong, words) in [
            ("X=y", "X is unknown"),
            ("X", "KEY=VALUE"),
            ("IP=here", "no address"),
        ] {
            assert!(with(wrong).unwrap_err().contains(words), "{wrong}");
        }
        assert_eq!(with("").unwrap().args, Args::default());
    }
}
