use super::*;

const OFFER: Offer = Offer {
    web_sockets: &["v5.channel.k8s.io", "v4.channel.k8s.io"],
    spdy: &["v4.channel.k8s.io"],
};

const WEB_SOCKET: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
const SPDY_31: [(&str, &str); 2] = [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")];

fn shake(headers: &[(&str, &str)], more: &[(&str, &str)]) -> Result<(Response, Agreed), Refused> {
    let mut request = Request::builder().uri("/exec/a/b/c");
    for (name, value) in headers.iter().chain(more) {
        request = request.header(*name, *value);
    }
    shake_hands(&request.body(Body::empty()).unwrap(), &OFFER)
}

#[test]
fn what_is_agreed_on() {
    let spdy = "x-stream-protocol-version";
    let web = "sec-websocket-protocol";
    for (headers, more, wanted) in [
        (
            &WEB_SOCKET[..],
            &[(web, "v5.channel.k8s.io")][..],
            Agreed::WebSocket("v5.channel.k8s.io"),
        ),
        // The client's first counts.
        (
            &WEB_SOCKET,
            &[(web, "x, v4.channel.k8s.io"), (web, "v5.channel.k8s.io")],
            Agreed::WebSocket("v4.channel.k8s.io"),
        ),
        (
            &SPDY_31,
            &[
                (spdy, "v5.channel.k8s.io"),
                (spdy, "v4.channel.k8s.io"),
                (spdy, "channel.k8s.io"),
            ],
            Agreed::Spdy("v4.channel.k8s.io"),
        ),
    ] {
        let (response, agreed) = shake(headers, more).unwrap();
        assert_eq!((response.status().as_u16(), agreed), (101, wanted));
        let headers = response.headers();
        match agreed {
            Agreed::WebSocket(name) => {
                // RFC 6455, 1.3: the answer to this key.
                let accepted = &headers["sec-websocket-accept"];
                assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                assert_eq!(headers[web], name);
            }
            Agreed::Spdy(name) => {
                assert_eq!(
                    (&headers["connection"], &headers["upgrade"]),
                    (&"Upgrade".parse().unwrap(), &"SPDY/3.1".parse().unwrap())
                );
                assert_eq!(headers[spdy], name);
            }
        }
    }
}

#[test]
fn who_names_no_protocol_gets_the_nameless_one() {
    let nameless = Offer {
        web_sockets: &["v4.channel.k8s.io", ""],
        spdy: &[],
    };
    let mut request = Request::new(Body::empty());
    for (name, value) in &WEB_SOCKET {
        let value = HeaderValue::from_static(value);
        request.headers_mut().insert(*name, value);
    }
    let (response, agreed) = shake_hands(&request, &nameless).unwrap();
    assert_eq!(agreed, Agreed::WebSocket(""));
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
    assert_eq!(shake_hands(&request, &OFFER).unwrap_err().0, 403);
}

#[test]
fn what_is_refused() {
    for (headers, more, code, words) in [
        (&[][..], &[][..], 400, "Upgrade request required"),
        (
            &[("upgrade", "h2c")],
            &[],
            400,
            "unable to upgrade: h2c is not spoken here",
        ),
        (
            &WEB_SOCKET,
            &[("sec-websocket-protocol", "v4.base64.channel.k8s.io, x")],
            403,
            "requested protocol(s) are not supported: [v4.base64.channel.k8s.io x]; supports [v5.channel.k8s.io v4.channel.k8s.io]",
        ),
        (
            &SPDY_31,
            &[],
            400,
            "unable to upgrade: X-Stream-Protocol-Version is required",
        ),
        (
            &SPDY_31,
            &[("x-stream-protocol-version", "v2.channel.k8s.io")],
            403,
            "unable to upgrade: unable to negotiate protocol: client supports [v2.channel.k8s.io], server accepts [v4.channel.k8s.io]",
        ),
    ] {
        let (status, said) = shake(headers, more).map(|_| ()).unwrap_err();
        assert_eq!((status.as_u16(), said.as_str()), (code, words));
    }
    let more = [("sec-websocket-protocol", "v5.channel.k8s.io")];
    let (status, said) = shake(&WEB_SOCKET[..3], &more).map(|_| ()).unwrap_err();
    assert_eq!(status.as_u16(), 400);
    assert!(said.starts_with("unable to upgrade: "), "{said}");
}
