//! ES256 (RFC 7518 3.4) for jsonwebtoken by ring, which TLS brings anyway: the crate's own choice would be RSA, three
//! curves and HMAC by other crates, compiled for nothing.

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, EncodingKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    // For keys as JWKs, which nobody asks for.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes it this process's. Once more changes nothing.
pub(super) fn install() {
    let _ = PROVIDER.install_default();
}

struct Signing {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

/// The point, uncompressed (SEC 1, 2.3.3).
struct Verifying(UnparsedPublicKey<Vec<u8>>);

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    is_ours(*algorithm, key.family())?;
    let random = SystemRandom::new();
    // What rcgen writes is PKCS #8 with the public key in it, as ring wants it.
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_bytes(), &random)
        .map_err(|_| ErrorKind::InvalidEcdsaKey)?;
    Ok(Box::new(Signing { key, random }))
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    is_ours(*algorithm, key.family())?;
    let point = key.try_get_as_bytes()?.to_vec();
    Ok(Box::new(Verifying(UnparsedPublicKey::new(
        &ECDSA_P256_SHA256_FIXED,
        point,
    ))))
}

fn is_ours(algorithm: Algorithm, family: AlgorithmFamily) -> Result<()> {
    match (algorithm, family) {
        (Algorithm::ES256, AlgorithmFamily::Ec) => Ok(()),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

impl Signer<Vec<u8>> for Signing {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        let signature = self
            .key
            .sign(&self.random, message)
            .map_err(|_| Error::new())?;
        Ok(signature.as_ref().to_vec())
    }
}

impl JwtSigner for Signing {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

impl Verifier<Vec<u8>> for Verifying {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        self.0.verify(message, signature).map_err(|_| Error::new())
    }
}

impl JwtVerifier for Verifying {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::crypto::{sign, verify};
    use rcgen::KeyPair;

    use super::*;

    /// RFC 7515, A.3: a signature that others made over this header and payload, and the key's point.
    const MESSAGE: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    const SIGNATURE: &str =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    const POINT: [&str; 2] = [
        "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    ];

    #[test]
    fn what_another_implementation_signed_is_verified() {
        install();
        let key = DecodingKey::from_ec_components(POINT[0], POINT[1]).unwrap();
        let holds = |signature: &str, message: &str| {
            verify(signature, message.as_bytes(), &key, Algorithm::ES256)
        };
        assert!(holds(SIGNATURE, MESSAGE).unwrap());
        assert!(!holds(SIGNATURE, &MESSAGE[1..]).unwrap());
        assert!(!holds(&SIGNATURE.replace('D', "E"), MESSAGE).unwrap());
        assert!(!holds("", MESSAGE).unwrap());
    }

    #[test]
    fn a_signature_is_two_numbers_side_by_side_and_of_no_other_algorithm() {
        install();
        let pair = KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let signature = sign(b"message", &key, Algorithm::ES256).unwrap();
        // 64 bytes in base64 without padding; ASN.1's form is longer.
        assert_eq!(signature.len(), 86, "{signature}");
        let public = DecodingKey::from_ec_pem(pair.public_key_pem().as_bytes()).unwrap();
        assert!(verify(&signature, b"message", &public, Algorithm::ES256).unwrap());
        assert!(sign(b"message", &key, Algorithm::ES384).is_err());
        let secret = EncodingKey::from_secret(b"secret");
        assert!(sign(b"message", &secret, Algorithm::ES256).is_err());
        let secret = DecodingKey::from_secret(b"secret");
        assert!(verify(&signature, b"message", &secret, Algorithm::HS256).is_err());
    }
}
