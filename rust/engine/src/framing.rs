//! QEMU's stream framing: a 4-byte big-endian length before each frame, in both directions. Pure.
//!
//! The format has no magic to find the way back with, so that a length which cannot be meant ends the connection.
//! A length of zero carries nothing and is passed over.

/// Bytes of the length.
pub const HEADER_LEN: usize = 4;

/// Longest frame that QEMU sends and takes: 65,536 and 4,096 more. It closes a connection on which more is
/// announced, and so do we.
pub const MAX_LEN: usize = 69_632;

/// What a peer announced is longer than any frame; where the next one would begin is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("A frame of {0} bytes was announced, and {MAX_LEN} is the most; the peer speaks something else")]
pub struct TooLong(pub u32);

/// What goes before a frame of `len` bytes. Frames are far below what 32 bits hold.
#[must_use]
pub fn header(len: usize) -> [u8; HEADER_LEN] {
    (len as u32).to_be_bytes()
}

/// The length that a header announces.
///
/// # Errors
/// [`TooLong`] above [`MAX_LEN`].
pub fn announced(header: [u8; HEADER_LEN]) -> Result<usize, TooLong> {
    let len = u32::from_be_bytes(header);
    if len as usize > MAX_LEN { Err(TooLong(len)) } else { Ok(len as usize) }
}

/// Length of the frame whose header is at the beginning of `bytes`, once all of it is there.
///
/// # Errors
/// [`TooLong`], as soon as the header is there.
pub fn first_frame(bytes: &[u8]) -> Result<Option<usize>, TooLong> {
    let Some((header, rest)) = bytes.split_first_chunk() else { return Ok(None) };
    let len = announced(*header)?;
    Ok((rest.len() >= len).then_some(len))
}

/// A frame of which only a part has come, header included.
#[derive(Debug, Default)]
pub struct Partial {
    bytes: Vec<u8>,
}

impl Partial {
    /// Whether nothing has come yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that have come, header included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// All of them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// More of it has come, at most [`Partial::missing`] bytes.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes can be read without reading into the next frame: first to the end of the header, then to
    /// the end of the frame, and none once it is complete.
    ///
    /// # Errors
    /// [`TooLong`], as soon as the header is there.
    pub fn missing(&self) -> Result<usize, TooLong> {
        match self.bytes.first_chunk() {
            None => Ok(HEADER_LEN - self.bytes.len()),
            Some(header) => Ok((HEADER_LEN + announced(*header)?).saturating_sub(self.bytes.len())),
        }
    }

    /// The part of the frame that has come, without the header.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }

    /// Begin anew. The memory goes back too: peers that never split a frame keep none.
    pub fn clear(&mut self) {
        self.bytes = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The other end: what a peer writes.
    fn written(frames: &[Vec<u8>]) -> Vec<u8> {
        frames.iter().flat_map(|frame| [&header(frame.len())[..], frame].concat()).collect()
    }

    /// A reader that is given `bytes` in pieces, as `port::stream` reads them.
    fn read(bytes: &[u8], pieces: impl Iterator<Item = usize>) -> Result<(Vec<Vec<u8>>, Partial), TooLong> {
        let (mut frames, mut partial, mut rest) = (Vec::new(), Partial::default(), bytes);
        for piece in pieces {
            let (mut now, later) = rest.split_at(piece.min(rest.len()));
            rest = later;
            while !now.is_empty() {
                if partial.is_empty() {
                    if let Some(len) = first_frame(now)? {
                        frames.push(now[HEADER_LEN..][..len].to_vec());
                        now = &now[HEADER_LEN + len..];
                        continue;
                    }
                }
                let (some, more) = now.split_at(partial.missing()?.min(now.len()));
                partial.extend(some);
                now = more;
                if partial.missing()? == 0 {
                    frames.push(partial.frame().to_vec());
                    partial.clear();
                }
            }
        }
        Ok((frames, partial))
    }

    #[test]
    fn the_longest_frame_passes_and_one_byte_more_does_not() {
        assert_eq!(announced([0, 1, 0x10, 0]), Ok(MAX_LEN));
        assert_eq!(announced([0, 1, 0x10, 1]), Err(TooLong(69_633)));
        assert_eq!(first_frame(b"GET / HTTP/1.1"), Err(TooLong(0x4745_5420)));
    }

    #[test]
    fn a_header_alone_is_no_frame_unless_it_announces_nothing() {
        assert_eq!(first_frame(&[0, 0, 0]), Ok(None));
        assert_eq!(first_frame(&[0, 0, 0, 1]), Ok(None));
        assert_eq!(first_frame(&[0, 0, 0, 0]), Ok(Some(0)));
    }

    #[test]
    fn a_header_that_came_in_pieces_is_checked_too() {
        let mut partial = Partial::default();
        partial.extend(&[0xff, 0xff]);
        assert_eq!(partial.missing(), Ok(2));
        partial.extend(&[0xff, 0xff]);
        assert_eq!(partial.missing(), Err(TooLong(u32::MAX)));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            pieces in prop::collection::vec(1_usize..400, 1..40),
            trailing in prop::collection::vec(any::<u8>(), 0..3),
        ) {
            let bytes = [written(&frames), trailing.clone()].concat();
            let whole = read(&bytes, std::iter::once(bytes.len())).unwrap();
            let single = read(&bytes, std::iter::repeat_n(1, bytes.len())).unwrap();
            let cut = read(&bytes, pieces.into_iter().cycle().take(bytes.len())).unwrap();
            for (read, partial) in [whole, single, cut] {
                prop_assert_eq!(&read, &frames);
                // What is left is the beginning of a header, and how much of it is missing is known.
                let missing = partial.missing().unwrap();
                prop_assert_eq!(missing, HEADER_LEN - trailing.len());
            }
        }

        #[test]
        fn any_bytes_are_frames_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1_usize..50) {
            if let Ok((frames, partial)) = read(&bytes, std::iter::repeat_n(piece, bytes.len())) {
                let taken: usize = frames.iter().map(|frame| frame.len() + HEADER_LEN).sum();
                prop_assert!(taken <= bytes.len());
                prop_assert_eq!(partial.is_empty(), taken == bytes.len());
            }
        }
    }
}
