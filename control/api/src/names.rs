//! The grammars of Kubernetes' names, labels and keys. Each check returns what is wrong, in Kubernetes' words.

pub const DNS1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
pub const DNS1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const DNS1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED_NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const QUALIFIED_FORM: &str = "a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";

/// A check of a string: what is wrong with it.
pub type NameCheck = fn(&str) -> Vec<String>;

/// RFC 1123 subdomain: names of most kinds.
pub fn subdomain(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 253 {
        errors.push(max_len(253));
    }
    if name.is_empty() || !name.split('.').all(|part| is_label(part, false)) {
        errors.push(DNS1123_SUBDOMAIN.to_string());
    }
    errors
}

/// RFC 1123 label: namespaces, containers, ports of services.
pub fn label(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 63 {
        errors.push(max_len(63));
    }
    if !is_label(name, false) {
        // A name with dots is told about dots, as upstream does.
        let dotted = !name.is_empty()
            && name.contains('.')
            && name.split('.').all(|part| is_label(part, false));
        errors.push(if dotted {
            "must not contain dots".to_string()
        } else {
            DNS1123_LABEL.to_string()
        });
    }
    errors
}

/// RFC 1035 label: services.
pub fn label1035(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 63 {
        errors.push(max_len(63));
    }
    if !is_label(name, true) {
        errors.push(DNS1035_LABEL.to_string());
    }
    errors
}

/// `example.com/name`: label and annotation keys, resource names, finalizers.
pub fn qualified(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let part = match name.split('/').collect::<Vec<_>>().as_slice() {
        [part] => *part,
        [prefix, part] => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_string());
            } else {
                errors.extend(
                    subdomain(prefix)
                        .into_iter()
                        .map(|e| format!("prefix part {e}")),
                );
            }
            *part
        }
        _ => {
            errors.push(QUALIFIED_FORM.to_string());
            return errors;
        }
    };
    if part.is_empty() {
        errors.push("name part must be non-empty".to_string());
    } else if part.len() > 63 {
        errors.push(format!("name part {}", max_len(63)));
    }
    if !is_name_part(part) {
        errors.push(QUALIFIED_NAME.to_string());
    }
    errors
}

/// What can stand in a URL between two slashes: names of resources, and of objects of any kind.
pub fn path_segment(name: &str) -> Vec<String> {
    if matches!(name, "." | "..") {
        return vec![format!("may not be '{name}'")];
    }
    let forbidden = ["/", "%"].into_iter().filter(|sign| name.contains(sign));
    forbidden
        .map(|sign| format!("may not contain '{sign}'"))
        .collect()
}

pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 63 {
        errors.push(max_len(63));
    }
    if !value.is_empty() && !is_name_part(value) {
        errors.push(LABEL_VALUE.to_string());
    }
    errors
}

/// Keys of ConfigMaps and Secrets.
pub fn config_key(key: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if key.len() > 253 {
        errors.push(max_len(253));
    }
    if key.is_empty()
        || !key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    {
        errors.push(CONFIG_KEY.to_string());
    }
    match key {
        "." => errors.push("must not be '.'".to_string()),
        ".." => errors.push("must not be '..'".to_string()),
        _ if key.starts_with("..") => errors.push("must not start with '..'".to_string()),
        _ => {}
    }
    errors
}

pub fn env_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.chars().all(|c| (' '..='~').contains(&c) && c != '=') {
        Vec::new()
    } else {
        vec![ENV_NAME.to_string()]
    }
}

/// IANA_SVC_NAME: names of container ports.
pub fn port_name(name: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if name.len() > 15 {
        errors.push(max_len(15));
    }
    if name.is_empty()
        || !name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    {
        errors.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_string(),
        );
    }
    if !name.chars().any(|c| c.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_string());
    }
    if name.contains("--") {
        errors.push("must not contain consecutive hyphens".to_string());
    }
    if name.starts_with('-') || name.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_string());
    }
    errors
}

/// What holds for a number of a port.
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_string()]
    }
}

pub fn max_len(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_label(text: &str, alphabetic_start: bool) -> bool {
    let bytes = text.as_bytes();
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            alnum(first)
                && alnum(last)
                && (!alphabetic_start || first.is_ascii_lowercase())
                && bytes.iter().all(|b| alnum(b) || *b == b'-')
        }
        _ => false,
    }
}

fn is_name_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let table: &[(NameCheck, &str, usize)] = &[
            (subdomain, "a.b-c.9", 0),
            (subdomain, "A", 1),
            (subdomain, "a..b", 1),
            (subdomain, "-a", 1),
            (label, "web-1", 0),
            (label, "web.1", 1),
            (label1035, "1web", 1),
            (label1035, "web", 0),
            (qualified, "app", 0),
            (qualified, "app.kubernetes.io/name", 0),
            (qualified, "/name", 1),
            (qualified, "a/b/c", 1),
            (qualified, "a_", 1),
            (label_value, "", 0),
            (label_value, "a b", 1),
            (config_key, "game.properties", 0),
            (config_key, "../x", 2),
            (port_name, "http-2", 0),
            (port_name, "80", 1),
            (env_name, "A.B", 0),
            (env_name, "A=B", 1),
        ];
        for (check, text, errors) in table {
            assert_eq!(check(text).len(), *errors, "{text}: {:?}", check(text));
        }
        assert!(label(&"a".repeat(64))[0].contains("no more than 63 bytes"));
    }
}
