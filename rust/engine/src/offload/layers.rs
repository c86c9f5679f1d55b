//! Where the headers of an IP packet inside an Ethernet frame are. Pure.

use super::checksum::Sum;
use crate::frame;

/// IP protocol numbers.
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// IPv6 extension headers that may stand before the transport header and mean nothing to it: hop-by-hop and
/// destination options.
const PASSABLE: [u8; 2] = [0, 60];
const FRAGMENT: u8 = 44;

const VLAN_TAGS: [[u8; 2]; 2] = [[0x81, 0x00], [0x88, 0xa8]];
const TAG_LEN: usize = 4;

/// Bytes of the VLAN tags that are looked behind.
pub(crate) const MOST_TAGS: usize = 2 * TAG_LEN;

const IPV6_HEADER_LEN: usize = 40;

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

/// Offsets from the beginning of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layers {
    pub(crate) version: Version,
    pub(crate) network: usize,
    pub(crate) transport: usize,
    pub(crate) protocol: u8,
}

/// Why there are no two headers to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unlayered {
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// A header does not fit into the frame, or says so itself.
    Short,
    /// Part of a packet.
    Fragment,
    /// IPv6 with an extension header that changes what the checksum covers, or is not known.
    Extension,
}

/// Look behind the Ethernet header and at most two VLAN tags. The network header is inside the frame then, the
/// transport header need not be.
pub(crate) fn find(bytes: &[u8]) -> Result<Layers, Unlayered> {
    let mut network = frame::HEADER_LEN;
    let mut kind = type_before(bytes, network)?;
    for _ in 0..MOST_TAGS / TAG_LEN {
        if VLAN_TAGS.contains(&kind) {
            network += TAG_LEN;
            kind = type_before(bytes, network)?;
        }
    }
    let packet = &bytes[network..];
    match kind {
        [0x08, 0x00] => find_v4(packet, network),
        [0x86, 0xdd] => find_v6(packet, network),
        _ => Err(Unlayered::NotIp),
    }
}

fn type_before(bytes: &[u8], network: usize) -> Result<[u8; 2], Unlayered> {
    let kind = bytes.get(network - 2..network).ok_or(Unlayered::Short)?;
    Ok([kind[0], kind[1]])
}

fn find_v4(packet: &[u8], network: usize) -> Result<Layers, Unlayered> {
    let header: &[u8; 20] = packet.first_chunk().ok_or(Unlayered::Short)?;
    let len = usize::from(header[0] & 0x0f) * 4;
    if header[0] >> 4 != 4 || len < header.len() || packet.len() < len {
        return Err(Unlayered::Short);
    }
    // "More fragments", or an offset.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(Unlayered::Fragment);
    }
    Ok(Layers { version: Version::V4, network, transport: network + len, protocol: header[9] })
}

fn find_v6(packet: &[u8], network: usize) -> Result<Layers, Unlayered> {
    let header: &[u8; IPV6_HEADER_LEN] = packet.first_chunk().ok_or(Unlayered::Short)?;
    if header[0] >> 4 != 6 {
        return Err(Unlayered::Short);
    }
    let (mut len, mut next) = (header.len(), header[6]);
    while PASSABLE.contains(&next) {
        let extension = packet.get(len..len + 8).ok_or(Unlayered::Short)?;
        next = extension[0];
        len += 8 + usize::from(extension[1]) * 8;
    }
    match next {
        FRAGMENT => Err(Unlayered::Fragment),
        TCP | UDP if len <= packet.len() => {
            Ok(Layers { version: Version::V6, network, transport: network + len, protocol: next })
        }
        TCP | UDP => Err(Unlayered::Short),
        _ => Err(Unlayered::Extension),
    }
}

impl Layers {
    /// The addresses in the network header.
    pub(crate) fn addresses<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        match self.version {
            Version::V4 => &bytes[self.network + 12..self.network + 20],
            Version::V6 => &bytes[self.network + 8..self.network + 40],
        }
    }

    /// Where the packet ends, as its header says, from the beginning of the frame.
    pub(crate) fn packet_end(&self, bytes: &[u8]) -> usize {
        let word = |at: usize| {
            usize::from(u16::from_be_bytes([bytes[self.network + at], bytes[self.network + at + 1]]))
        };
        match self.version {
            Version::V4 => self.network + word(2),
            Version::V6 => self.network + IPV6_HEADER_LEN + word(4),
        }
    }

    /// The sum of the pseudo-header for a transport header and data of `len` bytes (RFC 9293 3.1, RFC 8200 8.1).
    pub(crate) fn pseudo_header(&self, bytes: &[u8], len: usize) -> Sum {
        // A frame's payload fits into 16 bits: the longest frame is an IP packet of 65 535 bytes.
        Sum::default().with(self.addresses(bytes)).with_word(u16::from(self.protocol)).with_word(len as u16)
    }

    /// Write the lengths that the network header has in a frame of this length, and the sum that goes with it.
    pub(crate) fn set_network_len(&self, bytes: &mut [u8]) {
        let (len, network) = (bytes.len() - self.network, self.network);
        match self.version {
            Version::V4 => {
                let header = &mut bytes[network..self.transport];
                header[2..4].copy_from_slice(&(len as u16).to_be_bytes());
                header[10..12].fill(0);
                let sum = Sum::default().with(header).checksum();
                header[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Version::V6 => {
                bytes[network + 4..network + 6]
                    .copy_from_slice(&((len - IPV6_HEADER_LEN) as u16).to_be_bytes());
            }
        }
    }
}
