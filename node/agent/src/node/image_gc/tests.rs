use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn images(ids: &[&str]) -> Vec<ImageStatus> {
    let image = |id: &&str| ImageStatus {
        id: (*id).to_owned(),
        size_bytes: 1,
        ..ImageStatus::default()
    };
    ids.iter().map(image).collect()
}

fn used(ids: &[&str]) -> BTreeSet<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

#[test]
fn those_that_nobody_had_for_longest_go_first() {
    let mut history = History::default();
    history.take(&images(&["a", "b", "c", "d"]), &used(&["a", "b"]), at(0));
    history.take(&images(&["a", "b", "c", "d", "e"]), &used(&["b"]), at(60));
    // `c` and `d` never; `a` a minute before `b`; `e` is too young, `d` is gone.
    history.take(&images(&["a", "b", "c", "e"]), &used(&[]), at(170));
    assert_eq!(history.candidates(at(170)), ["c", "a", "b"]);
    assert_eq!(history.candidates(at(180)), ["c", "e", "a", "b"]);
    history.take(&images(&["a", "b", "c", "e"]), &used(&["c"]), at(180));
    assert_eq!(history.candidates(at(180)), ["e", "a", "b"]);
    assert_eq!(history.candidates(at(119)), [""; 0]);
}

#[test]
fn from_the_high_threshold_down_to_the_low_one() {
    let thresholds = Thresholds::default();
    for (available, total, want) in [
        (100, 100, 0),
        (16, 100, 0),
        (15, 100, 5),
        (0, 100, 20),
        // Of none nothing is known.
        (0, 0, 0),
        (
            0,
            u64::MAX,
            u64::MAX - (u128::from(u64::MAX) * 80 / 100) as u64,
        ),
    ] {
        let disk = Room { available, total };
        assert_eq!(thresholds.excess(disk), want, "{disk:?}");
    }
    let all = Thresholds { high: 0, low: 0 };
    let disk = Room {
        available: 40,
        total: 100,
    };
    assert_eq!(all.excess(disk), 60);
    let never = Thresholds { high: 100, low: 0 };
    assert_eq!(never.excess(disk), 0);
}
