use super::*;

fn plenty() -> Observed {
    let room = |total| Room {
        available: total / 2,
        total,
    };
    Observed {
        memory: room(4 << 30),
        disk: room(100 << 30),
        inodes: room(1 << 20),
        pids: room(32768),
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn eviction(hard: &str, soft: &str, graces: &str) -> Eviction {
    Eviction::parse(hard, soft, graces, Duration::from_secs(30)).unwrap()
}

#[test]
fn what_is_short_and_for_what_pods_go() {
    let hard = format!("{HARD},pid.available<5%");
    let eviction = eviction(&hard, "", "");
    let none = Pressure::default();
    let (memory, disk, pids) = (
        Pressure {
            memory: true,
            ..none
        },
        Pressure { disk: true, ..none },
        Pressure { pids: true, ..none },
    );
    type Change = fn(&mut Observed);
    let cases: [(Change, Pressure, Option<&str>); 9] = [
        (|_| (), none, None),
        (
            |o| o.memory.available = (100 << 20) - 1,
            memory,
            Some("memory.available"),
        ),
        (|o| o.memory.available = 100 << 20, none, None),
        // The images' threshold comes first on one disk.
        (
            |o| o.disk.available = 12 << 30,
            disk,
            Some("imagefs.available"),
        ),
        (
            |o| o.disk.available = 9 << 30,
            disk,
            Some("nodefs.available"),
        ),
        (
            |o| o.inodes.available = 50_000,
            disk,
            Some("nodefs.inodesFree"),
        ),
        (|o| o.inodes = Room::default(), none, None),
        (|o| o.pids.available = 1000, pids, Some("pid.available")),
        (
            |o| {
                o.memory.available = 0;
                o.disk.available = 0;
            },
            Pressure {
                memory: true,
                disk: true,
                ..none
            },
            Some("memory.available"),
        ),
    ];
    for (change, pressure, signal) in cases {
        let mut observed = plenty();
        change(&mut observed);
        let got = History::default().take(&eviction, &observed, at(0));
        assert_eq!(got.pressure, pressure, "{observed:?}");
        let crossed = got.crossed.map(|own| own.signal.name());
        assert_eq!(crossed, signal, "{observed:?}");
    }
}

#[test]
fn pressure_outlives_its_cause_by_five_minutes() {
    let eviction = Eviction::default();
    let mut history = History::default();
    let short = Observed {
        memory: Room {
            available: 0,
            total: 1,
        },
        ..plenty()
    };
    let mut seen = Vec::new();
    for (observed, now) in [
        (plenty(), 0),
        (short, 10),
        (plenty(), 20),
        (plenty(), 309),
        (plenty(), 310),
        (short, 400),
    ] {
        let got = history.take(&eviction, &observed, at(now));
        seen.push((got.pressure.memory, got.crossed.is_some()));
    }
    assert_eq!(
        seen,
        [
            (false, false),
            (true, true),
            (true, false),
            (true, false),
            (false, false),
            (true, true)
        ]
    );
}

#[test]
fn a_soft_threshold_waits() {
    let eviction = eviction(
        "memory.available<100Mi",
        "memory.available<1Gi",
        "memory.available=30s",
    );
    let mut history = History::default();
    let left = |available| Observed {
        memory: Room {
            available,
            total: 4 << 30,
        },
        ..plenty()
    };
    let soft = left(500 << 20);
    for (observed, now, want) in [
        (soft, 0, None),
        (soft, 29, None),
        (soft, 30, Some(true)),
        // It was over for a moment: it waits anew.
        (plenty(), 40, None),
        (soft, 50, None),
        (left(0), 60, Some(false)),
        (soft, 70, None),
        (soft, 80, Some(true)),
    ] {
        let got = history.take(&eviction, &observed, at(now));
        let is_soft = got.crossed.map(|own| own.grace.is_some());
        assert_eq!(is_soft, want, "{now}");
        assert!(got.pressure.memory, "{now}");
    }
}

#[test]
fn names_of_conditions() {
    assert!(Pressure::default().names().is_empty());
    let all = Pressure {
        memory: true,
        disk: true,
        pids: true,
    };
    assert_eq!(
        all.names(),
        ["MemoryPressure", "DiskPressure", "PIDPressure"]
    );
}
