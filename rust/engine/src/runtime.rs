//! The one loop: poll, read a batch from a ready endpoint, switch it, write each destination's share.
//!
//! Endpoints that have something to do sit in a ring and take turns of one batch, so that a busy one delays the
//! others by a batch at most. Readiness is edge triggered: what the kernel said once is remembered until a port
//! says that it is drained. Nothing here waits but the poller, and that without a timeout unless somebody is
//! paused.
//!
//! Pausing, the one case in which a sender is made to wait: when a destination's queue has something in it,
//! whoever just filled it by unicast is not read for a moment, if it is one that waits in its own system call
//! (`Port::sender_waits`). It is read again as soon as the queue is empty, or after [`PAUSE`]. A destination for
//! which a pause ran out is slow: nobody waits for it again until its queue was empty once. So a peer that stops
//! reading costs each sender one pause, and after that only its own frames.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::endpoint::Endpoint;
use crate::error::EngineError;
use crate::event::{Event, EventQueue};
use crate::frame;
use crate::mac_table::{MacTable, Millis, Station};
use crate::offload;
use crate::pool::{Batch, BufferPool, Received};
use crate::port::{Port, Readiness};
use crate::stats::{Counters, DropReason};
use crate::switch::{Decision, Member, Slot, Switch};
use crate::vnet_header::Need;

/// Number of an endpoint, for the caller; never used again.
pub type EndpointId = u64;

/// How long a sender may be kept waiting at once for a destination to catch up. Chosen: long enough for a peer
/// that was off the processor, too short for a guest to notice.
const PAUSE: Duration = Duration::from_millis(1);

/// Readiness reports taken from the kernel at once.
const EVENTS: usize = 256;

/// The poller's token of the command channel; endpoints have their slots.
pub(crate) const WAKE: Token = Token(usize::MAX);

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

/// What the handle asks of the loop. A reply that nobody waits for is no error.
pub(crate) enum Command {
    Attach {
        port: u16,
        name: String,
        receive_only: bool,
        io: Box<dyn Port>,
        reply: SyncSender<Result<EndpointId, EngineError>>,
    },
    Detach {
        endpoint: EndpointId,
        reply: SyncSender<()>,
    },
    Counters {
        reply: SyncSender<Vec<EndpointStats>>,
    },
    Stations {
        reply: SyncSender<Vec<Station>>,
    },
    Stop,
}

/// A pause that ends at `deadline` unless it was ended before.
struct Pause {
    deadline: Instant,
    number: u64,
    source: Slot,
    destination: Slot,
}

/// Everything the loop's thread owns.
pub(crate) struct Loop {
    poll: Poll,
    commands: Receiver<Command>,
    events: Arc<EventQueue>,
    switch: Switch,
    endpoints: Vec<Option<Endpoint>>,
    free_slots: Vec<Slot>,
    ring: VecDeque<Slot>,
    pauses: VecDeque<Pause>,
    pauses_begun: u64,
    batch: Batch,
    pool: BufferPool,
    started: Instant,
    now: Instant,
    next_id: EndpointId,
    /// Endpoints whose descriptor turned out to be of no use, and why; removed at the end of the turn.
    lost: Vec<(Slot, String)>,
    /// Scratch: the destinations of the frame at hand, and of the whole batch.
    destinations: Vec<Slot>,
    touched: Vec<Slot>,
}

impl Loop {
    pub(crate) fn new(
        poll: Poll,
        commands: Receiver<Command>,
        events: Arc<EventQueue>,
        table: MacTable,
    ) -> Self {
        let now = Instant::now();
        Self {
            poll,
            commands,
            events,
            switch: Switch::new(table),
            endpoints: Vec::new(),
            free_slots: Vec::new(),
            ring: VecDeque::new(),
            pauses: VecDeque::new(),
            pauses_begun: 0,
            batch: Batch::new(),
            pool: BufferPool::default(),
            started: now,
            now,
            next_id: 1,
            lost: Vec::new(),
            destinations: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Until told to stop.
    ///
    /// # Errors
    /// When the poller itself fails.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut reports = Events::with_capacity(EVENTS);
        loop {
            match self.poll.poll(&mut reports, self.timeout()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            self.now = Instant::now();
            let mut woken = false;
            for report in &reports {
                if report.token() == WAKE {
                    woken = true;
                } else {
                    self.note(report);
                }
            }
            self.end_overdue_pauses();
            for _ in 0..self.ring.len() {
                self.turn();
            }
            // Last, so that no slot changes its owner between a report and its use.
            if woken && self.obey() {
                return Ok(());
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ring.is_empty() {
            return Some(Duration::ZERO);
        }
        self.pauses.front().map(|pause| pause.deadline.saturating_duration_since(self.now))
    }

    fn millis(&self) -> Millis {
        u64::try_from(self.now.duration_since(self.started).as_millis()).unwrap_or(Millis::MAX)
    }

    /// Remember what the kernel said about an endpoint.
    fn note(&mut self, report: &mio::event::Event) {
        let slot = report.token().0 as Slot;
        let Some(endpoint) = self.endpoints.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if report.is_error() || report.is_read_closed() || report.is_write_closed() {
            if let Readiness::Down(reason) = endpoint.port.health() {
                self.lost.push((slot, reason));
                self.remove_lost();
                return;
            }
        }
        endpoint.readable |= report.is_readable() || report.is_error();
        if report.is_writable() || report.is_error() {
            endpoint.blocked = false;
        }
        self.schedule(slot);
    }

    /// Put an endpoint into the ring if it has something to do.
    fn schedule(&mut self, slot: Slot) {
        let Some(endpoint) = self.endpoints.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if endpoint.has_work() && !endpoint.in_ring {
            endpoint.in_ring = true;
            self.ring.push_back(slot);
        }
    }

    /// One turn of the endpoint at the front of the ring: a batch out of its queue, a batch in.
    fn turn(&mut self) {
        let Some(slot) = self.ring.pop_front() else { return };
        let Some(endpoint) = self.endpoints.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        endpoint.in_ring = false;
        if endpoint.may_flush() {
            if let Some(reason) = endpoint.flush(&mut self.pool) {
                self.lost.push((slot, reason));
            }
            if endpoint.queue.is_empty() {
                self.queue_is_empty(slot);
            }
        }
        self.read(slot);
        self.remove_lost();
        self.schedule(slot);
    }

    fn read(&mut self, slot: Slot) {
        let Some(endpoint) = self.endpoints.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        if !endpoint.may_read() {
            return;
        }
        self.batch.restart(endpoint.turn);
        match endpoint.port.receive(&mut self.batch) {
            Readiness::More => {}
            Readiness::Drained => endpoint.readable = false,
            Readiness::Down(reason) => {
                endpoint.readable = false;
                self.lost.push((slot, reason));
            }
        }
        if !self.batch.is_empty() {
            let copies = self.decide(slot);
            self.deliver(slot);
            if let Some(endpoint) = self.endpoints.get_mut(slot as usize).and_then(Option::as_mut) {
                endpoint.adapt_turn(self.batch.len(), copies);
            }
        }
    }

    /// Note at each destination which frames of the batch it gets; count the rest. Says how many copies.
    fn decide(&mut self, slot: Slot) -> usize {
        let now = self.millis();
        let mut copies = 0;
        // Frames of one flow come in a row: the same two addresses mean the same decision.
        let mut previous: Option<[u8; 12]> = None;
        let mut decision = Decision::Flood;
        for index in 0..self.batch.len() {
            let Some(source) = self.endpoints.get_mut(slot as usize).and_then(Option::as_mut) else { break };
            match self.batch.received(index) {
                Received::Nothing => continue,
                Received::Oversized => {
                    source.counters.received(frame::MAX_LEN);
                    source.counters.dropped(DropReason::Oversized);
                    continue;
                }
                Received::Frame(len) => source.counters.received(len),
            }
            let bytes = self.batch.frame(index).ethernet();
            let addresses =
                if bytes.len() < frame::HEADER_LEN { None } else { bytes.first_chunk::<12>().copied() };
            if addresses.is_none() || addresses != previous {
                previous = addresses;
                let verdict = self.switch.decide(source.member, bytes, now);
                decision = verdict.decision;
                self.switch.destinations(decision, source.member, &mut self.destinations);
                if let Some(mac) = verdict.news {
                    if source.is_new_address(mac) {
                        let (endpoint, port) = (source.id, source.member.port);
                        self.events.push(Event::FirstMac { endpoint, port, mac });
                    }
                }
            }
            match decision {
                Decision::Drop(reason) => source.counters.dropped(reason),
                _ if self.destinations.is_empty() => source.counters.dropped(DropReason::NoDestination),
                _ => copies += self.address(slot, index),
            }
        }
        copies
    }

    /// Give frame `index` to the destinations at hand, finished where it must be. Says how many got it.
    fn address(&mut self, slot: Slot, index: usize) -> usize {
        let mut need = self.batch.header(index).need();
        if need == Need::Checksum && !self.all_take_unfinished_checksums() {
            match offload::finish_checksum(self.batch.header(index), self.batch.ethernet_mut(index)) {
                Ok(header) => self.batch.set_header(index, header),
                Err(offload::ChecksumOutsideFrame) => {
                    if let Some(source) = self.endpoints.get_mut(slot as usize).and_then(Option::as_mut) {
                        source.counters.dropped(DropReason::BadChecksumOffset);
                    }
                    return 0;
                }
            }
            need = Need::Nothing;
        }
        let mut copies = 0;
        for destination in &self.destinations {
            let Some(target) = self.endpoints.get_mut(*destination as usize).and_then(Option::as_mut) else {
                continue;
            };
            if need == Need::Segmentation && !target.port.takes_super_frames() {
                target.counters.dropped(DropReason::NeedsSegmentation);
                continue;
            }
            if target.outgoing.is_empty() {
                self.touched.push(*destination);
            }
            target.outgoing.push(index as u8);
            copies += 1;
        }
        copies
    }

    fn all_take_unfinished_checksums(&self) -> bool {
        self.destinations.iter().all(|slot| {
            let target = self.endpoints.get(*slot as usize).and_then(Option::as_ref);
            target.is_none_or(|target| target.port.takes_unfinished_checksums())
        })
    }

    /// Write each destination's share of the batch that `slot` sent.
    fn deliver(&mut self, slot: Slot) {
        let only_one = self.touched.len() == 1;
        while let Some(destination) = self.touched.pop() {
            let Some(target) = self.endpoints.get_mut(destination as usize).and_then(Option::as_mut) else {
                continue;
            };
            let waited_for = target.blocked || !target.queue.is_empty();
            if let Some(reason) = target.deliver(&self.batch, &mut self.pool) {
                self.lost.push((destination, reason));
                continue;
            }
            let blocked = target.blocked;
            if blocked && !waited_for {
                self.watch_writability(destination, true);
            }
            if only_one && blocked {
                self.pause(slot, destination);
            }
        }
    }

    /// Do not read `source` until the queue of `destination` is empty, or for [`PAUSE`].
    fn pause(&mut self, source: Slot, destination: Slot) {
        let Some(target) = self.endpoints.get_mut(destination as usize).and_then(Option::as_mut) else {
            return;
        };
        if target.slow || target.queue.is_empty() {
            return;
        }
        let number = self.pauses_begun;
        let Some(sender) = self.endpoints.get_mut(source as usize).and_then(Option::as_mut) else { return };
        if !sender.port.sender_waits() || sender.paused.is_some() {
            return;
        }
        sender.paused = Some(number);
        self.pauses_begun += 1;
        if let Some(target) = self.endpoints.get_mut(destination as usize).and_then(Option::as_mut) {
            target.waiting.push(source);
        }
        self.pauses.push_back(Pause { deadline: self.now + PAUSE, number, source, destination });
    }

    /// The queue of `slot` has run empty: nobody needs to wait for it.
    fn queue_is_empty(&mut self, slot: Slot) {
        let Some(endpoint) = self.endpoints.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        endpoint.slow = false;
        let waiting = std::mem::take(&mut endpoint.waiting);
        if !endpoint.blocked {
            self.watch_writability(slot, false);
        }
        for source in waiting {
            if let Some(sender) = self.endpoints.get_mut(source as usize).and_then(Option::as_mut) {
                sender.paused = None;
            }
            self.schedule(source);
        }
    }

    fn end_overdue_pauses(&mut self) {
        while let Some(pause) = self.pauses.front() {
            let (number, source, destination) = (pause.number, pause.source, pause.destination);
            let under_way = self
                .endpoints
                .get(source as usize)
                .and_then(Option::as_ref)
                .is_some_and(|sender| sender.paused == Some(number));
            if under_way && pause.deadline > self.now {
                return;
            }
            self.pauses.pop_front();
            if !under_way {
                continue;
            }
            if let Some(target) = self.endpoints.get_mut(destination as usize).and_then(Option::as_mut) {
                target.slow = true;
                target.waiting.retain(|waiting| *waiting != source);
            }
            if let Some(sender) = self.endpoints.get_mut(source as usize).and_then(Option::as_mut) {
                sender.paused = None;
            }
            self.schedule(source);
        }
    }

    /// Watching writability all the time would wake the loop for every frame that a peer reads.
    fn watch_writability(&mut self, slot: Slot, on: bool) {
        let Some(endpoint) = self.endpoints.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        let interest = if on { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let descriptor = endpoint.port.descriptor();
        let registry = self.poll.registry();
        if let Err(error) = registry.reregister(&mut SourceFd(&descriptor), Token(slot as usize), interest) {
            self.lost.push((slot, error.to_string()));
        }
    }

    fn remove_lost(&mut self) {
        while let Some((slot, reason)) = self.lost.pop() {
            if let Some(endpoint) = self.remove(slot) {
                let (endpoint, port) = (endpoint.id, endpoint.member.port);
                self.events.push(Event::EndpointDown { endpoint, port, reason });
            }
        }
    }

    fn remove(&mut self, slot: Slot) -> Option<Endpoint> {
        let endpoint = self.endpoints.get_mut(slot as usize)?.take()?;
        // A descriptor that is of no use may not be known to the poller any more either.
        let _ = self.poll.registry().deregister(&mut SourceFd(&endpoint.port.descriptor()));
        self.switch.leave(slot, endpoint.member.port);
        self.ring.retain(|other| *other != slot);
        self.free_slots.push(slot);
        for source in &endpoint.waiting {
            if let Some(sender) = self.endpoints.get_mut(*source as usize).and_then(Option::as_mut) {
                sender.paused = None;
            }
            self.schedule(*source);
        }
        Some(endpoint)
    }

    /// Carry out what the handle asked for; `true` to stop.
    fn obey(&mut self) -> bool {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Attach { port, name, receive_only, io, reply } => {
                    let result = self.attach(port, name, receive_only, io);
                    let attached = result.as_ref().ok().copied();
                    if let (Err(_), Some(id)) = (reply.send(result), attached) {
                        self.detach(id); // whoever asked has gone away
                    }
                }
                Command::Detach { endpoint, reply } => {
                    self.detach(endpoint);
                    let _ = reply.send(());
                }
                Command::Counters { reply } => {
                    let _ = reply.send(self.endpoints.iter().flatten().map(stats).collect());
                }
                Command::Stations { reply } => {
                    let _ = reply.send(self.switch.stations(self.millis()));
                }
                Command::Stop => return true,
            }
        }
        false
    }

    fn attach(
        &mut self,
        port: u16,
        name: String,
        receive_only: bool,
        io: Box<dyn Port>,
    ) -> Result<EndpointId, EngineError> {
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.endpoints.push(None);
            self.endpoints.len() as Slot - 1
        });
        let descriptor = io.descriptor();
        let registered =
            self.poll.registry().register(&mut SourceFd(&descriptor), Token(slot as usize), Interest::READABLE);
        if let Err(source) = registered {
            self.free_slots.push(slot);
            return Err(EngineError::Register { name, source });
        }
        let member = Member { slot, port, receive_only };
        let id = self.next_id;
        self.next_id += 1;
        self.endpoints[slot as usize] = Some(Endpoint::new(id, member, name, io));
        self.switch.join(member);
        Ok(id)
    }

    fn detach(&mut self, id: EndpointId) {
        let found = self.endpoints.iter().flatten().find(|endpoint| endpoint.id == id);
        if let Some(slot) = found.map(|endpoint| endpoint.member.slot) {
            self.remove(slot);
        }
        self.events.forget(id);
    }
}

fn stats(endpoint: &Endpoint) -> EndpointStats {
    EndpointStats {
        endpoint: endpoint.id,
        port: endpoint.member.port,
        name: endpoint.name.clone(),
        counters: endpoint.counters,
        queued_frames: endpoint.queue.len(),
    }
}
