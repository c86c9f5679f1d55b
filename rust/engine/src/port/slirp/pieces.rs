//! Packets of IPv4 in pieces that every guest takes (RFC 791 3.2). Pure.
//!
//! The stack makes packets as long as the MTU that guests are told (`--vmnet-mtu`); not each of them listens, and
//! such a card drops longer frames. TCP asks each guest what it takes, so that only the rest must be cut.

use crate::frame::HEADER_LEN;
use crate::offload::checksum::Sum;
use crate::offload::layers::TCP;

/// What each guest takes, whatever it was told: Ethernet's MTU.
pub(super) const SURE: u16 = 1500;

const ETHERTYPE_IPV4: [u8; 2] = [8, 0];
const MUST_NOT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// Call `put` with `frame` as it is, or with the frames that its packet is cut into where it is longer than `most`
/// bytes. `scratch` is for those.
pub(super) fn each(frame: &[u8], most: u16, scratch: &mut Vec<u8>, mut put: impl FnMut(&[u8])) {
    let most = usize::from(most);
    let Some((header_len, len, flags)) = long_packet(frame, most) else { return put(frame) };
    let (head, data) = frame[HEADER_LEN..HEADER_LEN + len].split_at(header_len);
    // Offsets are counted in eight bytes.
    let size = (most - header_len) & !7;
    for (index, piece) in data.chunks(size).enumerate() {
        let last = (index + 1) * size >= data.len();
        // The stack's packets end below 65,536 bytes, and so does every offset in them.
        let offset = (flags & OFFSET).wrapping_add((index * size / 8) as u16);
        let more = if last { flags & MORE_FRAGMENTS } else { MORE_FRAGMENTS };
        scratch.clear();
        scratch.extend_from_slice(&frame[..HEADER_LEN]);
        scratch.extend_from_slice(head);
        scratch.extend_from_slice(piece);
        let ip = &mut scratch[HEADER_LEN..HEADER_LEN + header_len];
        ip[2..4].copy_from_slice(&((header_len + piece.len()) as u16).to_be_bytes());
        ip[6..8].copy_from_slice(&(more | offset & OFFSET).to_be_bytes());
        ip[10..12].fill(0);
        let sum = Sum::default().with(ip).checksum();
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        put(scratch);
    }
}

/// Of a packet that must be cut: lengths of its header and in all, and the word with flags and offset. One with
/// options is left whole, which would not all be repeated; the stack makes none.
fn long_packet(frame: &[u8], most: usize) -> Option<(usize, usize, u16)> {
    let ip: &[u8; 20] = frame.get(HEADER_LEN..)?.first_chunk()?;
    let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    let flags = u16::from_be_bytes([ip[6], ip[7]]);
    let plain = frame[12..14] == ETHERTYPE_IPV4 && ip[0] == 0x45 && ip[9] != TCP;
    let long = len > most && HEADER_LEN + len <= frame.len();
    (plain && long && flags & MUST_NOT_FRAGMENT == 0).then_some((ip.len(), len, flags))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(protocol: u8, flags: u16, data: &[u8]) -> Vec<u8> {
        let mut frame = [&[2; 12][..], &ETHERTYPE_IPV4, &[0x45, 0, 0, 0, 0x12, 0x34]].concat();
        frame.extend(flags.to_be_bytes());
        frame.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        frame.extend_from_slice(data);
        let len = (frame.len() - HEADER_LEN) as u16;
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        let sum = Sum::default().with(&frame[14..34]).checksum();
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    fn cut(frame: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        each(frame, SURE, &mut Vec::new(), |piece| pieces.push(piece.to_vec()));
        pieces
    }

    #[test]
    fn what_fits_and_what_must_stay_whole_is_not_touched() {
        let mut options = packet(17, 0, &[1; 4000]);
        options[14] = 0x46;
        let mut other = packet(17, 0, &[1; 4000]);
        other[12] = 0x86;
        for frame in [
            packet(17, 0, &[1; 1480]),
            packet(6, 0, &[1; 4000]),
            packet(17, MUST_NOT_FRAGMENT, &[1; 4000]),
            packet(17, 0, &[1; 4000])[..3000].to_vec(),
            options,
            other,
            vec![1; 20],
        ] {
            assert_eq!(cut(&frame), [frame]);
        }
    }

    proptest! {
        #[test]
        fn pieces_make_the_packet_again(
            data in prop::collection::vec(any::<u8>(), 1481..20_000), at in 0_u16..200, more: bool,
        ) {
            // It may be a piece itself.
            let flags = at | if more { MORE_FRAGMENTS } else { 0 };
            let pieces = cut(&packet(17, flags, &data));
            let mut whole = Vec::new();
            for (index, piece) in pieces.iter().enumerate() {
                prop_assert!(piece.len() <= HEADER_LEN + usize::from(SURE));
                prop_assert!(Sum::default().with(&piece[14..34]).verifies());
                prop_assert_eq!(usize::from(u16::from_be_bytes([piece[16], piece[17]])), piece.len() - HEADER_LEN);
                let word = u16::from_be_bytes([piece[20], piece[21]]);
                prop_assert_eq!(usize::from(word & OFFSET), usize::from(at) + whole.len() / 8);
                prop_assert_eq!(word & MORE_FRAGMENTS != 0, more || index + 1 < pieces.len());
                prop_assert_eq!((&piece[..16], &piece[18..20]), (&packet(17, 0, &[])[..16], &[0x12, 0x34][..]));
                whole.extend_from_slice(&piece[34..]);
            }
            prop_assert_eq!(whole, data);
        }
    }
}
