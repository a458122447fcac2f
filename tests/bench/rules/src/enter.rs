//! Code run inside a network namespace.

use std::{fs::File, io, path::Path};

use nix::sched::{CloneFlags, setns};

use crate::Error;

/// Runs `job` on a thread of its own inside the namespace at `path`.
pub fn within<T: Send>(path: &Path, job: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let enter = |source: io::Error| Error::Enter {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(enter)?;
    std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            Ok(job())
        });
        inside
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
    .map_err(|errno: nix::Error| enter(errno.into()))
}
