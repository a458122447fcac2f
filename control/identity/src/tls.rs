//! The two TLS ends of the control plane: its server, and its client of the kubelets.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ResolvesClientCert, WantsClientCert, verify_server_cert_signed_by_trust_anchor,
};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::{ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Pki;
use crate::kept::Usage;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate cannot be read back")]
    Pem(#[from] rustls_pki_types::pem::Error),
    #[error("the certificates do not make a TLS configuration")]
    Rustls(#[from] rustls::Error),
    #[error("client certificates cannot be verified with this CA")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// HTTPS with a certificate of ours; a client may show a certificate of this CA, and one of another CA is refused.
pub fn server_config(
    pki: &Pki,
    certificate: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(pki)?, provider())
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// For the kubelets: shows a certificate of ours, and takes any of theirs, because kubelets sign their own; so does
/// kube-apiserver without --kubelet-certificate-authority.
pub fn client_config(certificate: Arc<dyn ResolvesClientCert>) -> Result<ClientConfig, TlsError> {
    Ok(any_server()?.with_client_cert_resolver(certificate))
}

/// For servers in pods, which nobody vouches for: takes any certificate of theirs, and shows none; so does
/// kube-apiserver's proxy.
pub fn proxy_config() -> Result<ClientConfig, TlsError> {
    Ok(any_server()?.with_no_client_auth())
}

fn any_server() -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    Ok(ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider()))))
}

/// Whether the CA signed this certificate, for this usage, and it lasts at that moment.
pub(crate) fn holds(
    pki: &Pki,
    certificate: &CertificateDer<'_>,
    usage: &Usage,
    at: UnixTime,
) -> bool {
    let Ok(roots) = roots(pki) else { return false };
    match usage {
        Usage::Client => {
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
            verifier.is_ok_and(|it| it.verify_client_cert(certificate, &[], at).is_ok())
        }
        Usage::Server(_) => ParsedCertificate::try_from(certificate).is_ok_and(|parsed| {
            let algorithms = provider().signature_verification_algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], at, algorithms).is_ok()
        }),
    }
}

/// A certificate with its key, as TLS wants it.
pub(crate) fn certified(
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, TlsError> {
    let key = provider().key_provider.load_private_key(key)?;
    Ok(CertifiedKey::new(vec![certificate], key))
}

fn roots(pki: &Pki) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(pki.ca_der().clone())?;
    Ok(Arc::new(roots))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Proves only that the server holds the key of the certificate it shows.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
