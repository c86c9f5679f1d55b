//! One TCP segment in a frame: what its headers say, and changing what they say. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use crate::offload::checksum::Sum;
use crate::offload::layers::{self, Layers, Version};
use crate::offload::tcp_flags::{ACK, FIN, RST, SYN};

/// Bytes of a TCP header without options (RFC 9293 3.1).
pub(super) const TCP_LEN: usize = 20;

/// Offsets in a TCP header.
const SEQ: usize = 4;
const ACKED: usize = 8;
const OFFSET: usize = 12;
const FLAGS: usize = 13;
const WINDOW: usize = 14;
const CHECKSUM: usize = 16;

/// Kinds of options (RFC 9293 3.2, RFC 7323 2.2).
const END: u8 = 0;
const NOTHING: u8 = 1;
const SEGMENT_SIZE: u8 = 2;
const WINDOW_SCALE: u8 = 3;

/// The largest shift that means something (RFC 7323 2.3).
const MOST_SHIFT: u8 = 14;

/// Whether `one` comes before `other`: numbers go round.
pub(super) fn before(one: u32, other: u32) -> bool {
    (one.wrapping_sub(other) as i32) < 0
}

/// A connection: a station's address and port, then what it speaks with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) guest: (IpAddr, u16),
    pub(super) peer: (IpAddr, u16),
}

/// What a SYN offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// By which the sender's windows are shifted.
    pub(super) shift: u8,
    /// What the sender takes in one segment.
    pub(super) segment_size: u16,
    /// Where the latter stands in the frame.
    pub(super) size_at: usize,
}

/// The headers of a segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    layers: Layers,
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// Where its data are in the frame.
    pub(super) data: Range<usize>,
}

impl Segment {
    /// `None` for anything but a whole TCP segment.
    pub(super) fn of(frame: &[u8]) -> Option<Self> {
        let layers = layers::find(frame).ok().filter(|layers| layers.protocol == layers::TCP)?;
        let end = layers.packet_end(frame);
        let header = frame.get(..end)?.get(layers.transport..)?;
        let number = |at: usize| header.get(at..)?.first_chunk().copied().map(u32::from_be_bytes);
        let header_len = usize::from(header.get(OFFSET)? >> 4) * 4;
        let window = header.get(WINDOW..)?.first_chunk().copied().map(u16::from_be_bytes)?;
        if header_len < TCP_LEN || header.len() < header_len {
            return None;
        }
        let (seq, ack, flags) = (number(SEQ)?, number(ACKED)?, *header.get(FLAGS)?);
        Some(Self { layers, seq, ack, flags, window, data: layers.transport + header_len..end })
    }

    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// It says nothing but how far its sender has read.
    pub(super) fn only_acknowledges(&self) -> bool {
        self.data.is_empty() && self.flags & (SYN | FIN | RST | ACK) == ACK
    }

    /// The number after the last that it uses up.
    pub(super) fn end(&self) -> u32 {
        let marks = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        // A packet has fewer than 65,536 bytes.
        self.seq.wrapping_add(self.data.len() as u32).wrapping_add(marks)
    }

    /// Whose it is, if a station sent it.
    pub(super) fn key(&self, frame: &[u8]) -> Key {
        let addresses = self.layers.addresses(frame);
        let (source, target) = addresses.split_at(addresses.len() / 2);
        let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let transport = self.layers.transport;
        Key { guest: (ip(source), port(transport)), peer: (ip(target), port(transport + 2)) }
    }

    /// Of a SYN whose sender can scale windows, and says what it takes in one segment.
    pub(super) fn offer(&self, frame: &[u8]) -> Option<Offer> {
        let (size, shift) = self.options(frame);
        let (segment_size, size_at) = size?;
        Some(Offer { shift: shift?, segment_size, size_at })
    }

    /// What the sender of this SYN takes in one segment, and where in the frame that stands.
    pub(super) fn segment_size(&self, frame: &[u8]) -> Option<(u16, usize)> {
        self.options(frame).0
    }

    /// The same, and by which its windows are shifted, as far as there are such options.
    fn options(&self, frame: &[u8]) -> (Option<(u16, usize)>, Option<u8>) {
        let (mut shift, mut size) = (None, None);
        let options = &frame[..self.data.start];
        let mut at = self.layers.transport + TCP_LEN;
        while at < self.data.start {
            let kind = frame[at];
            if kind == END {
                break;
            }
            if kind == NOTHING {
                at += 1;
                continue;
            }
            let len = options.get(at + 1).copied().map_or(0, usize::from);
            let Some(value) = options.get(at + 2..at + len) else { break };
            match (kind, value) {
                (SEGMENT_SIZE, &[high, low]) => size = Some((u16::from_be_bytes([high, low]), at + 2)),
                (WINDOW_SCALE, &[by]) => shift = Some(by.min(MOST_SHIFT)),
                _ => {}
            }
            at += len;
        }
        (size, shift)
    }

    /// Write what has been read from here, and keep the checksum as right as it was.
    pub(super) fn set_ack_and_window(&self, frame: &mut [u8], ack: u32, window: u16) {
        let transport = self.layers.transport;
        replace(frame, transport, transport + ACKED, &ack.to_be_bytes());
        replace(frame, transport, transport + WINDOW, &window.to_be_bytes());
    }

    /// The same for its own number.
    pub(super) fn set_seq(&self, frame: &mut [u8], seq: u32) {
        replace(frame, self.layers.transport, self.layers.transport + SEQ, &seq.to_be_bytes());
    }

    /// The same for the segment size that stands at `at`.
    pub(super) fn set_segment_size(&self, frame: &mut [u8], at: usize, size: u16) {
        replace(frame, self.layers.transport, at, &size.to_be_bytes());
    }

    /// Say in this SYN that windows may be scaled, and that its own are not. Nothing happens where the header is full.
    pub(super) fn allow_scaling(&self, frame: &mut Vec<u8>) {
        let (transport, end) = (self.layers.transport, self.data.start);
        if end - transport + 4 > 15 * 4 {
            return;
        }
        frame.truncate(self.data.end);
        frame.splice(end..end, [NOTHING, WINDOW_SCALE, 3, 0]);
        frame[transport + OFFSET] += 1 << 4;
        self.layers.set_network_len(frame);
        frame[transport + CHECKSUM..][..2].fill(0);
        let len = frame.len() - transport;
        let sum = self.layers.pseudo_header(frame, len).with(&frame[transport..]).checksum();
        frame[transport + CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
    }

    /// Its headers, without options, to make others of.
    pub(super) fn headers(&self, frame: &[u8]) -> Headers {
        let mut bytes = frame[..self.layers.transport + TCP_LEN].to_vec();
        bytes[self.layers.transport + OFFSET] = ((TCP_LEN / 4) as u8) << 4;
        // No urgent data.
        bytes[self.layers.transport + 18..].fill(0);
        Headers { layers: self.layers, bytes }
    }
}

fn ip(octets: &[u8]) -> IpAddr {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        IpAddr::V4(Ipv4Addr::from(octets))
    } else {
        let mut all = [0; 16];
        for (place, octet) in all.iter_mut().zip(octets) {
            *place = *octet;
        }
        IpAddr::V6(Ipv6Addr::from(all))
    }
}

/// Write `new` at `at` in the TCP header that begins at `transport`, and keep its checksum as right or wrong as it was
/// (RFC 1624 3).
pub(in super::super) fn replace(frame: &mut [u8], transport: usize, at: usize, new: &[u8]) {
    // Whole words of the header are summed.
    let from = at - (at - transport) % 2;
    let to = at + new.len();
    let to = (to + (to - transport) % 2).min(frame.len());
    let field = transport + CHECKSUM;
    let mut sum = Sum::default().with_word(!u16::from_be_bytes([frame[field], frame[field + 1]]));
    for pair in frame[from..to].chunks(2) {
        sum = sum.with_word(!word(pair));
    }
    frame[at..at + new.len()].copy_from_slice(new);
    for pair in frame[from..to].chunks(2) {
        sum = sum.with_word(word(pair));
    }
    frame[field..field + 2].copy_from_slice(&sum.checksum().to_be_bytes());
}

fn word(pair: &[u8]) -> u16 {
    u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])
}

/// Headers of Ethernet, IP and TCP, from which segments of one connection and direction are made.
#[derive(Clone)]
pub(super) struct Headers {
    layers: Layers,
    bytes: Vec<u8>,
}

/// What is different from segment to segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) window: u16,
    pub(super) flags: u8,
    /// Of the IPv4 packet.
    pub(super) identification: u16,
}

impl Headers {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_ipv6(&self) -> bool {
        self.layers.version == Version::V6
    }

    /// Where the TCP header begins.
    pub(super) fn transport(&self) -> usize {
        self.layers.transport
    }

    /// Those of what goes the other way.
    pub(super) fn answering(&self) -> Self {
        let mut bytes = self.bytes.clone();
        let (target, rest) = bytes.split_at_mut(6);
        target.swap_with_slice(&mut rest[..6]);
        let (start, len) = match self.layers.version {
            Version::V4 => (self.layers.network + 12, 4),
            Version::V6 => (self.layers.network + 8, 16),
        };
        let (source, target) = bytes[start..start + 2 * len].split_at_mut(len);
        source.swap_with_slice(target);
        let (source, target) = bytes[self.layers.transport..self.layers.transport + 4].split_at_mut(2);
        source.swap_with_slice(target);
        Self { layers: self.layers, bytes }
    }

    /// Write them in front of a frame of this length. What is missing then of the TCP checksum is the sum over header
    /// and data.
    pub(super) fn write(&self, frame: &mut [u8], marks: Marks) {
        let (network, transport) = (self.layers.network, self.layers.transport);
        frame[..self.bytes.len()].copy_from_slice(&self.bytes);
        if self.layers.version == Version::V4 {
            frame[network + 4..network + 6].copy_from_slice(&marks.identification.to_be_bytes());
        }
        self.layers.set_network_len(frame);
        let pseudo = self.layers.pseudo_header(frame, frame.len() - transport).folded();
        let tcp = &mut frame[transport..];
        tcp[SEQ..SEQ + 4].copy_from_slice(&marks.seq.to_be_bytes());
        tcp[ACKED..ACKED + 4].copy_from_slice(&marks.ack.to_be_bytes());
        tcp[FLAGS] = marks.flags;
        tcp[WINDOW..WINDOW + 2].copy_from_slice(&marks.window.to_be_bytes());
        tcp[CHECKSUM..CHECKSUM + 2].copy_from_slice(&pseudo.to_be_bytes());
    }

    /// A finished segment without data.
    pub(super) fn alone(&self, frame: &mut Vec<u8>, marks: Marks) {
        frame.clear();
        frame.resize(self.bytes.len(), 0);
        self.write(frame, marks);
        let transport = self.layers.transport;
        let sum = Sum::default().with(&frame[transport..]).checksum();
        frame[transport + CHECKSUM..][..2].copy_from_slice(&sum.to_be_bytes());
    }
}
