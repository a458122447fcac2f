//! Fields whose values are a closed list: facts of the Kubernetes API that k8s-openapi's schemas leave out.

const PROTOCOL: &[&str] = &["SCTP", "TCP", "UDP"];
const PULL: &[&str] = &["Always", "IfNotPresent", "Never"];
const MESSAGE: &[&str] = &["FallbackToLogsOnError", "File"];
const VOLUME_MODE: &[&str] = &["Block", "Filesystem"];
const RECLAIM: &[&str] = &["Delete", "Recycle", "Retain"];
const ACTION: &[&str] = &["Allow", "Deny", "Pass"];
const BASELINE_ACTION: &[&str] = &["Allow", "Deny"];
const EFFECT: &[&str] = &["NoExecute", "NoSchedule", "PreferNoSchedule"];

static ENUMS: &[(&str, &str, &[&str])] = &[
    ("io.k8s.api.core.v1.Container", "imagePullPolicy", PULL),
    (
        "io.k8s.api.core.v1.Container",
        "terminationMessagePolicy",
        MESSAGE,
    ),
    ("io.k8s.api.core.v1.ContainerPort", "protocol", PROTOCOL),
    ("io.k8s.api.core.v1.EndpointPort", "protocol", PROTOCOL),
    (
        "io.k8s.api.core.v1.EphemeralContainer",
        "imagePullPolicy",
        PULL,
    ),
    (
        "io.k8s.api.core.v1.EphemeralContainer",
        "terminationMessagePolicy",
        MESSAGE,
    ),
    (
        "io.k8s.api.core.v1.HTTPGetAction",
        "scheme",
        &["HTTP", "HTTPS"],
    ),
    (
        "io.k8s.api.core.v1.HostPathVolumeSource",
        "type",
        &[
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ],
    ),
    (
        "io.k8s.api.core.v1.NamespaceStatus",
        "phase",
        &["Active", "Terminating"],
    ),
    (
        "io.k8s.api.core.v1.NodeSelectorRequirement",
        "operator",
        &["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"],
    ),
    (
        "io.k8s.api.core.v1.NodeStatus",
        "phase",
        &["Pending", "Running", "Terminated"],
    ),
    (
        "io.k8s.api.core.v1.PodSpec",
        "dnsPolicy",
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    ),
    (
        "io.k8s.api.core.v1.PodSpec",
        "preemptionPolicy",
        &["Never", "PreemptLowerPriority"],
    ),
    (
        "io.k8s.api.core.v1.PodSpec",
        "restartPolicy",
        &["Always", "Never", "OnFailure"],
    ),
    (
        "io.k8s.api.core.v1.PodSecurityContext",
        "fsGroupChangePolicy",
        &["Always", "OnRootMismatch"],
    ),
    (
        "io.k8s.api.core.v1.PodStatus",
        "phase",
        &["Failed", "Pending", "Running", "Succeeded", "Unknown"],
    ),
    (
        "io.k8s.api.core.v1.PodStatus",
        "qosClass",
        &["BestEffort", "Burstable", "Guaranteed"],
    ),
    (
        "io.k8s.api.core.v1.SeccompProfile",
        "type",
        &["Localhost", "RuntimeDefault", "Unconfined"],
    ),
    ("io.k8s.api.core.v1.ServicePort", "protocol", PROTOCOL),
    (
        "io.k8s.api.core.v1.ServiceSpec",
        "externalTrafficPolicy",
        &["Cluster", "Local"],
    ),
    (
        "io.k8s.api.core.v1.ServiceSpec",
        "internalTrafficPolicy",
        &["Cluster", "Local"],
    ),
    (
        "io.k8s.api.core.v1.ServiceSpec",
        "ipFamilyPolicy",
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    ),
    (
        "io.k8s.api.core.v1.ServiceSpec",
        "sessionAffinity",
        &["ClientIP", "None"],
    ),
    (
        "io.k8s.api.core.v1.ServiceSpec",
        "type",
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    ),
    ("io.k8s.api.core.v1.Taint", "effect", EFFECT),
    ("io.k8s.api.core.v1.Toleration", "effect", EFFECT),
    (
        "io.k8s.api.core.v1.Toleration",
        "operator",
        &["Equal", "Exists", "Gt", "Lt"],
    ),
    (
        "io.k8s.api.core.v1.TopologySpreadConstraint",
        "nodeAffinityPolicy",
        &["Honor", "Ignore"],
    ),
    (
        "io.k8s.api.core.v1.TopologySpreadConstraint",
        "nodeTaintsPolicy",
        &["Honor", "Ignore"],
    ),
    (
        "io.k8s.api.core.v1.TopologySpreadConstraint",
        "whenUnsatisfiable",
        &["DoNotSchedule", "ScheduleAnyway"],
    ),
    (
        "io.k8s.api.core.v1.VolumeMount",
        "mountPropagation",
        &["Bidirectional", "HostToContainer", "None"],
    ),
    (
        "io.k8s.api.apps.v1.DeploymentStrategy",
        "type",
        &["Recreate", "RollingUpdate"],
    ),
    (
        "io.k8s.api.core.v1.ModifyVolumeStatus",
        "status",
        &["InProgress", "Infeasible", "Pending"],
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimSpec",
        "volumeMode",
        VOLUME_MODE,
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimStatus",
        "phase",
        &["Bound", "Lost", "Pending"],
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeSpec",
        "persistentVolumeReclaimPolicy",
        RECLAIM,
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeSpec",
        "volumeMode",
        VOLUME_MODE,
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeStatus",
        "phase",
        &["Available", "Bound", "Failed", "Pending", "Released"],
    ),
    (
        "io.k8s.api.storage.v1.StorageClass",
        "reclaimPolicy",
        RECLAIM,
    ),
    (
        "io.k8s.api.storage.v1.StorageClass",
        "volumeBindingMode",
        &["Immediate", "WaitForFirstConsumer"],
    ),
    ("io.k8s.api.discovery.v1.EndpointPort", "protocol", PROTOCOL),
    (
        "io.k8s.api.discovery.v1.EndpointSlice",
        "addressType",
        &["FQDN", "IPv4", "IPv6"],
    ),
    (
        "io.k8s.api.networking.v1.NetworkPolicyPort",
        "protocol",
        PROTOCOL,
    ),
    (
        "io.k8s.networking.policy.v1alpha1.AdminNetworkPolicyIngressRule",
        "action",
        ACTION,
    ),
    (
        "io.k8s.networking.policy.v1alpha1.AdminNetworkPolicyEgressRule",
        "action",
        ACTION,
    ),
    (
        "io.k8s.networking.policy.v1alpha1.BaselineAdminNetworkPolicyIngressRule",
        "action",
        BASELINE_ACTION,
    ),
    (
        "io.k8s.networking.policy.v1alpha1.BaselineAdminNetworkPolicyEgressRule",
        "action",
        BASELINE_ACTION,
    ),
];

/// The values `field` of `definition` may have.
pub(crate) fn values(definition: &str, field: &str) -> Option<&'static [&'static str]> {
    ENUMS
        .iter()
        .find(|(d, f, _)| *d == definition && *f == field)
        .map(|(_, _, v)| *v)
}

#[cfg(test)]
pub(crate) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    ENUMS.iter().map(|(d, f, _)| (*d, *f))
}
