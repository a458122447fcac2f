//! The network's errors as CNI's.

use vetch_cni_proto::{Failure, code};
use vetch_network::{Error, IpamError};

pub fn failure(error: &Error) -> Failure {
    let told = Failure::new(code_of(error), error.to_string());
    let mut causes = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        let words = cause.to_string();
        // Transparent errors repeat their causes.
        if !told.msg.ends_with(&words) {
            causes.push(words);
        }
        next = cause.source();
    }
    told.with_details(causes.join(": "))
}

fn code_of(error: &Error) -> u32 {
    match error {
        Error::OwnNamespace { .. } | Error::Netns(_) | Error::Vanished { .. } => {
            code::INVALID_NETNS
        }
        // If the plugin cannot use the name, it is the variable that is wrong.
        Error::LinkTaken { .. } => code::INVALID_ENVIRONMENT,
        Error::DefaultRoute { .. } => code::INVALID_CONFIG,
        // The programs come, and the API server tells of the pod, in time.
        Error::Unguarded { .. } => code::TRY_AGAIN,
        Error::Ipam(error) => match error {
            IpamError::Unfit { .. } | IpamError::Others { .. } => code::INVALID_CONFIG,
            // Another will be free, or the node's range known, in time.
            IpamError::NoPodCidr | IpamError::Full { .. } => code::TRY_AGAIN,
            IpamError::Io { .. } => code::IO,
            _ => code::ADDRESSES,
        },
        _ => code::LINKS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_codes_a_runtime_acts_by() {
        let netns = || "/run/netns/x".into();
        for (error, expected) in [
            (Error::OwnNamespace { netns: netns() }, code::INVALID_NETNS),
            (
                Error::LinkTaken {
                    netns: netns(),
                    ifname: "eth0".into(),
                },
                code::INVALID_ENVIRONMENT,
            ),
            (Error::DefaultRoute { netns: netns() }, code::INVALID_CONFIG),
            (Error::Ipam(IpamError::NoPodCidr), code::TRY_AGAIN),
            (
                Error::Ipam(IpamError::Taken {
                    address: "10.0.0.2".parse().unwrap(),
                }),
                code::ADDRESSES,
            ),
            (
                Error::Unguarded {
                    sandbox_id: "cni-a".into(),
                },
                code::TRY_AGAIN,
            ),
            (Error::NoNodeAddress, code::LINKS),
        ] {
            let told = failure(&error);
            assert_eq!((told.code, told.msg), (expected, error.to_string()));
            assert_eq!(told.details, "");
        }
        let source = std::io::Error::other("no space");
        let io = IpamError::Io {
            step: "write",
            path: "/x".into(),
            source,
        };
        let told = failure(&Error::Ipam(io));
        assert_eq!((told.code, told.details.as_str()), (code::IO, "no space"));
    }
}
