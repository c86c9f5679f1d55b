//! How fast a capture is written that is too slow anyway while others want the processors. Pure; time and what is known
//! are arguments.
//!
//! The writer runs in what others leave over, but what it does costs them all the same: memory, caches, and stretches
//! in the kernel that nobody interrupts. A thread that has waited for a processor for longer than it has had one is
//! among others that want more than there is. If it then loses a quarter of the frames or more, so that the file is full
//! of gaps whatever it does, it writes no more than [`BUSY_RATE`].

use std::time::{Duration, Instant};

use crate::sys::Share;

/// Bytes a second. Measured on two processors: a saturated pair of full frames keeps at least nine tenths of its rate
/// up to about this, and loses more beyond.
const BUSY_RATE: u64 = 32 << 20;

/// One frame lost of so many is too many.
const LOST_OF: u64 = 4;

/// How often it is looked at what is known.
const WINDOW: Duration = Duration::from_millis(20);

/// A shorter wait is not worth a timer; a longer one would keep the end of the capture waiting.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(20);

/// What is known at one moment; all of it only grows.
#[derive(Clone, Copy, Default)]
pub(super) struct Look {
    /// The writer's, where the system says.
    pub(super) share: Option<Share>,
    /// Frames that were put into the ring.
    pub(super) frames: u64,
    /// Frames that found no room in it.
    pub(super) dropped: u64,
}

impl Look {
    /// Whether so much was lost since `before`, and the processors were wanted by others.
    fn is_held_up(&self, before: &Self) -> bool {
        let (Some(share), dropped) = (self.share, self.dropped - before.dropped) else { return false };
        let since = before.share.unwrap_or_default();
        let ran = share.ran.saturating_sub(since.ran);
        let waited = share.waited.saturating_sub(since.waited);
        waited > ran && dropped * LOST_OF > dropped + self.frames - before.frames
    }
}

/// See the module's head.
pub(super) struct Pace {
    since: Instant,
    bytes: u64,
    before: Look,
    busy: bool,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0, before: Look::default(), busy: false }
    }

    /// After `bytes` were written: how long to leave the processors to others. `look` is called now and then.
    pub(super) fn wrote(
        &mut self,
        bytes: usize,
        now: Instant,
        look: impl FnOnce() -> Look,
    ) -> Option<Duration> {
        self.bytes += bytes as u64;
        let time = now.duration_since(self.since);
        if time >= WINDOW {
            let look = look();
            *self = Self { since: now, bytes: 0, before: look, busy: look.is_held_up(&self.before) };
            return None;
        }
        if !self.busy {
            return None;
        }
        let due = Duration::from_micros(self.bytes * 1_000_000 / BUSY_RATE);
        due.checked_sub(time).filter(|nap| *nap >= SHORTEST).map(|nap| nap.min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORTION: usize = 64 << 10;

    /// A writer that waits so long for each 100 µs in which it writes a portion, and loses so many frames of a hundred.
    struct Case {
        waits: u64,
        lost: u64,
        known: bool,
    }

    /// Bytes a second that it writes in two.
    fn rate(case: &Case) -> u64 {
        let begun = Instant::now();
        let (mut now, mut share, mut bytes) = (begun, Share::default(), 0);
        let (mut pace, mut look) = (Pace::new(now), Look::default());
        let (runs, waits) = (Duration::from_micros(100), Duration::from_micros(case.waits));
        while now < begun + Duration::from_secs(2) {
            (share.ran, share.waited) = (share.ran + runs, share.waited + waits);
            (look.frames, look.dropped) = (look.frames + 100 - case.lost, look.dropped + case.lost);
            look.share = case.known.then_some(share);
            now += runs + waits;
            bytes += PORTION as u64;
            now += pace.wrote(PORTION, now, || look).unwrap_or_default();
        }
        bytes / 2
    }

    #[test]
    fn it_is_held_back_where_others_want_the_processors_and_it_loses_much_anyway() {
        for (waits, lost) in [(150, 26), (300, 90)] {
            let rate = rate(&Case { waits, lost, known: true });
            assert!((BUSY_RATE * 3 / 4..BUSY_RATE * 3 / 2).contains(&rate), "{waits} {lost}: {rate}");
        }
    }

    #[test]
    fn else_it_is_as_fast_as_it_can_be() {
        for (waits, lost, known) in
            [(0, 90, true), (100, 90, true), (300, 25, true), (300, 0, true), (300, 90, false)]
        {
            let fastest = PORTION as u64 * 1_000_000 / (100 + waits);
            assert!(rate(&Case { waits, lost, known }) > fastest * 9 / 10, "{waits} {lost} {known}");
        }
    }

    #[test]
    fn one_that_is_slower_anyway_never_waits() {
        let (mut now, mut share) = (Instant::now(), Share::default());
        let mut pace = Pace::new(now);
        for dropped in 0..1_000 {
            (now, share.waited) = (now + Duration::from_millis(5), share.waited + Duration::from_millis(4));
            let look = Look { share: Some(share), frames: 0, dropped };
            assert_eq!(pace.wrote(PORTION, now, || look), None);
        }
    }
}
