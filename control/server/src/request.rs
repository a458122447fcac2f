//! What a request asks for: path and query taken apart, before any object is touched.

pub(crate) mod info;

use std::collections::HashMap;
use std::time::Duration;

use http::{Method, Uri};
use vetch_api::resource::{Resource, Subresource, SubresourceKind};

use crate::selector::{FieldSelector, LabelSelector};
use crate::status::{Result, Status};

/// A path below /api/v1 or /apis/GROUP/VERSION that names a resource.
#[derive(Clone)]
pub struct Target {
    pub resource: &'static Resource,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<&'static Subresource>,
    /// What follows a subresource that is another server's, as it was sent: empty, or from its slash on.
    pub behind: String,
}

impl Target {
    /// `None`: no resource is served at this path.
    pub fn parse(registry: &'static [Resource], path: &str) -> Option<Target> {
        let mut segments = segments(path);
        let (group, version) = match segments.next()? {
            "api" => ("", segments.next()?),
            "apis" => (segments.next()?, segments.next()?),
            _ => return None,
        };
        let rest: Vec<&str> = segments.collect();
        let find = |plural: &str, namespaced: bool| {
            registry.iter().find(|row| {
                row.group == group
                    && row.version == version
                    && row.plural == plural
                    && row.namespaced == namespaced
            })
        };
        let any = |plural: &str| {
            registry
                .iter()
                .find(|row| row.group == group && row.version == version && row.plural == plural)
        };
        let (resource, namespace, tail) = match rest.as_slice() {
            ["namespaces", namespace, plural, tail @ ..] if find(plural, true).is_some() => {
                (find(plural, true)?, Some((*namespace).to_owned()), tail)
            }
            [plural, tail @ ..] => (any(plural)?, None, tail),
            [] => return None,
        };
        let (name, subresource, more) = match tail {
            [] => (None, None, &[][..]),
            [name] => (Some((*name).to_owned()), None, &[][..]),
            [name, sub, more @ ..] => {
                let subresource = resource
                    .subresources
                    .iter()
                    .find(|known| known.name == *sub)?;
                (Some((*name).to_owned()), Some(subresource), more)
            }
        };
        let behind = match subresource.map(|sub| &sub.kind) {
            Some(SubresourceKind::Proxy) => {
                behind(path, self::segments(path).count() - more.len()).to_owned()
            }
            _ if more.is_empty() => String::new(),
            _ => return None,
        };
        // A namespaced object is only reached through its namespace.
        if resource.namespaced && name.is_some() && namespace.is_none() {
            return None;
        }
        Some(Target {
            resource,
            namespace,
            name,
            subresource,
            behind,
        })
    }

    /// Of the subresource.
    pub fn kind(&self) -> Option<&'static SubresourceKind> {
        self.subresource.map(|sub| &sub.kind)
    }

    /// Key prefix of the collection this target names.
    pub fn collection_prefix(&self) -> String {
        match &self.namespace {
            Some(namespace) => format!("{}{namespace}/", storage_prefix(self.resource)),
            None => storage_prefix(self.resource),
        }
    }

    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.collection_prefix())
    }

    /// The verb authorisation and audit know.
    pub fn verb(&self, method: &Method, watch: bool) -> &'static str {
        verb(method, self.name.is_some(), watch)
    }
}

/// Empty ones are none.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Empty for methods that are none.
fn verb(method: &Method, named: bool, watch: bool) -> &'static str {
    match (method, named) {
        (&Method::GET | &Method::HEAD, true) => "get",
        (&Method::GET | &Method::HEAD, false) if watch => "watch",
        (&Method::GET | &Method::HEAD, false) => "list",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, true) => "delete",
        (&Method::DELETE, false) => "deletecollection",
        _ => "",
    }
}

/// What follows so many segments of a path.
fn behind(path: &str, segments: usize) -> &str {
    (0..segments).fold(path, |rest, _| {
        let segment = rest.trim_start_matches('/');
        &segment[segment.find('/').unwrap_or(segment.len())..]
    })
}

/// `/registry/pods/`
pub fn storage_prefix(resource: &Resource) -> String {
    format!("/registry/{}/", resource.storage_prefix)
}

/// metav1.ListOptions and the options of writes, as query parameters.
#[derive(Clone, Debug, Default)]
pub struct Query(HashMap<String, String>);

impl Query {
    pub fn parse(uri: &Uri) -> Query {
        let pairs = uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty());
        let mut query = HashMap::new();
        for pair in pairs {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            // Of what is said twice the first counts, as in apimachinery.
            query.entry(decode(key)).or_insert_with(|| decode(value));
        }
        Query(query)
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.0
            .get(key)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    pub fn flag(&self, key: &str) -> bool {
        self.told(key).unwrap_or(false)
    }

    /// A flag for which it matters whether it was there.
    pub fn told(&self, key: &str) -> Option<bool> {
        self.0.get(key).map(|value| truth(value))
    }

    pub fn number(&self, key: &str) -> Result<Option<i64>> {
        self.text(key)
            .map(|text| {
                text.parse().map_err(|_| {
                    Status::bad_request(format!(
                        "strconv.ParseInt: parsing {text:?}: invalid syntax"
                    ))
                })
            })
            .transpose()
    }

    pub fn labels(&self) -> Result<LabelSelector> {
        LabelSelector::parse(self.text("labelSelector").unwrap_or_default())
    }

    pub fn fields(&self) -> Result<FieldSelector> {
        FieldSelector::parse(self.text("fieldSelector").unwrap_or_default())
    }

    /// `None` where the client names no version: it wants the newest.
    pub fn resource_version(&self) -> Result<Option<i64>> {
        self.text("resourceVersion")
            .map(|text| {
                text.parse().map_err(|_| {
                    Status::bad_request(format!(
                        "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"
                    ))
                })
            })
            .transpose()
    }

    pub fn timeout(&self) -> Result<Option<Duration>> {
        Ok(self.number("timeoutSeconds")?.map(vetch_api::time::wait))
    }

    pub fn dry_run(&self) -> Result<bool> {
        match self.text("dryRun") {
            None => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(Status::bad_request(format!(
                "dryRun: Unsupported value: {other:?}: supported values: \"All\""
            ))),
        }
    }
}

/// apimachinery's Convert_Slice_string_To_bool: what does not say no says yes, and so does nothing at all.
fn truth(value: &str) -> bool {
    value != "0" && !value.eq_ignore_ascii_case("false")
}

/// Undoes the escapes of a query.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let parsed = std::str::from_utf8(&digits)
                    .ok()
                    .and_then(|d| u8::from_str_radix(d, 16).ok());
                match parsed {
                    Some(byte) => bytes.push(byte),
                    None => {
                        bytes.push(b'%');
                        bytes.extend(digits);
                    }
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_apimachinery_reads_them() {
        for (query, told) in [
            ("", None),
            ("watches=1", None),
            ("Watch=1", None),
            ("watch", Some(true)),
            ("watch=", Some(true)),
            ("watch=1", Some(true)),
            ("watch=true", Some(true)),
            ("watch=True", Some(true)),
            ("watch=TRUE", Some(true)),
            ("watch=t", Some(true)),
            ("watch=yes", Some(true)),
            ("watch=no", Some(true)),
            ("watch=2", Some(true)),
            ("watch=00", Some(true)),
            ("watch=+false", Some(true)),
            ("watch=0", Some(false)),
            ("watch=%30", Some(false)),
            ("watch=false", Some(false)),
            ("watch=False", Some(false)),
            ("watch=FALSE", Some(false)),
            ("watch=f", Some(true)),
            ("watch=true&watch=false", Some(true)),
            ("watch=false&watch=true", Some(false)),
            ("a=1&watch=0&watch", Some(false)),
        ] {
            let query = Query::parse(&format!("/?{query}").parse().unwrap());
            assert_eq!(query.told("watch"), told, "{query:?}");
            assert_eq!(query.flag("watch"), told == Some(true), "{query:?}");
        }
        let twice = Query::parse(&"/?limit=1&limit=2&dryRun=All&dryRun=x".parse().unwrap());
        assert_eq!(twice.number("limit").unwrap(), Some(1));
        assert!(twice.dry_run().unwrap());
    }

    #[test]
    fn a_timeout_is_one_that_can_be_waited_for() {
        for (query, wanted) in [
            ("", None),
            ("timeoutSeconds=-1", Some(Duration::ZERO)),
            ("timeoutSeconds=5", Some(Duration::from_secs(5))),
            (
                "timeoutSeconds=9223372036854775807",
                Some(vetch_api::time::LONGEST),
            ),
        ] {
            let query = Query::parse(&format!("/?{query}").parse().unwrap());
            assert_eq!(query.timeout().unwrap(), wanted, "{query:?}");
        }
        let past = Query::parse(&"/?timeoutSeconds=9223372036854775808".parse().unwrap());
        assert_eq!(past.timeout().unwrap_err().code.as_u16(), 400);
    }

    #[test]
    fn what_another_server_answers_keeps_its_path() {
        let pod = "/api/v1/namespaces/n/pods/http:p:80";
        for (path, behind) in [
            (format!("{pod}/proxy"), ""),
            (format!("{pod}/proxy/"), "/"),
            (format!("{pod}/proxy/a//b%2Fc/"), "/a//b%2Fc/"),
            (format!("/{pod}/proxy/log"), "/log"),
        ] {
            let target = Target::parse(vetch_api::registry(), &path).unwrap();
            assert_eq!(target.subresource.unwrap().name, "proxy");
            assert_eq!(target.name.as_deref(), Some("http:p:80"));
            assert_eq!(target.behind, behind, "{path}");
        }
        assert!(Target::parse(vetch_api::registry(), &format!("{pod}/log/a")).is_none());
    }
}
