//! Numbers that were measured, and what is said of them.

use std::time::Duration;

/// What was measured, in the order in which it was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub(crate) fn push_milliseconds(&mut self, elapsed: Duration) {
        self.push(elapsed.as_secs_f64() * 1000.0);
    }

    pub(crate) fn values(&self) -> &[f64] {
        &self.0
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The middle one, or the mean of the two in the middle; `NaN` of nothing.
    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        match (sorted.len() / 2, sorted.len() % 2) {
            (0, 0) => f64::NAN,
            (middle, 0) => f64::midpoint(sorted[middle - 1], sorted[middle]),
            (middle, _) => sorted[middle],
        }
    }

    pub(crate) fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::min)
    }

    pub(crate) fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NAN, f64::max)
    }
}

impl From<f64> for Series {
    fn from(value: f64) -> Self {
        Series(vec![value])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        assert!(Series::default().median().is_nan());
        assert!((Series(vec![9.0, 1.0, 5.0]).median() - 5.0).abs() < f64::EPSILON);
        let even = Series(vec![4.0, 1.0, 2.0, 9.0]);
        assert!((even.median() - 3.0).abs() < f64::EPSILON);
    }
}
