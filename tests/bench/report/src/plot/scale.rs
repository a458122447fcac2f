//! From values to places on an axis, and where its ticks are.

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// Between two ticks, where it is not logarithmic.
    step: f64,
    /// Where `low` and `high` are drawn.
    from: f64,
    to: f64,
}

impl Scale {
    /// Of the numbers of services and the like: logarithmic when they span more than a decade.
    pub fn across(values: &[f64], from: f64, to: f64) -> Scale {
        let (low, high) = bounds(values);
        Scale {
            low,
            high,
            log: low > 0.0 && high / low > 10.0,
            step: step(high - low),
            from,
            to,
        }
    }

    /// From zero to a round number past the highest; logarithmic where the highest is more than
    /// `wide` times the lowest, since zero would flatten the low ones.
    pub fn up(values: &[f64], wide: f64, from: f64, to: f64) -> Scale {
        let (low, high) = bounds(values);
        if low > 0.0 && high / low > wide {
            return Scale {
                low: round(low, false),
                high: round(high, true),
                log: true,
                step: 1.0,
                from,
                to,
            };
        }
        let step = step(high - low.min(0.0));
        Scale {
            low: (low.min(0.0) / step).floor() * step,
            high: (high / step).ceil() * step,
            log: false,
            step,
            from,
            to,
        }
    }

    /// Around the values, not from zero: ratios are read against one another and against 1.
    pub fn around(values: &[f64], from: f64, to: f64) -> Scale {
        let (low, high) = bounds(values);
        let step = step((high - low).max(0.02));
        let low = (low / step).floor() * step;
        Scale {
            low,
            high: ((high / step).ceil() * step).max(low + step),
            log: false,
            step,
            from,
            to,
        }
    }

    pub fn holds(&self, value: f64) -> bool {
        // Sums of steps are not exact.
        let slack = (self.high - self.low) * 1e-9;
        (self.low - slack..=self.high + slack).contains(&value)
    }

    pub fn is_log(&self) -> bool {
        self.log
    }

    /// Of what it does not hold, the nearer end.
    pub fn place(&self, value: f64) -> f64 {
        let value = value.clamp(self.low, self.high.max(self.low));
        let (low, high, value) = match self.log {
            true => (self.low.log10(), self.high.log10(), value.log10()),
            false => (self.low, self.high, value),
        };
        if high <= low {
            return (self.from + self.to) / 2.0;
        }
        self.from + (value - low) / (high - low) * (self.to - self.from)
    }

    /// Round values: decades, their halves and fifths where those are few, or even steps.
    pub fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = self.low.log10().floor() as i32..=self.high.log10().floor() as i32;
            let leads: &[f64] = match self.high / self.low {
                span if span <= 30.0 => &[1.0, 2.0, 5.0],
                span if span <= 300.0 => &[1.0, 3.0],
                _ => &[1.0],
            };
            let all: Vec<f64> = decades
                .flat_map(|power| leads.iter().map(move |lead| lead * 10f64.powi(power)))
                .filter(|tick| self.holds(*tick))
                .collect();
            let every = all.len().div_ceil(7).max(1);
            return all.into_iter().step_by(every).collect();
        }
        let step = self.step;
        let count = ((self.high - self.low) / step).round() as u32;
        let first = (self.low / step).round();
        (0..=count)
            .map(|index| (first + f64::from(index)) * step)
            .collect()
    }
}

fn bounds(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match low <= high {
        true => (low, high),
        false => (0.0, 1.0),
    }
}

/// The next of one, two and five of a power of ten.
fn round(value: f64, up: bool) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    let leads = [1.0, 2.0, 5.0, 10.0].map(|lead| lead * power);
    let found = match up {
        true => leads.iter().find(|lead| **lead >= value),
        false => leads.iter().rfind(|lead| **lead <= value),
    };
    found.copied().unwrap_or(value)
}

/// One, two or five of a power of ten, so that about five make the span.
fn step(span: f64) -> f64 {
    if span <= 0.0 {
        return 1.0;
    }
    let rough = span / 4.5;
    let power = 10f64.powf(rough.log10().floor());
    let lead = match rough / power {
        lead if lead <= 1.0 => 1.0,
        lead if lead <= 2.0 => 2.0,
        lead if lead <= 5.0 => 5.0,
        _ => 10.0,
    };
    lead * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_start_at_zero() {
        let scale = Scale::up(&[95_000.0, 121_000.0], 40.0, 200.0, 0.0);
        assert_eq!(scale.place(0.0), 200.0);
        assert!(scale.place(121_000.0) >= 0.0);
        assert_eq!(scale.ticks(), [0.0, 50_000.0, 100_000.0, 150_000.0]);
    }

    #[test]
    fn services_are_spread_by_decades() {
        let scale = Scale::across(&[1.0, 100.0, 10_000.0], 0.0, 100.0);
        assert!(scale.is_log());
        assert_eq!(scale.place(100.0), 50.0);
        assert!(!Scale::across(&[2.0, 10.0], 0.0, 1.0).is_log());
    }

    #[test]
    fn ratios_keep_close_to_their_values() {
        let scale = Scale::around(&[0.98, 1.0, 1.17], 100.0, 0.0);
        let ticks = scale.ticks();
        assert!(
            ticks[0] >= 0.9 && ticks[ticks.len() - 1] <= 1.25,
            "{ticks:?}"
        );
        assert!(scale.place(1.17) >= 0.0 && scale.place(0.98) <= 100.0);
    }

    #[test]
    fn nothing_and_one_value_have_a_scale() {
        for values in [&[][..], &[0.0], &[5.0], &[-3.0]] {
            for scale in [
                Scale::up(values, 6.0, 100.0, 0.0),
                Scale::around(values, 100.0, 0.0),
                Scale::across(values, 0.0, 100.0),
            ] {
                let place = scale.place(values.first().copied().unwrap_or(0.5));
                assert!(
                    (0.0..=100.0).contains(&place),
                    "{values:?} {scale:?} {place}"
                );
                assert!(scale.ticks().len() < 12);
            }
        }
    }

    #[test]
    fn a_decade_has_steps_of_its_own() {
        let scale = Scale::up(&[330.0, 2_500.0], 6.0, 100.0, 0.0);
        assert_eq!(scale.ticks(), [200.0, 500.0, 1000.0, 2000.0, 5000.0]);
        assert!(scale.holds(200.0) && !scale.holds(100.0));
        assert_eq!(scale.place(1.0), 100.0, "the nearer end");
    }

    #[test]
    fn wide_values_go_by_decades() {
        let scale = Scale::up(&[0.1, 900.0], 40.0, 100.0, 0.0);
        assert_eq!(scale.ticks(), [0.1, 1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(scale.place(0.1), 100.0);
    }
}
