use super::*;

/// `VERB GROUP/RESOURCE[/SUBRESOURCE] NAMESPACE NAME`, `-` for what is empty.
fn told(info: &RequestInfo<'_>) -> String {
    let sub = match info.subresource {
        "" => String::new(),
        sub => format!("/{sub}"),
    };
    format!(
        "{} {}/{}{sub} {} {}",
        or_none(info.verb),
        info.group,
        info.resource,
        or_none(info.namespace),
        or_none(info.name)
    )
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[test]
fn paths_name_resources_by_their_form() {
    for (asked, wanted) in [
        (
            "POST /apis/authentication.k8s.io/v1alpha1/selfsubjectreviews",
            "create authentication.k8s.io/selfsubjectreviews - -",
        ),
        ("GET /api/v1/nothings", "list /nothings - -"),
        ("GET /api/v2/pods", "list /pods - -"),
        ("GET /api/v1/nothings/n", "get /nothings - n"),
        ("HEAD /api/v1/nothings/n", "get /nothings - n"),
        ("HEAD /api/v1/nothings", "list /nothings - -"),
        ("PUT /api/v1/nothings/n", "update /nothings - n"),
        ("PATCH /api/v1/nothings/n", "patch /nothings - n"),
        ("DELETE /api/v1/nothings/n", "delete /nothings - n"),
        ("DELETE /api/v1/nothings", "deletecollection /nothings - -"),
        ("OPTIONS /api/v1/nothings", "- /nothings - -"),
        // A namespaced one beyond its namespace, and what follows a subresource.
        ("GET /api/v1/pods/p", "get /pods - p"),
        ("GET /api/v1/pods/p/log/more", "get /pods/log - p"),
        (
            "GET /apis/example.com/v1/namespaces/n/things/t/part/more",
            "get example.com/things/part n t",
        ),
        (
            "DELETE /apis/example.com/v1/namespaces/n/things",
            "deletecollection example.com/things n -",
        ),
        ("GET /api/v1/namespaces/n/nodes/a", "get /nodes n a"),
        ("GET /api/v1/namespaces", "list /namespaces - -"),
        ("GET /api/v1/namespaces/n", "get /namespaces n n"),
        (
            "PUT /api/v1/namespaces/n/status",
            "update /namespaces/status n n",
        ),
        (
            "PUT /api/v1/namespaces/n/finalize/x",
            "update /namespaces/finalize n n",
        ),
        (
            "GET /apis/example.com/v1/namespaces/n",
            "get example.com/namespaces n n",
        ),
        ("GET /api/v1/watch/pods", "watch /pods - -"),
        ("POST /api/v1/watch/pods", "watch /pods - -"),
        ("GET /api/v1/watch/namespaces/n/pods/p", "watch /pods n p"),
        ("GET /api/v1/proxy/nodes/a/logs", "proxy /nodes - a"),
        // Empty segments are none, as for what is served.
        ("GET //api/v1//nothings/", "list /nothings - -"),
    ] {
        let (method, path) = asked.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let info = RequestInfo::parse(&method, path, false).unwrap().unwrap();
        assert_eq!(told(&info), wanted, "{asked}");
    }
    for (method, path, verb) in [
        (Method::GET, "/api/v1/nothings", "watch"),
        (Method::GET, "/api/v1/nothings/n", "get"),
        (Method::POST, "/api/v1/nothings", "create"),
        (Method::DELETE, "/api/v1/nothings", "deletecollection"),
    ] {
        let info = RequestInfo::parse(&method, path, true).unwrap().unwrap();
        assert_eq!(info.verb, verb, "{method} {path}");
    }
}

#[test]
fn other_paths_name_none() {
    for path in [
        "/",
        "/api",
        "/api/v1",
        "/api/v1/",
        "/apis/example.com",
        "/apis/example.com/v1",
        "/apis/example.com/v1//",
        "/openapi/v3/apis/apps/v1",
        "/livez/a/b/c",
        "/apiextra/v1/pods",
    ] {
        let info = RequestInfo::parse(&Method::GET, path, false).unwrap();
        assert_eq!(info, None, "{path}");
    }
    for path in ["/api/v1/watch", "/apis/example.com/v1/proxy/"] {
        let refused = RequestInfo::parse(&Method::GET, path, false).unwrap_err();
        assert_eq!(refused.code, 500, "{path}");
    }
}

/// Of what is served, form and registry say the same.
#[test]
fn what_is_served_is_what_is_named() {
    let registry = vetch_api::registry();
    for row in registry {
        let root = match row.group {
            "" => format!("/api/{}", row.version),
            group => format!("/apis/{group}/{}", row.version),
        };
        let all = format!("{root}/{}", row.plural);
        let within = match row.namespaced {
            true => format!("{root}/namespaces/n/{}", row.plural),
            false => all.clone(),
        };
        let one = format!("{within}/x");
        let slashes = one.replace('/', "//");
        let subs = row.subresources.iter();
        let subs = subs.map(|sub| format!("{one}/{}", sub.name));
        for path in [all, within, one.clone(), slashes].into_iter().chain(subs) {
            let target = Target::parse(registry, &path).expect(&path);
            for method in [Method::GET, Method::POST, Method::DELETE, Method::TRACE] {
                let named = RequestInfo::parse(&method, &path, true).unwrap();
                let served = RequestInfo::of(&target, &method, true);
                assert_eq!(Some(served), named, "{method} {path}");
            }
        }
    }
}

#[test]
fn a_list_may_be_of_one_name() {
    for (asked, selector, name) in [
        ("GET /api/v1/nothings", "metadata.name=n", "n"),
        ("GET /api/v1/nothings", "metadata.name!=n", ""),
        ("GET /api/v1/nothings", "metadata.name=..", ""),
        ("GET /api/v1/nothings", "metadata.name=a/b", ""),
        ("DELETE /api/v1/nothings", "metadata.name=n", ""),
        ("GET /api/v1/nothings/m", "metadata.name=n", "m"),
        ("GET /api/v1/watch/nothings", "metadata.name=n", ""),
    ] {
        let (method, path) = asked.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let info = RequestInfo::parse(&method, path, false).unwrap().unwrap();
        let fields = FieldSelector::parse(selector).unwrap();
        let fields = Some(&fields).filter(|_| info.selects());
        let action = info.action(path, fields);
        assert_eq!(action.name, name, "{asked} {selector}");
    }
}
