//! The kinds' definitions: no crate has their types.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, ObjectMeta};
use schemars::SchemaGenerator;
use serde_json::{Map, Value, json};

/// Of definitions, as OpenAPI names those of custom resources: the group backwards.
const OWN: &str = "io.k8s.networking.policy.v1alpha1";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// A definition: its name, what it is, and its fields with their types and what they
/// are. `[]` is a list, `!` at the end is a field that must be there.
type Table = &'static [(&'static str, &'static str, Fields)];
type Fields = &'static [(&'static str, &'static str, &'static str)];

const KIND: &str = "The kind of the object; the address of the request says it as well.";
const API_VERSION: &str = "The version of the object's schema: policy.networking.k8s.io/v1alpha1.";
const NAME: &str = "A name of the rule, for people: at most 100 characters.";
const PORTS: &str = "Which destination ports the rule is about; without the field all traffic, that of protocols without ports too.";
const FROM: &str = "Who sends. The rule is about whoever any of these is about; there must be one.";
const TO: &str =
    "Who is spoken to. The rule is about whoever any of these is about; there must be one.";
const SUBJECT: &str =
    "Which pods the policy is for. Pods in their node's network are not among them.";
const NAMESPACES: &str =
    "All pods in the namespaces whose labels these are, but those in their node's network.";
const PODS: &str =
    "Pods by the labels of their namespace and their own, but those in their node's network.";
const NODES: &str = "Nodes by their labels: every address in a node's status.";
const NETWORKS: &str = "Ranges of addresses, at most 25, such as 10.0.0.0/8 or fd00::/8. Whoever has an address in one, pods of the cluster too.";
const NAMES: &str = "Domain names. Refused here.";
const PROTOCOL: &str = "TCP, UDP or SCTP; TCP without the field.";
const ACTION: &str = "What is done with traffic that the rule is about. Allow: it passes, whatever NetworkPolicies say. Deny: it is dropped. Pass: no other AdminNetworkPolicy is asked, but NetworkPolicies and, where none selects the pod, the BaselineAdminNetworkPolicy.";
const BASELINE_ACTION: &str =
    "What is done with traffic that the rule is about. Allow: it passes. Deny: it is dropped.";
const INGRESS: &str =
    "Rules for what comes to the pods, at most 100. The first that is about it decides.";
const EGRESS: &str =
    "Rules for what the pods send, at most 100. The first that is about it decides.";
const CONDITIONS: &str = "What those that enforce the policy say of it.";
const STATUS: &str = "What is known of how the policy is enforced.";

const TABLE: Table = &[
    (
        "AdminNetworkPolicy",
        "AdminNetworkPolicy is what an administrator wants for pods of the whole cluster, before NetworkPolicies are asked.",
        &[
            ("apiVersion", "string", API_VERSION),
            ("kind", "string", KIND),
            ("metadata", "ObjectMeta!", "The object's metadata."),
            ("spec", "AdminNetworkPolicySpec!", "What is wanted."),
            ("status", "AdminNetworkPolicyStatus", STATUS),
        ],
    ),
    (
        "AdminNetworkPolicySpec",
        "AdminNetworkPolicySpec is what an AdminNetworkPolicy says.",
        &[
            (
                "priority",
                "int32!",
                "From 0 to 1000: policies with lower ones are asked before those with higher ones. Of two with the same one that whose name comes first is asked first here; elsewhere that is open.",
            ),
            ("subject", "AdminNetworkPolicySubject!", SUBJECT),
            ("ingress", "[]AdminNetworkPolicyIngressRule", INGRESS),
            ("egress", "[]AdminNetworkPolicyEgressRule", EGRESS),
        ],
    ),
    (
        "AdminNetworkPolicyStatus",
        "AdminNetworkPolicyStatus is what is known of an AdminNetworkPolicy.",
        &[("conditions", "[]Condition!", CONDITIONS)],
    ),
    (
        "AdminNetworkPolicySubject",
        "AdminNetworkPolicySubject selects pods; one of its fields must be there.",
        &[
            ("namespaces", "LabelSelector", NAMESPACES),
            ("pods", "NamespacedPod", PODS),
        ],
    ),
    (
        "NamespacedPod",
        "NamespacedPod selects pods in namespaces.",
        &[
            (
                "namespaceSelector",
                "LabelSelector!",
                "Labels of namespaces; an empty selector is for all.",
            ),
            (
                "podSelector",
                "LabelSelector!",
                "Labels of pods; an empty selector is for all.",
            ),
        ],
    ),
    (
        "AdminNetworkPolicyIngressRule",
        "AdminNetworkPolicyIngressRule says what is done with some of what comes to pods.",
        &[
            ("name", "string", NAME),
            ("action", "string!", ACTION),
            ("from", "[]AdminNetworkPolicyIngressPeer!", FROM),
            ("ports", "[]AdminNetworkPolicyPort", PORTS),
        ],
    ),
    (
        "AdminNetworkPolicyEgressRule",
        "AdminNetworkPolicyEgressRule says what is done with some of what pods send.",
        &[
            ("name", "string", NAME),
            ("action", "string!", ACTION),
            ("to", "[]AdminNetworkPolicyEgressPeer!", TO),
            ("ports", "[]AdminNetworkPolicyPort", PORTS),
        ],
    ),
    (
        "AdminNetworkPolicyIngressPeer",
        "AdminNetworkPolicyIngressPeer is who sends; one of its fields must be there.",
        &[
            ("namespaces", "LabelSelector", NAMESPACES),
            ("pods", "NamespacedPod", PODS),
        ],
    ),
    (
        "AdminNetworkPolicyEgressPeer",
        "AdminNetworkPolicyEgressPeer is who is spoken to; one of its fields must be there.",
        &[
            ("namespaces", "LabelSelector", NAMESPACES),
            ("pods", "NamespacedPod", PODS),
            ("nodes", "LabelSelector", NODES),
            ("networks", "[]string", NETWORKS),
            ("domainNames", "[]string", NAMES),
        ],
    ),
    (
        "AdminNetworkPolicyPort",
        "AdminNetworkPolicyPort is which ports; one of its fields must be there.",
        &[
            ("portNumber", "Port", "One port."),
            (
                "namedPort",
                "string",
                "The ports that have this name, of whichever protocol: of the pods that are spoken to.",
            ),
            ("portRange", "PortRange", "Ports from one to another."),
        ],
    ),
    (
        "Port",
        "Port is a port of a protocol.",
        &[
            ("protocol", "string", PROTOCOL),
            ("port", "int32!", "Its number, from 1 to 65535."),
        ],
    ),
    (
        "PortRange",
        "PortRange is some ports of a protocol, the first and the last among them.",
        &[
            ("protocol", "string", PROTOCOL),
            ("start", "int32!", "The first, from 1 to 65535."),
            ("end", "int32!", "The last, from 1 to 65535."),
        ],
    ),
    (
        "BaselineAdminNetworkPolicy",
        "BaselineAdminNetworkPolicy is what holds where no AdminNetworkPolicy decides and no NetworkPolicy selects the pod. There is one, named default.",
        &[
            ("apiVersion", "string", API_VERSION),
            ("kind", "string", KIND),
            ("metadata", "ObjectMeta!", "The object's metadata."),
            ("spec", "BaselineAdminNetworkPolicySpec!", "What is wanted."),
            ("status", "BaselineAdminNetworkPolicyStatus", STATUS),
        ],
    ),
    (
        "BaselineAdminNetworkPolicySpec",
        "BaselineAdminNetworkPolicySpec is what the BaselineAdminNetworkPolicy says.",
        &[
            ("subject", "AdminNetworkPolicySubject!", SUBJECT),
            (
                "ingress",
                "[]BaselineAdminNetworkPolicyIngressRule",
                INGRESS,
            ),
            ("egress", "[]BaselineAdminNetworkPolicyEgressRule", EGRESS),
        ],
    ),
    (
        "BaselineAdminNetworkPolicyStatus",
        "BaselineAdminNetworkPolicyStatus is what is known of the BaselineAdminNetworkPolicy.",
        &[("conditions", "[]Condition!", CONDITIONS)],
    ),
    (
        "BaselineAdminNetworkPolicyIngressRule",
        "BaselineAdminNetworkPolicyIngressRule says what is done with some of what comes to pods.",
        &[
            ("name", "string", NAME),
            ("action", "string!", BASELINE_ACTION),
            ("from", "[]AdminNetworkPolicyIngressPeer!", FROM),
            ("ports", "[]AdminNetworkPolicyPort", PORTS),
        ],
    ),
    (
        "BaselineAdminNetworkPolicyEgressRule",
        "BaselineAdminNetworkPolicyEgressRule says what is done with some of what pods send.",
        &[
            ("name", "string", NAME),
            ("action", "string!", BASELINE_ACTION),
            ("to", "[]BaselineAdminNetworkPolicyEgressPeer!", TO),
            ("ports", "[]AdminNetworkPolicyPort", PORTS),
        ],
    ),
    (
        "BaselineAdminNetworkPolicyEgressPeer",
        "BaselineAdminNetworkPolicyEgressPeer is who is spoken to; one of its fields must be there.",
        &[
            ("namespaces", "LabelSelector", NAMESPACES),
            ("pods", "NamespacedPod", PODS),
            ("nodes", "LabelSelector", NODES),
            ("networks", "[]string", NETWORKS),
        ],
    ),
];

/// For [`Resource::types`](crate::resource::Resource) of both kinds.
pub fn register(generator: &mut SchemaGenerator) {
    generator.subschema_for::<ObjectMeta>();
    generator.subschema_for::<LabelSelector>();
    generator.subschema_for::<Condition>();
    for (name, description, fields) in TABLE {
        let schema = definition(description, fields);
        generator
            .definitions_mut()
            .insert(format!("{OWN}.{name}"), schema);
    }
}

fn definition(description: &str, fields: Fields) -> Value {
    let mut required = Vec::new();
    let mut properties = Map::new();
    for (field, kind, description) in fields {
        let kind = match kind.strip_suffix('!') {
            Some(kind) => {
                required.push(*field);
                kind
            }
            None => kind,
        };
        let mut schema = match kind.strip_prefix("[]") {
            Some(items) => json!({"type": "array", "items": of(items)}),
            None => of(kind),
        };
        schema["description"] = json!(description);
        properties.insert((*field).to_owned(), schema);
    }
    let mut schema = json!({
        "description": description,
        "type": "object",
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn of(kind: &str) -> Value {
    match kind {
        "string" => json!({"type": "string"}),
        "int32" => json!({"type": "integer", "format": "int32"}),
        "ObjectMeta" | "LabelSelector" | "Condition" => {
            json!({"$ref": format!("#/$defs/{META}.{kind}")})
        }
        own => json!({"$ref": format!("#/$defs/{OWN}.{own}")}),
    }
}
