//! Where a worker hears of its pod.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;

use crate::pods::sentence::Sentence;

#[derive(Clone, Debug)]
pub enum Update {
    Present(Arc<Pod>),
    /// The API server has it no more; its last form, if that was told.
    Removed(Option<Arc<Pod>>),
}

#[derive(Debug, Default)]
pub struct Inbox {
    update: Mutex<Option<Update>>,
    /// Of a static pod: its mirror, if there is one now.
    mirror: Mutex<Option<Option<Arc<Pod>>>>,
    /// The pod is to end.
    sentence: Mutex<Option<Sentence>>,
    /// Notified at anything that is worth a look.
    pub waker: Arc<Notify>,
}

impl Inbox {
    /// Replaces what was not taken yet: only the newest counts.
    pub fn put(&self, update: Update) {
        let mut held = self.update.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(update);
        drop(held);
        self.wake();
    }

    pub fn take(&self) -> Option<Update> {
        let mut held = self.update.lock().unwrap_or_else(PoisonError::into_inner);
        held.take()
    }

    /// The first one counts.
    pub fn sentence(&self, sentence: Sentence) {
        let mut held = self.sentence.lock().unwrap_or_else(PoisonError::into_inner);
        held.get_or_insert(sentence);
        drop(held);
        self.wake();
    }

    pub fn take_sentence(&self) -> Option<Sentence> {
        let mut held = self.sentence.lock().unwrap_or_else(PoisonError::into_inner);
        held.take()
    }

    /// What the API server has of a static pod.
    pub fn put_mirror(&self, mirror: Option<Arc<Pod>>) {
        let mut held = self.mirror.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Some(mirror);
        drop(held);
        self.wake();
    }

    pub fn take_mirror(&self) -> Option<Option<Arc<Pod>>> {
        let mut held = self.mirror.lock().unwrap_or_else(PoisonError::into_inner);
        held.take()
    }

    pub fn wake(&self) {
        self.waker.notify_one();
    }
}
