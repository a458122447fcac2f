//! Who answers.

#[derive(Clone, Debug)]
pub struct Identity {
    pub pod: String,
    pub node: String,
    pub version: String,
}

impl Identity {
    /// By the downward API; the host's name is the pod's where that is not set up.
    pub fn of_environment() -> Identity {
        let unknown = || "unknown".to_owned();
        let given = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Identity {
            pod: given("POD_NAME").or_else(host_name).unwrap_or_else(unknown),
            node: given("NODE_NAME").unwrap_or_else(unknown),
            version: given("VERSION").unwrap_or_else(unknown),
        }
    }
}

fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(text.trim().to_owned()).filter(|name| !name.is_empty())
}
