//! Quantities: what people write is what they get, and it survives being stored.

use chassis_spec::{Bytes, Cpu, Seconds};
use proptest::prelude::*;

#[test]
fn quantities_are_read_as_people_mean_them() {
    for (text, bytes) in [
        ("0", 0),
        ("1048576", 1 << 20),
        ("512b", 512),
        ("64k", 64_000),
        ("64K", 64_000),
        ("512Ki", 512 << 10),
        ("64M", 64_000_000),
        ("64MB", 64_000_000),
        ("64mb", 64_000_000),
        ("128Mi", 128 << 20),
        ("128MiB", 128 << 20),
        ("128 MiB", 128 << 20),
        ("1.5Gi", 3 << 29),
        ("0.1Gi", 107_374_183),
        ("2T", 2_000_000_000_000),
        ("1024Ti", 1 << 50),
    ] {
        assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
    }
    for text in [
        "",
        "Mi",
        "-1",
        "1e9",
        "0.5",
        "1.Mi",
        ".5Mi",
        "1..5Mi",
        "128m",
        "5Pi",
        "1025Ti",
        "99999999999999999999",
    ] {
        assert!(text.parse::<Bytes>().is_err(), "{text}");
    }
    for (text, millis) in
        [("0.5", 500), ("2", 2000), ("500m", 500), ("10m", 10), ("0.25", 250), ("1024", 1_024_000)]
    {
        assert_eq!(text.parse(), Ok(Cpu(millis)), "{text}");
    }
    for text in ["", "0", "9m", "1025", "0.0005", "1.5m", "-1", "m", "1e3", "NaN", "4294967296"] {
        assert!(text.parse::<Cpu>().is_err(), "{text}");
    }
    for (text, seconds) in [
        ("0", 0),
        ("30", 30),
        ("30s", 30),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h1s", 3601),
        ("90m", 5400),
        ("7d", 604_800),
        ("1d12h", 129_600),
    ] {
        assert_eq!(text.parse(), Ok(Seconds(seconds)), "{text}");
    }
    for text in
        ["", "s", "+5", "-5", "1.5m", "30m1h", "5m5m", "500ms", "1d1d", "1h1d", "4294967296", "1193047h"]
    {
        assert!(text.parse::<Seconds>().is_err(), "{text}");
    }
}

#[test]
fn quantities_are_shown_short() {
    assert_eq!(
        [Cpu(500), Cpu(2000), Cpu(10), Cpu(1250)].map(|cpu| cpu.to_string()),
        ["0.5", "2", "0.01", "1.25"]
    );
    assert_eq!(
        [Bytes(0), Bytes(128 << 20), Bytes(64_000_000), Bytes(1 << 30), Bytes(1001)]
            .map(|bytes| bytes.to_string()),
        ["0", "128Mi", "64M", "1Gi", "1001"]
    );
    assert_eq!(
        [0, 30, 90, 5400, 3601, 86_400, 604_800].map(Seconds).map(|seconds| seconds.to_string()),
        ["0s", "30s", "1m30s", "1h30m", "1h1s", "24h", "7d"]
    );
}

proptest! {
    #[test]
    fn quantities_read_back_equal(cpu in 10_u32..=1_024_000, bytes in 0_u64..=1 << 50, seconds: u32) {
        let (cpu, bytes, seconds) = (Cpu(cpu), Bytes(bytes), Seconds(seconds));
        let text = serde_json::to_string(&(cpu, bytes, seconds)).unwrap();
        prop_assert_eq!(serde_json::from_str::<(Cpu, Bytes, Seconds)>(&text).unwrap(), (cpu, bytes, seconds));
        let numbers = format!("[{}, {}, {}]", f64::from(cpu.0) / 1000.0, bytes.0, seconds.0);
        prop_assert_eq!(serde_json::from_str::<(Cpu, Bytes, Seconds)>(&numbers).unwrap(), (cpu, bytes, seconds));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[0-9.]{0,25}[a-zA-Z ]{0,4}[0-9]{0,12}[hms]?") {
        if let Ok(cpu) = text.parse::<Cpu>() {
            prop_assert_eq!(cpu.to_string().parse(), Ok(cpu));
        }
        if let Ok(bytes) = text.parse::<Bytes>() {
            prop_assert_eq!(bytes.to_string().parse(), Ok(bytes));
        }
        if let Ok(seconds) = text.parse::<Seconds>() {
            prop_assert_eq!(seconds.to_string().parse(), Ok(seconds));
        }
    }
}
