//! What a pod's annotations and ports ask of the datapath.

use k8s_openapi::api::core::v1::Pod;
use vetch_network::{Bandwidth, BandwidthError, Owner, PodOptions};

use super::host_ports::host_ports;
use super::text::go_quote;

/// "false": packets from and to the pod go by the node's stack.
const REDIRECT: &str = "vetch.dev/redirect";
/// "false": the pod's TCP is balanced by the packet, so that a mesh or a
/// virtual machine in it sees services' addresses on the wire.
const SOCKET_BALANCING: &str = "vetch.dev/socket-balancing";

/// With the messages of warnings; a value that is neither true nor false counts as
/// none. Read when the sandbox is connected: a later change is for the next one.
///
/// # Errors
/// Of a bandwidth that is none.
pub fn options(pod: &Pod) -> Result<(PodOptions, Vec<String>), BandwidthError> {
    let mut warnings = Vec::new();
    let mut is_off = |key: &str| {
        let value = pod.metadata.annotations.as_ref()?.get(key)?;
        if value != "true" && value != "false" {
            let value = go_quote(value);
            warnings.push(format!(
                "annotation {key} is {value}, which is neither \"true\" nor \"false\": taken as \"true\""
            ));
        }
        Some(value == "false")
    };
    let options = PodOptions {
        by_stack: is_off(REDIRECT).unwrap_or(false),
        tcp_by_packet: is_off(SOCKET_BALANCING).unwrap_or(false),
        host_ports: host_ports(pod),
        owner: owner(pod),
        bandwidth: Bandwidth::of_annotations(|key| {
            let annotations = pod.metadata.annotations.as_ref()?;
            annotations.get(key).map(String::as_str)
        })?,
    };
    Ok((options, warnings))
}

fn owner(pod: &Pod) -> Option<Owner> {
    let metadata = &pod.metadata;
    Some(Owner {
        namespace: metadata.namespace.clone()?,
        name: metadata.name.clone()?,
        uid: metadata.uid.clone()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn only_true_and_false_are_known() {
        for (annotations, by_stack, tcp_by_packet, warnings) in [
            (json!({}), false, false, 0),
            (
                json!({REDIRECT: "true", SOCKET_BALANCING: "true"}),
                false,
                false,
                0,
            ),
            (json!({REDIRECT: "false"}), true, false, 0),
            (json!({SOCKET_BALANCING: "false"}), false, true, 0),
            (
                json!({REDIRECT: "False", SOCKET_BALANCING: ""}),
                false,
                false,
                2,
            ),
            (
                json!({REDIRECT: "no", SOCKET_BALANCING: "false"}),
                false,
                true,
                1,
            ),
        ] {
            let mut pod = pod(json!({"containers": []}));
            pod.metadata.annotations = serde_json::from_value(annotations.clone()).unwrap();
            let (options, told) = options(&pod).unwrap();
            let expected = PodOptions {
                by_stack,
                tcp_by_packet,
                host_ports: Vec::new(),
                owner: Some(Owner {
                    namespace: "shop".into(),
                    name: "web".into(),
                    uid: "u".into(),
                }),
                bandwidth: Bandwidth::default(),
            };
            assert_eq!(
                (options, told.len()),
                (expected, warnings),
                "{annotations} {told:?}"
            );
        }
    }

    #[test]
    fn host_ports_go_along() {
        let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
        let pod = pod(json!({"containers": [{"name": "c", "ports": ports}]}));
        let (options, warnings) = options(&pod).unwrap();
        assert_eq!(options.host_ports, host_ports(&pod));
        assert_eq!((options.host_ports.len(), warnings.len()), (1, 0));
    }

    #[test]
    fn a_warning_names_the_annotation_and_its_value() {
        let mut pod = pod(json!({"containers": []}));
        pod.metadata.annotations = Some([(REDIRECT.to_owned(), "off".to_owned())].into());
        assert_eq!(
            options(&pod).unwrap().1,
            [
                r#"annotation vetch.dev/redirect is "off", which is neither "true" nor "false": taken as "true""#
            ]
        );
    }
}
