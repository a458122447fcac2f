//! Which ports a client of `v4.channel.k8s.io` means: it says so before the handshake, in `port`.

/// Channels are numbered by a byte, and each port has two.
const MOST: usize = 128;

/// In the order of their channels; in the kubelet's words why not.
pub fn read(query: &str) -> Result<Vec<u16>, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let asked: Vec<&str> = pairs
        .filter(|(name, _)| *name == "port")
        .map(|(_, value)| value)
        .collect();
    if asked.is_empty() {
        return Err("query parameter \"port\" is required".to_owned());
    }
    let mut ports = Vec::new();
    for value in asked {
        if value.is_empty() {
            return Err("query parameter \"port\" cannot be empty".to_owned());
        }
        // A comma may come as it is, or escaped.
        for port in value.replace("%2C", ",").replace("%2c", ",").split(',') {
            match port.parse() {
                Ok(0) => return Err(format!("port {value:?} must be > 0")),
                Ok(port) => ports.push(port),
                Err(error) => {
                    return Err(format!("unable to parse {value:?} as a port: {error}"));
                }
            }
        }
    }
    match ports.len() > MOST {
        true => Err(format!(
            "{} ports are more than the {MOST} of a connection",
            ports.len()
        )),
        false => Ok(ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_query() {
        for (query, want) in [
            ("port=80", Ok(vec![80])),
            ("a=1&port=80&port=443,65535", Ok(vec![80, 443, 65535])),
            ("port=80%2C81", Ok(vec![80, 81])),
            ("", Err("query parameter \"port\" is required")),
            ("ports=80", Err("query parameter \"port\" is required")),
            ("port=", Err("query parameter \"port\" cannot be empty")),
            ("port=0", Err("port \"0\" must be > 0")),
            ("port=65536", Err("unable to parse \"65536\" as a port: ")),
            ("port=80,", Err("unable to parse \"80,\" as a port: ")),
        ] {
            match (read(query), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{query}"),
                (Err(got), Err(want)) => assert!(got.starts_with(want), "{got}, not {want}"),
                (got, want) => panic!("{query}: {got:?}, not {want:?}"),
            }
        }
        let many = |count: usize| format!("port={}", vec!["80"; count].join(","));
        assert_eq!(read(&many(MOST)).map(|ports| ports.len()), Ok(MOST));
        assert!(read(&many(MOST + 1)).is_err());
    }
}
