//! From outside: who shows which certificate.

use std::net::Ipv4Addr;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::net::TcpListener;
use vetch_identity::{Issued, Kept, Pki, Usage, User, Wanted, server_config};

use super::cluster::{Cluster, cluster};

pub fn client(pki: &Pki, shows: Option<Issued>) -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(pki.ca_pem().as_bytes()).unwrap()])
        .no_proxy();
    match shows {
        None => builder,
        Some(issued) => {
            let pem = format!("{}{}", issued.certificate_pem, issued.key_pem);
            builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())
        }
    }
}

/// Serves the cluster's API; told is where.
pub async fn listen(cluster: &Cluster) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let wanted = Wanted {
        file: "apiserver",
        common_name: "kube-apiserver",
        organization: None,
        usage: Usage::Server(vec!["127.0.0.1".to_owned()]),
    };
    let certificate = Kept::open(&cluster.pki, wanted, Timestamp::now()).unwrap();
    let tls = server_config(&cluster.pki, Arc::new(certificate)).unwrap();
    tokio::spawn(vetch_server::serve(
        vec![listener],
        tls,
        cluster.router.clone(),
        User::of_certificate,
        cluster.stop.clone(),
    ));
    url
}

#[tokio::test]
async fn a_certificate_of_the_authority_opens_what_its_user_may() {
    let cluster = cluster().await;
    let url = listen(&cluster).await;
    let node = Some(
        cluster
            .pki
            .client("system:node:n", Some("system:nodes"))
            .unwrap(),
    );
    let admin = Some(cluster.pki.client("admin", Some("system:masters")).unwrap());
    for (who, shows, path, code) in [
        ("nobody", None, "/api/v1/nodes", 403),
        ("nobody", None, "/api", 403),
        ("nobody", None, "/livez", 200),
        ("nobody", None, "/version", 200),
        ("a node", node.clone(), "/api/v1/nodes", 200),
        ("a node", node.clone(), "/api/v1/pods", 403),
        (
            "a node",
            node.clone(),
            "/api/v1/pods?fieldSelector=spec.nodeName=n",
            200,
        ),
        ("a node", node, "/api/v1/namespaces/default/secrets", 403),
        ("the admin", admin, "/api/v1/secrets", 200),
    ] {
        let client = client(&cluster.pki, shows).build().unwrap();
        let answer = client.get(format!("{url}{path}")).send();
        assert_eq!(answer.await.unwrap().status(), code, "{who} {path}");
    }

    // Another authority's administrator is nobody here, and hears it before any request.
    let directory = tempfile::tempdir().unwrap();
    let foreign = Pki::open(directory.path()).unwrap();
    let stranger = foreign.client("admin", Some("system:masters")).unwrap();
    let stranger = client(&cluster.pki, Some(stranger)).build().unwrap();
    assert!(stranger.get(format!("{url}/api")).send().await.is_err());
}
