//! A straight line through measured points, by least squares. Pure.

/// What a quantity gains per unit of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// The gain.
    pub per_unit: f64,
    /// Its standard error.
    pub error: f64,
}

/// The slope of a line through points (time, value); `None` with fewer than three of them, or without time between them.
pub fn slope(points: &[(f64, f64)]) -> Option<Slope> {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let sum_xx: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    if points.len() < 3 || sum_xx <= 0.0 {
        return None;
    }
    let sum_xy: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let per_unit = sum_xy / sum_xx;
    let residual: f64 = points.iter().map(|(x, y)| (y - mean_y - per_unit * (x - mean_x)).powi(2)).sum();
    Some(Slope { per_unit, error: (residual / (count - 2.0) / sum_xx).sqrt() })
}
