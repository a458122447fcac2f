//! os-release(5), as far as the node's OS image goes.

/// PRETTY_NAME, or `kernel` where the file does not say.
pub fn pretty_name(text: &str, kernel: &str) -> String {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("PRETTY_NAME="))
        .map(unquote)
        .next_back()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| kernel.to_owned())
}

/// Values are quoted as for a shell.
fn unquote(value: &str) -> String {
    let value = value.trim();
    for quote in ['"', '\''] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            let mut plain = String::new();
            let mut characters = inner.chars();
            while let Some(character) = characters.next() {
                match character {
                    '\\' if quote == '"' => plain.extend(characters.next()),
                    other => plain.push(other),
                }
            }
            return plain;
        }
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::pretty_name;

    #[test]
    fn names() {
        for (text, want) in [
            (
                "NAME=\"Debian GNU/Linux\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n",
                "Debian GNU/Linux 12 (bookworm)",
            ),
            ("PRETTY_NAME=Alpine", "Alpine"),
            ("PRETTY_NAME='It is \"one\"'", "It is \"one\""),
            ("PRETTY_NAME=\"a \\\"b\\\"\"", "a \"b\""),
            ("PRETTY_NAME=\"\"", "Linux"),
            ("", "Linux"),
        ] {
            assert_eq!(pretty_name(text, "Linux"), want, "{text}");
        }
    }
}
