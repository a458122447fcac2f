use super::*;

const NONE: [(&str, &str); 0] = [];

#[test]
fn blocks_by_hand() {
    for (block, headers) in [
        (&b"\0\0\0\0"[..], Headers::new(NONE)),
        (
            b"\0\0\0\x02\0\0\0\x04port\0\0\0\x0280\0\0\0\x0astreamtype\0\0\0\x04data",
            Headers::new([("port", "80"), ("streamtype", "data")]),
        ),
        (b"\0\0\0\x01\0\0\0\x01a\0\0\0\0", Headers::new([("a", "")])),
        (
            b"\0\0\0\x01\0\0\0\x01a\0\0\0\x03b\0c",
            Headers::new([("a", "b\0c")]),
        ),
    ] {
        assert_eq!(Headers::read(block), Ok(headers.clone()));
        assert_eq!(headers.write(), block);
    }
}

#[test]
fn what_is_no_block() {
    for (block, wanted) in [
        (&b""[..], BlockError::Short),
        (b"\0\0\0\x01", BlockError::Short),
        (b"\0\0\0\x01\0\0\0\x02a", BlockError::Short),
        (b"\0\0\0\x01\0\0\0\x01a\xff\xff\xff\xffb", BlockError::Short),
        (b"\0\0\0\x81", BlockError::Many(129)),
        (b"\0\0\0\0abc", BlockError::Long(3)),
        (b"\0\0\0\x01\0\0\0\0\0\0\0\x01b", BlockError::Name),
        (b"\0\0\0\x01\0\0\0\x01A\0\0\0\x01b", BlockError::Name),
        (
            b"\0\0\0\x02\0\0\0\x01a\0\0\0\x01b\0\0\0\x01a\0\0\0\x01b",
            BlockError::Name,
        ),
        (b"\0\0\0\x01\0\0\0\x01\xff\0\0\0\0", BlockError::Text),
    ] {
        assert_eq!(Headers::read(block), Err(wanted), "{block:?}");
    }
}

#[test]
fn the_first_value_counts() {
    let headers = Headers::new([("a", "b\0c"), ("d", "")]);
    assert_eq!(headers.get("a"), Some("b"));
    assert_eq!(headers.get("d"), Some(""));
    assert_eq!(headers.get("e"), None);
}
