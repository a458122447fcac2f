//! The line echo: each line comes back with the pod's name before it.

/// Longer lines end the connection.
const LINE_LIMIT: usize = 64 * 1024;

/// Answers whole lines. Returns how much of the input is done with; None: the line is too long.
pub fn answer(input: &[u8], pod: &str, output: &mut Vec<u8>) -> Option<usize> {
    let mut done = 0;
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") {
            return (line.len() < LINE_LIMIT).then_some(done);
        }
        output.extend_from_slice(pod.as_bytes());
        output.extend_from_slice(b": ");
        output.extend_from_slice(line);
        done += line.len();
    }
    Some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_come_back() {
        for (input, output, done) in [
            ("", "", 0),
            ("hal", "", 0),
            ("hallo\n", "p: hallo\n", 6),
            ("a\n\nb", "p: a\np: \n", 3),
        ] {
            let mut found = Vec::new();
            assert_eq!(
                answer(input.as_bytes(), "p", &mut found),
                Some(done),
                "{input:?}"
            );
            assert_eq!(String::from_utf8_lossy(&found), output, "{input:?}");
        }
        let long = vec![b'x'; LINE_LIMIT];
        assert_eq!(answer(&long, "p", &mut Vec::new()), None);
    }
}
