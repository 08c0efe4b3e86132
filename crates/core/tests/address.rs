//! Which addresses are the internet's: the table of those that people try, and what must hold of all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use chassis_core::address_is_public;
use proptest::prelude::*;

fn is_public(address: &str) -> bool {
    address_is_public(address.parse().unwrap_or_else(|_| panic!("{address}")))
}

#[test]
fn no_address_of_a_machine_a_network_or_a_provider_is_public() {
    let of_nobody = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.9",
        "168.63.129.16",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:8.8.8.8",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::1",
        "100::1",
        "fc00::1",
        "fd00:ec2::254",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "3fff::1",
        "4000::1",
        "5f00::1",
    ];
    for address in of_nobody {
        assert!(!is_public(address), "{address}");
    }
    let of_everybody = [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "140.82.112.3",
        "2606:4700:4700::1111",
        "2a00:1450:4001:80e::200e",
        "2001:4860:4860::8888",
        "2620:fe::fe",
    ];
    for address in of_everybody {
        assert!(is_public(address), "{address}");
    }
}

proptest! {
    /// What the standard library knows to be special is refused, whatever it is.
    #[test]
    fn nothing_that_is_known_to_be_special_is_public(bits in any::<u32>()) {
        let v4 = Ipv4Addr::from_bits(bits);
        let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
            || v4.is_broadcast() || v4.is_documentation() || v4.is_unspecified();
        prop_assert!(!(special && address_is_public(IpAddr::V4(v4))), "{v4}");
    }

    /// No form of an IPv4 address within IPv6 is a way around.
    #[test]
    fn an_ipv4_address_in_disguise_is_never_public(bits in any::<u32>()) {
        let v4 = Ipv4Addr::from_bits(bits);
        let [high, low] = [(bits >> 16) as u16, (bits & 0xffff) as u16];
        let disguises = [
            v4.to_ipv6_mapped(),
            v4.to_ipv6_compatible(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, high, low, 0, 0, 0, 1),
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x5efe, high, low),
        ];
        for address in disguises {
            prop_assert!(!address_is_public(IpAddr::V6(address)), "{address}");
        }
    }

    #[test]
    fn what_is_public_in_ipv6_is_global_unicast(bits in any::<u128>()) {
        let address = Ipv6Addr::from_bits(bits);
        let special = address.is_unique_local() || address.is_unicast_link_local() || address.is_multicast()
            || address.is_loopback() || address.is_unspecified() || address.segments()[0] >> 13 != 1;
        prop_assert!(!(special && address_is_public(IpAddr::V6(address))), "{address}");
    }
}
