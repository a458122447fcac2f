use super::*;

#[test]
fn quantities_are_canonical() {
    let table = [
        ("0", "0"),
        ("100m", "100m"),
        ("0.1", "100m"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("128974848", "128974848"),
        ("1000k", "1M"),
        ("129e6", "129e6"),
        ("1e3", "1e3"),
        ("12e", ""),
        ("512", "512"),
        ("0.5Ki", "512"),
        ("-1", "-1"),
        (".5", "500m"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("5E", "5E"),
        ("1Kii", ""),
        ("1x", ""),
        ("", ""),
        ("1 Gi", ""),
    ];
    for (text, expected) in table {
        match Quantity::parse(text) {
            Ok(q) => assert_eq!(q.to_string(), expected, "{text}"),
            Err(_) => assert_eq!("", expected, "{text}"),
        }
    }
}

#[test]
fn sums_are_written_as_their_first() {
    let q = |text| Quantity::parse(text).unwrap();
    for (one, other, sum) in [
        ("512Mi", "512Mi", "1Gi"),
        ("500m", "1", "1500m"),
        ("0", "1Ki", "1Ki"),
        ("1M", "1Mi", "2048576"),
    ] {
        assert_eq!((q(one) + q(other)).to_string(), sum, "{one} + {other}");
    }
}

#[test]
fn quantities_compare_across_notations() {
    let q = |text| Quantity::parse(text).unwrap();
    assert!(q("1Gi") > q("1G"));
    assert!(q("1000m") == q("1"));
    assert_eq!(
        (
            q("1500m").value(),
            q("1500m").milli_value(),
            q("-1500m").value()
        ),
        (2, 1500, -1)
    );
}

#[test]
fn amounts() {
    let table = [
        ("cpu", "100m", Some(100)),
        ("cpu", "1.5", Some(1500)),
        ("cpu", "2", Some(2000)),
        ("cpu", "1u", Some(1)),
        ("memory", "1Ki", Some(1024)),
        ("memory", "1.5Gi", Some(1_610_612_736)),
        ("memory", "128M", Some(128_000_000)),
        ("memory", "1e3", Some(1000)),
        ("memory", "100m", Some(1)),
        ("memory", "-1", Some(-1)),
        ("memory", "9Ei", Some(i64::MAX)),
        ("memory", "x", None),
        ("memory", "", None),
        ("memory", "1Zi", None),
    ];
    for (resource, text, wanted) in table {
        assert_eq!(amount(resource, text), wanted, "{resource} {text}");
    }
}

/// None is more than 2^63-1, none finer than a nano, and no text is too much to read.
#[test]
fn what_is_too_large_or_too_fine() {
    const MOST: i128 = i64::MAX as i128 * NANO;
    let many = |digit: &str| digit.repeat(10_000);
    let table = [
        ("1e2147483647", MOST),
        ("-1e2147483647", -MOST),
        ("1e9223372036854775807", MOST),
        ("1e-2147483648", 1),
        ("1e-9223372036854775808", 1),
        ("-1e-2147483648", -1),
        ("0e2147483647", 0),
        ("0.00e-2147483648", 0),
        // The last i128, and the one beyond.
        ("1.70141183460469231731687303715884105727", 1_701_411_835),
        ("1.70141183460469231731687303715884105728", 1_701_411_835),
        ("170141183460469231731687303715884105728n", MOST),
        ("9223372036854775806", MOST - NANO),
        ("9223372036854775807", MOST),
        ("9223372036854775808", MOST),
        ("9223372036854775806.9999999999", MOST),
        ("9223372036854775807.1", MOST),
        ("7Ei", (7 << 60) * NANO),
        ("8Ei", MOST),
        ("7.9999999999999999999999Ei", MOST),
        ("9223372036854775807Ei", MOST),
        ("9E", 9 * NANO * NANO * NANO),
        ("10E", MOST),
        ("0.0000000000000000000000000000001Ki", 1),
        // 1024 / 10^9, and a bit more.
        ("0.000000001Ki", 1024),
        ("0.0000000010000000000000000000001Ki", 1025),
        ("0.0009765625Ki", NANO),
        ("0.000000001", 1),
        ("0.0000000011", 2),
        ("-0.0000000011", -2),
    ];
    let long = [
        (many("0") + "1", NANO),
        (many("9"), MOST),
        (format!("0.{}1", many("0")), 1),
        (format!("1.{}", many("9")), 2 * NANO),
        (format!("1{}e-10000", many("0")), NANO),
    ];
    let table = table.map(|(text, nanos)| (text.to_owned(), nanos));
    for (text, nanos) in table.into_iter().chain(long) {
        let read = Quantity::parse(&text).unwrap();
        assert_eq!(read.nanos(), nanos, "{text}");
    }
    for text in [
        "1e9223372036854775808",
        "1e",
        "1e+",
        "1e+-1",
        ".",
        "1.2.3",
        "Mi",
        " 1",
    ] {
        assert!(Quantity::parse(text).is_err(), "{text:?}");
    }
    let most = Quantity::parse("1e99").unwrap();
    assert_eq!(most.to_string(), i64::MAX.to_string());
    assert_eq!((most + most).value(), i64::MAX);
}

#[test]
fn units_are_rounded_up() {
    let table = [
        ("1500m", "1", Some(2)),
        ("1500m", "1m", Some(1500)),
        ("65000Ki", "1Mi", Some(64)),
        ("-1500m", "1", Some(-1)),
        ("1e99", "1n", Some(i64::MAX)),
        ("1", "1e99", Some(1)),
        ("5", "0", None),
        ("5", "-1", None),
    ];
    for (text, unit, wanted) in table {
        let q = |text| Quantity::parse(text).unwrap();
        assert_eq!(q(text).in_units_of(&q(unit)), wanted, "{text} in {unit}");
    }
}
