//! Times as people read them: how long ago, how soon.

use jiff::Timestamp;

/// `5s`, `5m`, `3h12m`, `2d`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(since).as_secs().max(0))
}

/// How long until then; at least a second, because it is about to happen.
pub(crate) fn until(then: Timestamp, now: Timestamp) -> String {
    let wait = then.duration_since(now);
    span((wait.as_secs() + i64::from(wait.subsec_nanos() > 0)).max(1))
}

fn span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..60 => format!("{seconds}s"),
        60..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        60..3600 => format!("{minutes}m"),
        3600..86_400 if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        3600..86_400 => format!("{hours}h"),
        86_400..864_000 if hours % 24 != 0 => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_short() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (125, "2m5s"),
            (600, "10m"),
            (655, "10m"),
            (3600, "1h"),
            (11_520, "3h12m"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (8_640_000, "100d"),
        ];
        for (seconds, text) in cases {
            assert_eq!(span(seconds), text);
        }
    }
}
