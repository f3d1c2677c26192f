//! Statistics that a few wild values don't move. All take values in ascending order and are finite for finite ones.

/// Sorted, without what is no number.
pub(super) fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut all: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    all.sort_unstable_by(f64::total_cmp);
    all
}

/// The quantile `q` (0 to 1), interpolated between neighbours (Hyndman & Fan 1996, type 7).
pub(super) fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let place = q.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    let part = place - place.floor();
    Some((low * (1.0 - part) + high * part).clamp(low, high))
}

/// The middle value, or the middle of the two.
pub(super) fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.len() / 2;
    let last = *sorted.get(upper)?;
    Some(if sorted.len() % 2 == 1 { last } else { f64::midpoint(sorted[upper - 1], last) })
}

/// The median absolute deviation from `center`, scaled so that it is the standard deviation of normal values.
pub(super) fn mad(sorted: &[f64], center: f64) -> Option<f64> {
    let deviations = self::sorted(sorted.iter().map(|value| (value - center).abs()));
    Some((1.4826 * median(&deviations)?).min(f64::MAX))
}

/// Puts a value in its place, unless it is no number.
pub(super) fn insert(sorted: &mut Vec<f64>, value: f64) {
    if value.is_finite() {
        sorted.insert(sorted.partition_point(|other| *other < value), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn middles_and_quantiles() {
        assert_eq!((median(&[]), median(&[3.0]), median(&[1.0, 2.0])), (None, Some(3.0), Some(1.5)));
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.25), Some(2.0));
        assert_eq!((quantile(&[1.0, 2.0], 0.9), quantile(&[], 0.5)), (Some(1.9), None));
    }

    proptest! {
        #[test]
        fn what_is_put_in_is_in_its_place(values in prop::collection::vec(prop_oneof![-1e9f64..1e9, Just(f64::NAN)], 0..20)) {
            let mut one_by_one = Vec::new();
            values.iter().for_each(|value| insert(&mut one_by_one, *value));
            prop_assert_eq!(one_by_one, sorted(values));
        }
    }
}
