//! Where callers come from, and how often they may call.

use chassis_core::cidr::{Cidr, client_address, household};
use chassis_core::rate::{Bucket, Rate};
use jiff::{SignedDuration, Timestamp};

fn block(text: &str) -> Cidr {
    text.parse().expect("a block of addresses")
}

#[test]
fn blocks_hold_what_their_prefix_says() {
    for (text, inside, outside) in [
        (
            "10.0.0.0/8",
            vec!["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"],
            vec!["11.0.0.0", "9.255.255.255", "::1"],
        ),
        ("192.0.2.7", vec!["192.0.2.7"], vec!["192.0.2.6", "192.0.2.8"]),
        ("0.0.0.0/0", vec!["0.0.0.0", "255.255.255.255"], vec!["::", "2001:db8::1"]),
        ("2001:db8::/32", vec!["2001:db8::", "2001:db8:ffff::1"], vec!["2001:db9::", "32.1.13.184"]),
        ("::/0", vec!["::1", "fe80::1"], vec!["127.0.0.1"]),
    ] {
        for address in inside {
            assert!(block(text).contains(address.parse().unwrap()), "{address} in {text}");
        }
        for address in outside {
            assert!(!block(text).contains(address.parse().unwrap()), "{address} not in {text}");
        }
    }
    for wrong in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0.0/", "a/8"] {
        assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
    }
    let error = "10.1.2.3/8".parse::<Cidr>().unwrap_err();
    assert!(error.to_string().ends_with("write 10.0.0.0/8"), "{error}");
    assert_eq!(household("2001:db8:1:2:3::4".parse().unwrap()).to_string(), "2001:db8:1:2::");
    assert_eq!(household("192.0.2.7".parse().unwrap()).to_string(), "192.0.2.7");
}

#[test]
fn only_trusted_proxies_say_whose_request_it_is() {
    let trusted = [block("10.0.0.0/8"), block("2001:db8::/32")];
    for (peer, forwarded, client) in [
        ("192.0.2.1", vec!["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", vec![], "10.0.0.1"),
        ("10.0.0.1", vec!["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", vec!["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", vec!["127.0.0.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("::ffff:10.0.0.1", vec!["203.0.113.9:4711"], "203.0.113.9"),
        ("2001:db8::1", vec!["[2001:dead::1]:80"], "2001:dead::1"),
        ("10.0.0.1", vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", vec!["203.0.113.9, unknown"], "10.0.0.1"),
        ("10.0.0.1", vec![""], "10.0.0.1"),
    ] {
        let found = client_address(peer.parse().unwrap(), forwarded.iter().copied(), &trusted);
        assert_eq!(found.to_string(), client, "{peer} says {forwarded:?}");
    }
}

#[test]
fn a_burst_and_then_one_in_each_period() {
    let rate = Rate { period: SignedDuration::from_secs(2), burst: 3 };
    let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
    let mut bucket = Bucket::new(at(0));
    for _ in 0..3 {
        assert_eq!(bucket.take(rate, at(0)), Ok(()));
    }
    assert_eq!(bucket.take(rate, at(0)), Err(SignedDuration::from_secs(2)));
    assert_eq!(bucket.take(rate, at(1)), Err(SignedDuration::from_secs(1)));
    assert_eq!(bucket.take(rate, at(2)), Ok(()));
    assert_eq!(bucket.take(rate, at(2)), Err(SignedDuration::from_secs(2)));
    for _ in 0..3 {
        assert_eq!(bucket.take(rate, at(100)), Ok(()), "what was not used is not saved up beyond the burst");
    }
    assert!(bucket.take(rate, at(100)).is_err());
}
