//! Tables of frames and what becomes of them.

use proptest::prelude::*;

use super::super::{Config, Ipv6Config, Rule};
use super::*;

const GUEST: &str = "192.168.105.2";
const GUEST6: &str = "fd00::2";

fn config(rules: &[(&str, u8, bool)]) -> Config {
    Config {
        restricted: false,
        network: "192.168.105.0".parse().unwrap(),
        mask: "255.255.255.0".parse().unwrap(),
        host: "192.168.105.1".parse().unwrap(),
        nameserver: "192.168.105.254".parse().unwrap(),
        dhcp_start: "192.168.105.2".parse().unwrap(),
        dhcp: true,
        ipv6: Some(Ipv6Config {
            prefix: "fd00::".parse().unwrap(),
            host: "fd00::1".parse().unwrap(),
            nameserver: "fd00::3".parse().unwrap(),
        }),
        domain: c"".into(),
        mtu: 1500,
        rules: rules
            .iter()
            .map(|(network, prefix, allow)| Rule {
                network: network.parse().unwrap(),
                prefix: *prefix,
                allow: *allow,
            })
            .collect(),
    }
}

/// Without a loopback, as the control plane does it by default.
fn guard() -> Guard {
    Guard::new(&config(&[("127.0.0.0", 8, false), ("0.0.0.0", 8, false), ("::1", 128, false)]))
}

/// A packet of either family with `payload` as its transport header.
fn packet(source: &str, target: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 12];
    match (source.parse().unwrap(), target.parse().unwrap()) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            bytes.extend(ETHERTYPE_IPV4.to_be_bytes());
            let mut ip = [0; 20];
            ip[0] = 0x45;
            ip[9] = protocol;
            ip[12..16].copy_from_slice(&source.octets());
            ip[16..20].copy_from_slice(&target.octets());
            bytes.extend(ip);
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            bytes.extend(ETHERTYPE_IPV6.to_be_bytes());
            let mut ip = [0; 40];
            ip[0] = 0x60;
            ip[6] = protocol;
            ip[8..24].copy_from_slice(&source.octets());
            ip[24..40].copy_from_slice(&target.octets());
            bytes.extend(ip);
        }
        _ => panic!("two families"),
    }
    bytes.extend(payload);
    bytes
}

fn udp(port: u16) -> Vec<u8> {
    [&1234_u16.to_be_bytes()[..], &port.to_be_bytes(), &[0; 4]].concat()
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut header = vec![0; 20];
    header[13] = flags;
    header
}

#[test]
fn where_guests_may_connect() {
    let allowed = ["203.0.113.7", "10.0.0.1", "169.254.169.254", "192.168.105.1", "192.168.105.254"];
    let denied = [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "0.1.2.3",
        "192.168.105.3",
        "192.168.105.255",
        "224.0.0.251",
        "255.255.255.255",
    ];
    for (targets, expected) in [(&allowed[..], true), (&denied, false)] {
        for target in targets {
            let verdict = guard().verdict(&packet(GUEST, target, TCP, &tcp(SYN)));
            assert_eq!(verdict != Verdict::Deny, expected, "{target}: {verdict:?}");
        }
    }
    for (target, expected) in [
        ("2001:db8::1", true),
        ("fd00::1", true),
        ("fd00::3", true),
        ("fd00::2:2", false),
        ("::1", false),
        ("::ffff:127.0.0.1", false),
        ("::ffff:203.0.113.7", true),
        ("ff0e::1", false),
        ("fe80::2", false),
    ] {
        let verdict = guard().verdict(&packet(GUEST6, target, TCP, &tcp(SYN)));
        assert_eq!(verdict != Verdict::Deny, expected, "{target}: {verdict:?}");
    }
}

#[test]
fn the_most_specific_rule_decides_and_of_equals_the_one_that_denies() {
    let rules = [
        ("0.0.0.0", 0, false),
        ("10.0.0.0", 8, true),
        ("10.1.0.0", 16, false),
        ("10.1.2.3", 32, true),
        ("10.2.0.0", 16, true),
        ("10.2.0.0", 16, false),
    ];
    let guard = Guard::new(&config(&rules));
    for (target, expected) in [
        ("203.0.113.7", false),
        ("10.9.9.9", true),
        ("10.1.9.9", false),
        ("10.1.2.3", true),
        ("10.2.0.1", false),
        ("127.0.0.1", false),
    ] {
        let verdict = guard.verdict(&packet(GUEST, target, UDP, &udp(9)));
        assert_eq!(verdict != Verdict::Deny, expected, "{target}");
    }
    // Nothing was said about the other family.
    assert_ne!(guard.verdict(&packet(GUEST6, "2001:db8::1", UDP, &udp(9))), Verdict::Deny);
}

#[test]
fn connections_from_outside_may_be_answered_and_none_begun() {
    let guard = Guard::new(&config(&[("203.0.113.0", 24, false)]));
    for (flags, passes) in
        [(SYN, false), (SYN | URG, false), (SYN | ACK, true), (ACK, true), (ACK | URG, true), (RST, true)]
    {
        let verdict = guard.verdict(&packet(GUEST, "203.0.113.7", TCP, &tcp(flags)));
        assert_eq!(verdict != Verdict::Deny, passes, "{flags:x}");
    }
}

#[test]
fn the_gateway_is_the_loopback_only_for_the_family_that_may_reach_it() {
    let four = Guard::new(&config(&[("::1", 128, false)]));
    let six = Guard::new(&config(&[("127.0.0.0", 8, false)]));
    for (guard, host4, host6) in [(&four, true, false), (&six, false, true)] {
        assert!(guard.reaches_loopback());
        let verdict = guard.verdict(&packet(GUEST, "192.168.105.1", TCP, &tcp(SYN)));
        assert_eq!(verdict != Verdict::Deny, host4);
        let verdict = guard.verdict(&packet(GUEST6, "fd00::1", TCP, &tcp(SYN)));
        assert_eq!(verdict != Verdict::Deny, host6);
        // What the stack answers by itself goes through whatever the rules are.
        assert_eq!(guard.verdict(&packet(GUEST, "192.168.105.1", UDP, &udp(67))), PASS);
        assert_eq!(guard.verdict(&packet(GUEST, "192.168.105.1", ICMP, &[8, 0])), PASS);
    }
    assert!(!guard().reaches_loopback());
}

#[test]
fn what_no_guest_needs_does_not_reach_the_stack() {
    let mut fragment = packet(GUEST, "192.168.105.1", UDP, &udp(9));
    fragment[20] = 0x20;
    let mut ncsi = packet(GUEST, "203.0.113.7", UDP, &udp(9));
    ncsi[12..14].copy_from_slice(&0x88f8_u16.to_be_bytes());
    for frame in [
        packet(GUEST, "192.168.105.1", UDP, &udp(69)),
        packet(GUEST, "203.0.113.7", 47, &[0; 20]),
        fragment,
        ncsi,
    ] {
        assert_eq!(guard().verdict(&frame), Verdict::Deny);
    }
}

#[test]
fn sources_are_of_the_segment() {
    for source in ["10.0.0.5", "192.168.105.1", "192.168.105.254", "0.0.0.0", "127.0.0.1"] {
        let verdict = guard().verdict(&packet(source, "203.0.113.7", UDP, &udp(9)));
        assert_eq!(verdict, Verdict::Forged, "{source}");
    }
    for source in ["2001:db8::5", "fd00::1", "fd00::3", "::1"] {
        let verdict = guard().verdict(&packet(source, "2001:db8::1", UDP, &udp(9)));
        assert_eq!(verdict, Verdict::Forged, "{source}");
    }
    // A link-local one is a neighbour's, but nobody answers it beyond the segment.
    assert_eq!(guard().verdict(&packet("fe80::5", "2001:db8::1", UDP, &udp(9))), Verdict::Deny);
    assert_eq!(guard().verdict(&packet("0.0.0.0", "255.255.255.255", UDP, &udp(67))), PASS);
    assert_eq!(guard().verdict(&packet("::", "ff02::1:ff00:2", ICMPV6, &[135, 0])), SETTLES);
}

#[test]
fn what_may_open_a_socket() {
    let flow = Opens::Flow((GUEST.parse().unwrap(), 1234));
    let mut later_fragment = packet(GUEST, "203.0.113.7", UDP, &udp(9));
    later_fragment[21] = 1;
    for (frame, expected) in [
        (packet(GUEST, "203.0.113.7", TCP, &tcp(SYN)), Opens::Always),
        (packet(GUEST, "203.0.113.7", TCP, &tcp(SYN | 0x08)), Opens::Always),
        (packet(GUEST, "203.0.113.7", TCP, &tcp(SYN | ACK)), Opens::Nothing),
        (packet(GUEST, "203.0.113.7", TCP, &tcp(0x18)), Opens::Nothing),
        (packet(GUEST, "203.0.113.7", UDP, &udp(53)), flow),
        (packet(GUEST, "203.0.113.7", ICMP, &[8, 0]), Opens::Always),
        (later_fragment, Opens::Always),
    ] {
        assert!(matches!(guard().verdict(&frame), Verdict::Pass { opens, .. } if opens == expected));
    }
}

#[test]
fn urgent_data_become_ordinary_ones_and_the_checksum_stays_right() {
    let mut frame = packet(GUEST, "203.0.113.7", TCP, &tcp(0x38));
    let Verdict::PassCalm { tcp } = guard().verdict(&frame) else { panic!() };
    frame[tcp + 18..tcp + 20].copy_from_slice(&0x1234_u16.to_be_bytes());
    frame.extend(b"more data");
    frame.push(0);
    let sum = |bytes: &[u8]| {
        let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum: u32 = words.sum();
        ((sum & 0xffff) + (sum >> 16)) as u16
    };
    let before = sum(&frame[tcp..]);
    calm(&mut frame, tcp);
    assert_eq!(frame[tcp + 13], 0x18);
    assert_eq!(frame[tcp + 18..tcp + 20], [0, 0]);
    assert_eq!(sum(&frame[tcp..]) % 0xffff, before % 0xffff);
    assert!(matches!(guard().verdict(&frame), Verdict::Pass { .. }));
    // Too short for what it says.
    calm(&mut frame[..tcp + 15], tcp);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..100), kind in 0..4_usize) {
        if let (Some(place), Some(kind)) =
            (bytes.get_mut(12..14), [ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_ARP].get(kind))
        {
            place.copy_from_slice(&kind.to_be_bytes());
        }
        if let Verdict::PassCalm { tcp } = guard().verdict(&bytes) {
            calm(&mut bytes, tcp);
        }
    }

    #[test]
    fn nothing_that_passes_leads_to_the_loopback(source: [u8; 4], target: [u8; 4], protocol: u8, rest: [u8; 20]) {
        let target = Ipv4Addr::from([127, target[1], target[2], target[3]]);
        let source = Ipv4Addr::from([192, 168, 105, source[3]]);
        let frame = packet(&source.to_string(), &target.to_string(), protocol, &rest);
        let begins = protocol != TCP || begins_connection(rest[13]) || frame[20] & 0x3f != 0;
        prop_assert!(!begins || matches!(guard().verdict(&frame), Verdict::Deny | Verdict::Forged));
    }
}
