//! The descriptors of a process, and our ends of them: pipes, or one terminal.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use futures::future::BoxFuture;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ioctl_fionbio};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;

use super::channels::{STDERR, STDOUT, Size};
use super::options::Options;

/// Longest piece of output in one message; kubectl copies as much at once.
const CHUNK: usize = 32 * 1024;

/// One end of a pipe, or a terminal's.
pub struct End(AsyncFd<OwnedFd>);

impl End {
    #[expect(
        unsafe_code,
        reason = "AsyncFd has to be told that nobody changes the descriptor"
    )]
    fn new(fd: OwnedFd) -> io::Result<End> {
        ioctl_fionbio(&fd, true)?;
        // SAFETY: the AsyncFd owns the descriptor, and nobody gets hold of it but by reference.
        Ok(End(unsafe { AsyncFd::register(fd)? }))
    }

    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            // Else it was not writable after all.
            if let Ok(written) = ready.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                bytes = &bytes[written?..];
            }
        }
        Ok(())
    }
}

/// What the process says on a channel.
pub struct Output {
    end: Arc<End>,
    channel: u8,
    /// Else it is read and thrown away, so that the process is not held up.
    pub wanted: bool,
}

impl Output {
    /// The channel's next message; `None` when nobody can write any more.
    pub async fn next(&self) -> Option<Vec<u8>> {
        loop {
            let mut ready = self.end.0.readable().await.ok()?;
            if let Ok(read) = ready.try_io(|_| self.read()) {
                return read.ok()?;
            }
        }
    }

    /// What is there now, if there is something.
    pub fn rest(&self) -> Option<Vec<u8>> {
        self.read().ok()?
    }

    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        let mut message = Vec::with_capacity(CHUNK + 1);
        message.push(self.channel);
        match rustix::io::read(self.end.0.get_ref(), spare_capacity(&mut message)) {
            // A terminal whose last process is gone says EIO.
            Ok(0) | Err(Errno::IO) => Ok(None),
            Ok(_) => Ok(Some(message)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Ours.
pub struct Ends {
    pub input: Input,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
}

/// What the client may say to the process.
pub struct Input {
    pub stdin: Option<Arc<End>>,
    terminal: Terminal,
}

enum Terminal {
    None,
    /// Its input has no end.
    Ours(Arc<End>),
    /// Where we have pipes to what is behind it.
    Elsewhere(Resize),
}

type Resize = Box<dyn Fn(Size) -> BoxFuture<'static, ()> + Send + Sync>;

impl Input {
    /// A pipe ends with it.
    pub fn end(&mut self) {
        if !matches!(self.terminal, Terminal::Ours(_)) {
            self.stdin = None;
        }
    }

    /// The process has a terminal, to which `resize` tells its size.
    pub fn resized_by(
        &mut self,
        resize: impl Fn(Size) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) {
        self.terminal = Terminal::Elsewhere(Box::new(resize));
    }

    pub async fn resize(&self, size: Size) {
        match &self.terminal {
            Terminal::None => {}
            Terminal::Ours(terminal) => {
                let size = Winsize {
                    ws_row: size.height,
                    ws_col: size.width,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                // A terminal takes any size.
                let _ = tcsetwinsize(terminal.0.get_ref(), size);
            }
            Terminal::Elsewhere(resize) => resize(size).await,
        }
    }
}

/// Our ends, and the process's stdin, stdout and stderr. What the client does not want is /dev/null.
pub fn pipes(options: &Options) -> io::Result<(Ends, [OwnedFd; 3])> {
    let (input, stdin) = match options.stdin {
        true => {
            let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
            (Some(Arc::new(End::new(ours)?)), theirs)
        }
        false => (None, null()?),
    };
    let (out, stdout) = output(options.stdout, STDOUT)?;
    let (err, stderr) = output(options.stderr, STDERR)?;
    let ends = Ends {
        input: Input {
            stdin: input,
            terminal: Terminal::None,
        },
        stdout: out,
        stderr: err,
    };
    Ok((ends, [stdin, stdout, stderr]))
}

fn output(wanted: bool, channel: u8) -> io::Result<(Option<Output>, OwnedFd)> {
    if !wanted {
        return Ok((None, null()?));
    }
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let output = Output {
        end: Arc::new(End::new(ours)?),
        channel,
        wanted,
    };
    Ok((Some(output), theirs))
}

fn null() -> io::Result<OwnedFd> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    Ok(file.into())
}

/// Our end of a terminal is its master.
pub fn terminal(options: &Options, master: OwnedFd) -> io::Result<Ends> {
    let ours = Arc::new(End::new(master)?);
    Ok(Ends {
        input: Input {
            stdin: options.stdin.then(|| ours.clone()),
            terminal: Terminal::Ours(ours.clone()),
        },
        stdout: Some(Output {
            end: ours,
            channel: STDOUT,
            wanted: options.stdout,
        }),
        stderr: None,
    })
}
