//! The programs of this build against the kernel the test runs on: needs root.

#[test]
fn every_program_is_taken_and_its_log_ends_with_the_counts() {
    let object = vetch_ebpf_object::object().expect("built with programs: cargo xtask build");
    let verdicts = vetch_verifier::verdicts(object).unwrap();
    let names: Vec<&str> = verdicts.iter().map(|one| one.program.as_str()).collect();
    for program in ["connect4", "sock_ops", "devices", "from_wire"] {
        assert!(names.contains(&program), "{names:?}");
    }
    for verdict in &verdicts {
        let tail: Vec<&str> = verdict.log.lines().rev().take(8).collect();
        assert!(verdict.refused.is_none(), "{}: {tail:#?}", verdict.program);
        assert!(
            tail.iter().any(|line| line.starts_with("processed ")),
            "{}: {tail:#?}",
            verdict.program
        );
        // Not the last path alone: from the first instruction on.
        assert!(verdict.log.contains("\n0: ("), "{}", verdict.program);
    }
}
