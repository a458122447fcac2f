use super::*;

fn parse(line: &str) -> Result<Command, clap::Error> {
    Command::try_parse_from(std::iter::once("vetch-load").chain(line.split_whitespace()))
}

#[test]
fn ports_are_one_or_a_range() {
    for (text, expected) in [
        ("8080", Some((8080, 8080))),
        ("8080-8179", Some((8080, 8179))),
        ("0", Some((0, 0))),
        ("0-5", None),
        ("9-8", None),
        ("65536", None),
        ("1-2-3", None),
        ("", None),
    ] {
        let ports = text.parse::<Ports>().ok();
        assert_eq!(ports.map(|p| (p.first, p.last)), expected, "{text}");
    }
}

#[test]
fn defaults_are_those_promised() {
    let Command::Serve(serve) = parse("serve").unwrap() else {
        panic!("serve is another command");
    };
    assert_eq!((serve.tcp.first, serve.tcp.last), (8080, 8080));
    assert_eq!((serve.udp.first, serve.control), (8080, 9000));
    assert_eq!(serve.threads.get(), 1);
    let line = "run --kind keepalive --targets 10.0.0.1:80,10.0.0.2:81 --seconds 3";
    let Command::Run(run) = parse(line).unwrap() else {
        panic!("run is another command");
    };
    assert_eq!(run.targets[1], "10.0.0.2:81".parse().unwrap());
    assert_eq!((run.connections.get(), run.threads.get()), (16, 1));
    assert_eq!((run.rate, run.warmup), (None, 0.5));
    assert_eq!((run.check(), run.answer), (Ok(()), Answer::Address));
    let line =
        "run --kind dns --targets 10.96.0.10:53 --seconds 3 --name web.vetch. --answer nxdomain";
    let Command::Run(run) = parse(line).unwrap() else {
        panic!("run is another command");
    };
    assert_eq!((run.check(), run.answer), (Ok(()), Answer::Nxdomain));
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for line in [
        "",
        "serve --threads 0",
        "serve --tcp 5-4",
        "run --kind keepalive --seconds 1",
        "run --kind other --targets 10.0.0.1:80 --seconds 1",
        "run --kind udp --targets 10.0.0.1 --seconds 1",
        "run --kind udp --targets 10.0.0.1:80",
        "run --kind udp --targets 10.0.0.1:80 --seconds 1 --connections 0",
        "follow --target 10.0.0.1:80 --seconds 1 --interval-micros 0",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    for (rest, misuse) in [
        ("--kind udp --seconds 0", Misuse::Time("seconds", 0.0)),
        (
            "--kind udp --seconds inf",
            Misuse::Time("seconds", f64::INFINITY),
        ),
        (
            "--kind udp --seconds 1 --warmup=-1",
            Misuse::Time("warmup", -1.0),
        ),
        ("--kind udp --seconds 1 --rate 0", Misuse::Rate(0.0)),
        ("--kind udp --seconds 1 --rate 1e12", Misuse::Rate(1e12)),
        ("--kind stream --seconds 1 --rate 5", Misuse::StreamRate),
        ("--kind dns --seconds 1", Misuse::Name),
        ("--kind udp --seconds 1 --name a.example", Misuse::Name),
        (
            "--kind dns --seconds 1 --name a..example",
            Misuse::BadName("a..example".into()),
        ),
        (
            "--kind udp --seconds 1 --threads 3 --connections 2",
            Misuse::Threads {
                threads: 3,
                connections: 2,
            },
        ),
    ] {
        let line = format!("run --targets 10.0.0.1:80 {rest}");
        let Command::Run(run) = parse(&line).unwrap() else {
            panic!("run is another command");
        };
        assert_eq!(run.check(), Err(misuse), "{line}");
    }
}
