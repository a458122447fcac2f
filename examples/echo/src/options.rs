//! Where to listen and how long to drain: flags stand before the environment.

use std::num::NonZeroUsize;
use std::time::Duration;

/// What `serve` is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// 0 is any free port, here and below.
    pub http: u16,
    pub tcp: u16,
    pub udp: u16,
    pub drain: Duration,
    pub threads: NonZeroUsize,
}

/// (flag, environment variable). The variables end in nothing that Kubernetes makes up for Services.
const HTTP: (&str, &str) = ("--http", "LISTEN_HTTP");
const TCP: (&str, &str) = ("--tcp", "LISTEN_TCP");
const UDP: (&str, &str) = ("--udp", "LISTEN_UDP");
const DRAIN: (&str, &str) = ("--drain", "DRAIN_SECONDS");
const THREADS: (&str, &str) = ("--threads", "THREADS");

impl Options {
    pub fn parse(
        args: &[String],
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Options, String> {
        let known = [HTTP, TCP, UDP, DRAIN, THREADS];
        let mut given: Vec<(&str, &String)> = Vec::new();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let (flag, _) = known
                .iter()
                .find(|(flag, _)| flag == arg)
                .ok_or_else(|| format!("unknown argument {arg:?}"))?;
            let value = rest.next().ok_or_else(|| format!("{arg} needs a value"))?;
            given.push((flag, value));
        }
        let text = |(flag, variable): (&'static str, &'static str)| {
            let last = given.iter().rfind(|(name, _)| *name == flag);
            match last {
                Some((_, value)) => Some((flag, (*value).clone())),
                None => environment(variable).map(|value| (variable, value)),
            }
        };
        let cpus = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Ok(Options {
            http: number(text(HTTP), 8080)?,
            tcp: number(text(TCP), 8081)?,
            udp: number(text(UDP), 8082)?,
            drain: Duration::from_secs(number(text(DRAIN), 5)?),
            threads: number(text(THREADS), cpus)?,
        })
    }
}

fn number<T: std::str::FromStr>(
    text: Option<(&'static str, String)>,
    default: T,
) -> Result<T, String> {
    match text {
        Some((name, text)) => {
            let parsed = text.parse();
            parsed.map_err(|_| format!("{name}: {text:?} is no number that will do"))
        }
        None => Ok(default),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str, environment: &[(&str, &str)]) -> Result<Options, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&args, |name| {
            let mut variables = environment.iter();
            let found = variables.find(|(own, _)| *own == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn flags_stand_before_the_environment_before_defaults() {
        let environment = [("LISTEN_HTTP", "1"), ("LISTEN_TCP", "2"), ("THREADS", "3")];
        let options = parse("--http 9 --drain 0", &environment).unwrap();
        assert_eq!((options.http, options.tcp, options.udp), (9, 2, 8082));
        assert_eq!(options.drain, Duration::ZERO);
        assert_eq!(options.threads.get(), 3);
    }

    #[test]
    fn what_is_no_number_or_no_flag_is_refused() {
        for (line, environment) in [
            ("--http", None),
            ("--http x", None),
            ("--http 65536", None),
            ("--threads 0", None),
            ("--port 1", None),
            ("", Some(("LISTEN_UDP", "tcp://10.0.0.1:80"))),
        ] {
            let variables: Vec<_> = environment.into_iter().collect();
            assert!(parse(line, &variables).is_err(), "{line} {variables:?}");
        }
    }
}
