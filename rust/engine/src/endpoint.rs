//! One port in the loop: its counters, its queue, and what the loop is waiting for on its behalf.

use std::time::{Duration, Instant};

use crate::budget::Budget;
use crate::egress::Shaper;
use crate::event::EndpointId;
use crate::frame::MacAddress;
use crate::gather::Gather;
use crate::pool::{BATCH, Batch, BufferPool, EgressQueue, FrameRef};
use crate::port::{Down, Port};
use crate::stats::{Counters, DropReason};
use crate::switch::{Member, Slot};
use crate::sys::Interest;

/// Copies that one turn of an endpoint may cause. A flood to hundreds of ports costs hundreds of times what a
/// unicast frame costs; its sender reads less the next time, so that turns stay about equally long.
const COPIES_A_TURN: usize = 8 * BATCH;

/// How fast a turn grows while more is waiting than it reads: from one frame to a full batch in three turns.
const GROWTH: usize = 4;

/// Full turns of one frame at most before a quiet endpoint is asked for more. Chosen: a new stream is noticed
/// within 0.2 ms, and asking in vain costs next to nothing.
const MOST_PATIENCE: u32 = 64;

/// Addresses of one endpoint that are reported. More than a guest with a few nested ones has; bounds what an
/// endpoint that makes addresses up can cost.
const REPORTED_ADDRESSES: usize = 8;

/// Reports in a row that came to nothing before an endpoint is given up: the kernel says that there is
/// something and there never is, which would keep the loop busy for ever. One or two happen.
const FRUITLESS_REPORTS: u32 = 1000;

/// Microseconds that others may wait for an endpoint, for each frame that it has taken. Chosen: one that reads
/// 100,000 frames a second, which the slowest machine can, is always worth waiting for, and one that reads a tenth
/// of that makes others wait a tenth of the time at most.
const CREDIT_A_FRAME: i64 = 10;

/// Microseconds that one may save up: what an endpoint that stops reading costs those who send to it, once.
const MOST_CREDIT: i64 = 8_000;

/// One endpoint's numbers.
#[derive(Clone, Debug)]
pub struct EndpointStats {
    /// Which one.
    pub endpoint: EndpointId,
    /// Its port.
    pub port: u16,
    /// Its name.
    pub name: String,
    /// What it has seen.
    pub counters: Counters,
    /// Frames in its queue now.
    pub queued_frames: usize,
}

/// Reading waits for a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paused {
    /// Tells this pause from others of the same endpoint.
    pub(crate) number: u64,
    pub(crate) since: Instant,
}

/// An attached port. See the module's head.
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) member: Member,
    pub(crate) name: String,
    pub(crate) port: Box<dyn Port>,
    pub(crate) counters: Counters,
    pub(crate) queue: EgressQueue,
    /// It is a place on the switch, and no door.
    pub(crate) is_place: bool,
    /// Its port was put down: every frame from it and to it is dropped.
    pub(crate) down: bool,
    /// Frames of the batch at hand that go here, by number.
    pub(crate) outgoing: Vec<u8>,
    /// Whether there is a super-frame among them that its peer does not take.
    pub(crate) cuts: bool,
    /// What the poller watches it for.
    pub(crate) watched: Interest,
    /// The loop will come back at a set time: see [`Port::again_after`], or at the end of a rest.
    pub(crate) alarm: bool,
    /// Until then it is not read, see `gather`.
    resting: bool,
    pub(crate) gather: Gather,
    pub(crate) budget: Budget,
    /// While reading waits for a destination.
    pub(crate) paused: Option<Paused>,
    /// Endpoints whose reading waits for this one's queue.
    pub(crate) waiting: Vec<Slot>,
    /// For how long others may be made to wait for this one, in microseconds, when it had taken `credited` frames.
    credit: i64,
    credited: u64,
    /// Frames to read in the next turn.
    turn: usize,
    /// Turns in a row that read all they could while the loop was busy.
    full_turns: u32,
    /// How many of them it takes to ask a quiet endpoint for more than one frame.
    patience: u32,
    fruitless: u32,
    reported: Vec<MacAddress>,
}

impl Endpoint {
    pub(crate) fn new(id: EndpointId, member: Member, name: String, port: Box<dyn Port>) -> Self {
        let turn = if port.reads_many_at_once() { BATCH } else { 1 };
        Self {
            id,
            member,
            name,
            port,
            counters: Counters::default(),
            queue: EgressQueue::default(),
            is_place: true,
            down: false,
            outgoing: Vec::new(),
            cuts: false,
            watched: Interest::READ,
            alarm: false,
            resting: false,
            gather: Gather::default(),
            budget: Budget::default(),
            paused: None,
            waiting: Vec::new(),
            credit: 0,
            credited: 0,
            turn,
            full_turns: 0,
            patience: 1,
            fruitless: 0,
            reported: Vec::new(),
        }
    }

    pub(crate) fn stats(&self) -> EndpointStats {
        EndpointStats {
            endpoint: self.id,
            port: self.member.port,
            name: self.name.clone(),
            counters: self.counters,
            queued_frames: self.queue.len(),
        }
    }

    /// What the poller should watch it for. Writability only while something is queued: it changes with every
    /// frame that a peer reads, and each change would wake the loop.
    pub(crate) fn wanted(&self) -> Interest {
        Interest {
            read: self.paused.is_none() && !self.resting && self.port.reads(),
            write: !self.queue.is_empty() && (!self.alarm || self.resting),
        }
    }

    /// Do not read it until the alarm that the caller sets; `false` when the loop comes back sooner anyway.
    pub(crate) fn begin_rest(&mut self) -> bool {
        let can = !self.alarm && self.paused.is_none() && self.port.may_rest();
        if can {
            (self.alarm, self.resting) = (true, true);
        }
        can
    }

    /// The loop has come back. After a rest many frames wait.
    pub(crate) fn end_alarm(&mut self) {
        self.alarm = false;
        if std::mem::take(&mut self.resting) {
            self.turn = BATCH;
        }
    }

    /// For how long others may be made to wait for this one now.
    pub(crate) fn patience_for(&mut self) -> Duration {
        let taken = self.counters.tx_frames - self.credited;
        self.credited = self.counters.tx_frames;
        let earned = i64::try_from(taken).unwrap_or(i64::MAX).saturating_mul(CREDIT_A_FRAME);
        self.credit = self.credit.saturating_add(earned).min(MOST_CREDIT);
        Duration::from_micros(u64::try_from(self.credit).unwrap_or(0))
    }

    /// Somebody has been waiting for this one for so long.
    pub(crate) fn was_waited_for(&mut self, time: Duration) {
        self.credit -= i64::try_from(time.as_micros()).unwrap_or(i64::MAX).min(MOST_CREDIT);
    }

    /// Whether this address of the endpoint is to be reported, which it is once.
    pub(crate) fn is_new_address(&mut self, mac: MacAddress) -> bool {
        if self.member.receive_only || self.reported.len() >= REPORTED_ADDRESSES || self.reported.contains(&mac)
        {
            return false;
        }
        self.reported.push(mac);
        true
    }

    /// Read a turn's worth into `batch`.
    pub(crate) fn receive(&mut self, batch: &mut Batch) -> Result<(), Down> {
        batch.restart_within(self.turn.min(self.budget.frames()), self.budget.bytes());
        self.port.receive(batch)
    }

    /// Choose how much the next turn reads, after one that read `frames` and caused `copies`. `rested`: the loop
    /// had nothing to do before, so that a full batch does not mean that more is waiting behind it.
    ///
    /// A lone frame is read with a call that costs less than one for several, so that an endpoint on which frames
    /// come one by one is asked for one; for several only after some full turns in a row, and the more turns the
    /// more often that turned out to be wrong.
    pub(crate) fn adapt_turn(&mut self, frames: usize, copies: usize, rested: bool) {
        if copies > COPIES_A_TURN {
            self.turn = (frames * COPIES_A_TURN / copies).max(1);
        } else if self.port.reads_many_at_once() {
            self.turn = BATCH;
        } else if frames < self.turn {
            if frames <= 1 {
                self.patience = (self.patience * 2).min(MOST_PATIENCE);
            }
            self.turn = frames.max(self.turn / 2).max(1);
            self.full_turns = 0;
        } else if rested {
            self.full_turns = 0;
        } else {
            self.full_turns += 1;
            if frames > 1 {
                self.patience = 1;
            }
            if self.turn > 1 || self.full_turns >= self.patience {
                self.turn = (self.turn * GROWTH).min(BATCH);
            }
        }
    }

    /// Note whether a report came to anything.
    ///
    /// # Errors
    /// [`Down`] when far too many did not.
    pub(crate) fn note_report(&mut self, fruitful: bool) -> Result<(), Down> {
        self.fruitless = if fruitful { 0 } else { self.fruitless + 1 };
        if self.fruitless > FRUITLESS_REPORTS {
            return Err(Down("the descriptor is always ready and never gives anything".into()));
        }
        Ok(())
    }

    /// Write the frames of `batch` that are for this endpoint; queue what the kernel did not take, and drop
    /// what the queue did not.
    pub(crate) fn deliver(
        &mut self,
        batch: &Batch,
        shaper: &mut Shaper,
        pool: &mut BufferPool,
    ) -> Result<(), Down> {
        if self.down {
            self.outgoing.drain(..).for_each(|_| self.counters.dropped(DropReason::PortDown));
            self.cuts = false;
            return Ok(());
        }
        let mut frames = [FrameRef::EMPTY; BATCH];
        for (place, index) in frames.iter_mut().zip(&self.outgoing) {
            *place = batch.frame(usize::from(*index));
        }
        let frames = &frames[..self.outgoing.len()];
        self.outgoing.clear();
        let offloads = self.port.offloads();
        let joins = frames.len() > 1 && (offloads.tso4 || offloads.tso6);
        if !std::mem::take(&mut self.cuts) && !joins {
            return self.put(frames, pool);
        }
        let uncut = shaper.shape(frames, offloads, |pieces| self.put(pieces, pool))?;
        // None, since who sent them was asked before; but what is lost is counted in any case.
        (0..uncut).for_each(|_| self.counters.dropped(DropReason::Refused));
        Ok(())
    }

    /// Write `frames`, behind those that are queued.
    fn put(&mut self, frames: &[FrameRef<'_>], pool: &mut BufferPool) -> Result<(), Down> {
        let mut taken = 0;
        if self.queue.is_empty() {
            taken = self.port.send(frames, &mut self.counters)?;
        }
        for frame in &frames[taken..] {
            if !self.queue.push(*frame, pool) {
                self.counters.dropped(DropReason::QueueFull);
            }
        }
        Ok(())
    }

    /// Put it up or down; what waits for a peer whose port goes down is lost.
    pub(crate) fn set_down(&mut self, down: bool, pool: &mut BufferPool) {
        self.down = down;
        if down {
            let waiting = self.queue.len();
            self.queue.remove(waiting, pool);
            (0..waiting).for_each(|_| self.counters.dropped(DropReason::PortDown));
        }
    }

    /// Write one batch from the queue and say how many frames are done with.
    pub(crate) fn flush(&mut self, pool: &mut BufferPool) -> Result<usize, Down> {
        let mut frames = [FrameRef::EMPTY; BATCH];
        let count = self.queue.peek(&mut frames);
        let taken = self.port.send(&frames[..count], &mut self.counters)?;
        self.queue.remove(taken, pool);
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::channel::channel;

    fn endpoint() -> Endpoint {
        let (io, _) = channel(0).unwrap();
        Endpoint::new(1, Member { slot: 0, port: 1, receive_only: false }, "test".into(), Box::new(io))
    }

    #[test]
    fn frames_one_by_one_are_read_one_by_one() {
        let mut endpoint = endpoint();
        for _ in 0..100 {
            endpoint.adapt_turn(1, 1, true);
            assert_eq!(endpoint.turn, 1);
        }
    }

    #[test]
    fn a_stream_is_read_in_full_batches_soon_and_to_the_end() {
        let mut endpoint = endpoint();
        let mut turns = 0;
        while endpoint.turn < BATCH {
            endpoint.adapt_turn(endpoint.turn, endpoint.turn, false);
            turns += 1;
        }
        assert!(turns <= 3);
        endpoint.adapt_turn(BATCH, BATCH, true);
        assert_eq!(endpoint.turn, BATCH);
        for _ in 0..6 {
            endpoint.adapt_turn(1, 1, true);
        }
        assert_eq!(endpoint.turn, 1);
    }

    #[test]
    fn asking_for_more_in_vain_becomes_rare() {
        let mut endpoint = endpoint();
        let (mut more, turns) = (0, 2_000);
        for _ in 0..turns {
            more += usize::from(endpoint.turn > 1);
            endpoint.adapt_turn(1, 1, false);
        }
        assert!(more < turns / 10, "{more}");
    }

    #[test]
    fn a_flood_to_many_is_read_in_small_portions() {
        let mut endpoint = endpoint();
        endpoint.turn = BATCH;
        endpoint.adapt_turn(BATCH, BATCH * 200, false);
        assert_eq!(endpoint.turn, COPIES_A_TURN / 200);
        endpoint.adapt_turn(1, 100_000, false);
        assert_eq!(endpoint.turn, 1);
    }

    #[test]
    fn patience_is_earned_by_taking_frames_and_used_up_by_waiting() {
        let mut endpoint = endpoint();
        assert_eq!(endpoint.patience_for(), Duration::ZERO);
        endpoint.counters.tx_frames = 100;
        assert_eq!(endpoint.patience_for(), Duration::from_millis(1));
        endpoint.was_waited_for(Duration::from_millis(3));
        assert_eq!(endpoint.patience_for(), Duration::ZERO);
        endpoint.counters.tx_frames += 300;
        assert_eq!(endpoint.patience_for(), Duration::from_millis(1));
        endpoint.counters.tx_frames += 1_000_000;
        assert_eq!(endpoint.patience_for(), Duration::from_millis(8));
    }

    #[test]
    fn a_descriptor_that_is_always_ready_for_nothing_is_given_up() {
        let mut endpoint = endpoint();
        for _ in 0..FRUITLESS_REPORTS {
            assert_eq!(endpoint.note_report(false), Ok(()));
        }
        assert_eq!(endpoint.note_report(true), Ok(()));
        let until = (0..).find(|_| endpoint.note_report(false).is_err());
        assert_eq!(until, Some(FRUITLESS_REPORTS));
    }
}
