//! Waiting for something to do: in the poller, or, where that is wanted, by asking it again and again for a moment;
//! and the rests of senders that are read in large batches.
//!
//! Busy polling saves the kernel's way to sleep and back, which is most of a small frame's delay. It begins anew with
//! each round in which there was something to do, so that a network on which nothing happens costs nothing. Between
//! two questions the processor is offered to others: who waits for it, such as the peer that is to answer, comes
//! first.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::Loop;
use crate::gather::Turn;
use crate::pool::BATCH;
use crate::switch::Slot;
use crate::sys::Report;

/// A poll that took longer than this has slept. Chosen: twice what a poll with something to report costs, half
/// of what going to sleep and waking up costs.
const REST: Duration = Duration::from_micros(4);

impl Loop {
    /// Until there are `reports`, or something is due.
    pub(super) fn wait(&mut self, reports: &mut Vec<Report>) -> io::Result<()> {
        let before = Instant::now();
        let pause = self.pauses.front().map(|pause| pause.deadline);
        let due = pause.into_iter().chain(self.alarms.next()).min();
        let left = |now| due.map(|due| due.saturating_duration_since(now));
        // What is due soon is waited for asleep: a sender that is left alone would only be disturbed.
        let asks = !self.busy_poll.is_zero() && left(before).is_none_or(|left| left > self.busy_poll);
        if !asks || !self.ask(reports, before + self.busy_poll)? {
            let now = if asks { Instant::now() } else { before };
            self.poller.wait(reports, left(now))?;
        }
        self.now = Instant::now();
        self.rested = self.now.duration_since(before) > REST;
        Ok(())
    }

    /// Ask until there are `reports`; whether there were, by `until`.
    fn ask(&mut self, reports: &mut Vec<Report>, until: Instant) -> io::Result<bool> {
        loop {
            self.poller.wait(reports, Some(Duration::ZERO))?;
            if !reports.is_empty() {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            thread::yield_now();
        }
    }

    /// After a turn: leave the sender alone for a moment if that makes the next one worth more.
    pub(super) fn rest(&mut self, slot: Slot) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else { return };
        let Some(room) = endpoint.port.sender_room() else { return };
        let turn = Turn {
            frames: self.batch.len(),
            bytes: self.batch.bytes(),
            rx_bytes: endpoint.counters.rx_bytes,
            tx_bytes: endpoint.counters.tx_bytes,
            full: self.batch.len() == BATCH || self.batch.room_bytes() == 0,
        };
        let Some(rest) = endpoint.gather.after(turn, room, self.now) else { return };
        if endpoint.begin_rest() {
            self.alarms.set(self.now + rest, slot, endpoint.id);
        }
    }
}
