//! Figures as people read them.

/// "1.234ms": four digits and a unit.
#[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
pub(crate) fn duration(nanoseconds: i64) -> String {
    let size = nanoseconds.unsigned_abs();
    let (divisor, unit) = match size {
        0..1_000 => return format!("{nanoseconds}ns"),
        1_000..1_000_000 => (1e3, "us"),
        1_000_000..1_000_000_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = nanoseconds as f64 / divisor;
    let digits = match value.abs() {
        small if small < 10.0 => 3,
        middle if middle < 100.0 => 2,
        _ => 1,
    };
    format!("{value:.digits$}{unit}")
}

/// "12.3%" of a whole.
pub(crate) fn share(part: i64, whole: i64) -> String {
    format!("{:.1}%", percent(part, whole))
}

#[expect(clippy::cast_precision_loss, reason = "one digit behind the point is shown")]
pub(crate) fn percent(part: i64, whole: i64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 * 100.0 / whole as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (nanoseconds, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_234, "1.234us"),
            (12_345_678, "12.35ms"),
            (-2_000_000_000, "-2.000s"),
            (123_456_000_000, "123.5s"),
        ] {
            assert_eq!(duration(nanoseconds), text);
        }
        assert_eq!(share(1, 3), "33.3%");
        assert_eq!(share(1, 0), "0.0%");
    }
}
