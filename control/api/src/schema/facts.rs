//! Merge keys and list types: facts of the Kubernetes API that k8s-openapi's schemas leave out.

use serde_json::{Map, Value};

/// What OpenAPI publishes about a field as extensions.
#[derive(Debug, PartialEq)]
pub struct Facts {
    /// x-kubernetes-patch-strategy: `merge`, `retainKeys`, `merge,retainKeys`.
    pub patch_strategy: &'static str,
    /// x-kubernetes-patch-merge-key
    pub merge_key: &'static str,
    /// x-kubernetes-list-type
    pub list_type: &'static str,
    /// x-kubernetes-list-map-keys
    pub map_keys: &'static [&'static str],
    /// x-kubernetes-map-type
    pub map_type: &'static str,
}

impl Facts {
    pub fn merges(&self) -> bool {
        self.patch_strategy.split(',').any(|s| s == "merge")
    }

    pub fn retains_keys(&self) -> bool {
        self.patch_strategy.split(',').any(|s| s == "retainKeys")
    }

    /// Adds the extensions to a property's schema.
    pub fn publish(&self, schema: &mut Map<String, Value>) {
        let mut put = |key: &str, value: &str| {
            if !value.is_empty() {
                schema.insert(key.into(), value.into());
            }
        };
        put("x-kubernetes-patch-strategy", self.patch_strategy);
        put("x-kubernetes-patch-merge-key", self.merge_key);
        put("x-kubernetes-list-type", self.list_type);
        put("x-kubernetes-map-type", self.map_type);
        if !self.map_keys.is_empty() {
            schema.insert("x-kubernetes-list-map-keys".into(), self.map_keys.into());
        }
    }
}

/// Merged by `key`, and a map list of the same key.
const fn keyed(key: &'static str, map_keys: &'static [&'static str]) -> Facts {
    Facts {
        patch_strategy: "merge",
        merge_key: key,
        list_type: "map",
        map_keys,
        map_type: "",
    }
}

/// The list of scalars is a set.
const SET: Facts = Facts {
    patch_strategy: "merge",
    merge_key: "",
    list_type: "set",
    map_keys: &[],
    map_type: "",
};
const ATOMIC: Facts = Facts {
    patch_strategy: "",
    merge_key: "",
    list_type: "atomic",
    map_keys: &[],
    map_type: "",
};
const ATOMIC_MAP: Facts = Facts {
    patch_strategy: "",
    merge_key: "",
    list_type: "",
    map_keys: &[],
    map_type: "atomic",
};
const REPLACE: Facts = Facts {
    patch_strategy: "replace",
    merge_key: "",
    list_type: "",
    map_keys: &[],
    map_type: "",
};
const RETAIN: Facts = Facts {
    patch_strategy: "retainKeys",
    merge_key: "",
    list_type: "",
    map_keys: &[],
    map_type: "",
};
const fn map_list(map_keys: &'static [&'static str]) -> Facts {
    Facts {
        patch_strategy: "",
        merge_key: "",
        list_type: "map",
        map_keys,
        map_type: "",
    }
}

const NAME: Facts = keyed("name", &["name"]);
const TYPE: Facts = keyed("type", &["type"]);

const POD_SPEC: &str = "io.k8s.api.core.v1.PodSpec";
const POD_STATUS: &str = "io.k8s.api.core.v1.PodStatus";
const CONTAINER: &str = "io.k8s.api.core.v1.Container";
const EPHEMERAL: &str = "io.k8s.api.core.v1.EphemeralContainer";
const CONTAINER_STATUS: &str = "io.k8s.api.core.v1.ContainerStatus";
const REQUIREMENTS: &str = "io.k8s.api.core.v1.ResourceRequirements";
const SERVICE_SPEC: &str = "io.k8s.api.core.v1.ServiceSpec";
const NODE_SPEC: &str = "io.k8s.api.core.v1.NodeSpec";
const NODE_STATUS: &str = "io.k8s.api.core.v1.NodeStatus";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LABEL_SELECTOR: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector";
const NETWORK_POLICY_SPEC: &str = "io.k8s.api.networking.v1.NetworkPolicySpec";
const INGRESS_RULE: &str = "io.k8s.api.networking.v1.NetworkPolicyIngressRule";
const EGRESS_RULE: &str = "io.k8s.api.networking.v1.NetworkPolicyEgressRule";
const SERVICE_ACCOUNT: &str = "io.k8s.api.core.v1.ServiceAccount";
const CSR_SPEC: &str = "io.k8s.api.certificates.v1.CertificateSigningRequestSpec";
const SUBSET: &str = "io.k8s.api.core.v1.EndpointSubset";

static FACTS: &[(&str, &str, Facts)] = &[
    (OBJECT_META, "finalizers", SET),
    (OBJECT_META, "ownerReferences", keyed("uid", &["uid"])),
    (OBJECT_META, "managedFields", ATOMIC),
    (LABEL_SELECTOR, "matchExpressions", ATOMIC),
    (
        "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement",
        "values",
        ATOMIC,
    ),
    ("io.k8s.api.node.v1.Scheduling", "nodeSelector", ATOMIC_MAP),
    ("io.k8s.api.node.v1.Scheduling", "tolerations", ATOMIC),
    (POD_SPEC, "containers", NAME),
    (POD_SPEC, "initContainers", NAME),
    (POD_SPEC, "ephemeralContainers", NAME),
    (POD_SPEC, "hostAliases", keyed("ip", &["ip"])),
    (POD_SPEC, "imagePullSecrets", NAME),
    (POD_SPEC, "nodeSelector", ATOMIC_MAP),
    (POD_SPEC, "readinessGates", ATOMIC),
    (
        POD_SPEC,
        "resourceClaims",
        Facts {
            patch_strategy: "merge,retainKeys",
            merge_key: "name",
            list_type: "map",
            map_keys: &["name"],
            map_type: "",
        },
    ),
    (POD_SPEC, "schedulingGates", NAME),
    (POD_SPEC, "tolerations", ATOMIC),
    (
        POD_SPEC,
        "topologySpreadConstraints",
        keyed("topologyKey", &["topologyKey", "whenUnsatisfiable"]),
    ),
    (
        POD_SPEC,
        "volumes",
        Facts {
            patch_strategy: "merge,retainKeys",
            merge_key: "name",
            list_type: "map",
            map_keys: &["name"],
            map_type: "",
        },
    ),
    (POD_STATUS, "conditions", TYPE),
    (POD_STATUS, "podIPs", keyed("ip", &["ip"])),
    (
        POD_STATUS,
        "hostIPs",
        Facts {
            patch_strategy: "merge",
            merge_key: "ip",
            list_type: "atomic",
            map_keys: &[],
            map_type: "",
        },
    ),
    (POD_STATUS, "containerStatuses", ATOMIC),
    (POD_STATUS, "initContainerStatuses", ATOMIC),
    (POD_STATUS, "ephemeralContainerStatuses", ATOMIC),
    (
        CONTAINER_STATUS,
        "volumeMounts",
        keyed("mountPath", &["mountPath"]),
    ),
    (
        CONTAINER_STATUS,
        "allocatedResourcesStatus",
        keyed("name", &["name"]),
    ),
    (CONTAINER, "args", ATOMIC),
    (CONTAINER, "command", ATOMIC),
    (CONTAINER, "env", NAME),
    (CONTAINER, "envFrom", ATOMIC),
    (
        CONTAINER,
        "ports",
        keyed("containerPort", &["containerPort", "protocol"]),
    ),
    (CONTAINER, "resizePolicy", ATOMIC),
    (CONTAINER, "restartPolicyRules", ATOMIC),
    (
        CONTAINER,
        "volumeDevices",
        keyed("devicePath", &["devicePath"]),
    ),
    (
        CONTAINER,
        "volumeMounts",
        keyed("mountPath", &["mountPath"]),
    ),
    (EPHEMERAL, "args", ATOMIC),
    (EPHEMERAL, "command", ATOMIC),
    (EPHEMERAL, "env", NAME),
    (EPHEMERAL, "envFrom", ATOMIC),
    (
        EPHEMERAL,
        "ports",
        keyed("containerPort", &["containerPort", "protocol"]),
    ),
    (EPHEMERAL, "resizePolicy", ATOMIC),
    (EPHEMERAL, "restartPolicyRules", ATOMIC),
    (
        EPHEMERAL,
        "volumeDevices",
        keyed("devicePath", &["devicePath"]),
    ),
    (
        EPHEMERAL,
        "volumeMounts",
        keyed("mountPath", &["mountPath"]),
    ),
    (REQUIREMENTS, "claims", map_list(&["name"])),
    ("io.k8s.api.core.v1.Capabilities", "add", ATOMIC),
    ("io.k8s.api.core.v1.Capabilities", "drop", ATOMIC),
    ("io.k8s.api.core.v1.ExecAction", "command", ATOMIC),
    ("io.k8s.api.core.v1.HTTPGetAction", "httpHeaders", ATOMIC),
    ("io.k8s.api.core.v1.HostAlias", "hostnames", ATOMIC),
    ("io.k8s.api.core.v1.PodDNSConfig", "nameservers", ATOMIC),
    ("io.k8s.api.core.v1.PodDNSConfig", "options", ATOMIC),
    ("io.k8s.api.core.v1.PodDNSConfig", "searches", ATOMIC),
    (
        "io.k8s.api.core.v1.PodSecurityContext",
        "supplementalGroups",
        ATOMIC,
    ),
    ("io.k8s.api.core.v1.PodSecurityContext", "sysctls", ATOMIC),
    ("io.k8s.api.core.v1.ConfigMapVolumeSource", "items", ATOMIC),
    ("io.k8s.api.core.v1.ConfigMapProjection", "items", ATOMIC),
    ("io.k8s.api.core.v1.SecretVolumeSource", "items", ATOMIC),
    ("io.k8s.api.core.v1.SecretProjection", "items", ATOMIC),
    (
        "io.k8s.api.core.v1.DownwardAPIVolumeSource",
        "items",
        ATOMIC,
    ),
    ("io.k8s.api.core.v1.DownwardAPIProjection", "items", ATOMIC),
    (
        "io.k8s.api.core.v1.ProjectedVolumeSource",
        "sources",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.NodeSelector",
        "nodeSelectorTerms",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.NodeSelectorTerm",
        "matchExpressions",
        ATOMIC,
    ),
    ("io.k8s.api.core.v1.NodeSelectorTerm", "matchFields", ATOMIC),
    (
        "io.k8s.api.core.v1.NodeSelectorRequirement",
        "values",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.NodeAffinity",
        "preferredDuringSchedulingIgnoredDuringExecution",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.PodAffinity",
        "preferredDuringSchedulingIgnoredDuringExecution",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.PodAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.PodAntiAffinity",
        "preferredDuringSchedulingIgnoredDuringExecution",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.PodAntiAffinity",
        "requiredDuringSchedulingIgnoredDuringExecution",
        ATOMIC,
    ),
    ("io.k8s.api.core.v1.PodAffinityTerm", "namespaces", ATOMIC),
    (
        "io.k8s.api.core.v1.PodAffinityTerm",
        "matchLabelKeys",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.PodAffinityTerm",
        "mismatchLabelKeys",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.TopologySpreadConstraint",
        "matchLabelKeys",
        ATOMIC,
    ),
    (SERVICE_SPEC, "ports", keyed("port", &["port", "protocol"])),
    (SERVICE_SPEC, "clusterIPs", ATOMIC),
    (SERVICE_SPEC, "externalIPs", ATOMIC),
    (SERVICE_SPEC, "ipFamilies", ATOMIC),
    (SERVICE_SPEC, "loadBalancerSourceRanges", ATOMIC),
    (SERVICE_SPEC, "selector", ATOMIC_MAP),
    ("io.k8s.api.core.v1.ServiceStatus", "conditions", TYPE),
    ("io.k8s.api.core.v1.LoadBalancerStatus", "ingress", ATOMIC),
    ("io.k8s.api.core.v1.LoadBalancerIngress", "ports", ATOMIC),
    (NODE_SPEC, "podCIDRs", SET),
    (NODE_SPEC, "taints", ATOMIC),
    (NODE_STATUS, "addresses", keyed("type", &["type"])),
    (NODE_STATUS, "conditions", TYPE),
    (NODE_STATUS, "images", ATOMIC),
    (NODE_STATUS, "volumesAttached", ATOMIC),
    (NODE_STATUS, "volumesInUse", ATOMIC),
    (NODE_STATUS, "runtimeHandlers", ATOMIC),
    ("io.k8s.api.core.v1.ContainerImage", "names", ATOMIC),
    ("io.k8s.api.core.v1.NamespaceSpec", "finalizers", ATOMIC),
    ("io.k8s.api.core.v1.NamespaceStatus", "conditions", TYPE),
    (SERVICE_ACCOUNT, "secrets", NAME),
    (SERVICE_ACCOUNT, "imagePullSecrets", ATOMIC),
    ("io.k8s.api.core.v1.Endpoints", "subsets", ATOMIC),
    (SUBSET, "addresses", ATOMIC),
    (SUBSET, "notReadyAddresses", ATOMIC),
    (SUBSET, "ports", ATOMIC),
    ("io.k8s.api.apps.v1.DeploymentSpec", "strategy", RETAIN),
    ("io.k8s.api.apps.v1.DeploymentStatus", "conditions", TYPE),
    ("io.k8s.api.apps.v1.ReplicaSetStatus", "conditions", TYPE),
    ("io.k8s.api.discovery.v1.EndpointSlice", "endpoints", ATOMIC),
    ("io.k8s.api.discovery.v1.EndpointSlice", "ports", ATOMIC),
    ("io.k8s.api.discovery.v1.Endpoint", "addresses", SET_ONLY),
    ("io.k8s.api.discovery.v1.EndpointHints", "forZones", ATOMIC),
    ("io.k8s.api.discovery.v1.EndpointHints", "forNodes", ATOMIC),
    ("io.k8s.api.networking.v1.ServiceCIDRSpec", "cidrs", ATOMIC),
    (NETWORK_POLICY_SPEC, "ingress", ATOMIC),
    (NETWORK_POLICY_SPEC, "egress", ATOMIC),
    (NETWORK_POLICY_SPEC, "policyTypes", ATOMIC),
    (INGRESS_RULE, "from", ATOMIC),
    (INGRESS_RULE, "ports", ATOMIC),
    (EGRESS_RULE, "to", ATOMIC),
    (EGRESS_RULE, "ports", ATOMIC),
    ("io.k8s.api.networking.v1.IPBlock", "except", ATOMIC),
    (
        "io.k8s.api.networking.v1.ServiceCIDRStatus",
        "conditions",
        TYPE,
    ),
    (
        "io.k8s.networking.policy.v1alpha1.AdminNetworkPolicyStatus",
        "conditions",
        TYPE,
    ),
    (
        "io.k8s.networking.policy.v1alpha1.BaselineAdminNetworkPolicyStatus",
        "conditions",
        TYPE,
    ),
    (
        "io.k8s.networking.policy.v1alpha1.AdminNetworkPolicyEgressPeer",
        "networks",
        SET_ONLY,
    ),
    (
        "io.k8s.networking.policy.v1alpha1.BaselineAdminNetworkPolicyEgressPeer",
        "networks",
        SET_ONLY,
    ),
    (CSR_SPEC, "groups", ATOMIC),
    (CSR_SPEC, "usages", ATOMIC),
    (
        "io.k8s.api.certificates.v1.CertificateSigningRequestStatus",
        "conditions",
        map_list(&["type"]),
    ),
    (
        "io.k8s.api.policy.v1.PodDisruptionBudgetSpec",
        "selector",
        REPLACE,
    ),
    (
        "io.k8s.api.policy.v1.PodDisruptionBudgetStatus",
        "conditions",
        TYPE,
    ),
    ("io.k8s.api.core.v1.CephFSVolumeSource", "monitors", ATOMIC),
    (
        "io.k8s.api.core.v1.ContainerRestartRuleOnExitCodes",
        "values",
        SET_ONLY,
    ),
    ("io.k8s.api.core.v1.FCVolumeSource", "targetWWNs", ATOMIC),
    ("io.k8s.api.core.v1.FCVolumeSource", "wwids", ATOMIC),
    ("io.k8s.api.core.v1.ISCSIVolumeSource", "portals", ATOMIC),
    (
        "io.k8s.api.core.v1.LinuxContainerUser",
        "supplementalGroups",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus",
        "containers",
        SET_ONLY,
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimSpec",
        "accessModes",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimStatus",
        "accessModes",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeClaimStatus",
        "conditions",
        TYPE,
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeSpec",
        "accessModes",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.PersistentVolumeSpec",
        "mountOptions",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.TopologySelectorTerm",
        "matchLabelExpressions",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.TopologySelectorLabelRequirement",
        "values",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.CephFSPersistentVolumeSource",
        "monitors",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.ISCSIPersistentVolumeSource",
        "portals",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.RBDPersistentVolumeSource",
        "monitors",
        ATOMIC,
    ),
    (
        "io.k8s.api.storage.v1.StorageClass",
        "allowedTopologies",
        ATOMIC,
    ),
    ("io.k8s.api.storage.v1.StorageClass", "mountOptions", ATOMIC),
    (
        "io.k8s.api.storage.v1.CSIDriverSpec",
        "volumeLifecycleModes",
        SET_ONLY,
    ),
    (
        "io.k8s.api.storage.v1.CSIDriverSpec",
        "tokenRequests",
        ATOMIC,
    ),
    ("io.k8s.api.storage.v1.CSINodeSpec", "drivers", NAME),
    (
        "io.k8s.api.storage.v1.CSINodeDriver",
        "topologyKeys",
        ATOMIC,
    ),
    (
        "io.k8s.api.core.v1.PodExtendedResourceClaimStatus",
        "requestMappings",
        ATOMIC,
    ),
    ("io.k8s.api.core.v1.RBDVolumeSource", "monitors", ATOMIC),
    (
        "io.k8s.api.core.v1.ResourceStatus",
        "resources",
        map_list(&["resourceID"]),
    ),
    (NODE_STATUS, "declaredFeatures", ATOMIC),
    (POD_STATUS, "nodeAllocatableResourceClaimStatuses", ATOMIC),
    (
        POD_STATUS,
        "resourceClaimStatuses",
        Facts {
            patch_strategy: "merge,retainKeys",
            merge_key: "name",
            list_type: "map",
            map_keys: &["name"],
            map_type: "",
        },
    ),
];

/// A set for server-side apply, replaced as a whole by a strategic merge.
const SET_ONLY: Facts = Facts {
    patch_strategy: "",
    merge_key: "",
    list_type: "set",
    map_keys: &[],
    map_type: "",
};

/// Definitions that are replaced as one value.
const ATOMIC_STRUCTS: &[&str] = &[
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.SecretReference",
    "io.k8s.api.core.v1.TopologySelectorTerm",
    "io.k8s.api.core.v1.TypedLocalObjectReference",
    "io.k8s.api.core.v1.EndpointAddress",
    "io.k8s.api.core.v1.EndpointPort",
    "io.k8s.api.discovery.v1.EndpointPort",
    "io.k8s.api.autoscaling.v1.ScaleStatus",
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// The facts about `field` of `definition`.
pub fn facts(definition: &str, field: &str) -> Option<&'static Facts> {
    FACTS
        .iter()
        .find(|(d, f, _)| *d == definition && *f == field)
        .map(|(_, _, facts)| facts)
}

pub(crate) fn is_atomic_struct(definition: &str) -> bool {
    ATOMIC_STRUCTS.contains(&definition)
}

#[cfg(test)]
pub(crate) fn all() -> &'static [(&'static str, &'static str, Facts)] {
    FACTS
}
