use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// Answers each connection with the text that `answer` makes of the request.
async fn server(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        // Those that get no answer stay open.
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut bytes = [0; 1024];
                let length = stream.read(&mut bytes).await.unwrap();
                if length == 0 {
                    break;
                }
                request.extend_from_slice(&bytes[..length]);
            }
            match answer(&String::from_utf8(request).unwrap()) {
                Some(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                None => open.push(stream),
            }
        }
    });
    port
}

async fn ask_port(port: u16, action: Value) -> Outcome {
    let mut action = action;
    action["port"] = json!(port);
    let action = serde_json::from_value(action).unwrap();
    ask(
        &client().unwrap(),
        &action,
        &Container::default(),
        IpAddr::from([127, 0, 0, 1]),
        Duration::from_millis(300),
    )
    .await
}

fn status(line: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"))
}

#[tokio::test]
async fn by_status_code() {
    let port = server(|request| {
        let path = request.split_whitespace().nth(1).unwrap();
        match path {
            "/ok" => status("200 OK"),
            "/down" => status("503 Service Unavailable"),
            "/local" => status("302 Found\r\nLocation: /down"),
            "/away" => status("302 Found\r\nLocation: http://example.invalid/"),
            _ => None,
        }
    })
    .await;
    let failed = |words: &str| Outcome::Failure(words.to_owned());
    for (path, want) in [
        ("/ok", Outcome::Success),
        ("/down", failed("HTTP probe failed with statuscode: 503")),
        ("/local", failed("HTTP probe failed with statuscode: 503")),
        (
            "/away",
            Outcome::Warning("Probe terminated redirects, Response body: ".to_owned()),
        ),
        (
            "/slow",
            Outcome::Failure(format!(
                "Get \"http://127.0.0.1:{port}/slow\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            )),
        ),
    ] {
        assert_eq!(ask_port(port, json!({"path": path})).await, want, "{path}");
    }
}

#[tokio::test]
async fn nobody_listens() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    assert_eq!(
        ask_port(port, json!({"path": "/"})).await,
        Outcome::Failure(format!(
            "Get \"http://127.0.0.1:{port}/\": dial tcp 127.0.0.1:{port}: connect: connection refused"
        ))
    );
}

#[tokio::test]
async fn headers_of_the_spec_and_our_own() {
    let port = server(|request| {
        let request = request.to_ascii_lowercase();
        let good = [
            "host: web.local",
            "x-one: 1",
            "user-agent: kube-probe/1.36",
            "accept: */*",
        ]
        .iter()
        .all(|line| request.lines().any(|got| got == *line));
        status(if good { "200 OK" } else { "400 Bad Request" })
    })
    .await;
    let headers = json!([{"name": "Host", "value": "web.local"}, {"name": "X-One", "value": "1"}]);
    assert_eq!(
        ask_port(port, json!({"path": "/", "httpHeaders": headers})).await,
        Outcome::Success
    );
}

#[test]
fn urls() {
    let ip = IpAddr::from([10, 244, 0, 7]);
    for (action, want) in [
        (json!({"port": 80}), "http://10.244.0.7/"),
        (
            json!({"port": 8080, "path": "a?b=c"}),
            "http://10.244.0.7:8080/a?b=c",
        ),
        (
            json!({"port": 8443, "path": "/", "scheme": "HTTPS", "host": "h"}),
            "https://h:8443/",
        ),
    ] {
        let parsed = serde_json::from_value(action.clone()).unwrap();
        let got = url(&parsed, &Container::default(), ip).unwrap();
        assert_eq!(got.as_str(), want, "{action}");
    }
}
