//! `POST /run/{namespace}/{pod}/{container}?cmd=…`: a command, and what it said, without an upgrade.
//! Deprecated for long, and still served by the kubelet of 1.36.

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderValue, header};
use vetch_runtime::{Chain, NO_LIMIT};

use super::Shared;
use super::streams::{Container, answer, failed};

/// First its output, then its errors, whenever it said them, as the kubelet has it.
pub async fn post(
    State(shared): State<Shared>,
    Path(container): Path<Container>,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    answer(async {
        let command = command(&query);
        let id = container.find(&shared).await?;
        let id = id.ok_or_else(|| container.not_found())?;
        let ran = shared.runtime.exec(&id, command.clone(), NO_LIMIT).await;
        let ran = ran.map_err(|error| failed(Chain(&error).to_string()))?;
        if ran.exit_code != 0 {
            let said = String::from_utf8_lossy(&ran.stderr);
            let (command, code) = (command.join(" "), ran.exit_code);
            return Err(failed(format!(
                "command '{command}' exited with {code}: {said}"
            )));
        }
        let json = HeaderValue::from_static("application/json");
        let said = [ran.stdout, ran.stderr].concat();
        Ok(([(header::CONTENT_TYPE, json)], said).into_response())
    })
    .await
}

/// Divided at each blank, without a shell's quotes.
fn command(query: &[(String, String)]) -> Vec<String> {
    let said = query.iter().find(|(name, _)| name == "cmd");
    let said = said.map_or("", |(_, words)| words);
    said.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command() {
        for (query, want) in [
            (&[("cmd", "ls -l /")][..], &["ls", "-l", "/"][..]),
            (
                &[("x", "1"), ("cmd", "a  b"), ("cmd", "c")],
                &["a", "", "b"],
            ),
            (&[], &[""]),
        ] {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let query: Vec<(String, String)> = query.iter().map(own).collect();
            assert_eq!(command(&query), want);
        }
    }
}
