//! From a manifest's text to the pod the node runs. Pure.

use std::path::Path;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use serde_json::{Value, json};

use super::{HASH, MIRROR, SEEN, SOURCE, check, defaults, references};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Perhaps half of it is written.
    #[error("cannot be read as YAML or JSON: {0}")]
    Text(String),
    #[error("is no Pod of v1, but {0}")]
    Kind(String),
    #[error("is no valid Pod: {0}")]
    Invalid(String),
    #[error("static pods may not reference {0}")]
    Reference(&'static str),
}

/// One pod, as this node's: named after it, and with all the API server would default.
pub fn parse(text: &[u8], file: &Path, node: &str, now: Timestamp) -> Result<Pod, ManifestError> {
    if text.trim_ascii().is_empty() {
        return Err(ManifestError::Text("it is empty".to_owned()));
    }
    // JSON is YAML.
    let mut object: Value =
        serde_yaml_ng::from_slice(text).map_err(|error| ManifestError::Text(error.to_string()))?;
    let (version, kind) = (&object["apiVersion"], &object["kind"]);
    if version != "v1" || kind != "Pod" {
        return Err(ManifestError::Kind(format!("{kind} of {version}")));
    }
    if object["metadata"]["name"]
        .as_str()
        .is_none_or(str::is_empty)
    {
        let words = "name is needed for the pod";
        return Err(ManifestError::Invalid(words.to_owned()));
    }
    clean(&mut object);
    defaults::apply(&mut object);
    let mut pod: Pod = serde_json::from_value(object)
        .map_err(|error| ManifestError::Invalid(error.to_string()))?;
    adopt(&mut pod, file, node, now);
    let problems = check::problems(&pod);
    if !problems.is_empty() {
        return Err(ManifestError::Invalid(problems.join("; ")));
    }
    match references::first(&pod) {
        Some(resource) => Err(ManifestError::Reference(resource)),
        None => Ok(pod),
    }
}

/// What only an API server writes is nothing in a file.
fn clean(object: &mut Value) {
    let Value::Object(pod) = object else { return };
    pod.insert("status".into(), json!({"phase": "Pending"}));
    let Some(Value::Object(metadata)) = pod.get_mut("metadata") else {
        return;
    };
    for field in [
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generateName",
        "generation",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
    ] {
        metadata.remove(field);
    }
}

/// As the kubelet does it: the uid from what the file says and where it is, unless it says one.
fn adopt(pod: &mut Pod, file: &Path, node: &str, now: Timestamp) {
    let given = pod.metadata.uid.take().filter(|uid| !uid.is_empty());
    let uid = given.unwrap_or_else(|| {
        let mut hash = Fnv::default();
        // Of plain types, so it has a JSON form; keys of maps are in order, whatever the file's are.
        hash.write(&serde_json::to_vec(pod).unwrap_or_default());
        hash.write(format!("host:{node}file:{}", file.display()).as_bytes());
        format!("{:032x}", hash.0)
    });
    let metadata = &mut pod.metadata;
    let name = metadata.name.take().unwrap_or_default();
    metadata.name = Some(format!("{name}-{}", node.to_lowercase()));
    let namespace = metadata.namespace.take().filter(|name| !name.is_empty());
    metadata.namespace = Some(namespace.unwrap_or_else(|| "default".to_owned()));
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.remove(MIRROR);
    annotations.insert(HASH.to_owned(), uid.clone());
    annotations.insert(SOURCE.to_owned(), "file".to_owned());
    annotations.insert(SEEN.to_owned(), now.to_string());
    metadata.uid = Some(uid);
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    // Whatever is wrong with the node, its own pods stay.
    let always = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&always) {
        tolerations.push(always);
    }
}

/// FNV-1a with 128 bits, the kubelet's for this.
struct Fnv(u128);

impl Default for Fnv {
    fn default() -> Fnv {
        Fnv(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }
}

impl Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 ^= u128::from(*byte);
            self.0 = self
                .0
                .wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::spec;
    use crate::pods::static_pods::is_static;

    const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}, resourceVersion: '7'}
spec:
  hostNetwork: true
  containers:
  - name: app
    image: busybox:1
    ports: [{containerPort: 80}]
    resources: {limits: {cpu: '1'}}
    livenessProbe: {httpGet: {port: 80}}
";

    fn read(text: &str, file: &str, node: &str) -> Result<Pod, ManifestError> {
        let now = Timestamp::from_second(1).unwrap();
        parse(text.as_bytes(), Path::new(file), node, now)
    }

    #[test]
    fn a_manifest_becomes_a_pod_of_the_node() {
        let pod = read(MANIFEST, "/m/web.yaml", "Node-1").unwrap();
        assert!(is_static(&pod));
        assert_eq!(
            (spec::namespace(&pod), spec::name(&pod)),
            ("default", "web-node-1")
        );
        let annotations = pod.metadata.annotations.as_ref().unwrap();
        assert_eq!(spec::uid(&pod).len(), 32);
        assert_eq!(annotations[HASH], spec::uid(&pod));
        assert_eq!(annotations[SOURCE], "file");
        assert_eq!(annotations[SEEN], "1970-01-01T00:00:01Z");
        assert_eq!(pod.metadata.resource_version, None);
        let written = serde_json::to_value(&pod).unwrap();
        let own = &written["spec"];
        assert_eq!(own["nodeName"], "Node-1");
        assert_eq!(own["restartPolicy"], "Always");
        assert_eq!(
            own["tolerations"],
            json!([{"operator": "Exists", "effect": "NoExecute"}])
        );
        let app = &own["containers"][0];
        assert_eq!(app["resources"]["requests"]["cpu"], "1");
        assert_eq!(
            app["ports"],
            json!([{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}])
        );
        assert_eq!(app["livenessProbe"]["httpGet"]["scheme"], "HTTP");
        assert_eq!(app["livenessProbe"]["failureThreshold"], 3);
        assert_eq!(written["status"], json!({"phase": "Pending"}));
    }

    #[test]
    fn its_uid_is_its_content_and_its_place() {
        let uid = |text: &str, file: &str, node: &str| {
            let pod = read(text, file, node).unwrap();
            spec::uid(&pod).to_owned()
        };
        let first = uid(MANIFEST, "/m/a", "n");
        assert_eq!(uid(&format!("# a remark\n{MANIFEST}"), "/m/a", "n"), first);
        assert_ne!(uid(MANIFEST, "/m/b", "n"), first);
        assert_ne!(uid(MANIFEST, "/m/a", "m"), first);
        assert_ne!(
            uid(&MANIFEST.replace("busybox:1", "busybox:2"), "/m/a", "n"),
            first
        );
        let named = MANIFEST.replace("name: web,", "name: web, uid: own,");
        assert_eq!(uid(&named, "/m/a", "n"), "own");
    }

    #[test]
    fn what_is_no_pod_says_so() {
        let pod =
            |rest: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, {rest}}}");
        for (text, words) in [
            (
                "{apiVersion: v1".to_owned(),
                "cannot be read as YAML or JSON: ",
            ),
            (
                format!("{MANIFEST}---{MANIFEST}"),
                "cannot be read as YAML or JSON: ",
            ),
            (
                "{apiVersion: v1, kind: List}".to_owned(),
                "is no Pod of v1, but \"List\" of \"v1\"",
            ),
            (
                " \n".to_owned(),
                "cannot be read as YAML or JSON: it is empty",
            ),
            ("a: b".to_owned(), "is no Pod of v1, but null of null"),
            (
                "{apiVersion: v1, kind: Pod}".to_owned(),
                "is no valid Pod: name is needed",
            ),
            (
                pod("spec: {containers: 3}"),
                "is no valid Pod: invalid type",
            ),
            (
                pod("spec: {containers: []}"),
                "is no valid Pod: spec.containers: Required value",
            ),
            (
                pod("spec: {serviceAccountName: s, containers: [{name: c, image: i}]}"),
                "static pods may not reference serviceaccounts",
            ),
        ] {
            let error = read(&text, "/m/a", "n").unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}, not {words}");
        }
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        // Of the reference's test vectors: http://www.isthe.com/chongo/tech/comp/fnv/.
        let mut hash = Fnv::default();
        hash.write(b"a");
        assert_eq!(hash.0, 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
