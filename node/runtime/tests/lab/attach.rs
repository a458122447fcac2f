//! Clients of a container's first process.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use vetch_runtime::*;

use crate::guard::wait_for;
use crate::specs::*;

const LONG: Duration = Duration::from_secs(20);

/// One that reads what it is told.
fn interactive(script: &str) -> ContainerSpec {
    ContainerSpec {
        stdin: true,
        ..shell(script)
    }
}

/// The client's ends.
struct Client {
    attachment: Attachment,
    /// `None`: it has nothing to say, or no more.
    says: Option<File>,
    stdout: File,
    stderr: File,
}

impl Client {
    async fn attach(runtime: &Runtime, id: &ContainerId, stdin: bool) -> Client {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (input, says) = pipe();
        let (stdout, out) = pipe();
        let (stderr, err) = pipe();
        let attachment = runtime.attach(id, stdin, [input, out, err]).await.unwrap();
        Client {
            attachment,
            says: stdin.then(|| says.into()),
            stdout: stdout.into(),
            stderr: stderr.into(),
        }
    }

    fn say(&self, words: &str) {
        self.says
            .as_ref()
            .unwrap()
            .write_all(words.as_bytes())
            .unwrap();
    }

    /// As much output as `wanted` has.
    fn hears(&self, wanted: &str) {
        hears(&self.stdout, wanted);
    }

    /// All that is left, once it has ended.
    async fn rest(mut self) -> (String, String) {
        drop(self.says);
        tokio::time::timeout(LONG, self.attachment.wait())
            .await
            .expect("it ends")
            .unwrap();
        // Nobody writes any more, so both end.
        let (mut out, mut err) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        self.stderr.read_to_string(&mut err).unwrap();
        (out, err)
    }
}

fn hears(mut pipe: &File, wanted: &str) {
    let mut said = vec![0; wanted.len()];
    let mut length = 0;
    while length < said.len() {
        assert!(readable(pipe), "waited for {wanted:?}");
        match pipe.read(&mut said[length..]).unwrap() {
            0 => break,
            more => length += more,
        }
    }
    assert_eq!(String::from_utf8_lossy(&said[..length]), wanted);
}

fn readable(pipe: &File) -> bool {
    let limit = Timespec::try_from(LONG).unwrap();
    poll(&mut [PollFd::new(pipe, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

#[test]
fn two_hear_what_is_written_from_now_on() {
    with_sandbox(async |lab, runtime, pod| {
        let script = "echo before; while read word; do echo $word; echo err >&2; done";
        let id = run(runtime, &pod.id, interactive(script)).await;
        let log = lab.logs.join("pod/app/0.log");
        wait_for("its first words", || text(&log) == "before");

        let one = Client::attach(runtime, &id, true).await;
        let two = Client::attach(runtime, &id, true).await;
        let both_hear = |clients: [&Client; 2], word: &str| {
            for client in clients {
                client.hears(word);
                hears(&client.stderr, "err\n");
            }
        };
        one.say("one\n");
        both_hear([&one, &two], "one\n");
        // The end of one's input is no end of the container's.
        assert_eq!(one.rest().await, Default::default());

        let listener = Client::attach(runtime, &id, false).await;
        two.say("two\n");
        both_hear([&two, &listener], "two\n");
        runtime.stop_container(&id, Duration::ZERO).await.unwrap();
        for client in [two, listener] {
            assert_eq!(client.rest().await, Default::default());
        }
        let said = lines(&log);
        let out: Vec<&str> = said
            .iter()
            .filter(|line| line.stream == "stdout")
            .map(|line| &line.text[..])
            .collect();
        assert_eq!(out, ["before", "one", "two"]);
    });
}

#[test]
fn an_input_for_one_client_ends_with_it() {
    with_sandbox(async |lab, runtime, pod| {
        let script = "cat; echo the end >&2; read word || echo nothing; seq 100000; exit 3";
        let once = || ContainerSpec {
            stdin_once: true,
            ..interactive(script)
        };
        let numbers: String = (1..=100_000).map(|number| format!("{number}\n")).collect();

        let id = run(runtime, &pod.id, once()).await;
        let listener = Client::attach(runtime, &id, false).await;
        let mut client = Client::attach(runtime, &id, true).await;
        client.say("in");
        client.say("put\n");
        client.says = None;
        // More than their pipes hold, and whole.
        let wanted = format!("input\nnothing\n{numbers}");
        std::thread::scope(|scope| {
            for output in [&client.stdout, &listener.stdout] {
                let wanted = &wanted;
                scope.spawn(move || hears(output, wanted));
            }
        });
        for client in [client, listener] {
            assert_eq!(client.rest().await, (String::new(), "the end\n".into()));
        }
        assert_eq!(exited(runtime, &id).await.exit_code, Some(3));

        // A client that goes away, or dies with the daemon, has said what it said.
        let next = ContainerSpec {
            log_path: "app/1.log".into(),
            ..once()
        };
        let id = run(runtime, &pod.id, next).await;
        let client = Client::attach(runtime, &id, true).await;
        client.say("word\n");
        drop(client);
        assert_eq!(exited(runtime, &id).await.exit_code, Some(3));
        let said = text(&lab.logs.join("pod/app/1.log"));
        assert!(said.starts_with("word\n"), "{said}");
    });
}

#[test]
fn who_does_not_read_holds_up_neither_the_container_nor_its_log() {
    with_sandbox(async |lab, runtime, pod| {
        let id = run(
            runtime,
            &pod.id,
            interactive("read word; seq 100000; exit 5"),
        )
        .await;
        let mut lazy = Client::attach(runtime, &id, false).await;
        let teller = Client::attach(runtime, &id, true).await;
        teller.say("go\n");
        drop(teller);
        // Its daemon is stopped, its client's connection full: nothing is read.
        let end = exited(runtime, &id).await;
        assert_eq!(end.exit_code, Some(5));
        let said = text(&lab.logs.join("pod/app/0.log"));
        assert_eq!(said.lines().count(), 100_000);
        let error = lazy.attachment.wait().await.unwrap_err().to_string();
        assert!(error.contains("took no output for 2 s"), "{error}");
        // What it was given is there, and then no more comes.
        let mut given = String::new();
        lazy.stdout.read_to_string(&mut given).unwrap();
        assert!(given.starts_with("1\n2\n"), "{given:?}");
        assert!(given.len() < said.len());
    });
}

#[test]
fn last_words_wait_for_a_client() {
    with_sandbox(async |_, runtime, pod| {
        let id = run(runtime, &pod.id, interactive("read word; seq 20000")).await;
        let client = Client::attach(runtime, &id, true).await;
        client.say("go\n");
        let numbers: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
        // More than one pipe holds, and less than two.
        assert!((64 * 1024..128 * 1024).contains(&numbers.len()));
        exited(runtime, &id).await;
        client.hears(&numbers);
        assert_eq!(client.rest().await, (String::new(), String::new()));
    });
}

#[test]
fn a_terminal_has_one_output_and_a_size() {
    with_sandbox(async |_, runtime, pod| {
        let script = "stty -echo; trap 'stty size' WINCH; echo ready; \
            while :; do read word && echo $word >&2; done";
        let tty = ContainerSpec {
            tty: true,
            // A terminal's input goes on all the same.
            stdin_once: true,
            ..interactive(script)
        };
        let id = run(runtime, &pod.id, tty).await;
        assert!(runtime.has_terminal(&id).unwrap());
        let log = pod.spec.log_directory.join("app/0.log");
        wait_for("its first word", || text(&log).contains("ready"));
        for word in ["one", "two"] {
            let client = Client::attach(runtime, &id, true).await;
            client.say(&format!("{word}\n"));
            client.hears(&format!("{word}\r\n"));
            assert_eq!(client.rest().await, (String::new(), String::new()));
        }
        let client = Client::attach(runtime, &id, true).await;
        runtime.resize_terminal(&id, 42, 77).await.unwrap();
        client.say("\n");
        let mut said = String::new();
        while !said.contains("42 77\r\n") {
            assert!(readable(&client.stdout), "{said:?}");
            let mut bytes = [0; 256];
            let length = (&client.stdout).read(&mut bytes).unwrap();
            said.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    });
}

#[test]
fn what_has_no_input_and_no_terminal_says_so() {
    with_sandbox(async |lab, runtime, pod| {
        let id = run(runtime, &pod.id, sleeper()).await;
        let log = lab.logs.join("pod/app/0.log");
        wait_for("its trap to be set", || text(&log).contains("ready"));
        let error = runtime
            .resize_terminal(&id, 1, 1)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("the container has no terminal"), "{error}");
        assert!(!runtime.has_terminal(&id).unwrap());
        // What is said goes nowhere; its end is no end.
        let mut client = Client::attach(runtime, &id, true).await;
        let broken = client.says.take().unwrap().write_all(b"word\n");
        assert_eq!(broken.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
        runtime.stop_container(&id, LONG).await.unwrap();
        assert_eq!(client.rest().await.0, "bye\n");

        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let error = runtime.attach(&id, false, [null(), null(), null()]).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::WrongState { .. }), "{error}");
    });
}

#[test]
fn clients_are_counted() {
    with_sandbox(async |_, runtime, pod| {
        let id = run(runtime, &pod.id, sleeper()).await;
        let attach = || {
            let null = || OwnedFd::from(File::open("/dev/null").unwrap());
            runtime.attach(&id, false, [null(), null(), null()])
        };
        let mut attached = Vec::new();
        for _ in 0..64 {
            attached.push(attach().await.unwrap());
        }
        let error = attach().await.unwrap_err().to_string();
        assert!(error.contains("64 clients are attached"), "{error}");
        // Who leaves makes room, as soon as the supervisor has seen it.
        drop(attached.pop());
        let deadline = Instant::now() + LONG;
        while let Err(error) = attach().await {
            assert!(Instant::now() < deadline, "{error}");
        }
    });
}

#[test]
fn the_container_outlives_the_daemon_of_its_clients() {
    with_sandbox(async |lab, runtime, pod| {
        let script = "while read word; do echo $word; done";
        let id = run(runtime, &pod.id, interactive(script)).await;
        let client = Client::attach(runtime, &id, true).await;
        client.say("one\n");
        client.hears("one\n");
        drop(client);
        // Another daemon.
        let next = lab.open().await;
        let client = Client::attach(&next, &id, true).await;
        client.say("two\n");
        client.hears("two\n");
        let log = lab.logs.join("pod/app/0.log");
        wait_for("both in the log", || text(&log) == "one\ntwo");
    });
}
