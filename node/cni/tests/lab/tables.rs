//! Each command in each version, with a daemon that only answers. Needs no root.

use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};
use vetch_cni_proto::v1::cni_server::{Cni, CniServer};
use vetch_cni_proto::v1::{
    AddReply, AddRequest, Address, CheckReply, CheckRequest, CollectReply, CollectRequest,
    DeleteReply, DeleteRequest, Link, ReadyReply, ReadyRequest,
};
use vetch_cni_proto::{Failure, SOCKET, code};

use crate::plugin::{Answered, Call};

/// Says what it was asked, one line a call, and fails for containers of a certain name.
#[derive(Clone, Default)]
struct Fake {
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn note(&self, line: String) {
        self.asked.lock().unwrap().push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn refuse(container: &str) -> Result<(), Status> {
    match container {
        "refused" => Err(Failure::new(code::ADDRESSES, "no room")
            .with_details("at all")
            .into()),
        _ => Ok(()),
    }
}

#[tonic::async_trait]
impl Cni for Fake {
    async fn add(&self, request: Request<AddRequest>) -> Result<Response<AddReply>, Status> {
        let asked = request.into_inner();
        let to = asked.attachment.unwrap();
        let ports: Vec<u32> = asked
            .port_mappings
            .iter()
            .map(|one| one.host_port)
            .collect();
        let pod = asked.pod.unwrap_or_default();
        let rates = asked.bandwidth.map(|one| (one.ingress, one.egress));
        self.note(format!(
            "add {} {} {} {:?} {ports:?} {rates:?} {}/{}/{}",
            to.network, to.container_id, to.ifname, asked.ips, pod.namespace, pod.name, pod.uid
        ));
        refuse(&to.container_id)?;
        let link = |name: &str| {
            Some(Link {
                name: name.into(),
                mac: "0a:00:00:00:00:01".into(),
            })
        };
        Ok(Response::new(AddReply {
            addresses: vec![Address {
                ip: "10.1.0.2".into(),
                gateway: "169.254.1.1".into(),
            }],
            host: link("vt0123456789ab"),
            pod: link(&to.ifname),
            mtu: 1450,
        }))
    }

    async fn delete(
        &self,
        request: Request<DeleteRequest>,
    ) -> Result<Response<DeleteReply>, Status> {
        let to = request.into_inner().attachment.unwrap();
        self.note(format!("delete {} {:?}", to.container_id, to.netns));
        refuse(&to.container_id)?;
        Ok(Response::new(DeleteReply {}))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckReply>, Status> {
        let asked = request.into_inner();
        let to = asked.attachment.unwrap();
        self.note(format!("check {} {:?}", to.container_id, asked.ips));
        refuse(&to.container_id)?;
        Ok(Response::new(CheckReply {}))
    }

    async fn collect(
        &self,
        request: Request<CollectRequest>,
    ) -> Result<Response<CollectReply>, Status> {
        let asked = request.into_inner();
        let valid = asked.valid.iter();
        let valid: Vec<String> = valid
            .map(|one| format!("{}/{}", one.container_id, one.ifname))
            .collect();
        self.note(format!("collect {} {valid:?}", asked.network));
        Ok(Response::new(CollectReply {}))
    }

    async fn ready(&self, _: Request<ReadyRequest>) -> Result<Response<ReadyReply>, Status> {
        self.note("ready".into());
        Ok(Response::new(ReadyReply {}))
    }
}

/// A daemon at `run_dir` for as long as the runtime lives.
fn serve(run_dir: &Path) -> (Fake, tokio::runtime::Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fake = Fake::default();
    let service = CniServer::new(fake.clone());
    let context = runtime.enter();
    let listener = UnixListener::bind(run_dir.join(SOCKET)).unwrap();
    drop(context);
    runtime.spawn(async move {
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
    });
    (fake, runtime)
}

/// A file that is no namespace of the plugin's own.
const NETNS: &str = "/dev/null";

fn error_of(answered: &Answered, version: &str) -> (u64, String) {
    let code = answered.code();
    assert_eq!(
        answered.output["cniVersion"], version,
        "{}",
        answered.output
    );
    let msg = answered.output["msg"].as_str().expect("words").to_owned();
    (code, msg)
}

const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

#[test]
fn each_command_in_each_version() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, _runtime) = serve(dir.path());
    let previous = json!({ "ips": [{ "address": "10.1.0.2/32" }] });
    for version in VERSIONS {
        let call = |command: &str| Call::new(command, version, dir.path());
        let container = |command: &str| call(command).of("c1", NETNS);

        let added = container("ADD").run().unwrap();
        assert_eq!(added["cniVersion"], version);
        assert_eq!(added["ips"][0]["address"], "10.1.0.2/32");
        let interface = added["ips"][0]["interface"].as_u64().unwrap();
        let inside = &added["interfaces"][usize::try_from(interface).unwrap()];
        assert_eq!(
            (&inside["name"], &inside["sandbox"]),
            (&json!("eth0"), &json!(NETNS))
        );
        assert_eq!(added["ips"][0].get("version").is_some(), version < "1.0.0");
        assert_eq!(inside.get("mtu").is_some(), version >= "1.1.0");
        assert_eq!(fake.take(), ["add lab c1 eth0 [] [] None //"]);

        assert_eq!(container("DEL").run().unwrap(), Value::Null);
        assert_eq!(fake.take(), [format!("delete c1 {NETNS:?}")]);

        let versions = call("VERSION").run().unwrap();
        assert_eq!(versions["cniVersion"], version);
        assert_eq!(versions["supportedVersions"], json!(VERSIONS));

        let check = container("CHECK").field("prevResult", previous.clone());
        let gc = call("GC").field(
            "cni.dev/valid-attachments",
            json!([{ "containerID": "c1", "ifname": "eth0" }]),
        );
        for (call, since, asked) in [
            (check, "0.4.0", r#"check c1 ["10.1.0.2"]"#),
            (gc, "1.1.0", r#"collect lab ["c1/eth0"]"#),
            (call("STATUS"), "1.1.0", "ready"),
        ] {
            let answered = call.run();
            if version >= since {
                assert_eq!(answered.unwrap(), Value::Null);
                assert_eq!(fake.take(), [asked]);
            } else {
                let (code, _) = error_of(&answered, version);
                assert_eq!(code, 1, "{version} {call:?}");
                assert!(fake.take().is_empty());
            }
        }
    }
}

#[test]
fn what_a_runtime_asks_for_arrives_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (fake, _runtime) = serve(dir.path());
    let add = || Call::new("ADD", "1.1.0", dir.path()).of("c1", NETNS);
    let config = json!({
        "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
        "ips": ["10.1.0.9/24"],
        "bandwidth": { "ingressRate": 1000, "ingressBurst": 4_294_967_295_u32, "egressRate": 2000 },
        "dns": { "servers": ["10.96.0.10"], "searches": ["a.b"], "options": [] },
    });
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_UID=u";
    let added = add()
        .field("runtimeConfig", config)
        .field(
            "prevResult",
            json!({ "interfaces": [{ "name": "before" }] }),
        )
        .with("CNI_ARGS", args)
        .run()
        .unwrap();
    assert_eq!(
        fake.take(),
        [r#"add lab c1 eth0 ["10.1.0.9"] [8080] Some((1000, 2000)) ns/p/u"#]
    );
    assert_eq!(added["dns"]["nameservers"][0], "10.96.0.10");
    assert_eq!(added["interfaces"][0]["name"], "before");
    assert_eq!(added["ips"][0]["interface"], 2);

    let runtime = |value: Value| add().field("runtimeConfig", value);
    let own = "/proc/self/ns/net";
    let without = |name: &str| {
        let mut call = add();
        call.environment.retain(|(key, _)| key != name);
        call
    };
    for (call, expected, words) in [
        (
            runtime(json!({ "mac": "02:00:00:00:00:01" })),
            2,
            "02:00:00:00:00:01",
        ),
        (
            runtime(json!({ "bandwidth": { "ingressRate": "1M" } })),
            7,
            "configuration",
        ),
        (
            add().field("ipam", json!({ "type": "host-local" })),
            2,
            "host-local",
        ),
        (without("CNI_NETNS"), 4, "CNI_NETNS"),
        (without("CNI_CONTAINERID"), 4, "CNI_CONTAINERID"),
        (without("CNI_COMMAND"), 4, "CNI_COMMAND"),
        (add().field("name", json!("")), 7, "name"),
        (runtime(json!({ "ips": ["x"] })), 7, "\"x\""),
        (
            Call::new("ADD", "1.1.0", dir.path()).of("c1", "/none"),
            8,
            "/none",
        ),
        (
            Call::new("ADD", "1.1.0", dir.path()).of("c1", own),
            8,
            "itself",
        ),
        (
            Call::new("CHECK", "1.1.0", dir.path()).of("c1", NETNS),
            7,
            "prevResult",
        ),
        (Call::new("GC", "1.1.0", dir.path()), 7, "valid-attachments"),
        // What the daemon says is passed on.
        (
            Call::new("ADD", "1.1.0", dir.path()).of("refused", NETNS),
            100,
            "no room",
        ),
        (
            Call::new("DEL", "1.1.0", dir.path()).of("refused", NETNS),
            100,
            "no room",
        ),
    ] {
        let (code, msg) = error_of(&call.run(), "1.1.0");
        assert_eq!(code, expected, "{msg}");
        assert!(msg.contains(words), "{msg}");
    }
    let refused = Call::new("ADD", "0.4.0", dir.path())
        .of("refused", NETNS)
        .run();
    error_of(&refused, "0.4.0");
    assert_eq!(refused.output["details"], "at all");
    fake.take();
    // Somebody insists: whose namespace it is, is the daemon's to judge.
    let insisted = Call::new("ADD", "1.1.0", dir.path())
        .of("c1", own)
        .with("CNI_NETNS_OVERRIDE", "true");
    insisted.run().unwrap();
    assert_eq!(fake.take().len(), 1);
}

#[test]
fn documents_of_no_known_kind() {
    let dir = tempfile::tempdir().unwrap();
    for (input, expected) in [
        (json!([]), 7),
        (json!({ "name": "lab" }), 1),
        (json!({ "cniVersion": "0.2.0", "name": "lab" }), 1),
        (json!({ "cniVersion": "9.0.0", "name": "lab" }), 1),
    ] {
        let mut call = Call::new("ADD", "1.1.0", dir.path()).of("c1", NETNS);
        call.input = input;
        assert_eq!(call.run().code(), expected, "{}", call.input);
    }
    // Whoever asks for versions need not know one.
    let mut call = Call::new("VERSION", "1.1.0", dir.path());
    call.input = json!({ "cniVersion": "0.1.0" });
    assert_eq!(call.run().unwrap()["cniVersion"], "1.1.0");
}

#[test]
fn without_a_daemon_a_runtime_knows_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let call = |command: &str| Call::new(command, "1.1.0", dir.path());
    let previous = json!({ "ips": [] });
    for (call, expected) in [
        (call("ADD").of("c1", NETNS), 11),
        (
            call("CHECK").of("c1", NETNS).field("prevResult", previous),
            11,
        ),
        (call("GC").field("cni.dev/attachments", json!([])), 11),
        (call("STATUS"), 50),
    ] {
        let (code, msg) = error_of(&call.run(), "1.1.0");
        assert_eq!(code, expected, "{msg}");
        assert!(msg.contains("does not answer"), "{msg}");
    }
}
