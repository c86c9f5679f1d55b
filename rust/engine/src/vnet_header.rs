//! The 12-byte `virtio_net_hdr_v1` that every frame carries in front of it. Pure.
//!
//! Layout (virtio 1.2, 5.1.6; little endian): flags, gso_type, then hdr_len, gso_size, csum_start, csum_offset
//! and num_buffers as 16-bit words. All zero means a finished frame that needs nothing.

use crate::frame;

/// Bytes of the header, `num_buffers` included.
pub const LEN: usize = 12;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum at `csum_start + csum_offset` is to be completed.
pub const FLAG_NEEDS_CSUM: u8 = 1;

/// `VIRTIO_NET_HDR_F_DATA_VALID`: the checksum was verified; asks nothing of the receiver.
pub const FLAG_DATA_VALID: u8 = 2;

/// `VIRTIO_NET_HDR_GSO_NONE`: not a super-frame.
pub const GSO_NONE: u8 = 0;

/// `VIRTIO_NET_HDR_GSO_TCPV4`: TCP over IPv4, to be cut.
pub const GSO_TCPV4: u8 = 1;

/// `VIRTIO_NET_HDR_GSO_TCPV6`: TCP over IPv6, to be cut.
pub const GSO_TCPV6: u8 = 4;

/// `VIRTIO_NET_HDR_GSO_UDP_L4`: UDP over either, to be cut into datagrams.
pub const GSO_UDP_L4: u8 = 5;

/// `VIRTIO_NET_HDR_GSO_ECN`, beside a TCP type: the first segment has CWR set, and only the first.
pub const GSO_ECN: u8 = 0x80;

/// The fields of the header in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// `FLAG_*` bits.
    pub flags: u8,
    /// `GSO_NONE`, or how a super-frame is to be cut.
    pub gso_type: u8,
    /// Length of the headers that each segment repeats; a hint.
    pub hdr_len: u16,
    /// Payload bytes of one segment.
    pub gso_size: u16,
    /// Where the checksummed bytes begin, from the start of the frame.
    pub csum_start: u16,
    /// Where the checksum field is, from `csum_start`.
    pub csum_offset: u16,
    /// Receive buffers used (merged receive buffers); kernels leave 0, guests want 1.
    pub num_buffers: u16,
}

/// What a frame asks of whoever receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A finished frame: any port may have it.
    Nothing,
    /// The checksum is unfinished.
    Checksum,
    /// A super-frame: it must be cut, or go to a peer that can.
    Segmentation,
}

/// What a peer takes besides finished frames. Those who take super-frames take unfinished checksums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Unfinished checksums.
    pub checksum: bool,
    /// TCP super-frames over IPv4, those with CWR set too.
    pub tso4: bool,
    /// The same over IPv6.
    pub tso6: bool,
    /// UDP super-frames over either.
    pub uso: bool,
    /// For a peer that cuts TCP super-frames to segments of its own choice, which are as long as its link takes: the
    /// longest packet of that link. It takes only those that were to be cut so anyway, since whoever wants shorter ones
    /// may know of a narrower link further on. 0 for a peer that does as the header says.
    pub full_packet: u16,
}

impl Offloads {
    /// Finished frames only.
    pub const NONE: Self = Self { checksum: false, tso4: false, tso6: false, uso: false, full_packet: 0 };

    /// Everything there is.
    pub const ALL: Self = Self { checksum: true, tso4: true, tso6: true, uso: true, full_packet: 0 };

    /// Whether a frame with this header may be given as it is.
    #[must_use]
    pub fn take(self, header: &VnetHeader) -> bool {
        match header.need() {
            Need::Nothing => true,
            Need::Checksum => self.checksum,
            Need::Segmentation => match header.gso_type & !GSO_ECN {
                GSO_TCPV4 => self.tso4 && self.wants_segments_of(header.hdr_len, header.gso_size),
                GSO_TCPV6 => self.tso6 && self.wants_segments_of(header.hdr_len, header.gso_size),
                GSO_UDP_L4 => self.uso,
                _ => false,
            },
        }
    }

    /// Whether a TCP super-frame may be given whose segments have `size` bytes behind headers of `header_len`, that of
    /// Ethernet included.
    #[must_use]
    pub fn wants_segments_of(self, header_len: u16, size: u16) -> bool {
        let packet = usize::from(header_len) + usize::from(size);
        self.full_packet == 0 || packet >= frame::HEADER_LEN + usize::from(self.full_packet)
    }
}

impl VnetHeader {
    /// Every 12-byte pattern parses; whether it fits the frame is `offload`'s to check.
    #[must_use]
    pub fn parse(bytes: &[u8; LEN]) -> Self {
        let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
            num_buffers: word(10),
        }
    }

    /// The opposite of [`VnetHeader::parse`].
    #[must_use]
    pub fn to_bytes(self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        let words = [self.hdr_len, self.gso_size, self.csum_start, self.csum_offset, self.num_buffers];
        for (pair, word) in bytes[2..].chunks_exact_mut(2).zip(words) {
            pair.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Segmentation includes the checksums of the segments.
    #[must_use]
    pub fn need(&self) -> Need {
        if self.gso_type != GSO_NONE {
            Need::Segmentation
        } else if self.flags & FLAG_NEEDS_CSUM != 0 {
            Need::Checksum
        } else {
            Need::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_kernel_header_with_tso_reads_as_it_should() {
        // What a Linux TAP hands out for a TSO4 frame: headers of 66 bytes, segments of 1448.
        let header = VnetHeader::parse(&[1, 1, 0x42, 0, 0xa8, 0x05, 0x22, 0, 0x10, 0, 0, 0]);
        assert_eq!((header.hdr_len, header.gso_size), (66, 1448));
        assert_eq!((header.csum_start, header.csum_offset), (34, 16));
        assert_eq!(header.need(), Need::Segmentation);
    }

    #[test]
    fn a_verified_checksum_asks_for_nothing() {
        let header = VnetHeader { flags: FLAG_DATA_VALID, ..VnetHeader::default() };
        assert_eq!(header.need(), Need::Nothing);
    }

    #[test]
    fn what_a_peer_takes_is_said_by_kind() {
        let header = |flags, gso_type| VnetHeader { flags, gso_type, ..VnetHeader::default() };
        let only_tso4 = Offloads { checksum: true, tso4: true, ..Offloads::NONE };
        for (header, none, tso4, all) in [
            (header(0, GSO_NONE), true, true, true),
            (header(FLAG_DATA_VALID, GSO_NONE), true, true, true),
            (header(FLAG_NEEDS_CSUM, GSO_NONE), false, true, true),
            (header(FLAG_NEEDS_CSUM, GSO_TCPV4), false, true, true),
            (header(FLAG_NEEDS_CSUM, GSO_TCPV4 | GSO_ECN), false, true, true),
            (header(FLAG_NEEDS_CSUM, GSO_TCPV6), false, false, true),
            (header(FLAG_NEEDS_CSUM, GSO_UDP_L4), false, false, true),
            (header(FLAG_NEEDS_CSUM, 3), false, false, false),
            (header(FLAG_NEEDS_CSUM, GSO_ECN), false, false, false),
        ] {
            let takes = [Offloads::NONE, only_tso4, Offloads::ALL].map(|offloads| offloads.take(&header));
            assert_eq!(takes, [none, tso4, all], "{header:?}");
        }
    }

    #[test]
    fn who_chooses_the_length_of_segments_gets_only_those_of_that_length() {
        let chooses = Offloads { full_packet: 1_500, ..Offloads::ALL };
        for (kind, hdr_len, gso_size, taken) in [
            (GSO_TCPV4, 66, 1_448, true),
            (GSO_TCPV4, 54, 1_460, true),
            (GSO_TCPV4, 54, 1_459, false),
            (GSO_TCPV6, 86, 1_428, true),
            (GSO_TCPV6, 86, 1_200, false),
            (GSO_TCPV4, 0, 1_448, false),
            (GSO_UDP_L4, 42, 100, true),
        ] {
            let header = VnetHeader { gso_type: kind, hdr_len, gso_size, ..VnetHeader::default() };
            assert_eq!(chooses.take(&header), taken, "{header:?}");
            assert!(Offloads::ALL.take(&header));
        }
    }

    proptest! {
        #[test]
        fn bytes_survive_parsing_and_writing(bytes: [u8; LEN]) {
            prop_assert_eq!(VnetHeader::parse(&bytes).to_bytes(), bytes);
        }
    }
}
