//! What districts draw, by the time of day and week. Pure.

use super::noise::Noise;

/// The district whose pipe bursts.
pub(crate) const BURST: usize = 1;
/// RES_002's floor above the lowest point of the districts, m.
pub(crate) const BASIN_M: f64 = 45.0;
/// Of the pipe that all share, m per (L/s)².
pub(crate) const COMMON_FRICTION: f64 = 0.000_6;

/// A district.
#[derive(Clone, Copy, Debug)]
pub(crate) struct District {
    /// Its number for the noise.
    channel: u64,
    /// What it draws on average, L/s.
    pub(crate) mean: f64,
    /// The share of households in that; the rest is industry.
    households: f64,
    /// Its inlet above the lowest point, m.
    pub(crate) elevation_m: f64,
    /// Of its own pipe, m per (L/s)².
    pub(crate) friction: f64,
}

/// DIST_001 to DIST_003.
pub(crate) const DISTRICTS: [District; 3] = [
    District { channel: 1, mean: 20.0, households: 0.95, elevation_m: 6.0, friction: 0.005_6 },
    District { channel: 2, mean: 13.0, households: 0.85, elevation_m: 14.0, friction: 0.013 },
    District { channel: 3, mean: 8.0, households: 0.40, elevation_m: 2.0, friction: 0.03 },
];

const HOUR_S: f64 = 3_600.0;
const DAY_S: f64 = 24.0 * HOUR_S;

impl District {
    /// What it draws at a time, in L/s; `model_s` counts from a Monday 00:00.
    pub(crate) fn demand(&self, model_s: f64, noise: Noise) -> f64 {
        let hour = model_s.rem_euclid(DAY_S) / HOUR_S;
        let weekend = (model_s.div_euclid(DAY_S) as i64).rem_euclid(7) >= 5;
        let pattern = self.households * households(hour, weekend) + (1.0 - self.households) * industry(hour, weekend);
        // Slow: the weather of the hour. Fast: who happens to open a tap.
        let slow = 0.06 * noise.smooth(self.channel, model_s, 5_400.0);
        let fast = 0.04 * noise.smooth(self.channel + 100, model_s, 240.0);
        let warm = 0.02 * noise.smooth(self.channel + 200, model_s, 3.0 * DAY_S);
        self.mean * pattern * (season(model_s) + slow + fast + warm)
    }
}

/// 1 on the average of a year, more in summer; model time of clocks begins on the fifth of January 1970.
fn season(model_s: f64) -> f64 {
    const YEAR: f64 = 365.25;
    const WARMEST: f64 = 200.0;
    let day = model_s / DAY_S + 4.0;
    1.0 + 0.05 * ((day - WARMEST) / YEAR * std::f64::consts::TAU).cos()
}

/// What runs out of a torn pipe at a pressure in bar, in L/s: an orifice, by the square root.
pub(crate) fn leak(pressure: f64) -> f64 {
    9.5 * pressure.max(0.0).sqrt()
}

/// A bell of height 1 around an hour of the day, `width` hours from its middle to its flank.
fn bell(hour: f64, middle: f64, width: f64) -> f64 {
    let distance = (hour - middle + 12.0).rem_euclid(24.0) - 12.0;
    (-(distance / width).powi(2) / 2.0).exp()
}

/// 1 on the average of a weekday: a morning peak, lunch, an evening peak. At weekends people rise late and use more.
fn households(hour: f64, weekend: bool) -> f64 {
    if weekend {
        1.08 * (0.36 + 1.25 * bell(hour, 9.6, 1.9) + 0.70 * bell(hour, 13.0, 2.2) + 1.05 * bell(hour, 19.3, 2.0))
            / 0.995
    } else {
        (0.32 + 1.35 * bell(hour, 7.3, 1.3) + 0.55 * bell(hour, 12.5, 2.2) + 1.05 * bell(hour, 19.3, 1.9)) / 0.838
    }
}

/// 1 on the average of a weekday: a working day from six to six, and little besides.
fn industry(hour: f64, weekend: bool) -> f64 {
    let at_work = 1.0 / (1.0 + (-(hour - 6.0) * 2.5).exp()) / (1.0 + ((hour - 18.0) * 2.5).exp());
    if weekend { 0.45 } else { 0.45 + 1.1 * at_work }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(of: impl Fn(f64) -> f64) -> f64 {
        (0..2_400).map(|n| of(f64::from(n) / 100.0)).sum::<f64>() / 2_400.0
    }

    #[test]
    fn a_weekday_is_one_on_average_and_a_weekend_a_little_more_for_households() {
        assert!((mean(|hour| households(hour, false)) - 1.0).abs() < 0.01);
        assert!((mean(|hour| households(hour, true)) - 1.08).abs() < 0.01);
        assert!((mean(|hour| industry(hour, false)) - 1.0).abs() < 0.01);
        assert!(mean(|hour| industry(hour, true)) < 0.5);
    }

    #[test]
    fn morning_and_evening_are_peaks_and_the_night_is_a_valley() {
        let at = |hour| households(hour, false);
        assert!(at(7.3) > 1.8 && at(19.3) > 1.5 && at(3.0) < 0.5 && at(10.0) < at(7.3) && at(15.5) < at(19.3));
        let peak = |weekend| {
            (0..1_200).max_by(|a, b| {
                let of = |n: i32| households(f64::from(n) / 100.0, weekend);
                of(*a).total_cmp(&of(*b))
            })
        };
        assert!(peak(true) > peak(false).map(|n| n + 150), "people rise late at weekends");
    }

    #[test]
    fn the_pattern_has_no_step_at_midnight() {
        for of in [|hour| households(hour, false), |hour| households(hour, true)] {
            assert!((of(0.0) - of(23.999)).abs() < 0.01);
        }
    }

    #[test]
    fn demand_is_noisy_and_the_same_again() {
        let at = |model_s, seed| DISTRICTS[0].demand(model_s, Noise(seed));
        assert_eq!(at(40_000.0, 1), at(40_000.0, 1));
        assert_ne!(at(40_000.0, 1), at(40_000.0, 2));
        let rough = (0..1_000).map(|n| at(40_000.0 + f64::from(n), 1)).collect::<Vec<_>>();
        assert!(rough.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
