//! A log as a stream of chunks: what is there, and with `follow` what comes
//! until the container ends.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;

use super::files::LogFiles;
use super::notify::Changes;
use super::options::LogOptions;
use super::render::Renderer;
use super::tail::Tail;

/// One read; the output is about as long.
const CHUNK: usize = 64 * 1024;

/// What following a log waits for.
pub struct Follow {
    pub changes: Changes,
    /// Ends when the container has, and all it said is in the file.
    pub ended: BoxFuture<'static, ()>,
}

#[derive(Debug)]
struct Reader {
    files: LogFiles,
    renderer: Renderer,
    buffer: Vec<u8>,
}

/// What a read came to.
enum Progress {
    More,
    /// Of the files as they are now.
    End,
    /// `limitBytes` are sent.
    Full,
}

impl Reader {
    fn open(path: &Path, options: &LogOptions) -> io::Result<Reader> {
        let mut files = LogFiles::open(path)?;
        if let Some(lines) = options.tail {
            let mut tail = Tail::new(lines, options.streams);
            let mut start = None;
            for (index, file) in files.handles().enumerate().rev() {
                if let Some(offset) = tail.find(file)? {
                    start = Some((index, offset));
                    break;
                }
            }
            if let Some((index, offset)) = start {
                files.start_at(index, offset)?;
            }
        }
        Ok(Reader {
            files,
            renderer: Renderer::new(options),
            buffer: vec![0; CHUNK],
        })
    }

    fn read(&mut self, out: &mut Vec<u8>) -> io::Result<Progress> {
        // What is left out (older, another stream) must not make empty chunks.
        while out.is_empty() {
            let length = self.files.read(&mut self.buffer)?;
            if length == 0 {
                return Ok(Progress::End);
            }
            self.renderer.push(&self.buffer[..length], out);
            if self.renderer.full() {
                return Ok(Progress::Full);
            }
        }
        Ok(Progress::More)
    }
}

/// Fails when there is no such log.
pub async fn open(
    path: PathBuf,
    options: LogOptions,
    follow: Option<Follow>,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
    let reader = blocking(move || Reader::open(&path, &options)).await?;
    let state = State {
        reader: Some(reader),
        follow,
    };
    Ok(futures::stream::try_unfold(state, next))
}

struct State {
    /// `None` when the last chunk was made.
    reader: Option<Reader>,
    follow: Option<Follow>,
}

async fn next(mut state: State) -> io::Result<Option<(Bytes, State)>> {
    while let Some(mut reader) = state.reader.take() {
        let (mut reader, mut out, progress) = blocking(move || {
            let mut out = Vec::new();
            let progress = reader.read(&mut out)?;
            Ok((reader, out, progress))
        })
        .await?;
        match progress {
            Progress::Full => {}
            Progress::More => state.reader = Some(reader),
            Progress::End => match &mut state.follow {
                None => reader.renderer.finish(&mut out),
                Some(follow) => {
                    let ended = tokio::select! {
                        biased;
                        () = &mut follow.ended => true,
                        () = follow.changes.next() => false,
                    };
                    // Its last words are read before the end.
                    if ended {
                        state.follow = None;
                    }
                    state.reader = Some(reader);
                }
            },
        }
        if !out.is_empty() {
            return Ok(Some((out.into(), state)));
        }
    }
    Ok(None)
}

/// Files are read off the runtime's threads: a disk may be slow.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}

#[cfg(test)]
mod tests;
