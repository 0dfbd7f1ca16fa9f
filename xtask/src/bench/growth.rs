//! How costs grow: the exponent of the power of the size that fits best.

/// The `b` of `cost = a * size^b`, by least squares over the logarithms; `None` for fewer than three sizes, or where a
/// cost is zero, which has no logarithm.
///
/// 0 is a constant cost, 1 a cost for each. A logarithm and a constant part both show as something between.
pub(super) fn exponent(points: &[(u64, u64)]) -> Option<f64> {
    let mut sizes: Vec<u64> = points.iter().map(|(size, _)| *size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.len() < 3 || points.iter().any(|(size, cost)| *size == 0 || *cost == 0) {
        return None;
    }
    let logs: Vec<(f64, f64)> = points.iter().map(|(size, cost)| ((*size as f64).ln(), (*cost as f64).ln())).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / logs.len() as f64;
    let (mean_x, mean_y) = (mean(|log| log.0), mean(|log| log.1));
    let both: f64 = logs.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let square: f64 = logs.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    Some(both / square)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cost: impl Fn(u64) -> u64) -> f64 {
        exponent(&[100, 1000, 10_000].map(|size| (size, cost(size)))).unwrap()
    }

    #[test]
    fn powers_are_found() {
        assert!((of(|size| 7 * size) - 1.0).abs() < 1e-9);
        assert!((of(|size| 3 * size * size) - 2.0).abs() < 1e-9);
        assert!(of(|_| 1500).abs() < 1e-9);
        assert!((of(|size| size * u64::from(size.ilog2())) - 1.15).abs() < 0.1);
    }

    #[test]
    fn too_few_sizes_have_no_exponent() {
        assert_eq!(exponent(&[(1, 1), (10, 10)]), None);
        assert_eq!(exponent(&[(1, 1), (10, 10), (10, 12)]), None);
        assert_eq!(exponent(&[(1, 0), (10, 10), (100, 100)]), None);
    }
}
