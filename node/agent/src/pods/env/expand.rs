//! `$(NAME)` in values, commands and paths.

/// Replaces `$(NAME)` by what `value` says; an unknown name stays as it is
/// written, `$$` is a `$` that begins nothing.
pub fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = reference(rest) {
            match value(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The name in `(NAME)…`, and what follows.
fn reference(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix('(')?.split_once(')')
}

/// With variables given as a list, of which the last of a name counts.
pub fn expand_by(text: &str, env: &[(String, String)]) -> String {
    expand(text, |name| {
        env.iter()
            .rev()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        for (text, want) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "a"),
            ("<$(A)-$(B)>", "<a-$(B)>"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$$$$(A)", "$$(A)"),
            ("$", "$"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("cost: 5$", "cost: 5$"),
            ("$()", "$()"),
        ] {
            let got = expand(text, |name| (name == "A").then(|| "a".to_owned()));
            assert_eq!(got, want, "{text}");
        }
    }
}
