//! Random input for tests, the same at every run.

use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Enough for any time that a test may take.
const MOST: u64 = 20_000;

/// To be found when the test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with seed {}", self.0);
        }
    }
}

/// Calls `check` with one seed after the other for about so long.
pub fn with_seeds(time: Duration, mut check: impl FnMut(&mut StdRng)) {
    let end = Instant::now() + time;
    for seed in (0..MOST).take_while(|_| Instant::now() < end) {
        let _seed = Seed(seed);
        check(&mut StdRng::seed_from_u64(seed));
    }
}
