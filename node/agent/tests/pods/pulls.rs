//! Images from a registry that wants to know who asks.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use serde_json::json;

use crate::agent::{app, on_a_node};
use crate::cluster::{Cluster, state};
use crate::image::{busybox, digest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const USER: &str = "someone:secret";

/// What it serves, by the last part of the path.
type Contents = Arc<HashMap<String, (&'static str, Vec<u8>)>>;

/// On loopback; returns its address.
async fn registry() -> String {
    let (layer, config) = busybox();
    let blob = |kind: &str, bytes: &[u8]| json!({"mediaType": kind, "digest": digest(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": blob("application/vnd.oci.image.config.v1+json", &config),
        "layers": [blob("application/vnd.oci.image.layer.v1.tar", &layer)],
    })
    .to_string()
    .into_bytes();
    let octets = "application/octet-stream";
    let contents: Contents = Arc::new(HashMap::from([
        (digest(&layer), (octets, layer)),
        (digest(&config), (octets, config)),
        (digest(&manifest), (MANIFEST, manifest.clone())),
        ("1".to_owned(), (MANIFEST, manifest)),
    ]));
    let router = Router::new()
        .route("/v2/", get(root))
        .route("/v2/{*path}", get(serve))
        .with_state(contents);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// For who is not the one user.
fn refusal(headers: &HeaderMap) -> Option<Response> {
    let known = base64::engine::general_purpose::STANDARD.encode(USER);
    let said = headers.get(header::AUTHORIZATION);
    let good = said.is_some_and(|said| said.as_bytes() == format!("Basic {known}").as_bytes());
    let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"test\"")];
    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
    (!good).then(|| (StatusCode::UNAUTHORIZED, challenge, body).into_response())
}

async fn root(headers: HeaderMap) -> Response {
    refusal(&headers).unwrap_or_else(|| StatusCode::OK.into_response())
}

async fn serve(
    State(contents): State<Contents>,
    Path(path): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refusal(&headers) {
        return refusal;
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    match contents.get(last) {
        Some((kind, bytes)) => {
            let name = if *kind == MANIFEST {
                digest(bytes)
            } else {
                String::new()
            };
            let headers = [
                ("content-type", (*kind).to_owned()),
                ("docker-content-digest", name),
            ];
            (headers, bytes.clone()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn create_credentials(cluster: &Cluster, name: &str, registry: &str, user: &str) {
    let (user, password) = user.split_once(':').unwrap();
    let config = json!({"auths": {registry: {"username": user, "password": password}}});
    let secret = json!({
        "metadata": {"name": name}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": config.to_string()},
    });
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), "default");
    let secret = serde_json::from_value(secret).unwrap();
    secrets
        .create(&PostParams::default(), &secret)
        .await
        .unwrap();
}

#[test]
fn with_the_pods_credentials() {
    on_a_node(async |lab, cluster, agent| {
        let registry = registry().await;
        create_credentials(cluster, "wrong", &registry, "someone:else").await;
        create_credentials(cluster, "right", &registry, USER).await;
        let image = format!("{registry}/some/box:1");
        let with = |secrets: &[&str]| {
            let mut spec = app("true");
            spec["restartPolicy"] = json!("Never");
            spec["containers"][0]["image"] = json!(image);
            let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
            spec["imagePullSecrets"] = json!(secrets);
            spec
        };
        cluster.create("stranger", with(&["missing"])).await;
        cluster
            .wait("stranger", "a refusal", |pod| {
                state(pod)["waiting"]["reason"] == "ErrImagePull"
            })
            .await;
        let words = "FailedToRetrieveImagePullSecret: Unable to retrieve some image pull secrets (missing);";
        cluster.told("stranger", words).await;

        cluster.create("friend", with(&["wrong", "right"])).await;
        let pod = cluster.phase("friend", "Succeeded").await;
        cluster
            .told(
                "friend",
                &format!("Pulled: Successfully pulled image \"{image}\" in "),
            )
            .await;
        let id = pod["status"]["containerStatuses"][0]["imageID"]
            .as_str()
            .unwrap();
        assert!(
            id.starts_with(&format!("{registry}/some/box@sha256:")),
            "{id}"
        );
        assert!(agent.runtime.images().status(&image).await.is_some());
        for name in ["stranger", "friend"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}

#[test]
fn for_a_volume_too() {
    on_a_node(async |lab, cluster, agent| {
        let registry = registry().await;
        create_credentials(cluster, "right", &registry, USER).await;
        let image = format!("{registry}/some/box:1");
        let with = |secrets: &[&str], part: &str| {
            let mut spec = app("/img/busybox true && ! touch /img/new");
            spec["restartPolicy"] = json!("Never");
            let secrets: Vec<_> = secrets.iter().map(|name| json!({"name": name})).collect();
            spec["imagePullSecrets"] = json!(secrets);
            spec["volumes"] = json!([{"name": "img", "image": {"reference": image}}]);
            let mount = json!({"name": "img", "mountPath": "/img", "subPath": part});
            spec["containers"][0]["volumeMounts"] = json!([mount]);
            spec
        };
        cluster.create("stranger", with(&[], "bin")).await;
        for reason in ["ErrImagePull", "ImagePullBackOff"] {
            cluster
                .wait("stranger", reason, |pod| {
                    state(pod)["waiting"]["reason"] == reason
                })
                .await;
        }
        for words in [
            format!("Pulling: Pulling image \"{image}\""),
            "Failed: Error: ErrImagePull".to_owned(),
            format!("BackOff: Back-off pulling image \"{image}\""),
        ] {
            cluster.told("stranger", &words).await;
        }

        cluster.create("friend", with(&["right"], "bin")).await;
        cluster.phase("friend", "Succeeded").await;
        let words = format!("Pulled: Successfully pulled image \"{image}\" in ");
        cluster.told("friend", &words).await;
        assert!(agent.runtime.images().status(&image).await.is_some());

        cluster.create("lost", with(&[], "nowhere")).await;
        cluster
            .wait("lost", "that there is no such part", |pod| {
                let waiting = &state(pod)["waiting"];
                let words = "sub path \"nowhere\" of the image: No such file or directory";
                let message = waiting["message"].as_str().unwrap_or_default();
                waiting["reason"] == "CreateContainerError" && message.starts_with(words)
            })
            .await;
        for name in ["stranger", "friend", "lost"] {
            cluster.delete(name).await;
            cluster.gone(name).await;
        }
        lab.assert_nothing_left().await;
    });
}
