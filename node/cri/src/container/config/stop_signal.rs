//! CRI's numbers of signals are its own (KEP-4960).

use tonic::Status;
use vetch_cri_proto::v1::Signal;

/// As images write it; none where the image, or SIGTERM, decides.
pub fn wanted(number: i32) -> Result<Option<String>, Status> {
    let signal = Signal::try_from(number)
        .map_err(|_| Status::invalid_argument(format!("stop_signal: {number} is no signal")))?;
    Ok(match signal {
        Signal::RuntimeDefault => None,
        // Other words for others.
        Signal::Sigcld => Some("SIGCHLD".into()),
        Signal::Sigiot => Some("SIGABRT".into()),
        Signal::Sigpoll => Some("SIGIO".into()),
        other => Some(
            other
                .as_str_name()
                .replace("MINPLUS", "MIN+")
                .replace("MAXMINUS", "MAX-"),
        ),
    })
}

/// By the kernel's number.
pub fn report(number: i32) -> Signal {
    // Those in the middle have two names; both halves of CRI's list end where the other begins.
    const RTMIN: i32 = 34;
    const PLUS_15: i32 = RTMIN + 15;
    let name = match number {
        RTMIN => "SIGRTMIN".to_owned(),
        35..=PLUS_15 => format!("SIGRTMINPLUS{}", number - RTMIN),
        50..=63 => format!("SIGRTMAXMINUS{}", 64 - number),
        64 => "SIGRTMAX".to_owned(),
        _ => match nix::sys::signal::Signal::try_from(number) {
            Ok(signal) => signal.as_str().to_owned(),
            Err(_) => return Signal::RuntimeDefault,
        },
    };
    Signal::from_str_name(&name).unwrap_or(Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_signals() {
        for (signal, want) in [
            (Signal::RuntimeDefault, None),
            (Signal::Sigterm, Some("SIGTERM")),
            (Signal::Sigusr1, Some("SIGUSR1")),
            (Signal::Sigcld, Some("SIGCHLD")),
            (Signal::Sigrtmin, Some("SIGRTMIN")),
            (Signal::Sigrtminplus3, Some("SIGRTMIN+3")),
            (Signal::Sigrtmaxminus14, Some("SIGRTMAX-14")),
            (Signal::Sigrtmax, Some("SIGRTMAX")),
        ] {
            let made = wanted(signal.into()).unwrap();
            assert_eq!(made.as_deref(), want, "{signal:?}");
        }
        assert!(wanted(99).is_err());
    }

    #[test]
    fn the_kernels_numbers() {
        for (number, want) in [
            (15, Signal::Sigterm),
            (9, Signal::Sigkill),
            (16, Signal::Sigstkflt),
            (34, Signal::Sigrtmin),
            (37, Signal::Sigrtminplus3),
            (49, Signal::Sigrtminplus15),
            (50, Signal::Sigrtmaxminus14),
            (63, Signal::Sigrtmaxminus1),
            (64, Signal::Sigrtmax),
            (0, Signal::RuntimeDefault),
        ] {
            assert_eq!(report(number), want, "{number}");
        }
        // What is asked for is what is told, but for second names.
        for number in 1..=64 {
            let signal = report(number);
            if signal != Signal::RuntimeDefault {
                assert!(wanted(signal.into()).unwrap().is_some(), "{number}");
            }
        }
    }
}
