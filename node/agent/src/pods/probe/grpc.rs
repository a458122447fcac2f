//! Asking by the gRPC health protocol (`grpc.health.v1.Health/Check`): one
//! message of one field each way, so it is written here and not generated.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::GRPCAction;
use tokio::net::TcpStream;

use super::Outcome;

/// grpc-status UNIMPLEMENTED.
const UNIMPLEMENTED: &str = "12";
/// HealthCheckResponse.ServingStatus, by number.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

pub async fn ask(action: &GRPCAction, pod_ip: IpAddr, timeout: Duration) -> Outcome {
    let Ok(port) = u16::try_from(action.port) else {
        return Outcome::Error(format!("invalid port number: {}", action.port));
    };
    let service = action.service.as_deref().unwrap_or_default();
    let address = match pod_ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    };
    match tokio::time::timeout(timeout, check(&address, service)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!(
            "timeout: failed to connect service \"{address}\" within {}: context deadline exceeded",
            crate::pods::text::go_duration(timeout)
        )),
    }
}

async fn check(address: &str, service: &str) -> Outcome {
    let failed = |error: &dyn std::fmt::Display| {
        Outcome::Failure(format!(
            "error: failed to connect service at \"{address}\": {error}"
        ))
    };
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return failed(&error),
    };
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut sender, connection) = match handshake {
        Ok(made) => made,
        Err(error) => return failed(&error),
    };
    // Ends with `sender`.
    tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(encode(service)));
    let request = match request {
        Ok(request) => request,
        Err(error) => return Outcome::Error(error.to_string()),
    };
    let response = match sender.send_request(request).await {
        Ok(response) => response,
        Err(error) => return failed(&error),
    };
    let (head, body) = response.into_parts();
    let body = match body.collect().await {
        Ok(body) => body,
        Err(error) => return failed(&error),
    };
    let trailers = body.trailers().cloned().unwrap_or_default();
    let field = |name: &str| {
        let value = trailers.get(name).or_else(|| head.headers.get(name));
        value
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let status = field("grpc-status").unwrap_or_default();
    let message = field("grpc-message").unwrap_or_default();
    verdict(&status, &message, &body.to_bytes())
}

fn verdict(status: &str, message: &str, body: &[u8]) -> Outcome {
    match status {
        "0" => match serving_status(body) {
            Some(1) => Outcome::Success,
            other => {
                let name = other
                    .and_then(|number| STATUSES.get(usize::try_from(number).ok()?))
                    .unwrap_or(&STATUSES[0]);
                Outcome::Failure(format!("service unhealthy (responded with \"{name}\")"))
            }
        },
        UNIMPLEMENTED => Outcome::Failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {message}"
        )),
        _ => Outcome::Failure(format!("error: health rpc probe failed: {message}")),
    }
}

/// A frame around HealthCheckRequest: field 1 is the service's name.
fn encode(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(service.len(), &mut message);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&message);
    frame.into()
}

fn varint(mut number: usize, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

/// Field 1 of HealthCheckResponse; it is left out when zero.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let message = frame.get(5..)?;
    match message {
        [] => Some(0),
        [0x08, value, ..] if *value < 0x80 => Some((*value).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames() {
        assert_eq!(&encode("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&encode("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        for (frame, want) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0], None),
        ] {
            assert_eq!(serving_status(frame), want, "{frame:?}");
        }
    }

    #[test]
    fn verdicts() {
        let failed = |words: &str| Outcome::Failure(words.to_owned());
        for (status, body, want) in [
            ("0", &[0, 0, 0, 0, 2, 8, 1][..], Outcome::Success),
            (
                "0",
                &[0, 0, 0, 0, 2, 8, 2],
                failed("service unhealthy (responded with \"NOT_SERVING\")"),
            ),
            (
                "12",
                &[],
                failed(
                    "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): words",
                ),
            ),
            ("5", &[], failed("error: health rpc probe failed: words")),
        ] {
            assert_eq!(verdict(status, "words", body), want, "{status} {body:?}");
        }
    }

    /// Against a real HTTP/2 server.
    #[tokio::test]
    async fn a_serving_server() {
        use http_body_util::StreamBody;
        use hyper::body::Frame;
        use hyper::service::service_fn;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let service = service_fn(|request: Request<hyper::body::Incoming>| async move {
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let asked = request.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(asked, encode("db"));
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                let frames = futures::stream::iter([
                    Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from_static(&[
                        0, 0, 0, 0, 2, 8, 1,
                    ]))),
                    Ok(Frame::trailers(trailers)),
                ]);
                Ok::<_, std::convert::Infallible>(http::Response::new(StreamBody::new(frames)))
            });
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        let action = GRPCAction {
            port: port.into(),
            service: Some("db".into()),
        };
        let got = ask(
            &action,
            IpAddr::from([127, 0, 0, 1]),
            Duration::from_secs(5),
        )
        .await;
        assert_eq!(got, Outcome::Success);
    }
}
