use tonic::Code;

use super::*;

#[test]
fn shares_are_weights() {
    for (shares, want) in [
        (2, 1),
        (1024, 39),
        (262_144, 10_000),
        (0, 1),
        (1 << 30, 10_000),
    ] {
        assert_eq!(weight(shares), want, "{shares}");
    }
    for weight in [1, 39, 10_000] {
        let back = u64::try_from(shares(weight)).unwrap();
        assert!(super::weight(back).abs_diff(weight) <= 1, "{weight}");
    }
}

#[test]
fn zero_is_not_given() {
    let given = LinuxContainerResources::default();
    let none = Resources {
        oom_score_adj: Some(0),
        ..Resources::default()
    };
    assert_eq!(wanted(Some(&given)).unwrap(), none);
    assert_eq!(wanted(None).unwrap(), Resources::default());
    let given = LinuxContainerResources {
        cpu_quota: 50_000,
        memory_limit_in_bytes: 1 << 20,
        oom_score_adj: -998,
        ..given
    };
    let got = wanted(Some(&given)).unwrap();
    assert_eq!(got.cpu_max, Some((50_000, DEFAULT_PERIOD)));
    assert_eq!(got.memory_max, Some(1 << 20));
    assert_eq!(got.oom_score_adj, Some(-998));
    assert_eq!(report(&got).cpu_quota, 50_000);
}

#[test]
fn what_is_not_given_stays() {
    let before = Resources {
        cpu_weight: Some(39),
        memory_max: Some(1 << 20),
        oom_score_adj: Some(5),
        ..Resources::default()
    };
    let given = LinuxContainerResources {
        memory_limit_in_bytes: 1 << 21,
        cpuset_cpus: "1".into(),
        ..LinuxContainerResources::default()
    };
    let want = Resources {
        memory_max: Some(1 << 21),
        swap_max: Some(0),
        cpuset_cpus: Some("1".into()),
        ..before.clone()
    };
    assert_eq!(changed(&before, Some(&given)).unwrap(), want);
    assert_eq!(changed(&before, None).unwrap(), before);
}

#[test]
fn memory_and_swap_are_limited_together() {
    for (memory, both, want) in [
        (0, 0, Some(None)),
        (-1, 0, Some(None)),
        (100, 0, Some(Some(0))),
        (100, 100, Some(Some(0))),
        (100, 150, Some(Some(50))),
        (100, -1, Some(Some(-1))),
        (0, -1, Some(Some(-1))),
        (100, 99, None),
        (0, 100, None),
        (-1, 100, None),
    ] {
        assert_eq!(swap(memory, both).ok(), want, "{memory} {both}");
        let given = LinuxContainerResources {
            memory_limit_in_bytes: memory,
            memory_swap_limit_in_bytes: both,
            ..LinuxContainerResources::default()
        };
        if let Ok(made) = wanted(Some(&given))
            && memory > 0
            && both > 0
        {
            assert_eq!(report(&made).memory_swap_limit_in_bytes, both, "{memory}");
        }
    }
}

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[test]
fn files_of_cgroups() {
    let given = |files: &[(&str, &str)]| LinuxContainerResources {
        unified: map(files),
        ..LinuxContainerResources::default()
    };
    let oom = ("memory.oom.group", "1");
    for (files, want) in [
        (vec![], Ok((None, vec![]))),
        (vec![oom, ("memory.swap.max", "0")], Ok((Some(0), vec![]))),
        (vec![("memory.swap.max", "max")], Ok((Some(-1), vec![]))),
        (
            vec![("memory.oom.group", "0"), ("memory.high", "9")],
            Ok((None, vec![("memory.high", "9"), ("memory.oom.group", "0")])),
        ),
        (
            vec![("memory.swap.max", "some")],
            Err(Code::InvalidArgument),
        ),
        (vec![("memory", "1")], Err(Code::InvalidArgument)),
        (vec![("memory.a/../b", "1")], Err(Code::InvalidArgument)),
        (vec![("cgroup.freeze", "1")], Err(Code::Unimplemented)),
    ] {
        let got = wanted(Some(&given(&files))).map_err(|refused| refused.code());
        let got = got.map(|got| (got.swap_max, got.unified.into_iter().collect::<Vec<_>>()));
        let want = want.map(|(swap, files)| {
            let owned = |(file, value): (&str, &str)| (file.to_owned(), value.to_owned());
            (swap, files.into_iter().map(owned).collect::<Vec<_>>())
        });
        assert_eq!(got, want, "{files:?}");
    }
}

#[test]
fn huge_pages_by_their_sizes() {
    let given = |pages: &[(&str, u64)]| LinuxContainerResources {
        hugepage_limits: pages
            .iter()
            .map(|(size, limit)| HugepageLimit {
                page_size: (*size).to_owned(),
                limit: *limit,
            })
            .collect(),
        ..LinuxContainerResources::default()
    };
    let some = given(&[("2MB", 4 << 20), ("1GB", 0)]);
    let made = wanted(Some(&some)).unwrap();
    let limits = [(2 << 20, 4 << 20), (1 << 30, 0)].into();
    assert_eq!(made.hugetlb_max, Some(limits));
    assert_eq!(report(&made).hugepage_limits, some.hugepage_limits);
    assert_eq!(page_name(64 << 10), "64KB");
    let wrong = wanted(Some(&given(&[("2Mi", 0)]))).unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert_eq!(wanted(Some(&given(&[]))).unwrap().hugetlb_max, None);
}

#[test]
fn cpus_by_name() {
    let given = LinuxContainerResources {
        cpuset_cpus: "0-1,4".into(),
        cpuset_mems: "0".into(),
        ..LinuxContainerResources::default()
    };
    let made = wanted(Some(&given)).unwrap();
    assert_eq!(made.cpuset_cpus.as_deref(), Some("0-1,4"));
    assert_eq!(made.cpuset_mems.as_deref(), Some("0"));
    assert_eq!(report(&made), given);
}

#[test]
fn what_a_sandbox_takes_itself() {
    let of = |memory_limit_in_bytes, cpu_quota| LinuxContainerResources {
        memory_limit_in_bytes,
        cpu_quota,
        ..LinuxContainerResources::default()
    };
    let sum = |own, more| {
        let sum = with_overhead(Some(&own), Some(&more)).unwrap();
        (sum.memory_max, sum.cpu_max.map(|(quota, _)| quota))
    };
    assert_eq!(sum(of(100, 50), of(10, 5)), (Some(110), Some(55)));
    assert_eq!(sum(of(0, 0), of(10, 5)), (None, None));
    assert_eq!(sum(of(-1, -1), of(10, 5)), (Some(-1), Some(-1)));
    // Of numbers that have no sum the largest there is.
    let most = i64::MAX;
    for (own, more) in [(most - 1, 1), (most, 0), (most, 1), (1, most), (most, most)] {
        let got = sum(of(own, own), of(more, more));
        assert_eq!(got, (Some(most), Some(most)), "{own} and {more}");
    }
    let alone = with_overhead(Some(&of(100, 50)), None).unwrap();
    assert_eq!((alone.memory_max, alone.swap_max), (Some(100), None));
    let swaps = LinuxContainerResources {
        memory_swap_limit_in_bytes: 150,
        ..of(100, 0)
    };
    let swaps = with_overhead(Some(&swaps), None).unwrap();
    assert_eq!(swaps.swap_max, Some(50));
}
