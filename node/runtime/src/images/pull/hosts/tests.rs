use super::*;

fn own() -> Host {
    Host {
        own: true,
        ..Host::new(Url::parse("https://registry.example/v2").unwrap())
    }
}

fn parsed(text: &str) -> Result<Vec<Host>, String> {
    parse(text, Path::new("/etc/certs.d/registry.example"), own())
}

#[test]
fn mirrors_come_in_the_files_order_and_the_registry_last() {
    let hosts = parsed(
        r#"
        [host."https://z.example"]
        capabilities = ["pull"]
        [host."http://a.example:5000"]
        skip_verify = true
        dial_timeout = "1s"
        [host."http://a.example:5000".header]
        x-one = "1"
        x-two = ["2", "3"]
        [host."https://harbor.example/v2/proxy"]
        override_path = true
        ca = ["one.pem", "/two.pem"]
        "#,
    )
    .unwrap();
    let bases: Vec<&str> = hosts.iter().map(|host| host.base.as_str()).collect();
    assert_eq!(
        bases,
        [
            "https://z.example/v2",
            "http://a.example:5000/v2",
            "https://harbor.example/v2/proxy",
            "https://registry.example/v2",
        ]
    );
    assert_eq!(hosts[3], own());
    assert!(!hosts[0].resolves && hosts[0].pulls && !hosts[0].own);
    assert!(hosts[1].skip_verify && hosts[1].resolves);
    assert_eq!(hosts[1].dial_timeout, Some(Duration::from_secs(1)));
    assert_eq!(hosts[1].headers.get_all("x-two").iter().count(), 2);
    assert_eq!((hosts[1].prefix(), hosts[2].prefix()), ("", "proxy"));
    assert_eq!(
        hosts[2].ca,
        [
            PathBuf::from("/etc/certs.d/registry.example/one.pem"),
            PathBuf::from("/two.pem"),
        ]
    );
}

#[test]
fn each_client_certificate_has_a_door() {
    let folder = Path::new("/etc/certs.d/registry.example");
    for (client, want) in [
        ("[]", vec![vec![]]),
        ("\"own.pem\"", vec![vec!["own.pem"]]),
        (
            "[\"one.pem\", \"/two.pem\"]",
            vec![vec!["one.pem"], vec!["/two.pem"]],
        ),
        (
            "[[\"a.cert\", \"a.key\"], \"b.pem\", [\"c.pem\", \"\"]]",
            vec![vec!["a.cert", "a.key"], vec!["b.pem"], vec!["c.pem"]],
        ),
    ] {
        let text = format!("client = {client}\n[host.\"https://m\"]\nclient = {client}");
        let hosts = parsed(&text).unwrap();
        let paths = |files: &Vec<&str>| files.iter().map(|file| folder.join(file)).collect();
        let want: Vec<Vec<PathBuf>> = want.iter().map(paths).collect();
        let got = |own| {
            let hosts = hosts.iter().filter(move |host| host.own == own);
            hosts.map(|host| host.client.clone()).collect::<Vec<_>>()
        };
        assert_eq!(got(false), want, "{client}");
        assert_eq!(got(true), want, "{client}");
    }
}

#[test]
fn the_registry_itself_may_be_elsewhere() {
    for (text, want) in [
        ("", "https://registry.example/v2"),
        (
            "server = \"https://other.example\"",
            "https://other.example/v2",
        ),
        (
            "server = \"other.example:5000\"",
            "https://other.example:5000/v2",
        ),
        ("server = \"localhost:5000\"", "http://localhost:5000/v2"),
        (
            "server = \"https://other.example/base/\"",
            "https://other.example/base/v2",
        ),
        (
            "server = \"https://other.example/base\"\noverride_path = true",
            "https://other.example/base",
        ),
    ] {
        let hosts = parsed(text).unwrap();
        assert_eq!(hosts.len(), 1, "{text}");
        assert_eq!(hosts[0].base.as_str(), want, "{text}");
        assert!(hosts[0].own);
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (text, want) in [
        ("server = 1", "invalid type: integer"),
        ("server = \"ftp://x\"", "neither http:// nor https://"),
        ("[host.\"https://\"]", "empty host"),
        ("client = 1", "client: something is neither a PEM file"),
        (
            "[host.\"https://m\"]\nclient = [[\"a\", \"b\", \"c\"]]",
            "host \"https://m\": client: something is neither",
        ),
        ("client = [\"a\", 1]", "client: something is neither"),
        ("[header]\nx = 1", "header \"x\": not a string"),
        ("[header]\n\"a b\" = \"1\"", "header \"a b\": invalid"),
        ("dial_timeout = \"soon\"", "dial_timeout \"soon\""),
        ("dial_timeout = \"-1s\"", "dial_timeout \"-1s\""),
    ] {
        let words = parsed(text).unwrap_err();
        assert!(words.contains(want), "{text}: {words}");
    }
}

#[test]
fn the_first_directory_that_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let default = Url::parse("https://registry.example:5000/v2").unwrap();
    let found = |registry: &str| of(Some(dir.path()), registry, default.clone()).unwrap();
    assert_eq!(found("registry.example:5000").len(), 1);
    for (name, mirror) in [
        ("_default", "https://default.example"),
        ("registry.example", "https://host.example"),
        ("registry.example:5000", "https://colon.example"),
        ("registry.example_5000_", "https://underscores.example"),
    ] {
        let folder = dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("hosts.toml"), format!("[host.\"{mirror}\"]")).unwrap();
        let hosts = found("registry.example:5000");
        assert_eq!(hosts[0].base.as_str(), format!("{mirror}/v2"), "{name}");
    }
    assert_eq!(
        found("other")[0].base.as_str(),
        "https://default.example/v2"
    );
    assert_eq!(of(None, "other", default.clone()).unwrap()[0].base, default);
}
