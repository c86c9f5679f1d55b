//! Ethernet II header over a borrowed slice. Pure.
//!
//! A frame runs from the destination address to the end of the payload; it never carries an FCS.

use std::fmt;

/// Bytes of an Ethernet header: two addresses and the EtherType (IEEE 802.3).
pub const HEADER_LEN: usize = 14;

/// Longest frame the engine moves: the largest IP packet (65 535) with Ethernet header, rounded up to what
/// virtio-net peers use for a super-frame buffer without its 12-byte header.
pub const MAX_LEN: usize = 65_550;

/// A 48-bit MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Broadcast is a group address too.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether a station may send from this address: not a group, not all zero (IEEE 802.1Q 8.6.1 and what
    /// kernels' bridges do).
    #[must_use]
    pub fn is_valid_source(self) -> bool {
        !self.is_group() && self.0 != [0; 6]
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The addresses of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where the frame goes.
    pub destination: MacAddress,
    /// Who sent it, as it says.
    pub source: MacAddress,
}

impl Addresses {
    /// `None` when the frame is shorter than an Ethernet header.
    #[must_use]
    pub fn parse(frame: &[u8]) -> Option<Self> {
        if frame.len() < HEADER_LEN {
            return None;
        }
        let (destination, rest) = frame.split_first_chunk::<6>()?;
        let (source, _) = rest.split_first_chunk::<6>()?;
        Some(Self { destination: MacAddress(*destination), source: MacAddress(*source) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirteen_bytes_are_no_frame_and_fourteen_are() {
        assert_eq!(Addresses::parse(&[0; 13]), None);
        assert!(Addresses::parse(&[0; 14]).is_some());
    }

    #[test]
    fn addresses_come_in_wire_order() {
        let frame: Vec<u8> = (1..=20).collect();
        let parsed = Addresses::parse(&frame).unwrap();
        assert_eq!(parsed.destination.to_string(), "01:02:03:04:05:06");
        assert_eq!(parsed.source.to_string(), "07:08:09:0a:0b:0c");
    }

    #[test]
    fn group_and_zero_addresses_are_no_sources() {
        assert!(!MacAddress([0; 6]).is_valid_source());
        assert!(!MacAddress([0xff; 6]).is_valid_source());
        assert!(!MacAddress([0x33, 0x33, 0, 0, 0, 1]).is_valid_source());
        assert!(MacAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]).is_valid_source());
    }
}
