//! Go's names of types, as its JSON errors print them.

use super::Type;

/// `io.k8s.api.core.v1.PodSpec` -> `PodSpec`
pub(crate) fn short_name(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or(definition)
}

/// What `of type …` says for a field of `definition`.
pub(crate) fn go_type(definition: &str, field: &str, ty: &Type) -> String {
    if *ty == Type::String
        && let Some(named) = named_string(short_name(definition), field)
    {
        return named.to_string();
    }
    plain(ty)
}

fn plain(ty: &Type) -> String {
    match ty {
        Type::Object(name) => {
            let mut parts = name.rsplit('.');
            let (kind, version) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            format!("{version}.{kind}")
        }
        Type::Map(items) if **items == Type::Quantity => "v1.ResourceList".into(),
        Type::Map(items) => format!("map[string]{}", plain(items)),
        Type::Array(items) => format!("[]{}", plain(items)),
        Type::String => "string".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Boolean => "bool".into(),
        Type::Int32 => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Number => "float64".into(),
        Type::IntOrString => "intstr.IntOrString".into(),
        Type::Quantity => "resource.Quantity".into(),
        Type::Time => "v1.Time".into(),
        Type::MicroTime => "v1.MicroTime".into(),
        Type::Any => "runtime.RawExtension".into(),
    }
}

/// String fields whose Go type has a name of its own; the schema does not tell.
fn named_string(definition: &str, field: &str) -> Option<&'static str> {
    Some(match (definition, field) {
        ("Container" | "EphemeralContainer", "imagePullPolicy") => "v1.PullPolicy",
        ("Container" | "EphemeralContainer", "terminationMessagePolicy") => {
            "v1.TerminationMessagePolicy"
        }
        ("Container" | "EphemeralContainer", "restartPolicy") => "v1.ContainerRestartPolicy",
        ("ContainerPort" | "ServicePort" | "EndpointPort", "protocol") => "v1.Protocol",
        ("PodSpec", "restartPolicy") => "v1.RestartPolicy",
        ("PodSpec", "dnsPolicy") => "v1.DNSPolicy",
        ("PodStatus", "phase") => "v1.PodPhase",
        ("ServiceSpec", "type") => "v1.ServiceType",
        ("ServiceSpec", "sessionAffinity") => "v1.ServiceAffinity",
        ("HTTPGetAction", "scheme") => "v1.URIScheme",
        ("Toleration" | "Taint", "effect") => "v1.TaintEffect",
        ("Toleration", "operator") => "v1.TolerationOperator",
        ("Secret", "type") => "v1.SecretType",
        ("DeploymentStrategy", "type") => "v1.DeploymentStrategyType",
        ("LabelSelectorRequirement", "operator") => "v1.LabelSelectorOperator",
        ("NodeSelectorRequirement", "operator") => "v1.NodeSelectorOperator",
        ("EmptyDirVolumeSource", "medium") => "v1.StorageMedium",
        ("HostPathVolumeSource", "type") => "v1.HostPathType",
        ("VolumeMount", "mountPropagation") => "v1.MountPropagationMode",
        ("CSIDriverSpec", "fsGroupPolicy") => "v1.FSGroupPolicy",
        ("ObjectMeta" | "OwnerReference", "uid") => "types.UID",
        _ => return None,
    })
}
