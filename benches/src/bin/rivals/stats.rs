//! Medians and spreads.

/// The middle value; of an even number, the mean of the two.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => f64::midpoint(sorted[even / 2 - 1], sorted[even / 2]),
    }
}

/// Median of each column.
pub(crate) fn column_medians(rounds: &[Vec<f64>]) -> Vec<f64> {
    let columns = rounds.first().map_or(0, Vec::len);
    (0..columns)
        .map(|column| median(&rounds.iter().map(|round| round[column]).collect::<Vec<_>>()))
        .collect()
}

/// Half of max - min, relative to the median, in percent.
pub(crate) fn spread_percent(values: &[f64]) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    50.0 * (most - least) / median(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn columns_are_taken_one_by_one() {
        let rounds = [vec![1.0, 30.0], vec![2.0, 10.0], vec![3.0, 20.0]];
        assert_eq!(column_medians(&rounds), [2.0, 20.0]);
    }

    #[test]
    fn spread_is_half_the_range() {
        assert_eq!(spread_percent(&[90.0, 100.0, 110.0]), 10.0);
    }
}
