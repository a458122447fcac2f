//! Who listens on a TCP port.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};

use crate::process;

/// None where the port is free on loopback.
pub fn holder(port: u16) -> Option<String> {
    // Also refused where somebody listens on all addresses.
    if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
        return None;
    }
    let inodes: Vec<u64> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| listeners(&table, port))
        .collect();
    let found = process::all()
        .into_iter()
        .find(|pid| holds_socket(*pid, &inodes))
        .map(|pid| {
            format!(
                "{} (pid {pid})",
                process::program_name(pid).unwrap_or_default()
            )
        });
    Some(found.unwrap_or_else(|| "another program".into()))
}

/// Inodes of the sockets that listen on `port`, from a table as proc_net_tcp(5) has it.
fn listeners(table: &str, port: u16) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(3) == Some(&LISTEN) && fields.get(1)?.ends_with(&suffix);
            listens.then(|| fields.get(9)?.parse().ok())?
        })
        .collect()
}

fn holds_socket(pid: i32, inodes: &[u64]) -> bool {
    let links = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    links
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| {
            inodes
                .iter()
                .any(|inode| target.to_str() == Some(&format!("socket:[{inode}]")))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let words = holder(port).unwrap();
        assert!(words.contains(" (pid "), "{words}");
        drop(listener);
        // A child that another test starts just now has the socket until it runs its program.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        while let Some(holder) = holder(port) {
            assert!(
                std::time::Instant::now() < deadline,
                "{holder} still has port {port}"
            );
            std::thread::yield_now();
        }
    }

    #[test]
    fn only_listeners_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:192B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1\n\
             1: 0100007F:192B 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 222 1\n\
             2: 0100007F:192C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1\n";
        assert_eq!(listeners(table, 0x192B), [111]);
        assert_eq!(listeners(table, 1), Vec::<u64>::new());
    }
}
