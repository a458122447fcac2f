//! Ids may be cut short, as people type them.

use tonic::Status;

/// The one id that begins with `wanted`.
///
/// # Errors
/// `NotFound` where there is none, `InvalidArgument` where there are several.
pub fn resolve<'a>(
    kind: &str,
    wanted: &str,
    ids: impl Iterator<Item = &'a str>,
) -> Result<String, Status> {
    if wanted.is_empty() {
        return Err(Status::invalid_argument(format!("{kind} id is empty")));
    }
    let mut found = ids.filter(|id| id.starts_with(wanted));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id.to_owned()),
        (None, _) => Err(Status::not_found(format!("{kind} {wanted:?} not found"))),
        (Some(_), Some(_)) => Err(Status::invalid_argument(format!(
            "{wanted:?} is the beginning of more than one {kind}'s id"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn whole_and_short() {
        let ids = ["abcd", "abef", "ff"];
        for (wanted, want) in [
            ("abcd", Ok("abcd")),
            ("abc", Ok("abcd")),
            ("f", Ok("ff")),
            ("ab", Err(Code::InvalidArgument)),
            ("x", Err(Code::NotFound)),
            ("abcde", Err(Code::NotFound)),
            ("", Err(Code::InvalidArgument)),
        ] {
            let got = resolve("container", wanted, ids.into_iter()).map_err(|error| error.code());
            assert_eq!(got, want.map(str::to_owned), "{wanted}");
        }
    }
}
