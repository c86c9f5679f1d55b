//! When to come back to endpoints that nobody tells when they can go on. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::event::EndpointId;
use crate::switch::Slot;

/// One alarm an endpoint at most, which is the endpoint's to see to; those of endpoints that left are harmless.
#[derive(Default)]
pub(crate) struct Alarms {
    heap: BinaryHeap<Reverse<(Instant, Slot, EndpointId)>>,
}

impl Alarms {
    pub(crate) fn set(&mut self, when: Instant, slot: Slot, endpoint: EndpointId) {
        self.heap.push(Reverse((when, slot, endpoint)));
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((when, ..))| *when)
    }

    /// One that is due at `now`, taken out.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(Slot, EndpointId)> {
        if self.next().is_none_or(|when| when > now) {
            return None;
        }
        self.heap.pop().map(|Reverse((_, slot, endpoint))| (slot, endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn alarms_come_in_order_and_once() {
        let (mut alarms, start) = (Alarms::default(), Instant::now());
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        for (when, slot) in [(30, 3), (10, 1), (20, 2)] {
            alarms.set(at(when), slot, u64::from(slot) + 100);
        }
        assert_eq!(alarms.next(), Some(at(10)));
        assert_eq!(alarms.take_due(at(9)), None);
        assert_eq!(alarms.take_due(at(20)), Some((1, 101)));
        assert_eq!(alarms.take_due(at(20)), Some((2, 102)));
        assert_eq!(alarms.take_due(at(20)), None);
        assert_eq!(alarms.take_due(at(99)), Some((3, 103)));
        assert_eq!((alarms.take_due(at(99)), alarms.next()), (None, None));
    }
}
