//! Frames out of a guest's memory into the batch, and from there into a guest's memory: one copy each.
#![allow(unsafe_code)]

use std::ptr;

use super::features::{Acknowledged, MRG_RXBUF};
use super::memory::{Memory, Piece};
use super::ring::{Chain, Ring, RingError};
use crate::frame;
use crate::pool::{BATCH, Batch, FrameRef, Received};
use crate::stats::{Counters, DropReason};
use crate::vnet_header::{self, VnetHeader};

/// Bytes after which a turn ends before the batch is full. Chosen as for a TAP: four super-frames.
const TURN_BYTES: usize = 256 << 10;

/// Descriptors that one frame may be spread over in a guest's receive buffers. Chosen: far more than the 45 that a
/// super-frame needs in buffers of the smallest size that drivers use.
const MOST_SPREAD: usize = 2048;

/// Memory that is kept from call to call.
#[derive(Default)]
pub(super) struct Scratch {
    pieces: Vec<Piece>,
    chains: Vec<Chain>,
}

// SAFETY: nothing is kept in there between two calls.
unsafe impl Send for Scratch {}

/// What a call came to.
pub(super) struct Done {
    /// Frames that are done with, or buffers.
    pub(super) count: usize,
    /// Whether the driver wants to be told.
    pub(super) tell: bool,
}

/// Take what waits in a guest's transmit ring, as far as the batch has room; without `keep`, for nothing.
///
/// # Errors
/// [`RingError`]; what was pushed before is good.
pub(super) fn take(
    ring: &mut Ring,
    memory: &Memory,
    acknowledged: Acknowledged,
    keep: bool,
    batch: &mut Batch,
    scratch: &mut Scratch,
) -> Result<Done, RingError> {
    let waiting = ring.waiting()?;
    let (mut count, mut bytes) = (0, 0);
    let mut result = Ok(());
    let (room, room_bytes) = if keep { (batch.room(), batch.room_bytes()) } else { (BATCH, TURN_BYTES) };
    let most_bytes = room_bytes.min(TURN_BYTES);
    let Scratch { pieces, chains } = scratch;
    pieces.clear();
    chains.clear();
    // All are looked at before any is copied, so that the memory of the later ones is on its way to the processor.
    // A batch that is full after some of them would lose the others: a chain is at least as long as its frame.
    while count < waiting && usize::from(count) < room && bytes < most_bytes {
        let first = pieces.len();
        match ring.chain(count, false, memory, pieces) {
            Ok(chain) => {
                pieces[first..].first().inspect(|piece| piece.prefetch());
                bytes += chain.len;
                chains.push(chain);
            }
            Err(error) => {
                pieces.truncate(first);
                result = Err(error);
                break;
            }
        }
        count += 1;
    }
    let mut left = &pieces[..];
    for (ahead, chain) in (0..).zip(&*chains) {
        let (own, others) = left.split_at(chain.pieces.min(left.len()));
        left = others;
        if keep {
            gather(own, chain.len, acknowledged, batch);
        }
        ring.put_used(ahead, chain.head, 0);
    }
    let tell = ring.give_back(count);
    result.map(|()| Done { count: usize::from(count), tell })
}

/// One frame into the batch, which has room for it.
fn gather(pieces: &[Piece], len: usize, acknowledged: Acknowledged, batch: &mut Batch) {
    let header_len = acknowledged.header_len();
    if len > header_len + frame::MAX_LEN {
        return batch.push(Received::Oversized, None);
    }
    let Some(frame_len) = len.checked_sub(header_len) else {
        return batch.push(Received::Frame(0), Some(VnetHeader::default())); // counted as the runt that it is
    };
    let Some(slot) = batch.next_slot() else { return };
    // A short header begins later, so that the frame begins where it always does.
    let mut at = vnet_header::LEN - header_len;
    for piece in pieces {
        let target = &mut slot[at..at + piece.len];
        // SAFETY: the piece is mapped, and nothing in our own memory overlaps it.
        unsafe { ptr::copy_nonoverlapping(piece.at, target.as_mut_ptr(), piece.len) };
        at += piece.len;
    }
    slot.copy_within(vnet_header::LEN - header_len..vnet_header::LEN, 0);
    let header = slot.first_chunk().map_or_else(VnetHeader::default, VnetHeader::parse);
    match acknowledged.believed(header) {
        Some(header) => batch.push(Received::Frame(frame_len), Some(header)),
        None => batch.push(Received::Dropped(frame_len, DropReason::BadSuperFrame), None),
    }
}

/// Put `frames` into a guest's receive buffers, as many as there is room for.
///
/// # Errors
/// [`RingError`].
pub(super) fn give(
    ring: &mut Ring,
    memory: &Memory,
    acknowledged: Acknowledged,
    frames: &[FrameRef<'_>],
    counters: &mut Counters,
    scratch: &mut Scratch,
) -> Result<Done, RingError> {
    let waiting = ring.waiting()?;
    let (mut count, mut used) = (0, 0);
    let mut result = Ok(());
    for frame in frames {
        let left = waiting - used;
        match spread(ring, memory, acknowledged, *frame, (used, left), scratch) {
            Ok(Spread::Written(chains)) => {
                counters.sent(frame.ethernet().len());
                used += chains;
            }
            Ok(Spread::TooLong) => counters.dropped(DropReason::TooLong),
            Ok(Spread::NoRoom) => break,
            Err(error) => {
                result = Err(error);
                break;
            }
        }
        count += 1;
    }
    let tell = ring.give_back(used);
    result.map(|()| Done { count, tell })
}

enum Spread {
    /// Into so many chains.
    Written(u16),
    /// For all the buffers that this guest can have.
    TooLong,
    NoRoom,
}

/// One frame into the chains `from` on, of which there are `left`.
fn spread(
    ring: &mut Ring,
    memory: &Memory,
    acknowledged: Acknowledged,
    frame: FrameRef<'_>,
    (from, left): (u16, u16),
    scratch: &mut Scratch,
) -> Result<Spread, RingError> {
    let Scratch { pieces, chains } = scratch;
    pieces.clear();
    chains.clear();
    let header_len = acknowledged.header_len();
    let needed = header_len + frame.ethernet().len();
    let merges = acknowledged.has(MRG_RXBUF);
    let (mut room, mut descriptors, mut count) = (0, 0, 0);
    while room < needed {
        if count > 0 && !merges {
            return Ok(Spread::TooLong);
        }
        if count == left {
            return Ok(if ring.is_whole(left) { Spread::TooLong } else { Spread::NoRoom });
        }
        let chain = ring.chain(from + count, true, memory, pieces)?;
        descriptors += chain.descriptors;
        if chain.len == 0 || descriptors > MOST_SPREAD {
            return Err(RingError::TinyBuffers);
        }
        room += chain.len;
        count += 1;
        chains.push(chain);
    }
    let mut header = acknowledged.shown(frame.header());
    header.num_buffers = count;
    let header = header.to_bytes();
    match pieces[..] {
        // All in one: as nearly always.
        [Piece { at, len }, ..] if len >= needed => {
            let frame = frame.ethernet();
            // SAFETY: the piece is mapped and long enough, and nothing in our own memory overlaps it.
            unsafe {
                ptr::copy_nonoverlapping(header.as_ptr(), at, header_len);
                ptr::copy_nonoverlapping(frame.as_ptr(), at.add(header_len), frame.len());
            }
        }
        _ => {
            let mut place = (0, 0);
            scatter(&header[..header_len], pieces, &mut place);
            scatter(frame.ethernet(), pieces, &mut place);
        }
    }
    let mut left = needed;
    for (ahead, chain) in (from..).zip(&*chains) {
        let filled = left.min(chain.len);
        left -= filled;
        ring.put_used(ahead, chain.head, filled as u32);
    }
    Ok(Spread::Written(count))
}

/// Copy `bytes` into `pieces` from `place` (which one, and how far into it) on, which is moved behind them.
fn scatter(mut bytes: &[u8], pieces: &[Piece], place: &mut (usize, usize)) {
    while let (Some(piece), false) = (pieces.get(place.0), bytes.is_empty()) {
        let (now, later) = bytes.split_at(bytes.len().min(piece.len - place.1));
        // SAFETY: the piece is mapped, `now` is no longer than what is left of it, and nothing in our own memory
        // overlaps it.
        unsafe { ptr::copy_nonoverlapping(now.as_ptr(), piece.at.add(place.1), now.len()) };
        *place = if later.is_empty() { (place.0, place.1 + now.len()) } else { (place.0 + 1, 0) };
        bytes = later;
    }
}
