//! The server of the examples, tests and benchmarks: it says which pod answered.
//!
//! [`http`] and [`line`] turn bytes into bytes; [`connection`] carries them over one socket;
//! [`worker`] is an epoll loop over many; [`serve`] starts them and drains them on SIGTERM;
//! [`load`] is a client that counts who answered.

mod connection;
mod http;
mod identity;
mod line;
mod load;
mod options;
mod serve;
mod sys;
mod udp;
mod worker;

use std::process::ExitCode;

const USAGE: &str = "usage: vetch-echo [--http PORT] [--tcp PORT] [--udp PORT] [--drain SECONDS] [--threads N]
       vetch-echo load ... (see vetch-echo load --help)

Answers with the name of the pod it runs in.
  HTTP  GET /            pod, node, version, remote and local address, a line each
        GET /ready       200 or 503; /ready?off and /ready?on switch it, / answers all the same
        GET /healthz     200
  TCP   each line comes back as \"POD: LINE\"
  UDP   each datagram comes back as \"POD: DATAGRAM\"

flag       environment     default
--http     LISTEN_HTTP     8080    0 is any free port
--tcp      LISTEN_TCP      8081
--udp      LISTEN_UDP      8082
--drain    DRAIN_SECONDS   5       after SIGTERM it is not ready and serves so long, then ends with 0
--threads  THREADS         one a CPU
           POD_NAME        the host's name
           NODE_NAME       unknown
           VERSION         unknown";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let asks_for_help = args.iter().any(|arg| arg == "--help" || arg == "-h");
    let done = match args.split_first() {
        Some((first, _)) if first == "load" && asks_for_help => {
            println!("{}", load::USAGE);
            return ExitCode::SUCCESS;
        }
        _ if asks_for_help => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Some((first, rest)) if first == "load" => match load::Options::parse(rest) {
            Ok(options) => load::run(&options),
            Err(error) => return misused(&error, load::USAGE),
        },
        _ => match options::Options::parse(&args, |name| std::env::var(name).ok()) {
            Ok(options) => serve::run(&options).map_err(|error| error.to_string()),
            Err(error) => return misused(&error, USAGE),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vetch-echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn misused(error: &str, usage: &str) -> ExitCode {
    eprintln!("vetch-echo: {error}\n{usage}");
    ExitCode::from(2)
}
