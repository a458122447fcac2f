//! openat2(2) (5.6+), asked again where the kernel says so.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// As runc does, too: a computer on which something is renamed or mounted that often has other troubles.
const TRIES: u32 = 128;

/// With `BENEATH` or `IN_ROOT` the kernel gives up at a `..` while anything on the machine is renamed or
/// mounted, and says EAGAIN.
pub fn openat2(
    dir: impl AsFd,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    again(|| rustix::fs::openat2(dir.as_fd(), path, flags, mode, resolve))
}

/// A directory of the tree at `root`. Symlinks lead where they lead in that tree (RESOLVE_IN_ROOT, 5.6+).
pub fn directory_in(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    openat2(
        root,
        path,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

fn again<T>(mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..TRIES {
        match ask() {
            Err(Errno::AGAIN) => {}
            answer => return answer,
        }
    }
    ask()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_answer_is_the_answer() {
        for (refusals, want) in [(0, Ok(())), (127, Ok(())), (128, Err(Errno::AGAIN))] {
            let mut asked = 0;
            let answer = again(|| {
                asked += 1;
                if asked > refusals {
                    Ok(())
                } else {
                    Err(Errno::AGAIN)
                }
            });
            assert_eq!(answer, want, "{refusals}");
        }
        let mut asked = 0;
        let answer = again(|| -> Result<()> {
            asked += 1;
            Err(Errno::NOENT)
        });
        assert_eq!((answer, asked), (Err(Errno::NOENT), 1));
    }
}
