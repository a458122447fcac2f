//! What a request to the kubelet is in authorisation's terms: something about
//! a subresource of the node.

use http::Method;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub verb: &'static str,
    /// One that is allowed is enough.
    pub subresources: Vec<&'static str>,
}

impl Attributes {
    pub fn of(method: &Method, path: &str) -> Attributes {
        let verb = match *method {
            Method::POST => "create",
            Method::GET | Method::HEAD => "get",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        let below = |prefix: &str| {
            path.strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        // `proxy` is the key to all but what has always had one of its own; some doors have a small one
        // too (KEP-2862).
        let subresources = if below("/stats") {
            vec!["stats"]
        } else if below("/metrics") {
            vec!["metrics"]
        } else if below("/logs") {
            vec!["log"]
        } else if below("/checkpoint") {
            vec!["checkpoint"]
        } else if below("/pods") || below("/runningpods") {
            vec!["pods", "proxy"]
        } else if below("/healthz") {
            vec!["healthz", "proxy"]
        } else if below("/configz") {
            vec!["configz", "proxy"]
        } else {
            vec!["proxy"]
        };
        Attributes { verb, subresources }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (method, path, verb, subresources) in [
            (Method::GET, "/containerLogs/a/b/c", "get", &["proxy"][..]),
            (Method::POST, "/exec/a/b/c", "create", &["proxy"]),
            (Method::GET, "/attach/a/b/c", "get", &["proxy"]),
            (Method::POST, "/portForward/a/b", "create", &["proxy"]),
            (Method::GET, "/portForward/a/b/u", "get", &["proxy"]),
            (Method::GET, "/logs/x", "get", &["log"]),
            (Method::GET, "/logsx", "get", &["proxy"]),
            (Method::GET, "/stats/summary", "get", &["stats"]),
            (Method::GET, "/metrics", "get", &["metrics"]),
            (Method::GET, "/metrics/resource", "get", &["metrics"]),
            (Method::HEAD, "/metrics/none", "get", &["metrics"]),
            (Method::GET, "/pods", "get", &["pods", "proxy"]),
            (Method::GET, "/runningpods/", "get", &["pods", "proxy"]),
            (Method::GET, "/healthz", "get", &["healthz", "proxy"]),
            (Method::GET, "/configz", "get", &["configz", "proxy"]),
            (Method::GET, "/configzx", "get", &["proxy"]),
            (Method::POST, "/checkpoint/a/b/c", "create", &["checkpoint"]),
            (Method::DELETE, "/", "delete", &["proxy"]),
        ] {
            let want = Attributes {
                verb,
                subresources: subresources.to_vec(),
            };
            assert_eq!(Attributes::of(&method, path), want, "{path}");
        }
    }
}
