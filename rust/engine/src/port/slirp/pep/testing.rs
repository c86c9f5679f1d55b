//! For tests: a stack and a guest, played here, and the proxy between them, over a way that loses, doubles and swaps
//! segments.

use std::collections::BTreeMap;
use std::time::Instant;

use super::segment::{self, Segment};
use super::{Fate, Pep};
use crate::offload::checksum::{Sum, finish_checksum};
use crate::offload::layers;
use crate::offload::segment::Segments;
use crate::offload::tcp_flags::{ACK, FIN, RST, SYN};
use crate::pool::{BATCH, Batch};
use crate::vnet_header::Need;

pub(super) const MTU: u16 = 1500;
pub(super) const STACK_MTU: u16 = 8_000;
pub(super) const SHIFT: u8 = 7;
/// What the two count from: numbers go round on the way.
pub(super) const GUEST_FIRST: u32 = u32::MAX - 5;
pub(super) const STACK_FIRST: u32 = u32::MAX - 70_000;

/// One side's view of one segment.
#[derive(Clone, Debug, Default)]
pub(super) struct Tcp {
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) options: Vec<u8>,
    pub(super) data: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Guest,
    Stack,
}

pub(super) fn frame(from: From, ipv6: bool, tcp: &Tcp) -> Vec<u8> {
    let mut header = vec![0; 20];
    let (ports, macs) = match from {
        From::Guest => ([[0x10, 1], [0, 80]], [[2; 6], [1; 6]]),
        From::Stack => ([[0, 80], [0x10, 1]], [[1; 6], [2; 6]]),
    };
    header[..4].copy_from_slice(&ports.concat());
    header[4..8].copy_from_slice(&tcp.seq.to_be_bytes());
    header[8..12].copy_from_slice(&tcp.ack.to_be_bytes());
    header[12] = (((20 + tcp.options.len()) / 4) << 4) as u8;
    header[13] = tcp.flags;
    header[14..16].copy_from_slice(&tcp.window.to_be_bytes());
    header.extend_from_slice(&tcp.options);
    header.extend_from_slice(&tcp.data);
    let len = header.len() as u16;
    let mut hosts = if ipv6 {
        [1_u128, 2].map(|host| (0xfd00_u128 << 112 | host).to_be_bytes().to_vec())
    } else {
        [1_u32, 2].map(|host| (0x0a00_0000 | host).to_be_bytes().to_vec())
    };
    if from == From::Stack {
        hosts.reverse();
    }
    let sum = Sum::default().with(&hosts.concat()).with_word(6).with_word(len).with(&header).checksum();
    header[16..18].copy_from_slice(&sum.to_be_bytes());
    let ip = if ipv6 {
        let [high, low] = len.to_be_bytes();
        [vec![0x60, 0, 0, 0, high, low, 6, 64], hosts.concat()].concat()
    } else {
        let [high, low] = (len + 20).to_be_bytes();
        let mut ip = [vec![0x45, 0, high, low, 0, 1, 0, 0, 64, 6, 0, 0], hosts.concat()].concat();
        let sum = Sum::default().with(&ip).checksum();
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip
    };
    [&macs.concat()[..], if ipv6 { &[0x86, 0xdd] } else { &[8, 0] }, &ip, &header].concat()
}

/// What is in a frame, whose sums must be right.
fn parse(bytes: &[u8]) -> Tcp {
    let segment = Segment::of(bytes).expect("TCP");
    let layers = layers::find(bytes).expect("IP");
    assert_eq!(layers.packet_end(bytes), bytes.len());
    let sum = layers.pseudo_header(bytes, bytes.len() - layers.transport).with(&bytes[layers.transport..]);
    assert!(sum.verifies(), "TCP's checksum");
    if bytes[12] == 8 {
        assert!(Sum::default().with(&bytes[14..34]).verifies(), "IPv4's checksum");
    }
    Tcp {
        seq: segment.seq,
        ack: segment.ack,
        flags: segment.flags,
        window: segment.window,
        options: bytes[layers.transport + 20..segment.data.start].to_vec(),
        data: bytes[segment.data].to_vec(),
    }
}

/// A SYN's options: the longest segment, and that windows are scaled.
pub(super) fn options(size: u16, shift: Option<u8>) -> Vec<u8> {
    let mut options = [&[2, 4][..], &size.to_be_bytes()].concat();
    options.extend(shift.into_iter().flat_map(|shift| [1, 3, 3, shift]));
    options
}

/// Both sides and the proxy between them.
pub(super) struct World {
    pub(super) pep: Pep,
    pub(super) now: Instant,
    pub(super) ipv6: bool,
    /// What the stack has been told: read up to, and may be sent up to.
    pub(super) stack_acked: u32,
    pub(super) stack_edge: u32,
    pub(super) stack_next: u32,
    pub(super) stack_reset: bool,
    /// What the guest has in order, and out of order.
    pub(super) read: Vec<u8>,
    pub(super) early: BTreeMap<usize, Vec<u8>>,
    pub(super) ended: Option<usize>,
    pub(super) window: u32,
    /// What is on its way to the guest.
    pub(super) way: Vec<Tcp>,
}

impl World {
    pub(super) fn new(ipv6: bool) -> Self {
        Self {
            pep: Pep::new(MTU, STACK_MTU),
            now: Instant::now(),
            ipv6,
            stack_acked: STACK_FIRST.wrapping_add(1),
            stack_edge: STACK_FIRST.wrapping_add(1),
            stack_next: STACK_FIRST.wrapping_add(1),
            stack_reset: false,
            read: Vec::new(),
            early: BTreeMap::new(),
            ended: None,
            window: 400_000,
            way: Vec::new(),
        }
    }

    /// What the stack gets of a segment of the guest.
    pub(super) fn guest_sends(&mut self, tcp: &Tcp) -> Option<Tcp> {
        let mut bytes = frame(From::Guest, self.ipv6, tcp);
        let needed = self.pep.hear_guest(&mut bytes, self.now);
        needed.then(|| parse(&bytes))
    }

    /// What the guest gets at once of a segment of the stack.
    pub(super) fn stack_sends(&mut self, tcp: &Tcp) -> Option<Tcp> {
        let (bytes, mut out) = (frame(From::Stack, self.ipv6, tcp), Vec::new());
        match self.pep.hear_stack(&bytes, &mut out, self.now) {
            Fate::Same => Some(parse(&bytes)),
            Fate::Changed => Some(parse(&out)),
            Fate::Kept => None,
        }
    }

    /// The guest begins and both agree on scaling.
    pub(super) fn open(&mut self, window: u16) {
        let syn =
            Tcp { seq: GUEST_FIRST, flags: SYN, window, options: options(1460, Some(SHIFT)), ..Tcp::default() };
        let seen = self.guest_sends(&syn).unwrap();
        let long = STACK_MTU - if self.ipv6 { 60 } else { 40 };
        assert_eq!(seen.options, options(long, Some(SHIFT)), "the stack makes long segments");
        let answer = Tcp {
            seq: STACK_FIRST,
            ack: GUEST_FIRST.wrapping_add(1),
            flags: SYN | ACK,
            window: 65_535,
            options: options(long, None),
            ..Tcp::default()
        };
        let seen = self.stack_sends(&answer).unwrap();
        let usual = MTU - if self.ipv6 { 60 } else { 40 };
        assert_eq!(seen.options, options(usual, Some(0)), "the guest makes usual ones, and scales");
        self.stack_edge = self.stack_acked.wrapping_add(u32::from(window));
        self.acknowledge();
        self.listen();
    }

    /// The guest says how far it has read.
    pub(super) fn acknowledge(&mut self) {
        let read = STACK_FIRST.wrapping_add(1).wrapping_add(self.read.len() as u32);
        let ack = read.wrapping_add(u32::from(self.ended == Some(self.read.len())));
        let window = (self.window >> SHIFT) as u16;
        let word = Tcp { seq: GUEST_FIRST.wrapping_add(1), ack, flags: ACK, window, ..Tcp::default() };
        if let Some(seen) = self.guest_sends(&word) {
            self.stack_hears(&seen);
        }
    }

    fn stack_hears(&mut self, tcp: &Tcp) {
        if tcp.flags & RST != 0 {
            self.stack_reset = true;
            return;
        }
        assert!(!segment::before(tcp.ack, self.stack_acked), "what was acknowledged stays so");
        assert!(!segment::before(self.stack_next, tcp.ack), "nobody acknowledges what was not sent");
        let edge = tcp.ack.wrapping_add(u32::from(tcp.window));
        assert!(!segment::before(edge, self.stack_edge), "a window never shrinks");
        (self.stack_acked, self.stack_edge) = (tcp.ack, edge);
    }

    /// What the stack is told in the guest's name.
    pub(super) fn listen(&mut self) {
        let mut word = Vec::new();
        while self.pep.tell(&mut word) {
            let tcp = parse(&word);
            assert_eq!((&word[..12], tcp.flags & ACK), (&frame(From::Guest, self.ipv6, &tcp)[..12], ACK));
            self.stack_hears(&tcp);
        }
    }

    /// The stack sends what it may of `stream`, and its end.
    pub(super) fn stack_goes_on(&mut self, stream: &[u8], end: bool) {
        let first = STACK_FIRST.wrapping_add(1);
        loop {
            let at = self.stack_next.wrapping_sub(first) as usize;
            let room = self.stack_edge.wrapping_sub(self.stack_next) as usize;
            let len = stream.len().saturating_sub(at).min(room).min(usize::from(STACK_MTU) - 60);
            let fin = end && at + len == stream.len();
            if at > stream.len() || (len == 0 && !fin) {
                return;
            }
            let flags = ACK | if fin { FIN } else { 0 };
            let data = stream[at..at + len].to_vec();
            let ack = GUEST_FIRST.wrapping_add(1);
            let tcp = Tcp { seq: self.stack_next, ack, flags, window: 65_535, data, ..Tcp::default() };
            assert!(self.stack_sends(&tcp).is_none());
            self.stack_next = self.stack_next.wrapping_add(len as u32 + u32::from(fin));
        }
    }

    /// One turn of the loop: what goes to the guest, cut and finished as for any port.
    pub(super) fn turn(&mut self) {
        let mut batch = Batch::new();
        self.pep.look(self.now);
        self.pep.send(&mut batch, self.now);
        for index in 0..batch.len() {
            let header = batch.header(index);
            if header.need() == Need::Segmentation {
                let segments = Segments::of(&header, batch.frame(index).ethernet()).unwrap();
                for number in 0..segments.count() {
                    let mut out = Vec::new();
                    segments.write(number, &mut out);
                    assert!(out.len() <= 12 + 14 + usize::from(MTU));
                    self.way.push(parse(&out[12..]));
                }
            } else {
                finish_checksum(header, batch.ethernet_mut(index)).unwrap();
                self.way.push(parse(batch.frame(index).ethernet()));
            }
        }
        assert!(batch.len() < BATCH);
    }

    /// The guest gets what the way does not lose, and answers each; `chance` says what happens, by percents.
    pub(super) fn arrive(&mut self, mut chance: impl FnMut(u32) -> bool, loss: u32) {
        let mut way = std::mem::take(&mut self.way);
        for index in 1..way.len() {
            if chance(loss) {
                way.swap(index - 1, index);
            }
        }
        for tcp in way {
            let times = if chance(loss) { 0 } else { 1 + usize::from(chance(loss)) };
            for _ in 0..times {
                self.guest_reads(&tcp);
                if !chance(loss) {
                    self.acknowledge();
                }
            }
        }
    }

    fn guest_reads(&mut self, tcp: &Tcp) {
        let first = STACK_FIRST.wrapping_add(1);
        let at = tcp.seq.wrapping_sub(first) as usize;
        assert!(tcp.data.len() + at <= self.read.len() + self.window.max(1) as usize, "the guest's window");
        if self.window == 0 {
            return;
        }
        if tcp.flags & FIN != 0 {
            self.ended = Some(at + tcp.data.len());
        }
        self.early.insert(at, tcp.data.clone());
        while let Some((&at, data)) = self.early.first_key_value() {
            if at > self.read.len() {
                break;
            }
            let known = self.read.len() - at;
            let data = data.get(known..).unwrap_or_default().to_vec();
            self.read.extend(data);
            self.early.pop_first();
        }
    }
}
