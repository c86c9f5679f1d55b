//! One port in the loop: its counters, its queue, and what the loop is waiting for on its behalf.

use crate::frame::MacAddress;
use crate::pool::{BATCH, Batch, BufferPool, EgressQueue, FrameRef};
use crate::port::{Port, Readiness};
use crate::runtime::EndpointId;
use crate::stats::{Counters, DropReason};
use crate::switch::{Member, Slot};

/// Copies that one turn of an endpoint may cause. A flood to hundreds of ports costs hundreds of times what a
/// unicast frame costs; its sender reads less the next time, so that turns stay about equally long.
const COPIES_A_TURN: usize = 8 * BATCH;

/// Addresses of one endpoint that are reported. More than a guest with a few nested ones has; bounds what an
/// endpoint that makes addresses up can cost.
const REPORTED_ADDRESSES: usize = 8;

/// An attached port. See the module's head.
pub(crate) struct Endpoint {
    pub(crate) id: EndpointId,
    pub(crate) member: Member,
    pub(crate) name: String,
    pub(crate) port: Box<dyn Port>,
    pub(crate) counters: Counters,
    pub(crate) queue: EgressQueue,
    /// Frames of the batch at hand that go here, by number.
    pub(crate) outgoing: Vec<u8>,
    /// The kernel may have more to read.
    pub(crate) readable: bool,
    /// The kernel takes nothing more for now; its writability is watched.
    pub(crate) blocked: bool,
    /// In the loop's ring of endpoints that have something to do.
    pub(crate) in_ring: bool,
    /// Number of the pause under way, while reading waits for a destination.
    pub(crate) paused: Option<u64>,
    /// Endpoints whose reading waits for this one's queue.
    pub(crate) waiting: Vec<Slot>,
    /// Kept others waiting for too long since its queue was empty last.
    pub(crate) slow: bool,
    /// Frames to read in the next turn.
    pub(crate) turn: usize,
    reported: Vec<MacAddress>,
}

impl Endpoint {
    pub(crate) fn new(id: EndpointId, member: Member, name: String, port: Box<dyn Port>) -> Self {
        Self {
            id,
            member,
            name,
            port,
            counters: Counters::default(),
            queue: EgressQueue::default(),
            outgoing: Vec::new(),
            readable: false,
            blocked: false,
            in_ring: false,
            paused: None,
            waiting: Vec::new(),
            slow: false,
            turn: BATCH,
            reported: Vec::new(),
        }
    }

    /// Whether a turn would do anything.
    pub(crate) fn has_work(&self) -> bool {
        self.may_read() || self.may_flush()
    }

    pub(crate) fn may_read(&self) -> bool {
        self.readable && self.paused.is_none()
    }

    pub(crate) fn may_flush(&self) -> bool {
        !self.blocked && !self.queue.is_empty()
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

    /// A turn that read `frames` caused `copies`: choose how much the next one may read.
    pub(crate) fn adapt_turn(&mut self, frames: usize, copies: usize) {
        self.turn = if copies > COPIES_A_TURN {
            (frames * COPIES_A_TURN / copies).max(1)
        } else {
            (self.turn * 2).min(BATCH)
        };
    }

    /// Write the frames of `batch` that are for this endpoint; queue what the kernel did not take, and drop
    /// what the queue did not. Says why, when the descriptor is of no use any more.
    pub(crate) fn deliver(&mut self, batch: &Batch, pool: &mut BufferPool) -> Option<String> {
        let mut down = None;
        let mut taken = 0;
        if self.queue.is_empty() && !self.blocked {
            let mut frames = [FrameRef::EMPTY; BATCH];
            for (place, index) in frames.iter_mut().zip(&self.outgoing) {
                *place = batch.frame(usize::from(*index));
            }
            let sent = self.port.send(&frames[..self.outgoing.len()], &mut self.counters);
            taken = sent.taken;
            match sent.readiness {
                Readiness::More => {}
                Readiness::Drained => self.blocked = true,
                Readiness::Down(reason) => down = Some(reason),
            }
        }
        for index in &self.outgoing[taken..] {
            if !self.queue.push(batch.frame(usize::from(*index)), pool) {
                self.counters.dropped(DropReason::QueueFull);
            }
        }
        self.outgoing.clear();
        down
    }

    /// Write one batch from the queue. Says why, when the descriptor is of no use any more.
    pub(crate) fn flush(&mut self, pool: &mut BufferPool) -> Option<String> {
        let mut frames = [FrameRef::EMPTY; BATCH];
        let count = self.queue.peek(&mut frames);
        let sent = self.port.send(&frames[..count], &mut self.counters);
        self.queue.remove(sent.taken, pool);
        match sent.readiness {
            Readiness::More => None,
            Readiness::Drained => {
                self.blocked = true;
                None
            }
            Readiness::Down(reason) => Some(reason),
        }
    }
}
