//! Storage that is there, and whose claim it is.

use k8s_openapi::api::core::v1::PersistentVolume as Typed;
use serde_json::{Value, json};

use super::pod::{host_path, node_selector};
use super::storage::{
    self, RECLAIM_POLICIES, VOLUME_MODE_COLUMN, VOLUME_MODES, access_modes, class, class_name,
    one_of, phase, same_but, shown_modes, unset,
};
use crate::decode::typed;
use crate::field::Path;
use crate::print::{AGE, NAME, age, column, name};
use crate::registry::BASE;
use crate::resource::{Column, FieldError, Resource, Subresource};
use crate::schema::register;
use crate::value::ValueExt;
use crate::{meta, names};

/// The fields of a spec of which a volume has exactly one: what it is made of.
pub const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

pub const ROW: Resource = Resource {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    storage_prefix: "persistentvolumes",
    subresources: &[Subresource::status("", "v1", "PersistentVolume")],
    decode: typed::<Typed>,
    default,
    prepare_create: |volume| {
        // Its first phase is as old as itself.
        let now = volume.str_at("/metadata/creationTimestamp").to_owned();
        if let Some(object) = volume.as_object_mut() {
            let status = json!({"phase": "Pending", "lastPhaseTransitionTime": now});
            object.insert("status".into(), status);
        }
    },
    prepare_update: meta::keep_status,
    validate_create: |volume| {
        let mut errors = meta::validate(volume, false, names::subdomain);
        validate(volume, &mut errors);
        errors
    },
    validate_update: |new, old| {
        let mut errors = meta::validate_update(new, old);
        validate(new, &mut errors);
        validate_change(new, old, &mut errors);
        errors
    },
    selectable_fields: |volume| vec![("name", volume.str_at("/metadata/name").to_owned())],
    columns: COLUMNS,
    cells: |volume, now| {
        let claim = match volume.has("/spec/claimRef") {
            true => format!(
                "{}/{}",
                volume.str_at("/spec/claimRef/namespace"),
                volume.str_at("/spec/claimRef/name")
            ),
            false => String::new(),
        };
        vec![
            name(volume),
            volume.str_at("/spec/capacity/storage").into(),
            shown_modes(volume, "/spec/accessModes").into(),
            volume.str_at("/spec/persistentVolumeReclaimPolicy").into(),
            phase(volume),
            claim.into(),
            class(volume).unwrap_or_default().into(),
            unset(volume.str_at("/spec/volumeAttributesClassName")),
            volume.str_at("/status/reason").into(),
            age(volume, now),
            unset(volume.str_at("/spec/volumeMode")),
        ]
    },
    schema: "io.k8s.api.core.v1.PersistentVolume",
    types: register::<Typed>,
    ..BASE
};

const COLUMNS: &[Column] = &[
    NAME,
    column(
        "Capacity",
        "capacity is the description of the persistent volume's resources and capacity. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#capacity",
    ),
    column(
        "Access Modes",
        "accessModes contains all ways the volume can be mounted. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes",
    ),
    column(
        "Reclaim Policy",
        "persistentVolumeReclaimPolicy defines what happens to a persistent volume when released from its claim. Valid options are Retain (default for manually created PersistentVolumes), Delete (default for dynamically provisioned PersistentVolumes), and Recycle (deprecated). Recycle must be supported by the volume plugin underlying this PersistentVolume. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#reclaiming",
    ),
    column(
        "Status",
        "phase indicates if a volume is available, bound to a claim, or released by a claim. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#phase",
    ),
    column(
        "Claim",
        "claimRef is part of a bi-directional binding between PersistentVolume and PersistentVolumeClaim. Expected to be non-nil when bound. claim.VolumeName is the authoritative bind between PV and PVC. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#binding",
    ),
    column(
        "StorageClass",
        "storageClassName is the name of StorageClass to which this persistent volume belongs. Empty value means that this volume does not belong to any StorageClass.",
    ),
    column(
        "VolumeAttributesClass",
        "Name of VolumeAttributesClass to which this persistent volume belongs. Empty value is not allowed. When this field is not set, it indicates that this volume does not belong to any VolumeAttributesClass.",
    ),
    column(
        "Reason",
        "reason is a brief CamelCase string that describes any failure and is meant for machine parsing and tidy display in the CLI.",
    ),
    AGE,
    VOLUME_MODE_COLUMN,
];

fn default(volume: &mut Value) {
    if let Some(status) = volume.get_mut("status") {
        status.default_to("phase", "Pending");
    }
    let Some(spec) = volume.get_mut("spec") else {
        return;
    };
    spec.default_to("persistentVolumeReclaimPolicy", "Retain");
    spec.default_to("volumeMode", "Filesystem");
    for (source, fields) in [
        ("hostPath", &[("type", "")][..]),
        ("iscsi", &[("iscsiInterface", "default")]),
        (
            "rbd",
            &[
                ("pool", "rbd"),
                ("user", "admin"),
                ("keyring", "/etc/ceph/keyring"),
            ],
        ),
        (
            "scaleIO",
            &[("storageMode", "ThinProvisioned"), ("fsType", "xfs")],
        ),
    ] {
        if let Some(source) = spec.get_mut(source) {
            for (key, value) in fields {
                source.default_to(key, *value);
            }
        }
    }
}

fn validate(volume: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::new("spec");
    let spec = volume.get("spec").unwrap_or(&Value::Null);
    if spec.list_at("/accessModes").is_empty() {
        errors.push(path.child("accessModes").required(""));
    }
    access_modes(spec, &path, errors);
    capacity(spec, &path.child("capacity"), errors);
    let policy = "persistentVolumeReclaimPolicy";
    one_of(spec, &path, policy, RECLAIM_POLICIES, errors);
    affinity(spec, &path.child("nodeAffinity"), errors);
    source(spec, &path, errors);
    if spec.str_at("/hostPath/path").trim_matches('/').is_empty()
        && spec.has("/hostPath/path")
        && spec.str_at("/persistentVolumeReclaimPolicy") == "Recycle"
    {
        let words = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(path.child(policy).forbidden(words));
    }
    class_name(spec, &path, "storageClassName", errors);
    one_of(spec, &path, "volumeMode", VOLUME_MODES, errors);
    if spec.has("/volumeAttributesClassName") {
        let at = path.child("volumeAttributesClassName");
        if spec.str_at("/volumeAttributesClassName").is_empty() {
            errors.push(at.required("an empty string is disallowed"));
        }
        class_name(spec, &path, "volumeAttributesClassName", errors);
        if !spec.has("/csi") {
            let words = "has to be specified when using volumeAttributesClassName";
            errors.push(path.child("csi").required(words));
        }
    }
}

fn capacity(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let all = spec.map_at("/capacity");
    if all.is_none_or(|all| all.is_empty()) {
        errors.push(path.required(""));
    }
    if all.is_none_or(|all| all.len() > 1 || !all.contains_key("storage")) {
        let shown = spec.get("capacity").cloned().unwrap_or_default();
        errors.push(path.not_supported(shown, &["storage"]));
    }
    for (name, amount) in all.into_iter().flatten() {
        storage::positive(amount, &path.key(name), errors);
    }
}

fn affinity(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let Some(affinity) = spec.get("nodeAffinity") else {
        return;
    };
    match affinity.get("required") {
        Some(required) => node_selector(required, &path.child("required"), errors),
        None => errors.push(
            path.child("required")
                .required("must specify required node constraints"),
        ),
    }
}

fn source(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let present = SOURCES.iter().filter(|kind| spec.get(**kind).is_some());
    let mut kinds = 0;
    for kind in present {
        let at = path.child(kind);
        kinds += 1;
        if kinds > 1 {
            errors.push(at.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        let source = &spec[*kind];
        let mut required = |keys: &[&str]| {
            for key in keys {
                if source.str_at(&format!("/{key}")).is_empty() {
                    errors.push(at.child(key).required(""));
                }
            }
        };
        match *kind {
            "hostPath" => host_path(source, &at, errors),
            "local" => local(spec, path, errors),
            "nfs" => required(&["server", "path"]),
            "csi" => required(&["driver", "volumeHandle"]),
            "glusterfs" => required(&["endpoints", "path"]),
            "rbd" => required(&["image"]),
            "iscsi" => required(&["targetPortal", "iqn"]),
            "cinder" | "awsElasticBlockStore" | "portworxVolume" => required(&["volumeID"]),
            "gcePersistentDisk" => required(&["pdName"]),
            "azureFile" => required(&["secretName", "shareName"]),
            "azureDisk" => required(&["diskName", "diskURI"]),
            "flexVolume" => required(&["driver"]),
            "vsphereVolume" => required(&["volumePath"]),
            "photonPersistentDisk" => required(&["pdID"]),
            "quobyte" => required(&["registry", "volume"]),
            "scaleIO" => required(&["gateway", "system", "volumeName"]),
            _ => {}
        }
    }
    if kinds == 0 {
        errors.push(path.required("must specify a volume type"));
    }
}

/// It is on one node, and says on which.
fn local(spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let at = path.child("local").child("path");
    let directory = spec.str_at("/local/path");
    if directory.is_empty() {
        errors.push(at.required(""));
    } else if directory.split('/').any(|part| part == "..") {
        errors.push(at.invalid(directory, "must not contain '..'"));
    }
    if !spec.has("/nodeAffinity/required") {
        errors.push(
            path.child("nodeAffinity")
                .required("Local volume requires node affinity"),
        );
    }
}

fn validate_change(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let sources = |volume: &Value| {
        let spec = volume.get("spec").and_then(Value::as_object).cloned();
        let sources = spec.unwrap_or_default().into_iter();
        let sources = sources.filter(|(key, _)| SOURCES.contains(&key.as_str()));
        Value::Object(sources.collect())
    };
    // The secret of expansions may be named later.
    let but: &[&str] = match old.has("/spec/csi/controllerExpandSecretRef") {
        true => &[],
        false => &["controllerExpandSecretRef"],
    };
    let (now, before) = (sources(new), sources(old));
    let same_driver = match (now.get("csi"), before.get("csi")) {
        (Some(now), Some(before)) => same_but(now, before, but),
        (None, None) => true,
        _ => false,
    };
    if !same_driver || !same_but(&now, &before, &["csi"]) {
        errors.push(
            Path::new("spec")
                .child("persistentvolumesource")
                .forbidden("spec.persistentvolumesource is immutable after creation"),
        );
    }
    for (key, may_come) in [("volumeMode", false), ("nodeAffinity", true)] {
        let field = |volume: &Value| volume.pointer(&format!("/spec/{key}")).cloned();
        let (now, before) = (field(new), field(old));
        if now != before && !(may_come && before.is_none()) {
            let shown = now.unwrap_or_default();
            errors.push(Path::new(key).invalid(shown, "field is immutable"));
        }
    }
    let class = "/spec/volumeAttributesClassName";
    if old.has(class) && !new.has(class) {
        errors.push(
            Path::new("spec")
                .child("volumeAttributesClassName")
                .forbidden("update from non-nil value to nil is forbidden"),
        );
    }
}

#[cfg(test)]
mod tests;
