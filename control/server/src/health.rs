//! /livez, /readyz and /healthz: for whoever starts, watches or restarts the server.

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;

use crate::request::Query;
use crate::state::Server;

/// What an endpoint asks after, in the order it is told.
fn checks(endpoint: &str) -> Option<&'static [&'static str]> {
    match endpoint {
        // Only what a restart would help against.
        "livez" => Some(&["ping"]),
        "readyz" | "healthz" => Some(&["ping", "etcd"]),
        _ => None,
    }
}

async fn holds(server: &Server, check: &str) -> bool {
    match check {
        "etcd" => server.store.is_ready() && server.store.current_revision().await.is_ok(),
        _ => true,
    }
}

/// All checks of `/readyz` and its siblings; `None` for other paths.
pub(crate) async fn summary(server: &Server, path: &str, query: &Query) -> Option<Response> {
    let endpoint = path.strip_prefix('/')?;
    let mut told = Vec::new();
    for check in checks(endpoint)? {
        let excluded = query.text("exclude") == Some(check);
        told.push((*check, excluded, excluded || holds(server, check).await));
    }
    let (good, text) = report(endpoint, &told);
    Some(match (good, query.flag("verbose")) {
        (true, false) => "ok".into_response(),
        (true, true) => text.into_response(),
        (false, _) => (StatusCode::INTERNAL_SERVER_ERROR, text).into_response(),
    })
}

/// One check by its own path, `/readyz/etcd`.
pub(crate) async fn single(server: &Server, path: &str) -> Option<Response> {
    let (endpoint, check) = path.strip_prefix('/')?.split_once('/')?;
    if !checks(endpoint)?.contains(&check) {
        return None;
    }
    Some(match holds(server, check).await {
        true => "ok".into_response(),
        false => (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("internal server error: {check} failed\n"),
        )
            .into_response(),
    })
}

/// Whether all is well, and upstream's list of checks.
fn report(endpoint: &str, told: &[(&str, bool, bool)]) -> (bool, String) {
    let good = told.iter().all(|(.., good)| *good);
    let lines = told.iter().map(|(check, excluded, good)| match good {
        true if *excluded => format!("[+]{check} excluded: ok\n"),
        true => format!("[+]{check} ok\n"),
        false => format!("[-]{check} failed: reason withheld\n"),
    });
    let end = match good {
        true => "passed",
        false => "failed",
    };
    (
        good,
        format!("{}{endpoint} check {end}\n", lines.collect::<String>()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_check_spoils_the_answer() {
        for (told, good, text) in [
            (
                [("ping", false, true), ("etcd", false, true)],
                true,
                "[+]ping ok\n[+]etcd ok\nreadyz check passed\n",
            ),
            (
                [("ping", false, true), ("etcd", false, false)],
                false,
                "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n",
            ),
            (
                [("ping", false, true), ("etcd", true, true)],
                true,
                "[+]ping ok\n[+]etcd excluded: ok\nreadyz check passed\n",
            ),
        ] {
            assert_eq!(report("readyz", &told), (good, text.to_owned()));
        }
    }
}
