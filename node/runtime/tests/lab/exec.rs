//! More processes in a running container.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::pipe::pipe;
use vetch_runtime::*;

use crate::guard::Lab;
use crate::specs::*;

const LONG: Duration = Duration::from_secs(30);

fn with_container(test: impl AsyncFnOnce(&Runtime, &ContainerId)) {
    let lab = Lab::enter();
    lab.block_on(async {
        let runtime = lab.runtime().await;
        let made = runtime
            .create_sandbox(sandbox(&lab.logs, "pod"))
            .await
            .unwrap();
        let spec = ContainerSpec {
            env: vec![("NAME".into(), "value".into())],
            ..sleeper()
        };
        let id = run(&runtime, &made.id, spec).await;
        test(&runtime, &id).await;
        runtime.remove_sandbox(&made.id).await.unwrap();
        lab.assert_nothing_left();
    });
}

fn sh(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).into()
}

#[test]
fn output_and_exit_code() {
    with_container(async |runtime, id| {
        let script = "echo $NAME; hostname; echo err >&2; cat; cat /proc/1/comm; exit 4";
        let output = runtime.exec(id, sh(script), LONG).await.unwrap();
        assert_eq!(output.exit_code, 4);
        assert_eq!(output.stdout, b"value\npod\nsh\n");
        assert_eq!(output.stderr, b"err\n");
        assert!(!output.timed_out);

        let output = runtime.exec(id, sh("kill -9 $$"), LONG).await.unwrap();
        assert_eq!(output.exit_code, 137);

        let error = runtime.exec(id, vec!["nothing".into()], LONG).await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "failed to exec in container: exec: \"nothing\": executable file not found in $PATH"
        );
        // More than a pipe holds.
        let output = runtime.exec(id, sh("seq 100000"), LONG).await.unwrap();
        assert_eq!(output.stdout.len(), 588_895);
        // One of its children holds the pipes: its own end counts.
        let output = runtime
            .exec(id, sh("echo x; sleep 1000 &"), LONG)
            .await
            .unwrap();
        assert_eq!((output.exit_code, &output.stdout[..]), (0, &b"x\n"[..]));
    });
}

#[test]
fn a_timeout_kills() {
    with_container(async |runtime, id| {
        let start = Instant::now();
        let script = "echo first; sleep 4711; echo never";
        let output = runtime
            .exec(id, sh(script), Duration::from_millis(200))
            .await
            .unwrap();
        assert!(output.timed_out);
        assert_eq!(output.stdout, b"first\n");
        assert!(start.elapsed() < Duration::from_secs(10));
        let looks = "while ps | grep -q '[s]leep 4711'; do sleep 0.01; done";
        let output = runtime.exec(id, sh(looks), LONG).await.unwrap();
        assert!(!output.timed_out, "the process outlived its timeout");
        // More than the clock counts to.
        for endless in [Duration::from_secs(i64::MAX.unsigned_abs()), Duration::MAX] {
            let output = runtime.exec(id, sh("echo over"), endless).await.unwrap();
            assert_eq!(
                (output.timed_out, &output.stdout[..]),
                (false, &b"over\n"[..])
            );
        }
    });
}

#[test]
fn descriptors_of_the_caller() {
    with_container(async |runtime, id| {
        let (stdin, to) = pipe().unwrap();
        let (from, stdout) = pipe().unwrap();
        let stderr: OwnedFd = File::open("/dev/null").unwrap().into();
        let mut process = runtime
            .exec_process(id, vec!["rev".into()], [stdin, stdout, stderr])
            .await
            .unwrap();
        File::from(to).write_all(b"drawer\n").unwrap();
        assert_eq!(process.wait().await.unwrap(), 0);
        let mut said = String::new();
        File::from(from).read_to_string(&mut said).unwrap();
        assert_eq!(said, "reward\n");
    });
}

#[test]
fn a_terminal_in_the_container() {
    with_container(async |runtime, id| {
        let script = "tty; test -c $(tty) && test -t 1 && test -t 2 && echo $TERM >/dev/tty";
        let (mut process, master) = runtime.exec_terminal(id, sh(script)).await.unwrap();
        assert_eq!(process.wait().await.unwrap(), 0);
        let (mut master, mut said) = (File::from(master), Vec::new());
        let error = master.read_to_end(&mut said).unwrap_err();
        // Its last process is gone.
        assert_eq!(
            error.raw_os_error(),
            Some(rustix::io::Errno::IO.raw_os_error())
        );
        assert_eq!(String::from_utf8(said).unwrap(), "/dev/pts/0\r\nxterm\r\n");

        let error = runtime.exec_terminal(id, vec!["nothing".into()]).await;
        assert_eq!(
            error.unwrap_err().to_string(),
            "failed to exec in container: exec: \"nothing\": executable file not found in $PATH"
        );
    });
}

#[test]
fn a_container_that_is_dead_runs_nothing() {
    with_container(async |runtime, id| {
        runtime.stop_container(id, Duration::ZERO).await.unwrap();
        let error = runtime.exec(id, sh("true"), LONG).await.unwrap_err();
        assert!(matches!(error, Error::WrongState { .. }), "{error}");
        let nobody = ContainerId("0".repeat(64));
        let error = runtime.exec(&nobody, sh("true"), LONG).await.unwrap_err();
        assert!(matches!(error, Error::ContainerNotFound(_)), "{error}");
    });
}
