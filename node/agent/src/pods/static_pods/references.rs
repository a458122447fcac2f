//! What a static pod may not ask for: it would have to be read from the API server, where its mirror may
//! not name it.

use k8s_openapi::api::core::v1::{Container, Pod, Volume, VolumeProjection};

use crate::pods::spec;

/// The first such reference, in the kubelet's words.
pub fn first(pod: &Pod) -> Option<&'static str> {
    let own = spec::spec(pod);
    let account = own.service_account_name.as_deref();
    if account.is_some_and(|name| !name.is_empty()) {
        return Some("serviceaccounts");
    }
    let pull_secrets = own.image_pull_secrets.iter().flatten();
    if pull_secrets.count() > 0 || spec::all_containers(pod).any(uses_secret) {
        return Some("secrets");
    }
    if spec::all_containers(pod).any(uses_config_map) {
        return Some("configmaps");
    }
    if own.resource_claims.iter().flatten().count() > 0 {
        return Some("resourceclaims");
    }
    own.volumes.iter().flatten().find_map(of_volume)
}

fn uses_secret(container: &Container) -> bool {
    let mut sources = container
        .env
        .iter()
        .flatten()
        .flat_map(|env| &env.value_from);
    sources.any(|source| source.secret_key_ref.is_some())
        || container
            .env_from
            .iter()
            .flatten()
            .any(|from| from.secret_ref.is_some())
}

fn uses_config_map(container: &Container) -> bool {
    let mut sources = container
        .env
        .iter()
        .flatten()
        .flat_map(|env| &env.value_from);
    sources.any(|source| source.config_map_key_ref.is_some())
        || container
            .env_from
            .iter()
            .flatten()
            .any(|from| from.config_map_ref.is_some())
}

fn of_volume(volume: &Volume) -> Option<&'static str> {
    let found = [
        (
            volume.config_map.is_some(),
            "configmaps (via configmap volumes)",
        ),
        (volume.secret.is_some(), "secrets (via secret volumes)"),
        (volume.csi.is_some(), "csidrivers (via CSI volumes)"),
        (
            volume.glusterfs.is_some(),
            "endpoints (via glusterFS volumes)",
        ),
        (
            volume.persistent_volume_claim.is_some(),
            "persistentvolumeclaims",
        ),
        (
            volume.ephemeral.is_some(),
            "persistentvolumeclaims (via ephemeral volumes)",
        ),
        (
            volume.azure_file.is_some(),
            "secrets (via azureFile volumes)",
        ),
    ];
    let own = found.into_iter().find(|(is_there, _)| *is_there);
    let projected = volume
        .projected
        .iter()
        .flat_map(|projected| &projected.sources);
    own.map(|(_, words)| words)
        .or_else(|| projected.flatten().find_map(of_projection))
}

fn of_projection(source: &VolumeProjection) -> Option<&'static str> {
    let found = [
        (
            source.config_map.is_some(),
            "configmaps (via projected volumes)",
        ),
        (source.secret.is_some(), "secrets (via projected volumes)"),
        (
            source.service_account_token.is_some(),
            "serviceaccounts (via projected volumes)",
        ),
        (source.cluster_trust_bundle.is_some(), "clustertrustbundles"),
        (source.pod_certificate.is_some(), "podcertificates"),
    ];
    let own = found.into_iter().find(|(is_there, _)| *is_there);
    own.map(|(_, words)| words)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::testing::pod;

    #[test]
    fn each_kind_of_reference() {
        let container = |fields: Value| {
            let mut own = json!({"name": "c", "image": "i"});
            own.as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            json!({"containers": [own]})
        };
        let with = |mut fields: Value| {
            fields["containers"] = json!([{"name": "c", "image": "i"}]);
            fields
        };
        let volume = |mut fields: Value| {
            fields["name"] = json!("v");
            with(json!({"volumes": [fields]}))
        };
        let key = json!({"name": "x", "key": "k"});
        for (spec, want) in [
            (container(json!({})), None),
            (
                with(json!({"serviceAccountName": "x"})),
                Some("serviceaccounts"),
            ),
            (
                with(json!({"imagePullSecrets": [{"name": "x"}]})),
                Some("secrets"),
            ),
            (
                container(json!({"envFrom": [{"secretRef": {"name": "x"}}]})),
                Some("secrets"),
            ),
            (
                container(json!({"env": [{"name": "E", "valueFrom": {"secretKeyRef": key}}]})),
                Some("secrets"),
            ),
            (
                container(json!({"envFrom": [{"configMapRef": {"name": "x"}}]})),
                Some("configmaps"),
            ),
            (
                container(json!({"env": [{"name": "E", "valueFrom": {"configMapKeyRef": key}}]})),
                Some("configmaps"),
            ),
            (
                container(
                    json!({"env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
                ),
                None,
            ),
            (
                with(json!({"resourceClaims": [{"name": "x"}]})),
                Some("resourceclaims"),
            ),
            (volume(json!({"emptyDir": {}})), None),
            (volume(json!({"hostPath": {"path": "/"}})), None),
            (
                volume(json!({"configMap": {"name": "x"}})),
                Some("configmaps (via configmap volumes)"),
            ),
            (
                volume(json!({"secret": {"secretName": "x"}})),
                Some("secrets (via secret volumes)"),
            ),
            (
                volume(json!({"persistentVolumeClaim": {"claimName": "x"}})),
                Some("persistentvolumeclaims"),
            ),
            (
                volume(json!({"projected": {"sources": [{"downwardAPI": {}}]}})),
                None,
            ),
            (
                volume(
                    json!({"projected": {"sources": [{"downwardAPI": {}}, {"serviceAccountToken": {"path": "t"}}]}}),
                ),
                Some("serviceaccounts (via projected volumes)"),
            ),
        ] {
            assert_eq!(first(&pod(spec.clone())), want, "{spec}");
        }
    }
}
