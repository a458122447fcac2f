//! What a driver of the Container Storage Interface asks of the cluster. The object is kept; no driver is called here.

use k8s_openapi::api::storage::v1::CSIDriver as Typed;
use serde_json::{Value, json};

use super::storage::one_of;
use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, flag, name, or_none};
use crate::registry::BASE;
use crate::resource::{FieldError, Resource, Warn};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

/// In the order Kubernetes names them in.
const MODES: &[&str] = &["Persistent", "Ephemeral"];
const GROUP_POLICIES: &[&str] = &["File", "None", "ReadWriteOnceWithFSType"];
/// In seconds, of a token: as TokenRequests have it.
const MIN_LIFE: i64 = 600;
const MAX_LIFE: i64 = 1 << 32;
/// In seconds.
const MIN_UPDATE_PERIOD: i64 = 10;
/// Of the feature `VolumeLimitScaling` (KEP-5030), off by default until 1.37.
const PREVENT: &str = "preventPodSchedulingIfMissing";
const TOKENS_ARE_LOGGED: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";

pub const ROW: Resource = Resource {
    group: "storage.k8s.io",
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    namespaced: false,
    storage_prefix: "csidrivers",
    decode: typed::<Typed>,
    default,
    // No generation before the first change of the spec.
    prepare_create: |driver| {
        if let Some(spec) = driver.get_mut("spec") {
            spec.remove_key(PREVENT);
        }
    },
    prepare_update: |new, old| {
        if !old.has(&format!("/spec/{PREVENT}"))
            && let Some(spec) = new.get_mut("spec")
        {
            spec.remove_key(PREVENT);
        }
        meta::next_generation(new, old);
    },
    validate_create: |driver| {
        let mut errors = meta::validate(driver, false, names::subdomain);
        validate(driver, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate(new, &mut errors);
        // Kubernetes writes the first one's name so.
        for (key, named) in [
            ("attachRequired", "attachedRequired"),
            ("volumeLifecycleModes", "volumeLifecycleModes"),
        ] {
            let field = |driver: &Value| driver["spec"][key].clone();
            if field(new) != field(old) {
                let at = Path::new("spec").child(named);
                errors.push(at.invalid(field(new), "field is immutable"));
            }
        }
        errors
    },
    warn: Some(Warn {
        create: |driver| {
            let unset = !driver.has("/spec/serviceAccountTokenInSecrets");
            match unset && !driver.list_at("/spec/tokenRequests").is_empty() {
                true => vec![TOKENS_ARE_LOGGED.to_owned()],
                false => Vec::new(),
            }
        },
        // Kubernetes warns of requests that change; what they were is not known here.
        update: |_| Vec::new(),
        status: |_| Vec::new(),
    }),
    columns: &[
        NAME,
        flag(
            "AttachRequired",
            "attachRequired indicates this CSI volume driver requires an attach operation (because it implements the CSI ControllerPublishVolume() method), and that the Kubernetes attach detach controller should call the attach volume interface which checks the volumeattachment status and waits until the volume is attached before proceeding to mounting. The CSI external-attacher coordinates with CSI volume driver and updates the volumeattachment status when the attach operation is complete. If the value is specified to false, the attach operation will be skipped. Otherwise the attach operation will be called.\n\nThis field is immutable.",
        ),
        flag(
            "PodInfoOnMount",
            "podInfoOnMount indicates this CSI volume driver requires additional pod information (like podName, podUID, etc.) during mount operations, if set to true. If set to false, pod information will not be passed on mount. Default is false.\n\nThe CSI driver specifies podInfoOnMount as part of driver deployment. If true, Kubelet will pass pod information as VolumeContext in the CSI NodePublishVolume() calls. The CSI driver is responsible for parsing and validating the information passed in as VolumeContext.\n\nThe following VolumeContext will be passed if podInfoOnMount is set to true. This list might grow, but the prefix will be used. \"csi.storage.k8s.io/pod.name\": pod.Name \"csi.storage.k8s.io/pod.namespace\": pod.Namespace \"csi.storage.k8s.io/pod.uid\": string(pod.UID) \"csi.storage.k8s.io/ephemeral\": \"true\" if the volume is an ephemeral inline volume\n                                defined by a CSIVolumeSource, otherwise \"false\"\n\n\"csi.storage.k8s.io/ephemeral\" is a new feature in Kubernetes 1.16. It is only required for drivers which support both the \"Persistent\" and \"Ephemeral\" VolumeLifecycleMode. Other drivers can leave pod info disabled and/or ignore this field. As Kubernetes 1.15 doesn't support this field, drivers can only support one mode when deployed on such a cluster and the deployment determines which mode that is, for example via a command line parameter of the driver.\n\nThis field was immutable in Kubernetes < 1.29 and now is mutable.",
        ),
        flag(
            "StorageCapacity",
            "storageCapacity indicates that the CSI volume driver wants pod scheduling to consider the storage capacity that the driver deployment will report by creating CSIStorageCapacity objects with capacity information, if set to true.\n\nThe check can be enabled immediately when deploying a driver. In that case, provisioning new volumes with late binding will pause until the driver deployment has published some suitable CSIStorageCapacity object.\n\nAlternatively, the driver can be deployed with the field unset or false and it can be flipped later when storage capacity information has been published.\n\nThis field was immutable in Kubernetes <= 1.22 and now is mutable.",
        ),
        column(
            "TokenRequests",
            "tokenRequests indicates the CSI driver needs pods' service account tokens it is mounting volume for to do necessary authentication. Kubelet will pass the tokens in VolumeContext in the CSI NodePublishVolume calls. The CSI driver should parse and validate the following VolumeContext: \"csi.storage.k8s.io/serviceAccount.tokens\": {\n  \"<audience>\": {\n    \"token\": <token>,\n    \"expirationTimestamp\": <expiration timestamp in RFC3339>,\n  },\n  ...\n}\n\nNote: Audience in each TokenRequest should be different and at most one token is empty string. To receive a new token after expiry, RequiresRepublish can be used to trigger NodePublishVolume periodically.",
        ),
        flag(
            "RequiresRepublish",
            "requiresRepublish indicates the CSI driver wants `NodePublishVolume` being periodically called to reflect any possible change in the mounted volume. This field defaults to false.\n\nNote: After a successful initial NodePublishVolume call, subsequent calls to NodePublishVolume should only update the contents of the volume. New mount points will not be seen by a running container.",
        ),
        column(
            "Modes",
            "volumeLifecycleModes defines what kind of volumes this CSI volume driver supports. The default if the list is empty is \"Persistent\", which is the usage defined by the CSI specification and implemented in Kubernetes via the usual PV/PVC mechanism.\n\nThe other mode is \"Ephemeral\". In this mode, volumes are defined inline inside the pod spec with CSIVolumeSource and their lifecycle is tied to the lifecycle of that pod. A driver has to be aware of this because it is only going to get a NodePublishVolume call for such a volume.\n\nFor more information about implementing this mode, see https://kubernetes-csi.github.io/docs/ephemeral-local-volumes.html A driver can support one or more of these modes and more modes may be added in the future.\n\nThis field is beta. This field is immutable.",
        ),
        AGE,
    ],
    cells: |driver, now| {
        let joined = |list: &[Value], text: fn(&Value) -> &str| {
            list.iter().map(text).collect::<Vec<_>>().join(",")
        };
        let tokens = driver.list_at("/spec/tokenRequests");
        let modes = driver.list_at("/spec/volumeLifecycleModes");
        let attaches = driver.pointer("/spec/attachRequired").cloned();
        vec![
            name(driver),
            attaches.unwrap_or(Value::Bool(true)),
            driver.bool_at("/spec/podInfoOnMount").into(),
            driver.bool_at("/spec/storageCapacity").into(),
            match tokens {
                [] => "<unset>".into(),
                tokens => joined(tokens, |token| token.str_at("/audience")).into(),
            },
            driver.bool_at("/spec/requiresRepublish").into(),
            or_none(joined(modes, |mode| mode.as_str().unwrap_or_default())),
            age(driver, now),
        ]
    },
    unconditional_update: false,
    schema: "io.k8s.api.storage.v1.CSIDriver",
    types: register::<Typed>,
    ..BASE
};

fn default(driver: &mut Value) {
    driver.default_to("spec", json!({}));
    let Some(spec) = driver.get_mut("spec") else {
        return;
    };
    spec.default_to("attachRequired", true);
    for key in [
        "podInfoOnMount",
        "storageCapacity",
        "requiresRepublish",
        "seLinuxMount",
    ] {
        spec.default_to(key, false);
    }
    spec.default_to("fsGroupPolicy", "ReadWriteOnceWithFSType");
    if spec.list_at("/volumeLifecycleModes").is_empty() {
        spec["volumeLifecycleModes"] = json!(["Persistent"]);
    }
}

fn validate(driver: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let spec = driver.get("spec").unwrap_or(&Value::Null);
    one_of(spec, &path, "fsGroupPolicy", GROUP_POLICIES, errors);
    tokens(spec, &path.child("tokenRequests"), errors);
    for mode in spec.list_at("/volumeLifecycleModes") {
        if !mode.as_str().is_some_and(|mode| MODES.contains(&mode)) {
            let at = path.child("volumeLifecycleModes");
            errors.push(at.not_supported(mode.clone(), MODES));
        }
    }
    let period = spec.opt_i64("/nodeAllocatableUpdatePeriodSeconds");
    if let Some(period) = period.filter(|period| *period < MIN_UPDATE_PERIOD) {
        let at = path.child("nodeAllocatableUpdatePeriodSeconds");
        errors.push(at.invalid(period, "must be greater than or equal to 10 seconds"));
    }
    if let Some(asked) = spec.get("serviceAccountTokenInSecrets")
        && spec.list_at("/tokenRequests").is_empty()
    {
        let at = path.child("serviceAccountTokenInSecrets");
        let words = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        errors.push(at.invalid(asked.clone(), words));
    }
}

/// One token for an audience, and one at most for the API server's own.
fn tokens(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let mut audiences: Vec<&str> = Vec::new();
    for (i, token) in spec.list_at("/tokenRequests").iter().enumerate() {
        let audience = token.str_at("/audience");
        if audiences.contains(&audience) {
            errors.push(path.index(i).child("audience").duplicate(audience));
            continue;
        }
        audiences.push(audience);
        let Some(seconds) = token.opt_i64("/expirationSeconds") else {
            continue;
        };
        let at = path.index(i).child("expirationSeconds");
        if seconds < MIN_LIFE {
            errors.push(at.invalid(seconds, "may not specify a duration less than 10 minutes"));
        }
        if seconds > MAX_LIFE {
            let words = "may not specify a duration larger than 2^32 seconds";
            errors.push(at.invalid(seconds, words));
        }
    }
}

#[cfg(test)]
mod tests;
