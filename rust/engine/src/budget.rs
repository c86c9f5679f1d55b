//! How much an endpoint may read in its turn: deficit round robin over bytes, so that one with frames of 64 KiB has
//! no larger share of the loop than one with common ones. Pure.
//!
//! Each turn has a [`QUANTUM`]. A port that reads frame by frame stops there. One that reads many in one call
//! cannot know how long they will be: it is given a number of frames by the length of the last ones, and what it
//! read too much is a debt, for which it sits out turns. While nobody else is ready there is nothing to share, and
//! what is owed is forgotten; the same when there was less to read than it might have read.

use crate::pool::BATCH;

/// Bytes a turn. Chosen: a batch of full frames and a third; two super-frames.
pub(crate) const QUANTUM: usize = 128 << 10;

/// Owed at most, so that one surprise does not shut an endpoint out for long.
const MOST_DEBT: usize = 8 * QUANTUM;

/// One endpoint's account. See the module's head.
#[derive(Default)]
pub(crate) struct Budget {
    debt: usize,
    /// The mean length of the frames of the last turn.
    len: usize,
}

impl Budget {
    /// At the beginning of a turn. `shared`: others are ready too. `false`: this turn pays a debt.
    pub(crate) fn begin(&mut self, shared: bool) -> bool {
        if !shared {
            self.debt = 0;
        }
        if self.debt < QUANTUM {
            return true;
        }
        self.debt -= QUANTUM;
        false
    }

    /// Bytes that the turn may bring.
    pub(crate) fn bytes(&self) -> usize {
        QUANTUM - self.debt.min(QUANTUM)
    }

    /// Frames that should keep within them; one at least.
    pub(crate) fn frames(&self) -> usize {
        self.bytes().checked_div(self.len).unwrap_or(BATCH).clamp(1, BATCH)
    }

    /// At the end of a turn that read `frames` with `bytes` in all. `all`: it might have read more.
    pub(crate) fn end(&mut self, frames: usize, bytes: usize, all: bool) {
        if let Some(len) = bytes.checked_div(frames) {
            self.len = len;
        }
        let over = bytes.saturating_sub(self.bytes());
        self.debt = if all { 0 } else { over.min(MOST_DEBT) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `turns` of an endpoint that always has frames of `len` bytes; what it read.
    fn read(budget: &mut Budget, turns: usize, len: usize, shared: bool) -> usize {
        let mut all = 0;
        for _ in 0..turns {
            if budget.begin(shared) {
                let frames = budget.frames();
                budget.end(frames, frames * len, false);
                all += frames * len;
            }
        }
        all
    }

    #[test]
    fn everybody_gets_its_quantum_whatever_the_length_of_its_frames() {
        // A batch of the shortest is less.
        for len in [3_000, 9_000, 40_000, 65_000] {
            let mut budget = Budget::default();
            // An endpoint begins with one frame, see `Endpoint::adapt_turn`.
            budget.end(1, len, false);
            let bytes = read(&mut budget, 100, len, true);
            assert!((90 * QUANTUM..=101 * QUANTUM).contains(&bytes), "{len}: {}", bytes / QUANTUM);
        }
    }

    #[test]
    fn short_frames_are_read_in_full_batches() {
        for len in [60, 1514] {
            assert_eq!(read(&mut Budget::default(), 10, len, true), 10 * BATCH * len);
        }
    }

    #[test]
    fn who_is_alone_owes_nothing() {
        let mut budget = Budget::default();
        read(&mut budget, 1, 65_000, true);
        assert!(!budget.begin(true));
        for _ in 0..100 {
            assert!(budget.begin(false));
            budget.end(BATCH, 65_000 * BATCH, false);
        }
    }

    #[test]
    fn a_surprise_is_paid_for_but_not_for_ever() {
        let mut budget = Budget::default();
        read(&mut budget, 10, 60, true);
        assert!(budget.begin(true));
        budget.end(BATCH, 65_000 * BATCH, false);
        let sits_out = (0..1_000).take_while(|_| !budget.begin(true)).count();
        assert_eq!(sits_out, MOST_DEBT / QUANTUM);
    }

    #[test]
    fn who_has_read_everything_owes_nothing() {
        let mut budget = Budget::default();
        budget.end(10, 650_000, true);
        assert_eq!((budget.begin(true), budget.bytes()), (true, QUANTUM));
    }
}
