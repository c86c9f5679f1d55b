//! The virtio-net header of a frame that came without one, from a peer that may have left work to do: krunkit's
//! offload mode, or large segments of a framework or a library. Pure.
//!
//! Such a frame does not say what it asks for. Two things tell:
//! - **An unfinished checksum** has the pseudo-header's sum in its field, as all that leave the rest to hardware write
//!   it. A finished one is the same number once in 65 536 frames, and finishing it again changes nothing then.
//! - **A super-frame** is longer than the link's longest packet. How long its segments are to be it does not say, so
//!   they become as long as the link takes.
//!
//! The checksum of a super-frame is replaced unread, since its segments need others: what such a peer sends is taken
//! as what it meant.

use super::checksum::finish_checksum;
use super::layers::{self, Layers, TCP, UDP, Unlayered, Version};
use super::tcp_flags::CWR;
use crate::frame;
use crate::vnet_header::{FLAG_NEEDS_CSUM, GSO_ECN, GSO_TCPV4, GSO_TCPV6, VnetHeader};

/// Where the checksum is in TCP's header, and in UDP's.
const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;

const LEAST_TCP_HEADER: usize = 20;

/// Why a frame that is too long for the link is no super-frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unadoptable {
    /// Not TCP over IP, or behind IPv6 extension headers that cannot be repeated. A datagram could only be cut into
    /// fragments, which nobody who sends offloaded frames today relies on.
    NotTcp,
    /// A part of a packet, which somebody has cut already.
    Fragment,
    /// A header does not fit into the frame, or the lengths in the headers are not those of the frame.
    Length,
    /// The headers alone are as long as a packet may be.
    NoRoom,
}

/// The header that belongs in front of `frame`, on a link whose packets have at most `mtu` bytes. Where it asks for a
/// checksum, the field has the pseudo-header's sum afterwards. A frame that fits the link is never refused.
///
/// # Errors
/// [`Unadoptable`] for a frame that is too long; it is unchanged.
pub fn adopt(frame: &mut [u8], mtu: usize) -> Result<VnetHeader, Unadoptable> {
    match layers::find(frame) {
        Ok(layers) if frame.len() <= layers.network + mtu => Ok(fitting(frame, layers)),
        Ok(layers) => super_frame(frame, layers, mtu),
        Err(_) if frame.len() <= frame::HEADER_LEN + layers::MOST_TAGS + mtu => Ok(VnetHeader::default()),
        Err(Unlayered::NotIp | Unlayered::Extension) => Err(Unadoptable::NotTcp),
        Err(Unlayered::Short) => Err(Unadoptable::Length),
        Err(Unlayered::Fragment) => Err(Unadoptable::Fragment),
    }
}

/// The header of a frame that needs a checksum at most.
fn fitting(frame: &mut [u8], layers: Layers) -> VnetHeader {
    let checksum_at = match layers.protocol {
        TCP => TCP_CHECKSUM_AT,
        UDP => UDP_CHECKSUM_AT,
        _ => return VnetHeader::default(),
    };
    let Layers { transport, .. } = layers;
    let end = layers.packet_end(frame);
    let field = transport + checksum_at;
    if end > frame.len() || field + 2 > end {
        return VnetHeader::default();
    }
    let unfinished = layers.pseudo_header(frame, end - transport).folded();
    if frame[field..field + 2] != unfinished.to_be_bytes() {
        return VnetHeader::default();
    }
    let header = needs_checksum(transport, checksum_at);
    if end == frame.len() {
        return header;
    }
    // Whoever finishes it later sums up to the end of the frame, and padding need not be zero.
    finish_checksum(header, &mut frame[..end]).unwrap_or_default()
}

fn super_frame(frame: &mut [u8], layers: Layers, mtu: usize) -> Result<VnetHeader, Unadoptable> {
    if layers.protocol != TCP {
        return Err(Unadoptable::NotTcp);
    }
    let Layers { network, transport, version, .. } = layers;
    let header = frame.get(transport..transport + LEAST_TCP_HEADER).ok_or(Unadoptable::Length)?;
    let (header_len, flags) = (usize::from(header[12] >> 4) * 4, header[13]);
    let data = transport + header_len;
    if header_len < LEAST_TCP_HEADER || data > frame.len() || layers.packet_end(frame) != frame.len() {
        return Err(Unadoptable::Length);
    }
    let size = (network + mtu).checked_sub(data).filter(|size| *size > 0).ok_or(Unadoptable::NoRoom)?;
    let unfinished = layers.pseudo_header(frame, frame.len() - transport).folded();
    frame[transport + TCP_CHECKSUM_AT..][..2].copy_from_slice(&unfinished.to_be_bytes());
    let kind = match version {
        Version::V4 => GSO_TCPV4,
        Version::V6 => GSO_TCPV6,
    };
    Ok(VnetHeader {
        gso_type: kind | if flags & CWR == 0 { 0 } else { GSO_ECN },
        gso_size: size as u16, // less than the frame, which is no longer than a packet may be
        hdr_len: data as u16,
        ..needs_checksum(transport, TCP_CHECKSUM_AT)
    })
}

/// Finish the checksum of `frame`, a TCP or UDP packet of any length, whatever stands in the field; not one that is a
/// part of a packet, or whose lengths are not those of the frame.
pub fn finish(frame: &mut [u8]) {
    let Ok(layers) = layers::find(frame) else { return };
    let checksum_at = match layers.protocol {
        TCP => TCP_CHECKSUM_AT,
        UDP => UDP_CHECKSUM_AT,
        _ => return,
    };
    let (start, end) = (layers.transport, layers.packet_end(frame));
    let field = start + checksum_at;
    if end > frame.len() || field + 2 > end {
        return;
    }
    frame[field..field + 2].fill(0);
    let sum = layers.pseudo_header(frame, end - start).with(&frame[start..end]);
    frame[field..field + 2].copy_from_slice(&sum.checksum_but_zero().to_be_bytes());
}

fn needs_checksum(start: usize, offset: usize) -> VnetHeader {
    VnetHeader {
        flags: FLAG_NEEDS_CSUM,
        csum_start: start as u16,
        csum_offset: offset as u16,
        ..VnetHeader::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::segment::Segments;
    use super::super::tcp_flags::{ACK, PSH};
    use super::super::testing::Packet;
    use super::*;
    use crate::vnet_header::{LEN, Need};

    const MTU: usize = 1_500;

    /// With the pseudo-header's sum alone in the checksum field, as a sender leaves it to hardware.
    fn without_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        let frame = &mut bytes[LEN..];
        let layers = layers::find(frame).unwrap();
        let field = layers.transport + if layers.protocol == TCP { TCP_CHECKSUM_AT } else { UDP_CHECKSUM_AT };
        let sum = layers.pseudo_header(frame, layers.packet_end(frame) - layers.transport).folded();
        frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    fn adopted(bytes: &[u8], mtu: usize) -> (Result<VnetHeader, Unadoptable>, Vec<u8>) {
        let mut bytes = bytes.to_vec();
        let result = adopt(&mut bytes[LEN..], mtu);
        (result, bytes)
    }

    #[test]
    fn a_finished_frame_asks_for_nothing_and_an_unfinished_one_for_its_checksum() {
        for v6 in [false, true] {
            for tags in 0..3 {
                let packet = Packet { tags, ..Packet::new(v6, 1, 1_000) };
                for (whole, offset) in [(packet.tcp(), 16), (packet.udp(), 6)] {
                    assert_eq!(adopted(&whole, MTU), (Ok(VnetHeader::default()), whole.clone()));
                    let left = without_checksum(whole.clone());
                    let (header, mut same) = adopted(&left, MTU);
                    assert_eq!(same, left);
                    let header = header.unwrap();
                    let network = 14 + 4 * tags + if v6 { 40 } else { 20 };
                    assert_eq!((usize::from(header.csum_start), header.csum_offset), (network, offset));
                    assert_eq!(header.need(), Need::Checksum);
                    assert_eq!(finish_checksum(header, &mut same[LEN..]), Ok(VnetHeader::default()));
                    assert_eq!(same, whole);
                }
            }
        }
    }

    #[test]
    fn a_super_frame_can_be_finished_as_one_packet() {
        for v6 in [false, true] {
            for (whole, tags) in
                [(2_000, 0), (60_000, 1)].map(|(len, tags)| (Packet { tags, ..Packet::new(v6, 1, len) }, tags))
            {
                let finished = whole.tcp();
                let (header, mut frame) = adopted(&finished, MTU);
                assert_eq!(header.map(|header| header.need()), Ok(Need::Segmentation), "{tags}");
                assert_ne!(frame, finished);
                finish(&mut frame[LEN..]);
                assert!(frame == finished);
            }
            let mut udp = without_checksum(Packet::new(v6, 1, 700).udp());
            finish(&mut udp[LEN..]);
            assert_eq!(udp, Packet::new(v6, 1, 700).udp());
        }
    }

    #[test]
    fn padding_is_not_summed() {
        let whole = Packet { padding: 6, ..Packet::new(false, 1, 3) }.tcp();
        let mut left = without_checksum(whole.clone());
        let padding = left.len() - 6..;
        left[padding.clone()].fill(0xa5);
        let (header, finished) = adopted(&left, MTU);
        assert_eq!(header, Ok(VnetHeader::default()));
        assert_eq!(finished[..padding.start], whole[..padding.start]);
        assert_eq!(finished[padding.clone()], left[padding]);
    }

    #[test]
    fn what_fits_is_never_refused() {
        for bytes in [
            vec![7; LEN + 3],
            vec![7; LEN + 14 + MTU],
            Packet { fragment: 0x2000, ..Packet::new(false, 1, 1_000) }.tcp(),
            Packet::new(false, 1, 1_000).tcp()[..LEN + 40].to_vec(),
            Packet { tags: 2, options: vec![], ..Packet::new(false, 1, MTU - 40) }.tcp(),
        ] {
            assert_eq!(adopted(&bytes, MTU), (Ok(VnetHeader::default()), bytes));
        }
    }

    #[test]
    fn each_refusal_has_its_name_and_changes_nothing() {
        let long = || Packet::new(false, 1, 4_000);
        let with = |at: usize, value: u8, mut bytes: Vec<u8>| {
            bytes[LEN + at] = value;
            bytes
        };
        for (number, (bytes, mtu, refusal)) in [
            (long().udp(), MTU, Unadoptable::NotTcp),
            (with(13, 6, long().tcp()), MTU, Unadoptable::NotTcp),
            (with(20, 43, Packet::new(true, 1, 4_000).tcp()), MTU, Unadoptable::NotTcp),
            (vec![7; LEN + 5_000], MTU, Unadoptable::NotTcp),
            (Packet { fragment: 0x2000, ..long() }.tcp(), MTU, Unadoptable::Fragment),
            (with(20, 44, Packet::new(true, 1, 4_000).tcp()), MTU, Unadoptable::Fragment),
            (with(14, 0x44, long().tcp()), MTU, Unadoptable::Length),
            (with(46, 0x40, long().tcp()), MTU, Unadoptable::Length),
            (Packet { padding: 1, ..long() }.tcp(), MTU, Unadoptable::Length),
            (long().tcp()[..LEN + 3_000].to_vec(), MTU, Unadoptable::Length),
            (with(46, 0xf0, long().tcp()[..LEN + 60].to_vec()), 30, Unadoptable::Length),
            (long().tcp()[..LEN + 50].to_vec(), 30, Unadoptable::Length),
            (long().tcp(), 52, Unadoptable::NoRoom),
        ]
        .into_iter()
        .enumerate()
        {
            assert_eq!(adopted(&bytes, mtu), (Err(refusal), bytes), "case {number}");
        }
        assert_eq!(adopted(&long().tcp(), 53).0.map(|header| header.gso_size), Ok(1));
    }

    proptest! {
        #[test]
        fn a_super_frame_becomes_segments_of_the_links_length(
            v6: bool, tags in 0_usize..3, left: bool, sequence: u32, options in prop::sample::select(vec![0_usize, 12, 40]),
            flags in prop::sample::select(vec![ACK, ACK | PSH, ACK | CWR]), mtu in 576_usize..9_000,
            len in 9_001_usize..65_000,
        ) {
            let packet = Packet { tags, flags, options: vec![1; options], ..Packet::new(v6, sequence, len) };
            let whole = packet.tcp();
            let bytes = if left { without_checksum(whole) } else { whole };
            let (header, bytes) = adopted(&bytes, mtu);
            let header = header.unwrap();
            prop_assert_eq!(header.gso_type & GSO_ECN != 0, flags & CWR != 0);
            prop_assert_eq!(&bytes, &without_checksum(bytes.clone()));
            let segments = Segments::of(&header, &bytes[LEN..]).unwrap();
            let (mut data, network) = (Vec::new(), 14 + 4 * tags);
            for index in 0..segments.count() {
                let mut out = Vec::new();
                segments.write(index, &mut out);
                prop_assert!(index + 1 == segments.count() || out.len() == LEN + network + mtu);
                prop_assert!(out.len() <= LEN + network + mtu);
                data.extend_from_slice(&out[LEN + usize::from(header.hdr_len)..]);
            }
            prop_assert!(data == packet.payload);
        }

        #[test]
        fn nothing_makes_it_panic(
            v6: bool, udp: bool, mtu in 0_usize..3_000, keep in 0_usize..2_000,
            changes in prop::collection::vec((0_usize..90, any::<u8>()), 0..4),
        ) {
            let packet = Packet::new(v6, 1, 1_800);
            let mut bytes = if udp { packet.udp() } else { packet.tcp() };
            changes.into_iter().for_each(|(at, value)| bytes[LEN + at] = value);
            bytes.truncate(LEN + keep);
            finish(&mut bytes.clone()[LEN..]);
            if let Ok(header) = adopt(&mut bytes[LEN..], mtu) {
                match header.need() {
                    Need::Nothing => {}
                    Need::Checksum => prop_assert!(finish_checksum(header, &mut bytes[LEN..]).is_ok()),
                    Need::Segmentation => {
                        let cut = Segments::of(&header, &bytes[LEN..]);
                        prop_assert!(cut.is_ok() || keep.div_ceil(usize::from(header.gso_size)) > 1_400, "{:?}", cut);
                    }
                }
            }
        }
    }
}
