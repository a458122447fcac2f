//! Calls to the API server that end, and are tried again.

use std::time::Duration;

use rand::Rng as _;
use tracing::warn;

/// A connection into nowhere would hold a call for ever.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

const FIRST: Duration = Duration::from_millis(200);
/// The kubelet's longest pause between tries to register and to renew.
const LONGEST: Duration = Duration::from_secs(7);

/// A call to the API server that ends.
pub async fn limited<T>(
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    limited_to(CALL_TIMEOUT, call).await
}

async fn limited_to<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    match tokio::time::timeout(limit, call).await {
        Ok(result) => result,
        Err(_) => Err(kube::Error::Service(
            format!("no answer within {limit:?}").into(),
        )),
    }
}

/// Pauses that double, and words that are said once for each new trouble.
#[derive(Debug)]
pub struct Trouble {
    what: &'static str,
    said: Option<String>,
    pause: Duration,
}

impl Trouble {
    /// `what` completes "cannot …".
    pub fn with(what: &'static str) -> Trouble {
        Trouble {
            what,
            said: None,
            pause: FIRST,
        }
    }

    /// Says it, if it is news, and how long to wait.
    pub fn met(&mut self, error: &dyn std::error::Error) -> Duration {
        let text = chain(error);
        if self.said.as_ref() != Some(&text) {
            warn!(error = text, "cannot {}; trying again", self.what);
            self.said = Some(text);
        }
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST);
        pause.mul_f64(rand::rng().random_range(1.0..1.1))
    }

    pub fn over(&mut self) {
        if self.said.take().is_some() {
            tracing::info!("can {} again", self.what);
        }
        self.pause = FIRST;
    }
}

/// An error with its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        // Some libraries repeat the cause in their own words.
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_end_with_the_trouble() {
        let error = std::io::Error::other("away");
        let mut trouble = Trouble::with("test");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = trouble.met(&error);
            pauses.push(pause.as_secs_f64());
        }
        for (pause, want) in pauses.iter().zip([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 7.0, 7.0]) {
            assert!((want..want * 1.1).contains(pause), "{pauses:?}");
        }
        trouble.over();
        assert!(trouble.met(&error) < Duration::from_millis(220));
    }

    #[tokio::test]
    async fn a_call_into_nowhere_ends() {
        let call = std::future::pending::<Result<(), kube::Error>>();
        let error = limited_to(Duration::from_millis(1), call)
            .await
            .unwrap_err();
        assert!(chain(&error).contains("no answer within 1ms"), "{error}");
    }
}
