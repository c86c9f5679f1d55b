//! Frames that the user-mode stack has made and that nobody has asked for yet: a bounded list in one buffer. Pure.

use std::collections::VecDeque;

use crate::pool::{Batch, QUEUE_BYTES, QUEUE_FRAMES, Received};
use crate::vnet_header::{self, VnetHeader};

/// Oldest first; as much as any peer's queue holds.
#[derive(Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    lengths: VecDeque<usize>,
    /// Where in `bytes` the oldest begins.
    start: usize,
}

impl Output {
    /// `false` when there is no room, and the frame is lost.
    pub(super) fn push(&mut self, frame: &[u8]) -> bool {
        let live = self.bytes.len() - self.start;
        if self.lengths.len() >= QUEUE_FRAMES || live + frame.len() > QUEUE_BYTES {
            return false;
        }
        if self.bytes.len() + frame.len() > QUEUE_BYTES {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(frame);
        self.lengths.push_back(frame.len());
        true
    }

    /// As many as there is room for.
    pub(super) fn move_to(&mut self, batch: &mut Batch) {
        while batch.room() > 0 {
            let Some(len) = self.lengths.pop_front() else { break };
            put(batch, &self.bytes[self.start..self.start + len]);
            self.start += len;
        }
        if self.lengths.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }
}

/// One finished frame into a batch that has room.
pub(super) fn put(batch: &mut Batch, frame: &[u8]) {
    let Some(slot) = batch.next_slot() else { return };
    let room = &mut slot[vnet_header::LEN..];
    let fits = frame.len().min(room.len());
    room[..fits].copy_from_slice(&frame[..fits]);
    batch.push(Received::Frame(fits), Some(VnetHeader::default()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(output: &mut Output, most: usize) -> Vec<Vec<u8>> {
        let mut batch = Batch::new();
        batch.restart(most);
        output.move_to(&mut batch);
        (0..batch.len()).map(|index| batch.frame(index).ethernet().to_vec()).collect()
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut output = Output::default();
        for round in 0..200_u8 {
            for len in [14, 1_514, 60] {
                assert!(output.push(&vec![round; len]));
            }
            assert_eq!(take(&mut output, 2), [vec![round; 14], vec![round; 1_514]]);
            assert_eq!(take(&mut output, 2), [vec![round; 60]]);
            assert!(output.is_empty());
        }
    }

    #[test]
    fn it_is_bounded_in_frames_and_in_bytes_also_when_it_is_never_empty() {
        let mut output = Output::default();
        let taken = (0..2 * QUEUE_FRAMES).filter(|_| output.push(&[7; 60])).count();
        assert_eq!(taken, QUEUE_FRAMES);
        let mut output = Output::default();
        let mut inside = 0;
        for value in 0..1_000_u32 {
            while output.push(&[value as u8; 9_000]) {
                inside += 1;
            }
            assert!(inside * 9_000 <= QUEUE_BYTES && output.bytes.len() <= QUEUE_BYTES);
            inside -= take(&mut output, 3).len();
        }
    }
}
