//! The user-mode stack as a port, with the libslirp of this machine: what it answers, and that no frame harms it.
#![allow(unsafe_code, reason = "opens the library, as the control plane does")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

use std::ffi::CString;
use std::net::Ipv4Addr;

use vde_engine::pool::{BATCH, Batch, FrameRef};
use vde_engine::port::Port;
use vde_engine::port::slirp::{Addresses, Config, Ipv6Config, Rule, Slirp};
use vde_engine::stats::{Counters, DropReason};
use vde_engine::vnet_header;

const GUEST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 168, 105, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 105, 2);

fn address(handle: *mut libc::c_void, name: &str) -> usize {
    let name = CString::new(format!("slirp_{name}")).unwrap();
    // SAFETY: an open library and a terminated name.
    unsafe { libc::dlsym(handle, name.as_ptr()) }.addr()
}

/// One at a time: the library keeps some of its state in global variables.
fn stack() -> (std::sync::MutexGuard<'static, ()>, Slirp) {
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let alone = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    // SAFETY: a terminated name; the library stays loaded.
    let handle = unsafe { libc::dlopen(c"libslirp.so.0".as_ptr(), libc::RTLD_NOW) };
    assert!(!handle.is_null(), "libslirp is not installed: tools/packages run");
    let addresses = Addresses {
        new: address(handle, "new"),
        cleanup: address(handle, "cleanup"),
        input: address(handle, "input"),
        pollfds_fill: address(handle, "pollfds_fill"),
        pollfds_poll: address(handle, "pollfds_poll"),
        add_hostxfwd: address(handle, "add_hostxfwd"),
        remove_hostxfwd: address(handle, "remove_hostxfwd"),
    };
    let deny = |network: &str| Rule { network: network.parse().unwrap(), prefix: 0, allow: false };
    let config = Config {
        restricted: false,
        network: Ipv4Addr::new(192, 168, 105, 0),
        mask: Ipv4Addr::new(255, 255, 255, 0),
        host: GATEWAY,
        nameserver: Ipv4Addr::new(192, 168, 105, 253),
        dhcp_start: ADDRESS,
        dhcp: true,
        ipv6: Some(Ipv6Config {
            prefix: "fd00::".parse().unwrap(),
            host: "fd00::1".parse().unwrap(),
            nameserver: "fd00::3".parse().unwrap(),
        }),
        domain: c"test".into(),
        mtu: 1500,
        rules: vec![deny("0.0.0.0"), deny("::")],
    };
    (alone, Slirp::new(addresses, &config).unwrap())
}

fn send(port: &mut Slirp, frame: &[u8], counters: &mut Counters) {
    let bytes = [&[0; vnet_header::LEN], frame].concat();
    assert_eq!(port.send(&[FrameRef::new(&bytes)], counters), Ok(1));
}

/// What the stack has to say now.
fn receive(port: &mut Slirp) -> Vec<Vec<u8>> {
    receive_into(port, &mut Batch::new())
}

fn receive_into(port: &mut Slirp, batch: &mut Batch) -> Vec<Vec<u8>> {
    batch.restart(BATCH);
    port.receive(batch).unwrap();
    let frames = (0..batch.len()).map(|index| batch.frame(index).ethernet().to_vec());
    frames.filter(|frame| !frame.is_empty()).collect()
}

fn arp_request() -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &GUEST, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &GUEST].concat();
    frame.extend(ADDRESS.octets());
    frame.extend([0; 6]);
    frame.extend(GATEWAY.octets());
    frame
}

fn ipv4(protocol: u8, target: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0];
    ip.extend(ADDRESS.octets());
    ip.extend(target.octets());
    let len = u16::try_from(ip.len() + payload.len()).unwrap();
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    let sum = !ones_complement(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    [&[0x52, 0x55, 192, 168, 105, 1][..], &GUEST, &[8, 0], &ip, payload].concat()
}

fn ones_complement(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn the_gateway_answers_arp_and_ping() {
    let (_alone, mut port) = stack();
    let mut counters = Counters::default();
    send(&mut port, &arp_request(), &mut counters);
    assert!(port.holds_frames());
    let [reply] = &receive(&mut port)[..] else { panic!("no answer") };
    assert_eq!((&reply[..6], &reply[20..22], &reply[28..32]), (&GUEST[..], &[0, 2][..], &GATEWAY.octets()[..]));
    assert!(!port.holds_frames());
    let mut echo = vec![8, 0, 0, 0, 1, 2, 3, 4, 5, 6];
    let sum = !ones_complement(&echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    send(&mut port, &ipv4(1, GATEWAY, &echo), &mut counters);
    assert_eq!(receive(&mut port)[0][34], 0, "an echo reply");
    assert_eq!((counters.tx_frames, counters.dropped_frames()), (2, 0));
}

#[test]
fn what_is_denied_is_counted_and_opens_nothing() {
    let (_alone, mut port) = stack();
    let mut counters = Counters::default();
    let syn = [0x10, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0];
    send(&mut port, &ipv4(6, Ipv4Addr::new(203, 0, 113, 1), &syn), &mut counters);
    send(&mut port, &ipv4(6, Ipv4Addr::LOCALHOST, &syn), &mut counters);
    send(&mut port, &ipv4(17, GATEWAY, &[0, 7, 0, 69, 0, 8, 0, 0]), &mut counters);
    assert_eq!((counters.drops(DropReason::Denied), counters.tx_frames), (3, 0));
    assert_eq!(receive(&mut port), [] as [Vec<u8>; 0]);
}

/// Numbers that look random and are the same each time (xorshift).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

#[test]
fn no_frame_harms_it() {
    let (_alone, mut port) = stack();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let (mut counters, mut batch) = (Counters::default(), Batch::new());
    let mut dhcp = vec![0; 300];
    dhcp[..8].copy_from_slice(&[0, 68, 0, 67, 1, 44, 0, 0]);
    dhcp[8..11].copy_from_slice(&[1, 1, 6]);
    dhcp[244..251].copy_from_slice(&[99, 130, 83, 99, 53, 1, 1]);
    let mut six =
        [&[0x33, 0x33, 0, 0, 0, 1][..], &GUEST, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, 58, 255]].concat();
    six.extend("fe80::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    six.extend("ff02::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
    six.extend([133; 40]);
    let seeds = [
        arp_request(),
        ipv4(17, Ipv4Addr::BROADCAST, &dhcp),
        ipv4(17, GATEWAY, &dhcp),
        ipv4(1, GATEWAY, &[8; 64]),
        ipv4(6, GATEWAY, &[0x10, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0, 1, 2]),
        six,
    ];
    for _ in 0..50_000 {
        let mut frame = seeds[numbers.next(seeds.len())].clone();
        for _ in 0..numbers.next(6) {
            let place = numbers.next(frame.len());
            frame[place] = numbers.next(256) as u8;
        }
        if numbers.next(4) == 0 {
            frame.truncate(numbers.next(frame.len() + 1));
        }
        if numbers.next(3) == 0 && frame.len() > 34 && frame[12..14] == [8, 0] {
            // A header that is right again lets the rest be looked at.
            frame[24..26].fill(0);
            let sum = !ones_complement(&frame[14..34]);
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        if !frame.is_empty() {
            send(&mut port, &frame, &mut counters);
        }
        receive_into(&mut port, &mut batch);
    }
    // It still does its work.
    send(&mut port, &arp_request(), &mut counters);
    let mut answers = Vec::new();
    while port.holds_frames() {
        answers.extend(receive(&mut port));
    }
    assert!(answers.iter().any(|frame| frame[12..14] == [8, 6] && frame[20..22] == [0, 2]));
}
