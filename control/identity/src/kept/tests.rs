use jiff::ToSpan as _;

use super::*;

fn server(names: &[&str]) -> Wanted {
    Wanted {
        file: "apiserver",
        common_name: "kube-apiserver",
        organization: None,
        usage: Usage::Server(names.iter().map(|name| (*name).to_owned()).collect()),
    }
}

fn client(organization: &'static str) -> Wanted {
    Wanted {
        file: "apiserver-kubelet-client",
        common_name: "kube-apiserver-kubelet-client",
        organization: Some(organization),
        usage: Usage::Client,
    }
}

fn on_disk(pki: &Pki, wanted: &Wanted) -> String {
    std::fs::read_to_string(pki.directory().join(format!("{}.crt", wanted.file))).unwrap()
}

#[test]
fn what_still_serves_is_kept() {
    let now = Timestamp::now();
    for wanted in [server(&["kubernetes", "10.96.0.1", "fd00::1"]), client("a")] {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let kept = Kept::open(&pki, wanted.clone(), now).unwrap();
        let first = on_disk(&pki, &wanted);
        assert!(!kept.renew(&pki, now).unwrap());
        Kept::open(&Pki::open(directory.path()).unwrap(), wanted.clone(), now).unwrap();
        assert_eq!(on_disk(&pki, &wanted), first);
    }
}

#[test]
fn what_ends_soon_is_signed_anew() {
    let now = Timestamp::now();
    let after = |days: i64| now + (days * 24).hours();
    for wanted in [server(&["kubernetes"]), client("a")] {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let kept = Kept::open(&pki, wanted.clone(), now).unwrap();
        let before = kept.current.load_full();
        assert!(!kept.renew(&pki, after(300)).unwrap());
        assert!(kept.renew(&pki, after(340)).unwrap());
        assert_ne!(kept.current.load_full().cert, before.cert);
        assert!(!kept.renew(&pki, after(340)).unwrap());
    }
}

#[test]
fn other_words_make_another_certificate() {
    let now = Timestamp::now();
    for (before, after) in [
        (server(&["a", "b"]), server(&["a", "b", "c"])),
        (server(&["a", "b"]), server(&["a"])),
        (server(&["10.0.0.1"]), server(&["10.0.0.2"])),
        (client("a"), client("b")),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        Kept::open(&pki, before.clone(), now).unwrap();
        let first = on_disk(&pki, &before);
        Kept::open(&pki, after.clone(), now).unwrap();
        assert_ne!(on_disk(&pki, &after), first, "{before:?} {after:?}");
    }
}

#[test]
fn what_is_not_the_authoritys_is_not_kept() {
    let now = Timestamp::now();
    let wanted = server(&["a"]);
    let other = tempfile::tempdir().unwrap();
    Kept::open(&Pki::open(other.path()).unwrap(), wanted.clone(), now).unwrap();
    for (file, text) in [
        // Of another authority, of another key, and cut short.
        (
            "apiserver.crt",
            std::fs::read_to_string(other.path().join("apiserver.crt")).unwrap(),
        ),
        (
            "apiserver.key",
            std::fs::read_to_string(other.path().join("apiserver.key")).unwrap(),
        ),
        ("apiserver.crt", "-----BEGIN".to_owned()),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        Kept::open(&pki, wanted.clone(), now).unwrap();
        std::fs::write(directory.path().join(file), &text).unwrap();
        let kept = Kept::open(&pki, wanted.clone(), now).unwrap();
        assert_ne!(on_disk(&pki, &wanted), text);
        assert!(kept.current.load().keys_match().is_ok(), "{file}");
    }
}

#[test]
fn both_ends_of_tls_are_made_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(directory.path()).unwrap();
    let now = Timestamp::now();
    let server = Kept::open(&pki, server(&["localhost"]), now).unwrap();
    tls::server_config(&pki, Arc::new(server)).unwrap();
    let client = Kept::open(&pki, client("a"), now).unwrap();
    tls::client_config(Arc::new(client)).unwrap();
}
