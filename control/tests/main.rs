//! The whole daemon, in this process or as the program: one program of all these files, for each would link all of it
//! once more.

mod access;
#[path = "admission/main.rs"]
mod admission;
mod binary;
#[path = "connect/main.rs"]
mod connect;

#[test]
fn no_file_here_is_forgotten() {
    let known = include_str!("main.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            name == "main" || known.contains(&format!("mod {name};")),
            "{name} is not among main.rs' modules, and does not run"
        );
    }
}
