use std::fs::{self, File};
use std::io::Write as _;
use std::pin::Pin;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::oneshot;

use super::super::notify::Notifier;
use super::*;

struct Log {
    dir: tempfile::TempDir,
    notifier: Notifier,
}

type Chunks = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

impl Log {
    fn new() -> Log {
        Log {
            dir: tempfile::tempdir().unwrap(),
            notifier: Notifier::new().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("0.log")
    }

    fn say(&self, words: &str) {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(self.path())
            .unwrap();
        writeln!(file, "2026-01-01T00:00:00.000000000Z stdout F {words}").unwrap();
    }

    fn rotate(&self, stamp: &str) {
        fs::rename(self.path(), self.dir.path().join(format!("0.log.{stamp}"))).unwrap();
    }

    async fn read(&self, options: LogOptions) -> String {
        let chunks = open(self.path(), options, None).await.unwrap();
        rest(Box::pin(chunks)).await
    }

    async fn follow(&self, options: LogOptions) -> (Chunks, oneshot::Sender<()>) {
        let (end, ended) = oneshot::channel();
        let follow = Follow {
            changes: self.notifier.watch(self.dir.path()).unwrap(),
            ended: ended.map(drop).boxed(),
        };
        let chunks = open(self.path(), options, Some(follow)).await.unwrap();
        (Box::pin(chunks), end)
    }
}

async fn rest(chunks: Chunks) -> String {
    let all: Vec<Bytes> = chunks.map(Result::unwrap).collect().await;
    String::from_utf8(all.concat()).unwrap()
}

/// The next bytes, as many as `want` has.
async fn expect(chunks: &mut Chunks, want: &str) {
    let mut got = String::new();
    while got.len() < want.len() {
        let chunk = tokio::time::timeout(Duration::from_secs(10), chunks.next())
            .await
            .unwrap_or_else(|_| panic!("waited for {want:?}, got {got:?}"))
            .expect("the stream ended")
            .unwrap();
        got.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert_eq!(got, want);
}

fn tail(lines: u64) -> LogOptions {
    LogOptions {
        tail: Some(lines),
        ..LogOptions::default()
    }
}

#[tokio::test]
async fn all_files_of_a_log_are_one() {
    let log = Log::new();
    log.say("one");
    log.say("two");
    log.rotate("20260101-000000");
    log.say("three");
    assert_eq!(log.read(LogOptions::default()).await, "one\ntwo\nthree\n");
    assert_eq!(log.read(tail(2)).await, "two\nthree\n");
    assert_eq!(log.read(tail(0)).await, "");
    let limit = LogOptions {
        limit: Some(5),
        ..tail(2)
    };
    assert_eq!(log.read(limit).await, "two\nt");
}

#[tokio::test]
async fn a_log_that_is_not_there_is_an_error() {
    let log = Log::new();
    let error = open(log.path(), LogOptions::default(), None)
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_long_log_comes_in_chunks() {
    let log = Log::new();
    let lines: Vec<String> = (0..20_000)
        .map(|line| format!("line number {line}"))
        .collect();
    let mut text = String::new();
    for line in &lines {
        text.push_str(&format!("2026-01-01T00:00:00.000000000Z stderr F {line}\n"));
    }
    fs::write(log.path(), text).unwrap();
    let chunks: Vec<_> = open(log.path(), LogOptions::default(), None)
        .await
        .unwrap()
        .map(Result::unwrap)
        .collect()
        .await;
    assert!(chunks.len() > 5, "{} chunks", chunks.len());
    assert_eq!(chunks.concat(), (lines.join("\n") + "\n").as_bytes());
}

#[tokio::test]
async fn following_ends_with_the_container() {
    let log = Log::new();
    log.say("one");
    let (mut chunks, end) = log.follow(tail(1)).await;
    expect(&mut chunks, "one\n").await;
    log.say("two");
    expect(&mut chunks, "two\n").await;
    log.rotate("20260101-000000");
    log.say("three");
    expect(&mut chunks, "three\n").await;
    // Half a line comes when it is whole.
    let mut file = File::options().append(true).open(log.path()).unwrap();
    write!(file, "2026-01-01T00:00:00Z std").unwrap();
    write!(file, "out F fo").unwrap();
    writeln!(file, "ur").unwrap();
    expect(&mut chunks, "four\n").await;
    log.say("last words");
    end.send(()).unwrap();
    assert_eq!(rest(chunks).await, "last words\n");
}

#[tokio::test]
async fn a_limit_ends_following() {
    let log = Log::new();
    log.say("one");
    let options = LogOptions {
        limit: Some(6),
        ..LogOptions::default()
    };
    let (mut chunks, _end) = log.follow(options).await;
    expect(&mut chunks, "one\n").await;
    log.say("two");
    assert_eq!(rest(chunks).await, "tw");
}
