//! Image names, normalised as Docker does.

use oci_client::Reference;

use super::ImageError;

/// `busybox` is `docker.io/library/busybox:latest`.
pub fn parse(reference: &str) -> Result<Reference, ImageError> {
    let invalid = |message: String| ImageError::InvalidReference {
        reference: reference.to_owned(),
        message,
    };
    let parsed: Reference = reference
        .parse()
        .map_err(|error: oci_client::ParseError| invalid(error.to_string()))?;
    Ok(parsed)
}

/// `name:tag`, when it has one and no digest.
pub fn tag(reference: &Reference) -> Option<String> {
    match (reference.tag(), reference.digest()) {
        (Some(tag), None) => Some(format!("{}:{tag}", name(reference))),
        _ => None,
    }
}

pub fn digest(reference: &Reference, digest: &str) -> String {
    format!("{}@{digest}", name(reference))
}

fn name(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let with_digest = format!("quay.io/a/b@{digest}");
        for (given, want) in [
            ("busybox", Some("docker.io/library/busybox:latest")),
            ("a/b:1", Some("docker.io/a/b:1")),
            ("127.0.0.1:5000/x", Some("127.0.0.1:5000/x:latest")),
            ("localhost/x:y", Some("localhost/x:y")),
            (with_digest.as_str(), Some(with_digest.as_str())),
            ("Upper/Case", None),
            ("", None),
            ("a b", None),
            ("x:", None),
            ("busybox@sha256:12", None),
        ] {
            match (parse(given), want) {
                (Ok(parsed), Some(want)) => assert_eq!(parsed.whole(), want),
                (Err(ImageError::InvalidReference { reference, .. }), None) => {
                    assert_eq!(reference, given);
                }
                (got, want) => panic!("{given}: {got:?}, not {want:?}"),
            }
        }
    }
}
