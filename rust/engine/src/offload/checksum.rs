//! The Internet checksum (RFC 1071), and finishing one that a sender left unfinished. Pure.

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
    let checksum = Sum::default().with(&frame[start..]).checksum_but_zero();
    frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    Ok(VnetHeader::default())
}

/// A running one's complement sum of 16-bit words.
///
/// Words are added as they lie in memory: swapping the bytes of all words swaps those of the sum (RFC 1071, 2 B), so
/// that only the result has to be turned round. Far from overflowing for any frame.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// With these bytes; an odd last one is padded with zero, so that only the last piece may be odd.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let mut chunks = bytes.chunks_exact(8);
        let mut sum = self.0;
        for chunk in chunks.by_ref() {
            let number = u64::from_ne_bytes(chunk.first_chunk().copied().unwrap_or_default());
            sum += (number & 0xffff_ffff) + (number >> 32);
        }
        let mut last = [0; 8];
        last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        let number = u64::from_ne_bytes(last);
        Self(sum + (number & 0xffff_ffff) + (number >> 32))
    }

    /// With one more word.
    #[must_use]
    pub fn with_word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// The sum itself, as a pseudo-header's sum stands in an unfinished checksum.
    #[must_use]
    pub fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        // The folding leaves at most 16 bits.
        u16::from_be(sum as u16)
    }

    /// What is to be written into a checksum field that was zero, or that held a part of the sum.
    #[must_use]
    pub fn checksum(self) -> u16 {
        !self.folded()
    }

    /// The same, never zero: in UDP that would mean "none", and 0xffff is the same number in one's complement
    /// (RFC 768).
    #[must_use]
    pub fn checksum_but_zero(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            checksum => checksum,
        }
    }

    /// Whether the checksum among these bytes is right.
    #[must_use]
    pub fn verifies(self) -> bool {
        self.folded() == 0xffff
    }
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
            let sum = Sum::default().with_word(pseudo).with(&frame[usize::from(start)..]);
            prop_assert!(sum.verifies() || sum.folded() == 0);
        }

        #[test]
        fn the_sum_is_that_of_the_words_one_by_one(bytes in prop::collection::vec(any::<u8>(), 0..200), word: u16) {
            let mut plain = u64::from(word);
            for pair in bytes.chunks(2) {
                plain += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
            }
            while plain > 0xffff {
                plain = (plain & 0xffff) + (plain >> 16);
            }
            prop_assert_eq!(u64::from(Sum::default().with_word(word).with(&bytes).folded()), plain);
        }

        #[test]
        fn no_header_makes_it_panic(mut frame in prop::collection::vec(any::<u8>(), 0..80), header: [u8; 12]) {
            let _ = finish_checksum(VnetHeader::parse(&header), &mut frame);
        }
    }
}
