//! Single packets through the programs: one program of all these files, for each would link aya once more.

mod events;
mod flows;
mod forward;
mod fragments;
mod from_net;
mod from_pod;
mod from_wire;
mod icmp;
mod least;
mod masquerade;
mod neighbour;
mod policy;
mod refuse;
mod sweep;
#[path = "tunnel/main.rs"]
mod tunnel;
mod wire;

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
