//! Reproducible noise: a pure function of a seed, a channel and a time, so that a model that uses it is one too.

/// SplitMix64's output function (Steele, Lea and Flood, 2014): every bit of the result depends on every bit of the
/// input.
fn scramble(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A source of noise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// Uniform in -1..1, unrelated for every (channel, tick).
    fn uniform(self, channel: u64, tick: i64) -> f64 {
        let bits = scramble(scramble(self.0 ^ scramble(channel)) ^ tick as u64);
        (bits >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// About normal with standard deviation 1, within -3..3 (three uniforms added up): what a sensor adds.
    pub(crate) fn white(self, channel: u64, tick: i64) -> f64 {
        (0..3).map(|part| self.uniform(channel * 3 + part, tick)).sum()
    }

    /// Smooth, within -1..1, changing over about `width` seconds: what people add.
    pub(crate) fn smooth(self, channel: u64, seconds: f64, width: f64) -> f64 {
        let place = seconds / width;
        let (left, within) = (place.floor(), place - place.floor());
        let ease = within * within * (3.0 - 2.0 * within);
        let (a, b) = (self.uniform(channel, left as i64), self.uniform(channel, left as i64 + 1));
        a + (b - a) * ease
    }
}

#[cfg(test)]
mod tests {
    use super::Noise;

    #[test]
    fn white_noise_has_mean_zero_and_deviation_one_and_is_the_same_again() {
        let noise = Noise(7);
        let all: Vec<f64> = (0..20_000).map(|tick| noise.white(1, tick)).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "mean {mean}, variance {variance}");
        assert!((0..100).all(|tick| noise.white(1, tick) == all[tick as usize]));
        assert!((0..100).any(|tick| Noise(8).white(1, tick) != all[tick as usize]));
    }

    #[test]
    fn smooth_noise_is_bounded_and_has_no_steps() {
        let at = |second: i64| Noise(7).smooth(2, second as f64, 100.0);
        assert!((-5_000..5_000).all(|s| at(s).abs() <= 1.0 && (at(s + 1) - at(s)).abs() < 0.04));
    }
}
