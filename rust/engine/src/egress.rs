//! What one destination gets of a batch: frames as they are, super-frames cut for a peer that does not take them, TCP
//! frames joined for a peer that takes super-frames. No I/O; the memory for what is made is kept from batch to batch.

use crate::offload::coalesce::Joiner;
use crate::offload::segment::Segments;
use crate::pool::{BATCH, FrameRef};
use crate::vnet_header::Offloads;

/// Bytes of made frames after which they are sent. Chosen: four super-frames. With what is made last it bounds the
/// memory, and it stays in the processor's cache.
pub(crate) const ENOUGH_BYTES: usize = 256 << 10;

/// One frame to send.
#[derive(Clone, Copy)]
enum Piece {
    /// As it came, by its position.
    Given(u8),
    /// A part of what was made.
    Made { from: usize, to: usize },
}

/// See the module's head.
#[derive(Default)]
pub(crate) struct Shaper {
    joiner: Joiner,
    made: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Shaper {
    /// Call `send` with `frames` (at most a batch) in the shape that a peer with these `offloads` is to get them, in
    /// one or more portions of at most a batch. Says how many could not be cut and were left out.
    ///
    /// # Errors
    /// The first error of `send`; the rest is left out.
    pub(crate) fn shape<E>(
        &mut self,
        frames: &[FrameRef<'_>],
        offloads: Offloads,
        mut send: impl FnMut(&[FrameRef<'_>]) -> Result<(), E>,
    ) -> Result<usize, E> {
        self.clear();
        self.joiner.restart(offloads);
        for position in 0..frames.len() {
            // Why a frame begins a chain is for tests to see.
            let _ = self.joiner.add(position, frames);
        }
        let mut uncut = 0;
        for number in 0..self.joiner.chains().len() {
            let chain = self.joiner.chains()[number];
            let frame = frames[chain.first()];
            if chain.count() > 1 {
                self.make(|joiner, made| joiner.write(&chain, frames, made));
            } else if offloads.take(&frame.header()) {
                self.pieces.push(Piece::Given(chain.first() as u8));
            } else if let Ok(segments) = Segments::of(&frame.header(), frame.ethernet()) {
                for index in 0..segments.count() {
                    self.make(|_, made| segments.write(index, made));
                    self.send_if_full(frames, &mut send)?;
                }
            } else {
                uncut += 1;
            }
            self.send_if_full(frames, &mut send)?;
        }
        if !self.pieces.is_empty() {
            self.send_all(frames, &mut send)?;
        }
        Ok(uncut)
    }

    fn make(&mut self, write: impl FnOnce(&Joiner, &mut Vec<u8>)) {
        let from = self.made.len();
        write(&self.joiner, &mut self.made);
        self.pieces.push(Piece::Made { from, to: self.made.len() });
    }

    fn send_if_full<E>(
        &mut self,
        frames: &[FrameRef<'_>],
        send: &mut impl FnMut(&[FrameRef<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.pieces.len() >= BATCH || self.made.len() >= ENOUGH_BYTES {
            return self.send_all(frames, send);
        }
        Ok(())
    }

    fn send_all<E>(
        &mut self,
        frames: &[FrameRef<'_>],
        send: &mut impl FnMut(&[FrameRef<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut out = [FrameRef::EMPTY; BATCH];
        for (place, piece) in out.iter_mut().zip(&self.pieces) {
            *place = match *piece {
                Piece::Given(position) => frames[usize::from(position)],
                Piece::Made { from, to } => FrameRef::new(&self.made[from..to]),
            };
        }
        let result = send(&out[..self.pieces.len()]);
        self.clear();
        result
    }

    fn clear(&mut self) {
        self.pieces.clear();
        self.made.clear();
    }
}
