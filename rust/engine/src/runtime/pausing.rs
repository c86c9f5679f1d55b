//! Pausing, the one case in which a sender is made to wait: when all of a large batch went to one destination
//! whose queue has something in it, the sender is not read for a moment, if it is one that waits in its own
//! system call (`Port::sender_waits`). It is read again as soon as that queue is empty, or after [`PAUSE`]. A destination
//! earns the time that others wait for it by the frames it takes (`Endpoint::patience_for`): a fast one that was
//! off the processor loses nothing, a slow one slows others down by no more than it is worth, and one that stops
//! reading costs them a few milliseconds once, and after that only its own frames.

use std::time::{Duration, Instant};

use super::Loop;
use crate::endpoint::{Endpoint, Paused};
use crate::switch::Slot;

/// How long a sender may be kept waiting at once for a destination to catch up. Chosen: long enough for a peer
/// that was off the processor, too short for a guest to notice.
const PAUSE: Duration = Duration::from_millis(1);

/// A pause that ends at `deadline` unless it was ended before.
pub(super) struct Pause {
    pub(super) deadline: Instant,
    number: u64,
    source: Slot,
    destination: Slot,
}

impl Loop {
    /// Do not read `source` until the queue of `destination` is empty, or for [`PAUSE`].
    pub(super) fn pause(&mut self, source: Slot, destination: Slot) {
        let number = self.pauses_begun;
        let patience = self.endpoints.get_mut(destination).map_or(Duration::ZERO, Endpoint::patience_for);
        if patience.is_zero() {
            return;
        }
        let Some(sender) = self.endpoints.get_mut(source) else { return };
        if !sender.port.sender_waits() || sender.paused.is_some() {
            return;
        }
        sender.paused = Some(Paused { number, since: self.now });
        self.pauses_begun += 1;
        if let Some(target) =
            self.endpoints.get_mut(destination).filter(|target| !target.waiting.contains(&source))
        {
            target.waiting.push(source);
        }
        self.pauses.push_back(Pause { deadline: self.now + PAUSE.min(patience), number, source, destination });
    }

    /// End the pauses of all who wait for `destination`.
    pub(super) fn stop_waiting_for(&mut self, destination: Slot) {
        let Some(target) = self.endpoints.get_mut(destination) else { return };
        for source in std::mem::take(&mut target.waiting) {
            self.resume(source, destination);
        }
    }

    /// End one pause.
    fn resume(&mut self, source: Slot, destination: Slot) {
        let paused = self.endpoints.get_mut(source).and_then(|sender| sender.paused.take());
        if let (Some(paused), Some(target)) = (paused, self.endpoints.get_mut(destination)) {
            target.was_waited_for(self.now.duration_since(paused.since));
        }
        self.watch(source);
    }

    /// Forget pauses that ended before their time, and end those whose time is over.
    pub(super) fn end_overdue_pauses(&mut self) {
        while let Some(&Pause { deadline, number, source, destination }) = self.pauses.front() {
            let paused = self.endpoints.get(source).and_then(|sender| sender.paused);
            let under_way = paused.is_some_and(|paused| paused.number == number);
            if under_way && deadline > self.now {
                return;
            }
            self.pauses.pop_front();
            if under_way {
                if let Some(target) = self.endpoints.get_mut(destination) {
                    target.waiting.retain(|waiting| *waiting != source);
                }
                self.resume(source, destination);
            }
        }
    }
}
