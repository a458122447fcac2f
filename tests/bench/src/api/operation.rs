//! The requests of the load: what a client sends next, and whether an answer is what it must be.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use http::Request;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Resource as _;
use kube::api::{GetParams, ListParams, Patch, PatchParams, PostParams};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::exchange::{Answer, Keep};

/// On what a round makes, and on nothing that stays.
pub const MADE: (&str, &str) = ("vetch-bench", "made");
/// The config maps' one value.
const VALUE_BYTES: usize = 256;
/// By so much the answer to a whole list may be shorter than the first one: the resource version
/// of a list has no fixed length.
const LENGTH_SLACK: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    CreateConfigMap,
    CreatePod,
    UpdateConfigMap,
    PatchPod,
    GetConfigMap,
    ListPods,
    ListPodsPage,
}

/// Where the objects are.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The namespace of what is made, changed and read.
    pub work: String,
    /// The namespace of the pods that are listed.
    pub list: String,
    pub page: usize,
    pub objects: usize,
    /// Of an answer that was counted through.
    pub whole_list_bytes: usize,
}

/// One client's place in its operation.
pub struct Worker {
    operation: Operation,
    scope: Arc<Scope>,
    index: usize,
    /// In the names of what it makes: no two workers of a run share it.
    tag: String,
    sent: usize,
    walk: Walk,
}

/// A list that is read page by page.
#[derive(Default)]
struct Walk {
    /// Where the next page begins.
    token: Option<String>,
    pages: usize,
    bytes: usize,
}

impl Operation {
    pub const ALL: [Operation; 7] = [
        Operation::CreateConfigMap,
        Operation::CreatePod,
        Operation::UpdateConfigMap,
        Operation::PatchPod,
        Operation::GetConfigMap,
        Operation::ListPods,
        Operation::ListPodsPage,
    ];

    pub fn measure(self) -> &'static str {
        match self {
            Operation::CreateConfigMap => "create-configmap",
            Operation::CreatePod => "create-pod",
            Operation::UpdateConfigMap => "update-configmap",
            Operation::PatchPod => "patch-pod",
            Operation::GetConfigMap => "get-configmap",
            Operation::ListPods => "list-pods",
            Operation::ListPodsPage => "list-pods-page",
        }
    }
}

impl Scope {
    pub fn config_maps(&self) -> kube::core::Request {
        kube::core::Request::new(ConfigMap::url_path(&(), Some(&self.work)))
    }

    pub fn pods(&self) -> kube::core::Request {
        kube::core::Request::new(Pod::url_path(&(), Some(&self.work)))
    }

    pub fn listed(&self) -> kube::core::Request {
        kube::core::Request::new(Pod::url_path(&(), Some(&self.list)))
    }
}

impl Worker {
    pub fn new(operation: Operation, scope: Arc<Scope>, index: usize, tag: String) -> Worker {
        Worker {
            operation,
            scope,
            index,
            tag,
            sent: 0,
            walk: Walk::default(),
        }
    }

    pub fn next(&mut self) -> Result<Request<Vec<u8>>> {
        let scope = &self.scope;
        self.sent += 1;
        let fresh = format!("made-{}-{}", self.tag, self.sent);
        let own = own_name(self.index);
        let request = match self.operation {
            Operation::CreateConfigMap => {
                let object = config_map(&fresh, true, &fresh);
                scope
                    .config_maps()
                    .create(&PostParams::default(), bytes(&object))
            }
            Operation::CreatePod => {
                let object = pod(&fresh, true);
                scope.pods().create(&PostParams::default(), bytes(&object))
            }
            Operation::UpdateConfigMap => {
                let object = config_map(&own, false, &fresh);
                scope
                    .config_maps()
                    .replace(&own, &PostParams::default(), bytes(&object))
            }
            Operation::PatchPod => {
                let change = json!({"metadata": {"annotations": {"vetch-bench": fresh}}});
                scope
                    .pods()
                    .patch(&own, &PatchParams::default(), &Patch::Merge(&change))
            }
            Operation::GetConfigMap => scope.config_maps().get(&own, &GetParams::default()),
            Operation::ListPods => scope.listed().list(&ListParams::default()),
            Operation::ListPodsPage => {
                let limit = u32::try_from(scope.page).context("--page is too big")?;
                let mut wanted = ListParams::default().limit(limit);
                wanted.continue_token = self.walk.token.take();
                scope.listed().list(&wanted)
            }
        };
        request.context("make a request")
    }

    pub fn keeps(&self) -> Keep {
        match self.operation {
            Operation::ListPodsPage => Keep::Head,
            _ => Keep::Nothing,
        }
    }

    /// Checks a success, and goes on from it. Counting items would cost the client more than many a
    /// server spends: it is the bytes that must be there.
    pub fn answered(&mut self, answer: &Answer) -> Result<()> {
        match self.operation {
            Operation::ListPods => self.whole(answer.bytes),
            Operation::ListPodsPage => {
                self.walk.pages += 1;
                self.walk.bytes += answer.bytes;
                self.walk.token = next_page(&answer.body)?;
                if self.walk.token.is_some() {
                    return Ok(());
                }
                let walk = std::mem::take(&mut self.walk);
                let pages = self.scope.objects.div_ceil(self.scope.page);
                ensure!(
                    walk.pages == pages,
                    "the list ended with page {} of {pages}",
                    walk.pages
                );
                self.whole(walk.bytes)
            }
            _ => Ok(()),
        }
    }

    fn whole(&self, bytes: usize) -> Result<()> {
        let wanted = self.scope.whole_list_bytes;
        ensure!(
            bytes + LENGTH_SLACK >= wanted,
            "the list has {bytes} bytes of {wanted}"
        );
        Ok(())
    }
}

/// The continue token of a list, from its head: its metadata comes before its items.
fn next_page(head: &[u8]) -> Result<Option<String>> {
    const ITEMS: &[u8] = b"\"items\":[";
    let items = head
        .windows(ITEMS.len())
        .position(|window| window == ITEMS)
        .context("a list does not come to its items")?;
    let list = [&head[..items + ITEMS.len()], b"]}"].concat();
    Ok(Page::read(&list)?.next)
}

/// What counts of a list.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    pub items: usize,
    pub next: Option<String>,
}

impl Page {
    pub fn read(body: &[u8]) -> Result<Page> {
        #[derive(Deserialize)]
        struct List {
            metadata: Metadata,
            items: Vec<IgnoredAny>,
        }
        #[derive(Deserialize)]
        struct Metadata {
            #[serde(rename = "continue")]
            next: Option<String>,
        }
        let list: List = serde_json::from_slice(body).context("read a list")?;
        Ok(Page {
            items: list.items.len(),
            next: list.metadata.next.filter(|token| !token.is_empty()),
        })
    }
}

/// Of the objects that client `index` changes and reads.
pub fn own_name(index: usize) -> String {
    format!("own-{index}")
}

pub fn config_map(name: &str, made: bool, change: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name, made),
        "data": {"value": format!("{change:.<VALUE_BYTES$}")},
    })
}

/// One that stays where it is: the gate is never taken away.
pub fn pod(name: &str, made: bool) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata(name, made),
        "spec": {
            "schedulingGates": [{"name": "vetch.local/bench"}],
            "containers": [{"name": "main", "image": "vetch.local/echo:v1"}],
        },
    })
}

pub fn bytes(object: &Value) -> Vec<u8> {
    object.to_string().into_bytes()
}

fn metadata(name: &str, made: bool) -> Value {
    let mut metadata = json!({"name": name});
    if made {
        metadata["labels"] = json!({MADE.0: MADE.1});
    }
    metadata
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn worker(operation: Operation) -> Worker {
        let scope = Scope {
            work: "w".into(),
            list: "l".into(),
            page: 2,
            objects: 3,
            whole_list_bytes: 1000,
        };
        Worker::new(operation, Arc::new(scope), 7, "0-32-7".into())
    }

    fn answer(bytes: usize, body: &str) -> Answer {
        Answer {
            took: Duration::ZERO,
            bytes,
            body: body.as_bytes().into(),
        }
    }

    #[test]
    fn each_operation_is_the_request_it_is_called_by() {
        let work = "/api/v1/namespaces/w";
        for (operation, method, uri, words) in [
            (
                Operation::CreateConfigMap,
                "POST",
                format!("{work}/configmaps?"),
                "made-0-32-7-1",
            ),
            (
                Operation::CreatePod,
                "POST",
                format!("{work}/pods?"),
                "schedulingGates",
            ),
            (
                Operation::UpdateConfigMap,
                "PUT",
                format!("{work}/configmaps/own-7?"),
                "own-7",
            ),
            (
                Operation::PatchPod,
                "PATCH",
                format!("{work}/pods/own-7?"),
                "annotations",
            ),
            (
                Operation::GetConfigMap,
                "GET",
                format!("{work}/configmaps/own-7"),
                "",
            ),
            (
                Operation::ListPods,
                "GET",
                "/api/v1/namespaces/l/pods?".into(),
                "",
            ),
            (
                Operation::ListPodsPage,
                "GET",
                "/api/v1/namespaces/l/pods?&limit=2".into(),
                "",
            ),
        ] {
            let request = worker(operation).next().unwrap();
            assert_eq!(request.method(), method, "{operation:?}");
            assert_eq!(request.uri().to_string(), uri);
            let body = String::from_utf8(request.into_body()).unwrap();
            assert!(body.contains(words), "{operation:?} {body}");
        }
    }

    #[test]
    fn no_two_writes_are_the_same() {
        for operation in [
            Operation::CreateConfigMap,
            Operation::CreatePod,
            Operation::UpdateConfigMap,
            Operation::PatchPod,
        ] {
            let mut worker = worker(operation);
            let (first, second) = (worker.next().unwrap(), worker.next().unwrap());
            assert_ne!(first.body(), second.body(), "{operation:?}");
        }
        let object = config_map("a", true, "short");
        assert_eq!(object["data"]["value"].as_str().unwrap().len(), VALUE_BYTES);
        assert_eq!(object["metadata"]["labels"][MADE.0], MADE.1);
        assert!(
            config_map("a", false, "")["metadata"]
                .get("labels")
                .is_none()
        );
    }

    #[test]
    fn pages_go_on_where_the_last_one_ended() {
        let first = r#"{"kind":"PodList","metadata":{"continue":"t/1"},"items":[{"metad"#;
        let last = r#"{"kind":"PodList","metadata":{"resourceVersion":"1"},"items":[{}"#;
        let mut worker = worker(Operation::ListPodsPage);
        assert_eq!(worker.keeps(), Keep::Head);
        for _ in 0..2 {
            // After the last one it is the first again.
            let uri = worker.next().unwrap().uri().to_string();
            assert!(uri.ends_with("pods?&limit=2"), "{uri}");
            worker.answered(&answer(600, first)).unwrap();
            let uri = worker.next().unwrap().uri().to_string();
            assert!(uri.ends_with("&limit=2&continue=t%2F1"), "{uri}");
            worker.answered(&answer(450, last)).unwrap();
        }
    }

    #[test]
    fn a_walk_that_lacks_something_is_no_answer() {
        let more = r#"{"metadata":{"continue":"t"},"items":[{"#;
        let last = r#"{"metadata":{"continue":""},"items":[{"#;
        for (answers, whole) in [
            (vec![(600, more), (450, last)], true),
            (vec![(600, more), (300, last)], false),
            (vec![(1000, last)], false),
            (vec![(600, more), (600, more), (600, last)], false),
            (vec![(600, r#"{"metadata":{}}"#)], false),
            (
                vec![(600, r#"{"items":[{}],"metadata":{"continue":"t"}}"#)],
                false,
            ),
            (vec![(600, "")], false),
        ] {
            let mut worker = worker(Operation::ListPodsPage);
            let read: Result<()> = answers
                .iter()
                .try_for_each(|(bytes, head)| worker.answered(&answer(*bytes, head)));
            assert_eq!(read.is_ok(), whole, "{answers:?}");
        }
    }

    #[test]
    fn a_list_that_lacks_something_is_no_answer() {
        let mut worker = worker(Operation::ListPods);
        assert_eq!(worker.keeps(), Keep::Nothing);
        for (bytes, whole) in [
            (1000, true),
            (990, true),
            (1200, true),
            (900, false),
            (0, false),
        ] {
            assert_eq!(
                worker.answered(&answer(bytes, "")).is_ok(),
                whole,
                "{bytes}"
            );
        }
    }
}
