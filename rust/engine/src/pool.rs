//! Frame memory: the arena that a batch is read into, and the bounded queue of what a peer did not take.
//!
//! A frame always lies behind its 12-byte virtio-net header, so that a TAP can write both in one piece.

use std::collections::VecDeque;

use crate::frame;
use crate::stats::DropReason;
use crate::switch::Slot;
use crate::vnet_header::{self, VnetHeader};

/// Frames read in one call. Chosen: a blocking VDE client has at most about 280 small or 93 full frames in
/// flight with Linux's default buffers, so that 64 keeps the cost of the calls small without letting one
/// turn last long (64 frames are well under 0.2 ms).
pub const BATCH: usize = 64;

// Endpoints note frames of a batch by numbers of one byte.
const _: () = assert!(BATCH <= 256);

/// One byte more than the longest frame, to notice a longer one where the kernel does not say so.
const SLOT_LEN: usize = vnet_header::LEN + frame::MAX_LEN + 1;

/// Distance of two slots: a whole and odd number of cache lines, so that the beginnings of the frames, which
/// are all the switch looks at, spread over the cache's sets.
const STRIDE: usize = (SLOT_LEN.div_ceil(64) | 1) * 64;

/// Frames that wait for one peer at most. Chosen with [`QUEUE_BYTES`]: about as long as a peer may be off the
/// processor at full speed (a few milliseconds), small enough for hundreds of peers that do not read.
pub const QUEUE_FRAMES: usize = 1024;

/// Memory that waits for one peer at most, in bytes of buffers.
pub const QUEUE_BYTES: usize = 2 << 20;

/// Buffers of common size; a longer frame gets one of its own length.
const BUFFER_LEN: usize = 2048;

/// Unused buffers kept for the next burst. Chosen: 2 MiB, one full queue.
const SPARE_BUFFERS: usize = 1024;

/// One frame with its header in front, borrowed.
#[derive(Clone, Copy)]
pub struct FrameRef<'a>(&'a [u8]);

impl<'a> FrameRef<'a> {
    /// To fill arrays with; no port is ever given one.
    pub const EMPTY: Self = Self(&[0; vnet_header::LEN]);

    /// `bytes` begin with the virtio-net header.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        debug_assert!(bytes.len() >= vnet_header::LEN);
        Self(bytes)
    }

    /// Header and frame in one piece.
    #[must_use]
    pub fn with_header(self) -> &'a [u8] {
        self.0
    }

    /// The header.
    #[must_use]
    pub fn header(self) -> VnetHeader {
        self.0.first_chunk().map_or_else(VnetHeader::default, VnetHeader::parse)
    }

    /// The frame.
    #[must_use]
    pub fn ethernet(self) -> &'a [u8] {
        &self.0[vnet_header::LEN..]
    }
}

/// What a port read into a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Not a frame: an empty datagram, or a part of a frame on a stream.
    Nothing,
    /// A frame of that many bytes, header not counted.
    Frame(usize),
    /// A frame longer than [`frame::MAX_LEN`]; its rest is lost.
    Oversized,
    /// A frame of that many bytes that the port could not make use of.
    Dropped(usize, DropReason),
}

/// In place of a slot: the frame is from the endpoint that was read.
const OWN: Slot = Slot::MAX;

/// The arena: one batch of received frames.
pub struct Batch {
    memory: Box<[u8]>,
    received: [Received; BATCH],
    /// Whose each one is, where a port reads for others.
    origins: [Slot; BATCH],
    count: usize,
    limit: usize,
    /// Bytes of frames that were pushed, and after how many there is no more room.
    bytes: usize,
    most_bytes: usize,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// About 4 MiB of address space; only what frames have touched becomes resident.
    #[must_use]
    pub fn new() -> Self {
        let memory = vec![0; STRIDE * BATCH].into_boxed_slice();
        let (received, origins) = ([Received::Nothing; BATCH], [OWN; BATCH]);
        Self { memory, received, origins, count: 0, limit: BATCH, bytes: 0, most_bytes: usize::MAX }
    }

    /// Empty it; the next read brings at most `limit` frames.
    pub fn restart(&mut self, limit: usize) {
        self.restart_within(limit, usize::MAX);
    }

    /// The same, and the frame with which there are `most_bytes` is the last.
    pub fn restart_within(&mut self, limit: usize, most_bytes: usize) {
        self.count = 0;
        self.limit = limit.clamp(1, BATCH);
        self.bytes = 0;
        self.most_bytes = most_bytes.max(1);
    }

    /// How many frames may still be read.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.bytes >= self.most_bytes { 0 } else { self.limit - self.count }
    }

    /// After how many more bytes there is no more room.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        self.most_bytes.saturating_sub(self.bytes)
    }

    /// Bytes of the frames that were pushed, also of those that are of no use.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many were pushed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none was pushed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The memory for a frame that has been taken from somebody already, even if there are too many bytes by now.
    pub fn next_slot(&mut self) -> Option<&mut [u8]> {
        let at = self.count * STRIDE;
        (self.count < self.limit).then(|| &mut self.memory[at..at + SLOT_LEN])
    }

    /// The memory of the slots that may still be read into, in the order of pushing: header, frame, one byte more.
    pub fn free_slots(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let free = self.count..self.count + self.room();
        self.memory.chunks_exact_mut(STRIDE).take(free.end).skip(free.start).map(|slot| &mut slot[..SLOT_LEN])
    }

    /// The next slot now holds this, with `header` in front of it. Nothing happens when there are as many as were
    /// wanted; too many bytes are no reason, since one call reads several frames whose lengths nobody knew before.
    pub fn push(&mut self, received: Received, header: Option<VnetHeader>) {
        if self.count == self.limit {
            return;
        }
        if let Some(header) = header {
            self.set_header(self.count, header);
        }
        self.received[self.count] = match received {
            Received::Frame(len) if len > frame::MAX_LEN => Received::Oversized,
            other => other,
        };
        self.bytes += match self.received[self.count] {
            Received::Nothing => 0,
            Received::Frame(len) | Received::Dropped(len, _) => len,
            Received::Oversized => frame::MAX_LEN,
        };
        self.origins[self.count] = OWN;
        self.count += 1;
    }

    /// What was pushed as number `index` turned out to be this.
    pub fn replace(&mut self, index: usize, received: Received) {
        self.received[index] = received;
    }

    /// What was pushed as number `index` is from this endpoint.
    pub fn set_origin(&mut self, index: usize, origin: Slot) {
        self.origins[index] = origin;
    }

    /// Whose it is; `None` for the endpoint that was read.
    #[must_use]
    pub fn origin(&self, index: usize) -> Option<Slot> {
        Some(self.origins[index]).filter(|origin| *origin != OWN)
    }

    /// What was pushed as number `index`.
    #[must_use]
    pub fn received(&self, index: usize) -> Received {
        self.received[index]
    }

    /// Frame `index` with its header; empty unless it is [`Received::Frame`].
    #[must_use]
    pub fn frame(&self, index: usize) -> FrameRef<'_> {
        let slot = &self.memory[index * STRIDE..];
        FrameRef(&slot[..vnet_header::LEN + self.frame_len(index)])
    }

    /// Frame `index` without its header, to change it.
    pub fn ethernet_mut(&mut self, index: usize) -> &mut [u8] {
        let len = self.frame_len(index);
        &mut self.memory[index * STRIDE + vnet_header::LEN..][..len]
    }

    /// The header of frame `index`.
    #[must_use]
    pub fn header(&self, index: usize) -> VnetHeader {
        FrameRef(&self.memory[index * STRIDE..]).header()
    }

    /// Replace the header of frame `index`.
    pub fn set_header(&mut self, index: usize, header: VnetHeader) {
        self.memory[index * STRIDE..][..vnet_header::LEN].copy_from_slice(&header.to_bytes());
    }

    fn frame_len(&self, index: usize) -> usize {
        match self.received[index] {
            Received::Frame(len) => len,
            Received::Nothing | Received::Oversized | Received::Dropped(..) => 0,
        }
    }
}

struct Buffer {
    memory: Box<[u8]>,
    len: usize,
}

/// Buffers that no queue uses, shared by all queues of a loop.
#[derive(Default)]
pub struct BufferPool {
    spare: Vec<Box<[u8]>>,
}

impl BufferPool {
    fn copy(&mut self, bytes: &[u8]) -> Buffer {
        let mut memory = match self.spare.pop() {
            Some(spare) if bytes.len() <= BUFFER_LEN => spare,
            spare => {
                self.spare.extend(spare);
                vec![0; bytes.len().max(BUFFER_LEN)].into_boxed_slice()
            }
        };
        memory[..bytes.len()].copy_from_slice(bytes);
        Buffer { memory, len: bytes.len() }
    }

    fn recycle(&mut self, buffer: Buffer) {
        if buffer.memory.len() == BUFFER_LEN && self.spare.len() < SPARE_BUFFERS {
            self.spare.push(buffer.memory);
        }
    }
}

/// What one peer did not take yet, oldest first. Bounded in frames and in bytes.
#[derive(Default)]
pub struct EgressQueue {
    frames: VecDeque<Buffer>,
    bytes: usize,
}

impl EgressQueue {
    /// Copy a frame in; `false` when the queue is full.
    pub fn push(&mut self, frame: FrameRef<'_>, pool: &mut BufferPool) -> bool {
        let needed = frame.0.len().max(BUFFER_LEN);
        if self.frames.len() >= QUEUE_FRAMES || self.bytes + needed > QUEUE_BYTES {
            return false;
        }
        self.bytes += needed;
        self.frames.push_back(pool.copy(frame.0));
        true
    }

    /// Fill `out` from the front and say how many there were.
    pub fn peek<'a>(&'a self, out: &mut [FrameRef<'a>]) -> usize {
        let mut count = 0;
        for (place, buffer) in out.iter_mut().zip(&self.frames) {
            *place = FrameRef(&buffer.memory[..buffer.len]);
            count += 1;
        }
        count
    }

    /// Remove the first `count` frames.
    pub fn remove(&mut self, count: usize, pool: &mut BufferPool) {
        for buffer in self.frames.drain(..count.min(self.frames.len())) {
            self.bytes -= buffer.memory.len();
            pool.recycle(buffer);
        }
    }

    /// Frames waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(len: usize) -> Vec<u8> {
        vec![7; vnet_header::LEN + len]
    }

    #[test]
    fn the_arena_keeps_frames_apart() {
        let mut batch = Batch::new();
        batch.restart(3);
        let lens = [14, frame::MAX_LEN, 60];
        for (value, slot) in (1..).zip(batch.free_slots()) {
            slot.fill(value);
        }
        for len in lens {
            batch.push(Received::Frame(len), Some(VnetHeader::default()));
        }
        assert_eq!((batch.len(), batch.room()), (3, 0));
        for (index, len) in lens.into_iter().enumerate() {
            let bytes = batch.frame(index).ethernet();
            assert_eq!(bytes.len(), len);
            assert!(bytes.iter().all(|byte| usize::from(*byte) == index + 1));
        }
    }

    #[test]
    fn a_frame_that_filled_the_spare_byte_is_oversized() {
        let mut batch = Batch::new();
        batch.push(Received::Frame(frame::MAX_LEN + 1), None);
        assert_eq!(batch.received(0), Received::Oversized);
        assert_eq!(batch.frame(0).ethernet().len(), 0);
    }

    #[test]
    fn a_full_batch_takes_no_more() {
        let mut batch = Batch::new();
        batch.restart(1);
        batch.push(Received::Frame(20), None);
        batch.push(Received::Frame(30), None);
        assert_eq!(batch.len(), 1);
        assert_eq!(batch.free_slots().count(), 0);
    }

    #[test]
    fn a_batch_ends_with_the_frame_that_uses_its_bytes_up_but_loses_none_that_was_read() {
        let mut batch = Batch::new();
        batch.restart_within(5, 1_000);
        for (len, room, bytes) in [(400, 4, 600), (599, 3, 1), (1, 0, 0), (14, 0, 0), (14, 0, 0), (14, 0, 0)] {
            batch.push(Received::Frame(len), None);
            assert_eq!((batch.room(), batch.free_slots().count(), batch.room_bytes()), (room, room, bytes));
            assert_eq!(batch.next_slot().is_some(), batch.len() < 5);
        }
        assert_eq!((batch.len(), batch.bytes()), (5, 1_028));
        batch.restart_within(10, 0);
        assert_eq!(batch.free_slots().count(), 10, "one frame at least");
        batch.restart(10);
        batch.push(Received::Oversized, None);
        assert_eq!((batch.room(), batch.bytes()), (9, frame::MAX_LEN));
    }

    #[test]
    fn the_queue_is_bounded_in_frames_and_in_bytes() {
        for (len, most) in
            [(60, QUEUE_FRAMES), (frame::MAX_LEN, QUEUE_BYTES / (frame::MAX_LEN + vnet_header::LEN))]
        {
            let (mut queue, mut pool) = (EgressQueue::default(), BufferPool::default());
            let bytes = frame(len);
            let taken = (0..2 * QUEUE_FRAMES).filter(|_| queue.push(FrameRef::new(&bytes), &mut pool)).count();
            assert_eq!(taken, most);
            queue.remove(taken, &mut pool);
            assert_eq!((queue.len(), queue.bytes), (0, 0));
            assert!(pool.spare.len() <= SPARE_BUFFERS);
        }
    }

    #[test]
    fn the_queue_gives_back_what_it_got_in_order() {
        let (mut queue, mut pool) = (EgressQueue::default(), BufferPool::default());
        for round in 0..3_usize {
            for len in [100, 3_000, 20] {
                assert!(queue.push(FrameRef::new(&frame(len + round)), &mut pool));
            }
            let mut out = [FrameRef::EMPTY; 2];
            assert_eq!(queue.peek(&mut out), 2);
            assert_eq!(out.map(|frame| frame.ethernet().len()), [100 + round, 3_000 + round]);
            queue.remove(2, &mut pool);
            let mut out = [FrameRef::EMPTY; 2];
            assert_eq!(queue.peek(&mut out), 1);
            assert_eq!(out[0].ethernet().len(), 20 + round);
            queue.remove(1, &mut pool);
        }
    }
}
