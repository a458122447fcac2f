use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use vetch_identity::User;

use crate::cluster::{MAPS, cluster, map};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(
    issuer: &Issuer,
    name: &str,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let chain = vec![params.signed_by(&key, issuer).unwrap().der().clone()];
    (chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
}

fn roots(issuer: &Issuer) -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    roots
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn common_name(certificate: &CertificateDer<'_>) -> Option<User> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(User::new(name, &[]))
}

fn server_config(issuer: &Issuer) -> rustls::ServerConfig {
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(issuer)), provider())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let (chain, key) = certificate(issuer, "localhost");
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Status code and body of one request over HTTP/2, with the client certificate of `user`.
async fn request(
    address: SocketAddr,
    issuer: &Issuer,
    user: Option<&str>,
    path: &str,
) -> (u16, String) {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(issuer));
    let mut config = match user {
        Some(user) => {
            let (chain, key) = certificate(issuer, user);
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(format!("https://localhost{path}"))
        .body(axum::body::Body::empty())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn a_client_certificate_is_a_user() {
    let cluster = cluster().await;
    cluster.post(MAPS, map("a")).await.expect(201);
    let issuer = authority();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let tls = Arc::new(server_config(&issuer));
    let serving = tokio::spawn(vetch_server::serve(
        vec![listener],
        tls,
        cluster.router.clone(),
        common_name,
        stop.clone(),
    ));

    let (code, body) = request(address, &issuer, Some("admin"), MAPS).await;
    assert_eq!(
        (code, body.contains("ConfigMapList")),
        (200, true),
        "{body}"
    );
    let (code, body) = request(address, &issuer, None, MAPS).await;
    assert_eq!(
        (code, body.contains("\"reason\":\"Unauthorized\"")),
        (401, true),
        "{body}"
    );
    let (code, body) = request(address, &issuer, Some("guest"), MAPS).await;
    let told = r#"configmaps is forbidden: User \"guest\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\""#;
    assert_eq!((code, body.contains(told)), (403, true), "{body}");
    // Health asks nobody who they are.
    assert_eq!(
        request(address, &issuer, None, "/livez").await,
        (200, "ok".to_owned())
    );

    stop.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(5), serving)
        .await
        .unwrap()
        .unwrap();
}
