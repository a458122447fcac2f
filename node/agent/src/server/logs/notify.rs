//! One inotify instance for all that follow logs: there are few of them to be
//! had (fs.inotify.max_user_instances), and followers are many. A thread of its
//! own reads it, asleep in the kernel as long as nothing is written.

use std::collections::HashMap;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::sync::watch;
use tracing::warn;

/// Tells of changes in directories. Cheap to clone.
#[derive(Clone)]
pub struct Notifier {
    inner: Arc<Inner>,
}

struct Inner {
    inotify: OwnedFd,
    /// By watch descriptor; the kernel has one for a directory.
    watches: Mutex<HashMap<i32, watch::Sender<()>>>,
}

/// One directory's changes, until dropped.
pub struct Changes {
    inner: Arc<Inner>,
    descriptor: i32,
    receiver: Option<watch::Receiver<()>>,
}

impl Notifier {
    /// For the life of the process: the thread does not end.
    pub fn new() -> io::Result<Notifier> {
        let inner = Arc::new(Inner {
            inotify: inotify::init(CreateFlags::CLOEXEC)?,
            watches: Mutex::default(),
        });
        let reader = inner.clone();
        std::thread::Builder::new()
            .name("log-changes".into())
            .spawn(move || {
                let Err(error) = reader.read();
                warn!(%error, "following logs does not work any more");
            })?;
        Ok(Notifier { inner })
    }

    /// From now on: what is written to files of `dir`, and files that come.
    pub fn watch(&self, dir: &Path) -> io::Result<Changes> {
        // Held over both, so that no event comes between.
        let mut watches = self.inner.watches();
        let descriptor = inotify::add_watch(
            &self.inner.inotify,
            dir,
            WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR,
        )?;
        let sender = watches
            .entry(descriptor)
            .or_insert_with(|| watch::Sender::new(()));
        Ok(Changes {
            receiver: Some(sender.subscribe()),
            inner: self.inner.clone(),
            descriptor,
        })
    }
}

impl Inner {
    fn watches(&self) -> MutexGuard<'_, HashMap<i32, watch::Sender<()>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands events on; returns only what went wrong.
    fn read(&self) -> io::Result<std::convert::Infallible> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => self.hand_on(event.wd(), event.events()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn hand_on(&self, descriptor: i32, events: ReadFlags) {
        let mut watches = self.watches();
        if events.contains(ReadFlags::QUEUE_OVERFLOW) {
            // Whose events were lost is not known.
            for sender in watches.values() {
                sender.send_replace(());
            }
        } else if events.contains(ReadFlags::IGNORED) {
            // The directory is gone; dropping the sender says so.
            watches.remove(&descriptor);
        } else if let Some(sender) = watches.get(&descriptor) {
            sender.send_replace(());
        }
    }
}

impl Changes {
    /// Returns after the next change, or at once if there was one since the
    /// last call. Pends for ever when the directory is gone.
    pub async fn next(&mut self) {
        if let Some(receiver) = &mut self.receiver {
            if receiver.changed().await.is_ok() {
                return;
            }
            self.receiver = None;
        }
        std::future::pending().await
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.receiver = None;
        let mut watches = self.inner.watches();
        let unused = watches
            .get(&self.descriptor)
            .is_some_and(|sender| sender.receiver_count() == 0);
        if unused {
            watches.remove(&self.descriptor);
            // Fails when the directory went first.
            let _ = inotify::remove_watch(&self.inner.inotify, self.descriptor);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    async fn soon(changes: &mut Changes) {
        tokio::time::timeout(Duration::from_secs(10), changes.next())
            .await
            .expect("no change was told");
    }

    #[tokio::test]
    async fn all_that_watch_a_directory_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let notifier = Notifier::new().unwrap();
        let mut one = notifier.watch(dir.path()).unwrap();
        let mut two = notifier.watch(dir.path()).unwrap();
        fs::write(dir.path().join("a"), "x").unwrap();
        soon(&mut one).await;
        soon(&mut two).await;
        drop(one);
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        soon(&mut two).await;
        drop(two);
        assert!(notifier.inner.watches().is_empty());
        // The kernel gives the next watch another number; the map follows.
        let mut again = notifier.watch(dir.path()).unwrap();
        fs::write(dir.path().join("b"), "y").unwrap();
        soon(&mut again).await;
    }
}
