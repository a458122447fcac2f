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

/// By the rule of Linux 6.1, whatever the kernel the test runs on: that one may round
/// less.
#[test]
fn every_program_has_stack_enough_on_the_oldest_kernel() {
    let object = vetch_ebpf_object::object().expect("built with programs: cargo xtask build");
    let stacks = vetch_verifier::stacks(object).unwrap();
    let of = |program: &str| {
        let stack = stacks.iter().find(|stack| stack.program == program);
        stack.unwrap_or_else(|| panic!("{program} is not there"))
    };
    // Some of each is seen, or nothing is counted at all.
    assert!(
        of("sweep").frames.len() > 1,
        "what walks the tables is called"
    );
    for program in ["connect4", "from_net", "to_net", "from_wire"] {
        let stack = of(program);
        assert!(stack.frames.len() > 1 && stack.bytes > 128, "{stack:?}");
    }
    assert!(!of("from_net").frames[0].function.is_empty());
    for stack in &stacks {
        assert!(stack.bytes <= vetch_verifier::STACK_LIMIT, "{stack:#?}");
    }
}
