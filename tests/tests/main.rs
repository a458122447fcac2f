//! The scenarios that share the suite's cluster side by side: one program of all these files, for each would link the
//! same clients once more. Those that .config/nextest.toml or `e2e` treats apart are programs of their own.

mod attach;
mod balancers;
mod debug;
mod exec;
mod kubectl;
mod pods;
mod port_forward;
mod resize;
mod service;
mod stats;

#[test]
fn no_file_here_is_forgotten() {
    let known = [include_str!("main.rs"), include_str!("../Cargo.toml")].concat();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.join("main.rs").exists() {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            name == "main"
                || known.contains(&format!("mod {name};"))
                || known.contains(&format!("name = \"{name}\"")),
            "{name} is neither among main.rs' modules nor a program of Cargo.toml, and does not run"
        );
    }
}
