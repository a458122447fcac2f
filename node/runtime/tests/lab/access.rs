//! As whom registries are asked: with client certificates of `hosts.toml`, with tokens of others'.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use vetch_runtime::images::PullConfig;
use vetch_runtime::*;

use crate::guard::Lab;
use crate::image::{Image, Layer, digest};
use crate::liar::*;
use crate::registry::{Options, PASSWORD, Registry, Tls, USER};

fn image() -> Image {
    let layer = Layer::new().file("own", 0o644, &[7; 1000]);
    Image::new("it", serde_json::json!({}), vec![layer])
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// `NAME.cert`, `NAME.key`, and both in `NAME.pem`.
    fn sign(&self, dir: &Path, name: &str, of: &[&str], usage: ExtendedKeyUsagePurpose) {
        let names: Vec<String> = of.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let key = key.serialize_pem();
        fs::write(dir.join(format!("{name}.pem")), certificate.clone() + &key).unwrap();
        fs::write(dir.join(format!("{name}.cert")), certificate).unwrap();
        fs::write(dir.join(format!("{name}.key")), key).unwrap();
    }
}

#[test]
fn a_registry_that_asks_who_its_clients_are() {
    let lab = Lab::enter();
    lab.block_on(async {
        let (own, other) = (Authority::new("own"), Authority::new("other"));
        let image = image();
        let place = lab.path("registry");
        {
            let open = Registry::start(&place, Options::default());
            let whole = |_: usize, layer: &[u8]| layer.to_vec();
            open.push("it", Some("1"), &image, whole).await;
        }
        own.sign(
            &place,
            "server",
            &["127.0.0.1"],
            ExtendedKeyUsagePurpose::ServerAuth,
        );
        fs::write(place.join("clients.pem"), &own.pem).unwrap();
        let tls = Tls {
            certificate: place.join("server.cert"),
            key: place.join("server.key"),
            clients: place.join("clients.pem"),
        };
        let registry = Registry::start(
            &place,
            Options {
                tls: Some(tls),
                ..Options::default()
            },
        );

        let hosts = lab.path("hosts");
        let folder = hosts.join(&registry.address);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.pem"), &own.pem).unwrap();
        own.sign(&folder, "own", &[], ExtendedKeyUsagePurpose::ClientAuth);
        other.sign(&folder, "other", &[], ExtendedKeyUsagePurpose::ClientAuth);
        let config = PullConfig {
            hosts_dir: Some(hosts),
            ..PullConfig::default()
        };
        let images = ImageStore::open_with(&lab.config.root_dir, config).unwrap();
        let pull = async |client: &str| {
            let server = &registry.address;
            let text = format!("server = \"https://{server}\"\nca = \"ca.pem\"\n{client}\n");
            fs::write(folder.join("hosts.toml"), text).unwrap();
            let pulled = images.pull(&registry.name("it:1"), None).await;
            pulled.map_err(|error| error.to_string())
        };
        for client in [
            "client = \"own.pem\"",
            "client = [\"own.pem\"]",
            "client = [[\"own.cert\", \"own.key\"]]",
            // The first one that it takes.
            "client = [\"other.pem\", [\"own.cert\", \"own.key\"]]",
        ] {
            let pulled = pull(client).await.unwrap();
            assert_eq!(pulled.id, digest(&image.config), "{client}");
        }
        for (client, want) in [
            ("", "failed to do request"),
            ("client = \"other.pem\"", "failed to do request"),
            (
                "client = \"none.pem\"",
                "none.pem: No such file or directory",
            ),
            (
                "client = \"own.cert\"",
                "private key or certificate not found",
            ),
            (
                "client = [[\"own.cert\", \"other.key\"]]",
                "cannot make an HTTP client: ",
            ),
        ] {
            let words = pull(client).await.unwrap_err();
            assert!(words.contains(want), "{client}: {words}");
        }
    });
}

#[test]
fn tokens_are_asked_of_whom_the_registry_names() {
    let lab = Lab::enter();
    lab.block_on(async {
        let images = ImageStore::open_with(&lab.config.root_dir, PullConfig::default()).unwrap();
        let image = image();
        let token = ok(Body::Whole(br#"{"token": "sesame"}"#.to_vec()));
        let giver = Liar::start([("/token".to_owned(), token)].into());
        let mut it = honest(&image, image.layers[0].clone());
        let challenge = format!(
            "Bearer realm=\"http://{}/token\",service=\"them\"",
            giver.address
        );
        let refusal = Answer {
            status: "401 Unauthorized",
            headers: vec![("WWW-Authenticate", challenge)],
            body: Body::Whole(Vec::new()),
        };
        it.answers.insert("/v2/".to_owned(), refusal);
        let registry = Liar::start(it.answers);
        let user = RegistryAuth {
            username: USER.into(),
            password: PASSWORD.into(),
        };
        for auth in [None, Some(user)] {
            let is_known = auth.is_some();
            let pulled = images.pull(&registry.name("1"), auth).await.unwrap();
            assert_eq!(pulled.id, digest(&image.config));
            let asked = std::mem::take(&mut *giver.asked.lock().unwrap());
            assert_eq!(asked, ["/token?scope=repository%3Ait%3Apull&service=them"]);
            // The password is for who gives tokens alone.
            let said = std::mem::take(&mut *giver.shown.lock().unwrap());
            let basic = said.iter().filter(|who| who.starts_with("basic ")).count();
            assert_eq!(
                (basic, said.len()),
                (is_known.into(), is_known.into()),
                "{said:?}"
            );
            let shown = std::mem::take(&mut *registry.shown.lock().unwrap());
            assert!(!shown.is_empty());
            assert!(shown.iter().all(|who| who == "bearer sesame"), "{shown:?}");
        }
    });
}
