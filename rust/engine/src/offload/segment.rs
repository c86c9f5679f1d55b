//! One super-frame to many frames, as the kernel's and a card's segmentation does it. Pure.
//!
//! TCP (virtio's TSO): each segment has the headers of the whole, its own sequence number, and the next IPv4
//! identification; FIN and PSH stay with the last one, CWR with the first (RFC 3168 6.1.2). UDP (virtio's USO): each
//! datagram has a length of its own. All checksums are finished.

use super::layers::{self, Layers, TCP, UDP, Unlayered, Version};
use super::tcp_flags::{CWR, FIN, PSH};
use crate::vnet_header::{self, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VnetHeader};

/// Segments of one super-frame at most. Chosen: what the largest packet gives with Linux's smallest segment size
/// (48 bytes, `TCP_MIN_SND_MSS`), rounded up; bounds what one frame of a hostile guest can cost.
pub const MAX_SEGMENTS: usize = 1500;

const UDP_HEADER_LEN: usize = 8;

/// Why a super-frame cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotCut {
    /// A kind of super-frame that nobody asked for.
    UnknownKind,
    /// Its packet is another one than its header says, or none.
    OtherProtocol,
    /// A header does not fit into the frame.
    Short,
    /// Its packet is a fragment, or has IPv6 extension headers that cannot be repeated.
    Extension,
    /// The header says that segments have no bytes.
    NoSize,
    /// More than [`MAX_SEGMENTS`].
    TooMany,
    /// Longer than an IP packet may be.
    TooLong,
}

/// A super-frame that can be cut.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    layers: Layers,
    headers: &'a [u8],
    payload: &'a [u8],
    size: usize,
}

impl<'a> Segments<'a> {
    /// `frame` behind `header`; the packet ends where the frame does.
    ///
    /// # Errors
    /// [`CannotCut`] when header and frame do not fit together.
    pub fn of(header: &VnetHeader, frame: &'a [u8]) -> Result<Self, CannotCut> {
        let protocol = match header.gso_type & !GSO_ECN {
            GSO_TCPV4 | GSO_TCPV6 => TCP,
            GSO_UDP_L4 => UDP,
            _ => return Err(CannotCut::UnknownKind),
        };
        let layers = layers::find(frame).map_err(|reason| match reason {
            Unlayered::NotIp => CannotCut::OtherProtocol,
            Unlayered::Short => CannotCut::Short,
            Unlayered::Fragment | Unlayered::Extension => CannotCut::Extension,
        })?;
        let version_fits = match header.gso_type & !GSO_ECN {
            GSO_TCPV4 => layers.version == Version::V4,
            GSO_TCPV6 => layers.version == Version::V6,
            _ => true,
        };
        if layers.protocol != protocol || !version_fits {
            return Err(CannotCut::OtherProtocol);
        }
        let transport = &frame[layers.transport..];
        let len = if protocol == TCP {
            let offset = transport.get(12).ok_or(CannotCut::Short)? >> 4;
            Some(usize::from(offset) * 4).filter(|len| *len >= 20).ok_or(CannotCut::Short)?
        } else {
            UDP_HEADER_LEN
        };
        let payload = transport.get(len..).ok_or(CannotCut::Short)?;
        if frame.len() - layers.network > usize::from(u16::MAX) {
            return Err(CannotCut::TooLong);
        }
        let size = usize::from(header.gso_size);
        if size == 0 {
            return Err(CannotCut::NoSize);
        }
        let headers = &frame[..layers.transport + len];
        let segments = Self { layers, headers, payload, size };
        if segments.count() > MAX_SEGMENTS { Err(CannotCut::TooMany) } else { Ok(segments) }
    }

    /// How many frames it makes; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.payload.len().div_ceil(self.size).max(1)
    }

    /// Append frame `index` to `out`, behind a virtio-net header that asks for nothing.
    pub fn write(&self, index: usize, out: &mut Vec<u8>) {
        let from = (index * self.size).min(self.payload.len());
        let to = (from + self.size).min(self.payload.len());
        out.extend_from_slice(&[0; vnet_header::LEN]);
        let start = out.len();
        out.extend_from_slice(self.headers);
        out.extend_from_slice(&self.payload[from..to]);
        let frame = &mut out[start..];
        if self.layers.version == Version::V4 {
            let identification = self.layers.network + 4;
            let first = u16::from_be_bytes([frame[identification], frame[identification + 1]]);
            let own = first.wrapping_add(index as u16);
            frame[identification..identification + 2].copy_from_slice(&own.to_be_bytes());
        }
        self.layers.set_network_len(frame);
        if self.layers.protocol == TCP {
            self.finish_tcp(index, from, to, frame);
        } else {
            self.finish_udp(frame);
        }
    }

    fn finish_tcp(&self, index: usize, from: usize, to: usize, frame: &mut [u8]) {
        let header = &mut frame[self.layers.transport..];
        let first = header[4..].first_chunk().copied().map_or(0, u32::from_be_bytes);
        header[4..8].copy_from_slice(&first.wrapping_add(from as u32).to_be_bytes());
        if index > 0 {
            header[13] &= !CWR;
        }
        if to < self.payload.len() {
            header[13] &= !(FIN | PSH);
        }
        header[16..18].fill(0);
        let transport = &frame[self.layers.transport..];
        let checksum = self.layers.pseudo_header(frame, transport.len()).with(transport).checksum();
        frame[self.layers.transport + 16..][..2].copy_from_slice(&checksum.to_be_bytes());
    }

    fn finish_udp(&self, frame: &mut [u8]) {
        let len = frame.len() - self.layers.transport;
        let header = &mut frame[self.layers.transport..];
        header[4..6].copy_from_slice(&(len as u16).to_be_bytes());
        header[6..8].fill(0);
        let transport = &frame[self.layers.transport..];
        let checksum = self.layers.pseudo_header(frame, len).with(transport).checksum_but_zero();
        frame[self.layers.transport + 6..][..2].copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tcp_flags::ACK;
    use super::super::testing::{DO_NOT_FRAGMENT, Packet};
    use super::*;
    use crate::vnet_header::{FLAG_NEEDS_CSUM, LEN};

    fn header(gso_type: u8, gso_size: u16) -> VnetHeader {
        VnetHeader { flags: FLAG_NEEDS_CSUM, gso_type, gso_size, ..VnetHeader::default() }
    }

    fn cut(header: &VnetHeader, frame: &[u8]) -> Result<Vec<Vec<u8>>, CannotCut> {
        let segments = Segments::of(header, &frame[LEN..])?;
        Ok((0..segments.count())
            .map(|index| {
                let mut out = Vec::new();
                segments.write(index, &mut out);
                out
            })
            .collect())
    }

    /// What a sender without offloads would have sent.
    fn one_by_one(whole: &Packet, size: usize, udp: bool) -> Vec<Vec<u8>> {
        let count = whole.payload.len().div_ceil(size).max(1);
        let mut pieces = whole.payload.chunks(size);
        (0..count)
            .map(|index| {
                let mut flags = whole.flags;
                if index > 0 {
                    flags &= !CWR;
                }
                if index + 1 < count {
                    flags &= !(FIN | PSH);
                }
                let packet = Packet {
                    sequence: whole.sequence.wrapping_add((index * size) as u32),
                    identification: whole.identification.wrapping_add(index as u16),
                    payload: pieces.next().unwrap_or_default().to_vec(),
                    flags,
                    ..whole.clone()
                };
                if udp { packet.udp() } else { packet.tcp() }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn segments_are_what_a_sender_without_offloads_sends(
            v6: bool, udp: bool, tags in 0_usize..3, sequence: u32, identification: u16, window: u16,
            flags in prop::sample::select(vec![ACK, ACK | PSH, ACK | FIN | PSH, ACK | CWR, ACK | CWR | PSH]),
            options in prop::sample::select(vec![0_usize, 4, 12, 40]),
            len in 0_usize..30_000, size in 48_u16..9_000,
        ) {
            let whole = Packet {
                tags, identification, window, flags, options: vec![1; options], ..Packet::new(v6, sequence, len)
            };
            let (bytes, kind) = match (udp, v6) {
                (true, _) => (whole.udp(), GSO_UDP_L4),
                (false, true) => (whole.tcp(), GSO_TCPV6),
                (false, false) => (whole.tcp(), GSO_TCPV4),
            };
            // Whatever stands in the checksum field, and the hint, do not matter.
            let kind = if flags & CWR != 0 && !udp { kind | GSO_ECN } else { kind };
            prop_assert_eq!(cut(&header(kind, size), &bytes).unwrap(), one_by_one(&whole, usize::from(size), udp));
        }

        #[test]
        fn nothing_makes_it_panic(
            kind in prop::sample::select(vec![1_u8, 0x81, 3, 4, 5, 7]), size: u16,
            at in 0_usize..80, value: u8, keep in 0_usize..3_000, v6: bool, udp: bool,
        ) {
            let packet = Packet::new(v6, 1, 2_900);
            let mut bytes = if udp { packet.udp() } else { packet.tcp() };
            bytes[LEN + at] = value;
            bytes.truncate(LEN + keep);
            let _ = cut(&header(kind, size), &bytes);
        }
    }

    #[test]
    fn each_refusal_has_its_name() {
        let tcp = |packet: Packet| packet.tcp();
        let plain = || Packet::new(false, 1, 4_000);
        let with = |at: usize, value: u8, mut bytes: Vec<u8>| {
            bytes[LEN + at] = value;
            bytes
        };
        let cases = [
            (header(3, 1000), tcp(plain()), CannotCut::UnknownKind),
            (header(GSO_ECN, 1000), tcp(plain()), CannotCut::UnknownKind),
            (header(GSO_TCPV6, 1000), tcp(plain()), CannotCut::OtherProtocol),
            (header(GSO_TCPV4, 1000), plain().udp(), CannotCut::OtherProtocol),
            (header(GSO_UDP_L4, 1000), tcp(plain()), CannotCut::OtherProtocol),
            (header(GSO_TCPV4, 1000), with(13, 6, tcp(plain())), CannotCut::OtherProtocol),
            (header(GSO_TCPV4, 0), tcp(plain()), CannotCut::NoSize),
            (header(GSO_TCPV4, 2), tcp(plain()), CannotCut::TooMany),
            (header(GSO_TCPV4, 1000), tcp(plain())[..LEN + 50].to_vec(), CannotCut::Short),
            (header(GSO_TCPV4, 1000), tcp(plain())[..LEN + 30].to_vec(), CannotCut::Short),
            (header(GSO_TCPV4, 1000), tcp(plain())[..LEN + 13].to_vec(), CannotCut::Short),
            (header(GSO_TCPV4, 1000), with(46, 0x40, tcp(plain())), CannotCut::Short),
            (header(GSO_TCPV4, 1000), with(14, 0x44, tcp(plain())), CannotCut::Short),
            (header(GSO_TCPV4, 1000), tcp(Packet { fragment: 0x2000, ..plain() }), CannotCut::Extension),
            (header(GSO_TCPV6, 1000), with(20, 43, tcp(Packet::new(true, 1, 400))), CannotCut::Extension),
            (header(GSO_TCPV6, 1000), with(20, 44, tcp(Packet::new(true, 1, 400))), CannotCut::Extension),
            (header(GSO_TCPV4, 1000), tcp(Packet { padding: 62_000, ..plain() }), CannotCut::TooLong),
        ];
        for (number, (header, bytes, refusal)) in cases.into_iter().enumerate() {
            assert_eq!(cut(&header, &bytes), Err(refusal), "case {number}");
        }
        assert_eq!(plain().fragment, DO_NOT_FRAGMENT);
    }

    #[test]
    fn options_of_ip_that_mean_nothing_to_the_segment_are_repeated() {
        let mut bytes = Packet::new(true, 1, 3_000).tcp();
        // A destination options header of eight bytes between the two.
        bytes[LEN + 20] = 60;
        let at = LEN + 14 + 40;
        bytes.splice(at..at, [6, 0, 1, 4, 0, 0, 0, 0]);
        let segments = cut(&header(GSO_TCPV6, 1000), &bytes).unwrap();
        assert_eq!(segments.len(), 3);
        for segment in segments {
            assert_eq!(segment[at..at + 8], [6, 0, 1, 4, 0, 0, 0, 0]);
            assert_eq!(usize::from(segment[LEN + 18]) << 8 | usize::from(segment[LEN + 19]), 8 + 32 + 1000);
            let layers = layers::find(&segment[LEN..]).unwrap();
            let transport = &segment[at + 8..];
            assert!(layers.pseudo_header(&segment[LEN..], transport.len()).with(transport).verifies());
        }
    }
}
