//! Sizes and shares as people read them.

/// `512`, `1.5Ki`, `128Mi`: the units of the YAML, in as few digits as tell something.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["Ki", "Mi", "Gi", "Ti", "Pi"];
    if bytes < 1024 {
        return bytes.to_string();
    }
    // The first power of 1024 that leaves less than four digits before the point.
    let unit = UNITS.iter().zip(1_u32..).find(|(_, power)| bytes < 1000 << (10 * power));
    let (unit, power) = unit.unwrap_or((&UNITS[4], 5));
    let tenths = (u128::from(bytes) * 10 + (1 << (10 * power - 1))) >> (10 * power);
    match (tenths / 10, tenths % 10) {
        (whole, tenth) if whole < 100 && tenth > 0 => format!("{whole}.{tenth}{unit}"),
        (whole, _) => format!("{whole}{unit}"),
    }
}

/// `0.4%`, `52%`.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 9.95 { format!("{percent:.1}%") } else { format!("{percent:.0}%") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let cases = [
            (0, "0"),
            (1023, "1023"),
            (1024, "1Ki"),
            (1536, "1.5Ki"),
            (1 << 20, "1Mi"),
            (134_217_728, "128Mi"),
            (1000 << 20, "1Gi"),
            (1 << 30, "1Gi"),
            (u64::MAX, "16384Pi"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text, "{bytes}");
        }
    }
}
