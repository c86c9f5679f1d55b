//! When to try again where nothing says when it may be of use: soon at first, then less and less often. Pure.

use std::time::Duration;

/// First delay. Chosen: the shortest that `poll` can wait; a peer's buffer holds more than what comes in that time.
pub(super) const FIRST: Duration = Duration::from_millis(1);

/// Longest delay. Chosen: a few tries a second for a peer that takes nothing.
pub(super) const LONGEST: Duration = Duration::from_millis(128);

/// Delays that double from [`FIRST`] to a longest one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    longest: Duration,
    next: Option<Duration>,
}

impl Backoff {
    pub(super) const fn new(longest: Duration) -> Self {
        Self { longest, next: None }
    }

    /// It was of no use (again): wait longer.
    pub(super) fn failed(&mut self) {
        let doubled = self.next.map_or(FIRST, |delay| delay.saturating_mul(2));
        self.next = Some(doubled.min(self.longest));
    }

    /// It was of use, or nothing is to be tried again.
    pub(super) fn reset(&mut self) {
        self.next = None;
    }

    /// How long to wait, if something is to be tried again.
    pub(super) fn delay(&self) -> Option<Duration> {
        self.next
    }

    /// Whether it has been of no use for so long that the delay does not grow any more.
    pub(super) fn exhausted(&self) -> bool {
        self.next == Some(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_longest_and_begin_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(5));
        assert_eq!(backoff.delay(), None);
        for (expected, exhausted) in [(1, false), (2, false), (4, false), (5, true), (5, true)] {
            backoff.failed();
            assert_eq!(backoff.delay(), Some(Duration::from_millis(expected)));
            assert_eq!(backoff.exhausted(), exhausted);
        }
        backoff.reset();
        assert_eq!(backoff.delay(), None);
        backoff.failed();
        assert_eq!(backoff.delay(), Some(FIRST));
    }
}
