//! A bootstrap token and the Secret it is kept in. Pure.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use vetch_api::decode::format_time;
use vetch_api::print::human_duration;

const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUPS: &str = "system:bootstrappers:";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    pub id: String,
    pub secret: String,
    pub expires: Option<Timestamp>,
    pub description: String,
    pub usages: Vec<String>,
    pub groups: Vec<String>,
}

/// Of `ID.SECRET`, where it has that form.
pub fn parts(token: &str) -> Option<(String, String)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret))
        .then(|| (id.to_owned(), secret.to_owned()))
}

pub fn name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

impl Token {
    /// What the API server would take, and then let nobody in with.
    pub fn check(&self) -> Result<(), String> {
        let usage = |usage: &&String| !matches!(usage.as_str(), "signing" | "authentication");
        if let Some(other) = self.usages.iter().find(usage) {
            return Err(format!(
                "--usages takes signing and authentication, not {other:?}"
            ));
        }
        match self.groups.iter().find(|group| !group.starts_with(GROUPS)) {
            Some(other) => Err(format!("--groups takes {GROUPS}…, not {other:?}")),
            None => Ok(()),
        }
    }

    pub fn to_secret(&self) -> Secret {
        let mut data = vec![
            ("token-id".to_owned(), self.id.clone()),
            ("token-secret".to_owned(), self.secret.clone()),
        ];
        if !self.description.is_empty() {
            data.push(("description".to_owned(), self.description.clone()));
        }
        if let Some(expires) = self.expires {
            data.push(("expiration".to_owned(), format_time(expires)));
        }
        for usage in &self.usages {
            data.push((format!("usage-bootstrap-{usage}"), "true".to_owned()));
        }
        if !self.groups.is_empty() {
            data.push(("auth-extra-groups".to_owned(), self.groups.join(",")));
        }
        Secret {
            metadata: ObjectMeta {
                name: Some(name(&self.id)),
                namespace: Some(super::NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            type_: Some(TYPE.to_owned()),
            data: Some(
                data.into_iter()
                    .map(|(key, value)| (key, ByteString(value.into_bytes())))
                    .collect(),
            ),
            ..Secret::default()
        }
    }

    /// None: it is no token's.
    pub fn from_secret(secret: &Secret) -> Option<Token> {
        let data = secret.data.as_ref()?;
        let text = |key: &str| {
            let bytes = data.get(key).map(|bytes| bytes.0.clone());
            String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default()
        };
        let usages = data.iter().filter_map(|(key, value)| {
            let usage = key.strip_prefix("usage-bootstrap-")?;
            (value.0 == b"true").then(|| usage.to_owned())
        });
        let groups = text("auth-extra-groups");
        let token = Token {
            id: text("token-id"),
            secret: text("token-secret"),
            expires: match text("expiration").as_str() {
                "" => None,
                // What nobody can read has ended, as the API server sees it.
                text => Some(text.parse().unwrap_or(Timestamp::MIN)),
            },
            description: text("description"),
            usages: usages.collect(),
            groups: groups
                .split(',')
                .filter(|group| !group.is_empty())
                .map(str::to_owned)
                .collect(),
        };
        (!token.id.is_empty() && !token.secret.is_empty()).then_some(token)
    }
}

/// As `kubeadm token list` has it.
pub fn table(tokens: &[Token], now: Timestamp) -> String {
    let or_none = |text: String| match text.is_empty() {
        true => "<none>".to_owned(),
        false => text,
    };
    let head = [
        "TOKEN",
        "TTL",
        "EXPIRES",
        "USAGES",
        "DESCRIPTION",
        "EXTRA GROUPS",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(tokens.iter().map(|token| {
        let (ttl, expires) = match token.expires {
            None => ("<forever>".to_owned(), "<never>".to_owned()),
            Some(at) if at <= now => ("<invalid>".to_owned(), format_time(at)),
            Some(at) => (
                human_duration(at.as_second() - now.as_second()),
                format_time(at),
            ),
        };
        [
            format!("{}.{}", token.id, token.secret),
            ttl,
            expires,
            or_none(token.usages.join(",")),
            or_none(token.description.clone()),
            or_none(token.groups.join(",")),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> Token {
        Token {
            id: "abcdef".into(),
            secret: "0123456789abcdef".into(),
            expires: Some("2026-01-02T00:00:00Z".parse().unwrap()),
            description: "for the new ones".into(),
            usages: vec!["authentication".into(), "signing".into()],
            groups: vec!["system:bootstrappers:kubeadm:default-node-token".into()],
        }
    }

    #[test]
    fn a_token_is_what_its_secret_says() {
        let secret = token().to_secret();
        assert_eq!(
            secret.metadata.name.as_deref(),
            Some("bootstrap-token-abcdef")
        );
        let data = secret.data.as_ref().unwrap();
        assert_eq!(data["usage-bootstrap-signing"].0, b"true");
        assert_eq!(data["expiration"].0, b"2026-01-02T00:00:00Z");
        assert_eq!(Token::from_secret(&secret), Some(token()));
        let plain = Token {
            expires: None,
            description: String::new(),
            groups: Vec::new(),
            ..token()
        };
        assert_eq!(Token::from_secret(&plain.to_secret()), Some(plain));
        assert_eq!(Token::from_secret(&Secret::default()), None);
    }

    #[test]
    fn what_lets_nobody_in_is_refused() {
        assert_eq!(token().check(), Ok(()));
        let other = Token {
            groups: vec!["system:masters".into()],
            ..token()
        };
        assert!(other.check().unwrap_err().contains("system:masters"));
        let other = Token {
            usages: vec!["eating".into()],
            ..token()
        };
        assert!(other.check().unwrap_err().contains("eating"));
        for bad in ["abcdef", "abcdef.0123", "ABCDEF.0123456789abcdef"] {
            assert_eq!(parts(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_list_reads_as_kubeadms() {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let forever = Token {
            expires: None,
            description: String::new(),
            ..token()
        };
        let table = table(&[token(), forever], now);
        let lines: Vec<Vec<&str>> = table
            .lines()
            .map(|line| {
                line.split("   ")
                    .map(str::trim)
                    .filter(|cell| !cell.is_empty())
                    .collect()
            })
            .collect();
        assert_eq!(
            lines[0],
            [
                "TOKEN",
                "TTL",
                "EXPIRES",
                "USAGES",
                "DESCRIPTION",
                "EXTRA GROUPS"
            ]
        );
        let group = "system:bootstrappers:kubeadm:default-node-token";
        assert_eq!(
            lines[1],
            [
                "abcdef.0123456789abcdef",
                "23h",
                "2026-01-02T00:00:00Z",
                "authentication,signing",
                "for the new ones",
                group
            ]
        );
        assert_eq!(&lines[2][1..3], ["<forever>", "<never>"]);
        assert_eq!(lines[2][4], "<none>");
    }
}
