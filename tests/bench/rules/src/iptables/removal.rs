//! What takes the rules away again, made of what `iptables-save` shows.

use std::fmt::Write;

use super::CANARY;

/// Chains with one name in every cluster.
const FIXED: [&str; 9] = [
    CANARY,
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FIREWALL",
    "KUBE-FORWARD",
    "KUBE-MARK-MASQ",
    "KUBE-NODEPORTS",
    "KUBE-POSTROUTING",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SERVICES",
];

/// Of chains named for a Service or an endpoint.
const PREFIXES: [&str; 5] = [
    "KUBE-SVC-",
    "KUBE-SVL-",
    "KUBE-EXT-",
    "KUBE-FW-",
    "KUBE-SEP-",
];

/// Whether kube-proxy makes chains of this name.
pub fn is_ours(chain: &str) -> bool {
    FIXED.contains(&chain) || PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

/// The input of `iptables-restore --noflush` that removes our chains and the
/// jumps into them from chains of others; None when there are none.
pub fn removal(saved: &str) -> Option<String> {
    let mut script = String::new();
    let mut table = Removal::default();
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = Removal {
                name: name.to_owned(),
                ..Removal::default()
            };
        } else if line == "COMMIT" {
            script += &table.script();
        } else if let Some(declaration) = line.strip_prefix(':') {
            let chain = declaration.split(' ').next().unwrap_or_default();
            if is_ours(chain) {
                table.chains.push(chain.to_owned());
            }
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let mut words = rule.split(' ');
            let chain = words.next().unwrap_or_default();
            let target = words.next_back().unwrap_or_default();
            if !is_ours(chain) && is_ours(target) {
                table.jumps.push(rule.to_owned());
            }
        }
    }
    (!script.is_empty()).then_some(script)
}

#[derive(Default)]
struct Removal {
    name: String,
    /// To be emptied and deleted.
    chains: Vec<String>,
    /// Rules, as saved, in chains that stay.
    jumps: Vec<String>,
}

impl Removal {
    fn script(&self) -> String {
        if self.chains.is_empty() && self.jumps.is_empty() {
            return String::new();
        }
        let mut script = format!("*{}\n", self.name);
        // With --noflush, to declare a chain is to empty it.
        let lines = (self.chains.iter().map(|chain| format!(":{chain} - [0:0]")))
            .chain(self.jumps.iter().map(|rule| format!("-D {rule}")))
            .chain(self.chains.iter().map(|chain| format!("-X {chain}")));
        for line in lines {
            writeln!(script, "{line}").expect("writing to a String cannot fail");
        }
        script + "COMMIT\n"
    }
}
