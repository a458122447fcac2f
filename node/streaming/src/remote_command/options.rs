//! Which streams of a process the client wants, and what is to be run by exec: the kubelet's parameters.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Empty for attach.
    pub command: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    /// Never with a terminal, which has one output.
    pub stderr: bool,
    pub tty: bool,
}

impl Options {
    /// The error is the kubelet's words.
    pub fn parse(query: Vec<(String, String)>) -> Result<Options, String> {
        let flag = |name: &str| query.iter().any(|(key, value)| key == name && value == "1");
        let tty = flag("tty");
        let mut options = Options {
            command: Vec::new(),
            stdin: flag("input"),
            stdout: flag("output"),
            stderr: flag("error") && !tty,
            tty,
        };
        if !(options.stdin || options.stdout || options.stderr) {
            return Err("you must specify at least 1 of stdin, stdout, stderr".to_owned());
        }
        let commands = query.into_iter().filter(|(key, _)| key == "command");
        options.command = commands.map(|(_, word)| word).collect();
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters() {
        let nothing = Err("you must specify at least 1 of stdin, stdout, stderr".to_owned());
        let some = |command: &[&str], [stdin, stdout, stderr, tty]: [bool; 4]| {
            Ok(Options {
                command: command.iter().map(|&word| word.to_owned()).collect(),
                stdin,
                stdout,
                stderr,
                tty,
            })
        };
        for (query, wanted) in [
            (&[][..], nothing.clone()),
            (&[("output", "0"), ("command", "a")], nothing.clone()),
            // A terminal has no standard error of its own.
            (&[("tty", "1"), ("error", "1")], nothing),
            (
                &[
                    ("command", "sh"),
                    ("output", "1"),
                    ("command", "-c"),
                    ("command", ""),
                    ("error", "1"),
                ],
                some(&["sh", "-c", ""], [false, true, true, false]),
            ),
            (
                &[
                    ("input", "1"),
                    ("output", "1"),
                    ("error", "1"),
                    ("tty", "1"),
                ],
                some(&[], [true, true, false, true]),
            ),
        ] {
            let pairs = query
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()));
            assert_eq!(Options::parse(pairs.collect()), wanted, "{query:?}");
        }
    }
}
