//! One call at a time for each attachment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

#[derive(Debug, Default)]
pub struct Locks {
    /// Nobody holds or waits for those that are gone.
    all: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Locks {
    pub async fn lock(&self, id: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
            all.retain(|_, lock| lock.strong_count() > 0);
            match all.get(id).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    all.insert(id.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn one_waits_for_the_other_of_its_name_alone() {
        let locks = Locks::default();
        let mut context = Context::from_waker(Waker::noop());
        let mut now = |id: &str| match pin!(locks.lock(id)).poll(&mut context) {
            std::task::Poll::Ready(held) => Some(held),
            std::task::Poll::Pending => None,
        };
        let a = now("a");
        assert!(a.is_some() && now("a").is_none() && now("b").is_some());
        drop(a);
        assert!(now("a").is_some());
        drop(now("c"));
        assert_eq!(locks.all.lock().unwrap().len(), 1, "none is kept for ever");
    }
}
