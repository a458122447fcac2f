//! Validation of containers.

mod env;
mod ephemeral;
mod probe;
pub(super) mod resources;
pub(super) mod restart;

use std::collections::BTreeSet;

use serde_json::Value;

use super::profile;
use super::spec::{PULL_POLICIES, one_of};
use crate::field::Path;
use crate::names;
use crate::resource::FieldError;
use crate::value::ValueExt;

/// All containers, against the names of the pod's volumes.
pub(super) fn validate_all(
    spec: &Value,
    path: &Path,
    volumes: &BTreeSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    let regular = spec.list_at("/containers");
    if regular.is_empty() {
        errors.push(path.child("containers").required(""));
    }
    let mut seen = BTreeSet::new();
    let mut host_ports = BTreeSet::new();
    for (list, init) in [("containers", false), ("initContainers", true)] {
        for (i, container) in spec.list_at(&format!("/{list}")).iter().enumerate() {
            let at = path.child(list).index(i);
            let name = container.str_at("/name");
            validate(container, &at, init, volumes, errors);
            resources::resize_policies(container, spec, &at.child("resizePolicy"), errors);
            if !name.is_empty() && !seen.insert(name) {
                errors.push(at.child("name").duplicate(name));
            }
            ports(container, &at.child("ports"), spec, &mut host_ports, errors);
            if init {
                // Init containers run one after the other: a port is free again.
                host_ports.clear();
            }
        }
    }
    ephemeral::validate(spec, path, volumes, &seen, errors);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (i, container) in spec.list_at(&format!("/{list}")).iter().enumerate() {
            env::file_volumes(container, spec, &path.child(list).index(i), errors);
            let at = path.child(list).index(i).child("volumeDevices");
            device_volumes(container, spec, &at, errors);
        }
    }
}

fn validate(
    container: &Value,
    path: &Path,
    init: bool,
    volumes: &BTreeSet<&str>,
    errors: &mut Vec<FieldError>,
) {
    common(container, path, volumes, errors);
    restart::validate(container, path, errors);
    let sidecar = init && container.str_at("/restartPolicy") == "Always";
    for key in [
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ] {
        if init && !sidecar && container.has(&format!("/{key}")) {
            errors.push(
                path.child(key)
                    .forbidden("may not be set for init containers without restartPolicy=Always"),
            );
        }
    }
    probe::validate(container, path, errors);
}

/// What containers of every kind may say.
fn common(container: &Value, path: &Path, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let name = container.str_at("/name");
    if name.is_empty() {
        errors.push(path.child("name").required(""));
    } else {
        errors.extend(
            names::label(name)
                .iter()
                .map(|m| path.child("name").invalid(name, m)),
        );
    }
    let image = container.str_at("/image");
    if image.is_empty() {
        errors.push(path.child("image").required(""));
    } else if image.trim() != image {
        errors.push(
            path.child("image")
                .invalid(image, "must not have leading or trailing whitespace"),
        );
    }
    one_of(
        container,
        path,
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
        errors,
    );
    one_of(container, path, "imagePullPolicy", PULL_POLICIES, errors);
    env::validate(container, path, errors);
    resources::validate(container.get("resources"), &path.child("resources"), errors);
    mounts(container, &path.child("volumeMounts"), volumes, errors);
    devices(container, &path.child("volumeDevices"), volumes, errors);
    security(container, &path.child("securityContext"), errors);
}

fn ports<'a>(
    container: &'a Value,
    path: &Path,
    spec: &Value,
    host_ports: &mut BTreeSet<(&'a str, &'a str, i64)>,
    errors: &mut Vec<FieldError>,
) {
    let mut seen = BTreeSet::new();
    for (i, port) in container.list_at("/ports").iter().enumerate() {
        let at = path.index(i);
        let name = port.str_at("/name");
        if !name.is_empty() {
            let wrong = names::port_name(name);
            if wrong.is_empty() && !seen.insert(name) {
                errors.push(at.child("name").duplicate(name));
            }
            errors.extend(wrong.iter().map(|m| at.child("name").invalid(name, m)));
        }
        let number = port.i64_at("/containerPort");
        if number == 0 {
            errors.push(at.child("containerPort").required(""));
        } else {
            errors.extend(
                names::port_number(number)
                    .iter()
                    .map(|m| at.child("containerPort").invalid(number, m)),
            );
        }
        let host = port.i64_at("/hostPort");
        if host != 0 {
            errors.extend(
                names::port_number(host)
                    .iter()
                    .map(|m| at.child("hostPort").invalid(host, m)),
            );
            let (protocol, ip) = (port.str_at("/protocol"), port.str_at("/hostIP"));
            if !host_ports.insert((protocol, ip, host)) {
                errors.push(
                    at.child("hostPort")
                        .duplicate(format!("{protocol}/{ip}/{host}")),
                );
            }
        }
        if spec.bool_at("/hostNetwork") && host != 0 && host != number {
            errors.push(at.child("hostPort").invalid(
                host,
                "must match `containerPort` when `hostNetwork` is true",
            ));
        }
        one_of(port, &at, "protocol", &["SCTP", "TCP", "UDP"], errors);
    }
}

fn mounts(container: &Value, path: &Path, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let mut points = BTreeSet::new();
    for (i, mount) in container.list_at("/volumeMounts").iter().enumerate() {
        let at = path.index(i);
        let (name, point) = (mount.str_at("/name"), mount.str_at("/mountPath"));
        if name.is_empty() {
            errors.push(at.child("name").required(""));
        }
        if !volumes.contains(name) {
            errors.push(at.child("name").not_found(name));
        }
        if point.is_empty() {
            errors.push(at.child("mountPath").required(""));
        }
        if !points.insert(point) {
            errors.push(at.child("mountPath").invalid(point, "must be unique"));
        }
        let sub = mount.str_at("/subPath");
        if !sub.is_empty() {
            relative_path(sub, &at.child("subPath"), errors);
        }
        let expression = mount.str_at("/subPathExpr");
        if !sub.is_empty() && !expression.is_empty() {
            errors.push(
                at.child("subPathExpr")
                    .invalid(expression, "subPathExpr and subPath are mutually exclusive"),
            );
        } else if !expression.is_empty() {
            relative_path(expression, &at.child("subPathExpr"), errors);
        }
        let propagation = mount.str_at("/mountPropagation");
        let known = ["Bidirectional", "HostToContainer", "None"];
        if !propagation.is_empty() && !known.contains(&propagation) {
            errors.push(
                at.child("mountPropagation")
                    .not_supported(propagation, &known),
            );
        }
        if propagation == "Bidirectional" && !container.bool_at("/securityContext/privileged") {
            errors.push(at.child("mountPropagation").forbidden(
                "Bidirectional mount propagation is available only to privileged containers",
            ));
        }
    }
}

/// Volumes that the container sees as block devices.
fn devices(container: &Value, path: &Path, volumes: &BTreeSet<&str>, errors: &mut Vec<FieldError>) {
    let mounts = container.list_at("/volumeMounts");
    let mounted = |key: &str, value: &str| mounts.iter().any(|mount| mount[key] == value);
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in container.list_at("/volumeDevices").iter().enumerate() {
        let at = path.index(i);
        let (name, point) = (device.str_at("/name"), device.str_at("/devicePath"));
        if name.is_empty() {
            errors.push(at.child("name").required(""));
        }
        if !names.insert(name) {
            errors.push(at.child("name").invalid(name, "must be unique"));
        }
        if !volumes.contains(name) {
            errors.push(at.child("name").not_found(name));
        }
        if point.is_empty() {
            errors.push(at.child("devicePath").required(""));
        }
        if point.split('/').any(|part| part == "..") {
            let words = "can not contain backsteps ('..')";
            errors.push(at.child("devicePath").invalid(point, words));
        }
        if !paths.insert(point) {
            let words = "must be unique";
            errors.push(at.child("devicePath").invalid(point, words));
        }
        if mounted("mountPath", point) {
            let words = "must not already exist as a path in volumeMounts";
            errors.push(at.child("devicePath").invalid(point, words));
        }
        if mounted("name", name) {
            let words = "must not already exist in volumeMounts";
            errors.push(at.child("name").invalid(name, words));
        }
    }
}

/// Only what is claimed can be a device.
fn device_volumes(container: &Value, spec: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    for (i, device) in container.list_at("/volumeDevices").iter().enumerate() {
        let name = device.str_at("/name");
        let mut volumes = spec.list_at("/volumes").iter();
        let claimed =
            |volume: &Value| volume.has("/persistentVolumeClaim") || volume.has("/ephemeral");
        if volumes.any(|volume| volume.str_at("/name") == name && !claimed(volume)) {
            let words = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errors.push(path.index(i).child("name").invalid(name, words));
        }
    }
}

pub(super) fn relative_path(value: &str, path: &Path, errors: &mut Vec<FieldError>) {
    if value.starts_with('/') {
        errors.push(path.invalid(value, "must be a relative path"));
    }
    if value.split('/').any(|part| part == "..") {
        errors.push(path.invalid(value, "must not contain '..'"));
    }
}

fn security(container: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let Some(context) = container.get("securityContext") else {
        return;
    };
    profile::validate(context, path, errors);
    for key in ["runAsUser", "runAsGroup"] {
        if let Some(id) = context.opt_i64(&format!("/{key}"))
            && !(0..=i64::from(i32::MAX)).contains(&id)
        {
            errors.push(
                path.child(key)
                    .invalid(id, "must be between 0 and 2147483647, inclusive"),
            );
        }
    }
    if context.pointer("/allowPrivilegeEscalation") == Some(&Value::Bool(false)) {
        if context.bool_at("/privileged") {
            errors.push(path.invalid(
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ));
        }
        let adds_admin = context
            .list_at("/capabilities/add")
            .iter()
            .any(|c| matches!(c.as_str(), Some("SYS_ADMIN" | "CAP_SYS_ADMIN")));
        if adds_admin {
            errors.push(path.invalid(
                context.clone(),
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            ));
        }
    }
}
