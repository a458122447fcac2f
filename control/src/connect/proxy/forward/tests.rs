//! A server, the proxy before it and a client, all of this process.

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;

const PREFIX: &str = "/api/v1/namespaces/n/pods/p/proxy";

async fn serve<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static) -> SocketAddr
where
    F: Future<Output = Response> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answered = answer(request);
                async move { Ok::<_, Infallible>(answered.await) }
            });
            tokio::spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                let stream = TokioIo::new(stream);
                let _ = builder
                    .serve_connection_with_upgrades(stream, service)
                    .await;
            });
        }
    });
    address
}

/// The proxy's own address before a server's.
async fn proxy(server: SocketAddr) -> SocketAddr {
    let tls = Arc::new(vetch_identity::proxy_config().unwrap());
    let place = Place {
        https: false,
        address: server,
    };
    serve(move |request| {
        let tls = tls.clone();
        async move {
            let behind = request.uri().path()[PREFIX.len()..].to_owned();
            let request = request.map(Body::new);
            match forward(&tls, &place, &behind, request).await {
                Ok(response) => response,
                Err(status) => axum::response::IntoResponse::into_response(status),
            }
        }
    })
    .await
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

/// What a server saw of a request, as its answer.
async fn mirror(request: Request<Incoming>) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| {
        let value = parts.headers.get(name).and_then(|own| own.to_str().ok());
        value.unwrap_or("-").to_owned()
    };
    let told = format!(
        "{} {} {} {} {} {}",
        parts.method,
        parts.uri,
        header("authorization"),
        header("cookie"),
        header("x-forwarded-uri"),
        String::from_utf8_lossy(&body)
    );
    let mut response = Response::new(Body::from(told));
    *response.status_mut() = StatusCode::IM_A_TEAPOT;
    let headers = response.headers_mut();
    headers.insert("x-method", parts.method.as_str().parse().unwrap());
    headers.insert(LOCATION, "/next?a".parse().unwrap());
    response
}

#[tokio::test]
async fn every_method_goes_through_and_its_answer_comes_back() {
    let proxy = proxy(serve(mirror).await).await;
    let client = client();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let body = if matches!(method, "GET" | "HEAD") {
            ""
        } else {
            "text"
        };
        let url = format!("http://{proxy}{PREFIX}/a//b%2F?q=%20");
        let request = client
            .request(method.parse().unwrap(), url)
            .header("authorization", "Bearer secret")
            .header("cookie", "c")
            .body(body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::IM_A_TEAPOT, "{method}");
        assert_eq!(answer.headers()["x-method"], method);
        assert_eq!(answer.headers()[LOCATION], format!("{PREFIX}/next?a"));
        let told = answer.text().await.unwrap();
        let wanted = format!("{method} /a//b%2F?q=%20 - c {PREFIX}/a//b%2F {body}");
        assert_eq!(told, if method == "HEAD" { "" } else { &wanted });
    }
}

#[tokio::test]
async fn a_server_without_its_slash_is_asked_with_it() {
    let proxy = proxy(serve(mirror).await).await;
    let answer = client().get(format!("http://{proxy}{PREFIX}?a=b"));
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY);
    assert_eq!(answer.headers()[LOCATION], format!("{PREFIX}/?a=b"));
}

#[tokio::test]
async fn bodies_flow_as_they_come() {
    // It answers each piece before the next is sent.
    let server = serve(|request: Request<Incoming>| async move {
        Response::new(Body::from_stream(request.into_body().into_data_stream()))
    })
    .await;
    let proxy = proxy(server).await;
    let (pieces, sent) = mpsc::unbounded_channel::<&str>();
    let sent = futures::stream::unfold(sent, async |mut sent| {
        Some((Ok::<_, Infallible>(sent.recv().await?), sent))
    });
    let url = format!("http://{proxy}{PREFIX}/");
    pieces.send("one").unwrap();
    let request = client().post(url).body(reqwest::Body::wrap_stream(sent));
    let mut answer = request.send().await.unwrap();
    for (piece, next) in [("one", "two"), ("two", "three")] {
        assert_eq!(answer.chunk().await.unwrap().unwrap(), piece);
        pieces.send(next).unwrap();
    }
    drop(pieces);
    assert_eq!(answer.text().await.unwrap(), "three");
}

#[tokio::test]
async fn another_protocol_is_carried_both_ways() {
    let server = serve(|mut request: Request<Incoming>| async move {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            let mut question = [0; 4];
            stream.read_exact(&mut question).await.unwrap();
            assert_eq!(&question, b"ping");
            stream.write_all(b"pong").await.unwrap();
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert("connection", "upgrade".parse().unwrap());
        headers.insert("upgrade", request.headers()["upgrade"].clone());
        response
    })
    .await;
    let mut stream = TcpStream::connect(proxy(server).await).await.unwrap();
    let head = format!(
        "GET {PREFIX}/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: ping\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(answer.contains("upgrade: ping\r\n"), "{answer}");
    stream.write_all(b"ping").await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "pong");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let proxy = proxy(address).await;
    let answer = client().get(format!("http://{proxy}{PREFIX}/"));
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let status: serde_json::Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    assert_eq!(
        status["message"],
        format!("error trying to reach service: dial tcp {address}: connect: connection refused")
    );
}
