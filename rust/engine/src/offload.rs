//! Finishing what a sender left to hardware. Pure functions over byte slices.
//!
//! Only the checksum so far: super-frames reach nobody who cannot take them, they are dropped by name.

use crate::vnet_header::{Need, VnetHeader};

/// The checksum field the header points to is not inside the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumOutsideFrame;

/// Write the unfinished checksum of `frame`, as its header says, and return the header it has then.
///
/// The sender left the pseudo-header's sum in the field; what is missing is the sum over everything from
/// `csum_start` to the end (virtio 1.2, 5.1.6.2). A header that asks for nothing is returned unchanged.
///
/// # Errors
/// [`ChecksumOutsideFrame`] when the offsets do not fit; the frame is untouched then.
pub fn finish_checksum(header: VnetHeader, frame: &mut [u8]) -> Result<VnetHeader, ChecksumOutsideFrame> {
    if header.need() == Need::Nothing {
        return Ok(header);
    }
    let start = usize::from(header.csum_start);
    let field = start + usize::from(header.csum_offset);
    if start >= frame.len() || field + 2 > frame.len() {
        return Err(ChecksumOutsideFrame);
    }
    let sum = ones_complement_sum(&frame[start..]);
    // A UDP checksum of zero would mean "none", and 0xffff is the same number in one's complement (RFC 768).
    let checksum = if sum == 0xffff { 0xffff } else { !sum };
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    Ok(VnetHeader::default())
}

/// RFC 1071 sum over big-endian words, an odd last byte padded with zero.
fn ones_complement_sum(bytes: &[u8]) -> u16 {
    let mut words = bytes.chunks_exact(2);
    let mut sum: u64 = words.by_ref().map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    if let [last] = words.remainder() {
        sum += u64::from(*last) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // The folding above leaves at most 16 bits.
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vnet_header::FLAG_NEEDS_CSUM;
    use proptest::prelude::*;

    fn needs_checksum(start: u16, offset: u16) -> VnetHeader {
        VnetHeader { flags: FLAG_NEEDS_CSUM, csum_start: start, csum_offset: offset, ..VnetHeader::default() }
    }

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        // 00 01 f2 03 f4 f5 f6 f7 sums to ddf2; the field itself holds zero and stands behind them.
        let mut frame = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7, 0, 0];
        let header = finish_checksum(needs_checksum(0, 8), &mut frame).unwrap();
        assert_eq!(header, VnetHeader::default());
        assert_eq!(frame[8..], [0x22, 0x0d]);
    }

    #[test]
    fn offsets_beyond_the_frame_are_refused_and_change_nothing() {
        for (start, offset) in [(10, 0), (0, 9), (9, 0), (0xffff, 0xffff)] {
            let mut frame = [7; 10];
            assert_eq!(finish_checksum(needs_checksum(start, offset), &mut frame), Err(ChecksumOutsideFrame));
            assert_eq!(frame, [7; 10]);
        }
    }

    #[test]
    fn a_finished_frame_is_left_alone() {
        let mut frame = [7; 10];
        assert_eq!(finish_checksum(VnetHeader::default(), &mut frame), Ok(VnetHeader::default()));
        assert_eq!(frame, [7; 10]);
    }

    proptest! {
        #[test]
        fn a_finished_checksum_verifies(mut frame in prop::collection::vec(any::<u8>(), 20..200), start in 0u16..16) {
            // An even distance keeps the field on a word border, as in TCP, UDP and ICMPv6.
            let header = needs_checksum(start, 2);
            let field = usize::from(start) + 2;
            let pseudo = u16::from_be_bytes([frame[field], frame[field + 1]]);
            finish_checksum(header, &mut frame).unwrap();
            // Whoever verifies sums the pseudo-header and everything from `start`: minus zero when it is right.
            frame.extend(pseudo.to_be_bytes());
            let odd = (frame.len() - usize::from(start)) % 2;
            frame.splice(frame.len() - 2..frame.len() - 2, vec![0; odd]);
            let sum = ones_complement_sum(&frame[usize::from(start)..]);
            prop_assert!(sum == 0xffff || sum == 0);
        }

        #[test]
        fn no_header_makes_it_panic(mut frame in prop::collection::vec(any::<u8>(), 0..80), header: [u8; 12]) {
            let _ = finish_checksum(VnetHeader::parse(&header), &mut frame);
        }
    }
}
