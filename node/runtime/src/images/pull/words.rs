//! What a registry, or the way to it, says against a pull.

use oci_client::Reference;
use oci_client::errors::{OciDistributionError, OciErrorCode};

/// containerd's frame around the registry's words.
pub fn resolving(reference: &Reference, error: &OciDistributionError) -> String {
    let name = reference.whole();
    let what = match error {
        OciDistributionError::RegistryError { envelope, .. }
            if envelope.errors.iter().any(|error| {
                matches!(
                    error.code,
                    OciErrorCode::ManifestUnknown
                        | OciErrorCode::NameUnknown
                        | OciErrorCode::NotFound
                )
            }) =>
        {
            format!("{name}: not found: {}", words(error))
        }
        OciDistributionError::ImageManifestNotFoundError(_)
        | OciDistributionError::ServerError { code: 404, .. } => {
            format!("{name}: not found: {}", words(error))
        }
        OciDistributionError::UnauthorizedError { .. }
        | OciDistributionError::AuthenticationFailure(_) => format!(
            "pull access denied, repository does not exist or may require authorization: {}",
            words(error)
        ),
        _ => words(error),
    };
    format!("failed to resolve reference \"{name}\": {what}")
}

pub fn words(error: &OciDistributionError) -> String {
    match error {
        OciDistributionError::RegistryError { envelope, .. } => envelope
            .errors
            .iter()
            .map(|error| error.message.clone())
            .collect::<Vec<_>>()
            .join("; "),
        // reqwest says the cause only in its sources.
        OciDistributionError::RequestError(error) => {
            format!("failed to do request: {}", with_causes(error))
        }
        other => other.to_string(),
    }
}

/// What reqwest says is in its sources.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
