//! Questions to a name server, which is this test.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::program::{assert_adds_up, number, output, run};

/// Answers every question alike: flags, and how many records it says there are.
struct NameServer {
    address: String,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    fn new(flags: [u8; 2], answers: u8) -> NameServer {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let wait = Duration::from_millis(20);
        socket.set_read_timeout(Some(wait)).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = std::thread::spawn(move || {
            let mut message = [0; 512];
            while !told.load(Ordering::Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut message) else {
                    continue;
                };
                message[2..4].copy_from_slice(&flags);
                message[7] = answers;
                let _ = socket.send_to(&message[..count], from);
            }
        });
        NameServer {
            address,
            over,
            thread: Some(thread),
        }
    }

    fn line(&self, rest: &str) -> String {
        let address = &self.address;
        format!(
            "--kind dns --targets {address} --name web.vetch --seconds 0.3 --warmup 0.1 \
             --connections 2 {rest}"
        )
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn questions_are_answered() {
    let server = NameServer::new([0x85, 0x80], 1);
    let report = run(&server.line(""));
    assert_adds_up(&report);
    assert_eq!(report["kind"], "dns");
    // Header, `web.vetch`, type and class.
    assert_eq!(number(&report, "bytes"), number(&report, "requests") * 27.0);
    let server = NameServer::new([0x85, 0x83], 0);
    assert_adds_up(&run(
        &server.line("--answer nxdomain --threads 2 --rate 500")
    ));
}

#[test]
fn another_answer_is_a_failure() {
    let server = NameServer::new([0x81, 0x82], 0);
    let output = output(&format!("run {}", server.line("")));
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("nothing was answered") && said.contains("SERVFAIL"),
        "{said}"
    );
}
