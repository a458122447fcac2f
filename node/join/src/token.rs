//! A bootstrap token: `ID.SECRET`, six and sixteen characters.

use std::fmt;
use std::str::FromStr;

#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

impl Token {
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// As a bearer shows it.
    pub(crate) fn whole(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// Without the part that is nobody else's to see.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.…", self.id)
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Token, String> {
        let wrong = || {
            "a token is six, a dot, and sixteen characters of a to z and 0 to 9: \
             `vetch-control token create` prints one"
                .to_owned()
        };
        let (id, secret) = text.split_once('.').ok_or_else(wrong)?;
        let plain = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if id.len() != 6 || secret.len() != 16 || !plain(id) || !plain(secret) {
            return Err(wrong());
        }
        Ok(Token {
            id: id.to_owned(),
            secret: secret.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_one_form() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        assert_eq!((token.id(), token.secret()), ("abcdef", "0123456789abcdef"));
        assert!(!format!("{token:?}").contains("0123"));
        for bad in [
            "",
            "abcdef",
            "abcdef.",
            "abcdef.0123456789abcde",
            "abcdeg0.0123456789abcdef",
            "Abcdef.0123456789abcdef",
        ] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }
}
