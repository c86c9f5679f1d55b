//! The one loop: poll, read a batch from a ready endpoint, switch it, write each destination's share.
//!
//! Each ready endpoint has a turn of one batch in each direction before the poller is asked again, and the
//! poller reports the ready ones in turn: a busy endpoint delays the others by a batch. Nothing here waits but
//! the poller, and that without a timeout unless somebody is paused.
//!
//! Pausing, the one case in which a sender is made to wait: when all of a large batch went to one destination
//! whose queue has something in it, the sender is not read for a moment, if it is one that waits in its own
//! system call (`Port::sender_waits`). It is read again as soon as that queue is empty, or after [`PAUSE`]. A destination
//! earns the time that others wait for it by the frames it takes (`Endpoint::patience_for`): a fast one that was
//! off the processor loses nothing, a slow one slows others down by no more than it is worth, and one that stops
//! reading costs them a few milliseconds once, and after that only its own frames.

mod membership;
mod requests;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::alarms::Alarms;
use crate::capture::Taps;
use crate::egress::Shaper;
use crate::endpoint::{Endpoint, Paused};
use crate::endpoints::Endpoints;
use crate::event::{EndpointId, Event, EventQueue};
use crate::frame;
use crate::mac_table::{MacTable, Millis};
use crate::offload::checksum::{self, ChecksumOutsideFrame};
use crate::offload::segment::Segments;
use crate::pool::{Batch, BufferPool, Received};
use crate::port::Down;
use crate::stats::DropReason;
use crate::switch::{Decision, Slot, Switch};
use crate::sys::{Interest, Poller, Report, WakerEnd};
use crate::vnet_header::{Need, VnetHeader};

pub(crate) use requests::{Attachment, Command};

/// How long a sender may be kept waiting at once for a destination to catch up. Chosen: long enough for a peer
/// that was off the processor, too short for a guest to notice.
const PAUSE: Duration = Duration::from_millis(1);

/// A batch of fewer frames, and of fewer bytes, does not make its sender wait: it is not what filled the queue.
const LARGE_FRAMES: usize = 16;
const LARGE_BYTES: u64 = 16 << 10;

/// A poll that took longer than this has slept. Chosen: twice what a poll with something to report costs, half
/// of what going to sleep and waking up costs.
const REST: Duration = Duration::from_micros(4);

/// When everybody else has had a turn.
const SOON: Duration = Duration::from_nanos(1);

/// The poller's token of the waker; endpoints have their slots.
const WAKE: u32 = u32::MAX;

/// A pause that ends at `deadline` unless it was ended before.
struct Pause {
    deadline: Instant,
    number: u64,
    source: Slot,
    destination: Slot,
}

/// Everything the loop's thread owns.
pub(crate) struct Loop {
    poller: Poller,
    waker: WakerEnd,
    commands: Receiver<Command>,
    events: Arc<EventQueue>,
    switch: Switch,
    endpoints: Endpoints,
    pauses: VecDeque<Pause>,
    pauses_begun: u64,
    alarms: Alarms,
    batch: Batch,
    pool: BufferPool,
    shaper: Shaper,
    /// What is captured; none while nothing is.
    taps: Option<Box<Taps>>,
    started: Instant,
    now: Instant,
    /// The last poll had to wait.
    rested: bool,
    next_id: EndpointId,
    /// Endpoints whose descriptor turned out to be of no use; removed at the end of the turn.
    lost: Vec<(Slot, Down)>,
    /// Scratch: the destinations of the frame at hand, and of the whole batch.
    destinations: Vec<Slot>,
    touched: Vec<Slot>,
}

impl Loop {
    /// # Errors
    /// When the kernel gives no poller.
    pub(crate) fn new(
        waker: WakerEnd,
        commands: Receiver<Command>,
        events: Arc<EventQueue>,
        table: MacTable,
    ) -> io::Result<Self> {
        let mut poller = Poller::new();
        poller.add(waker.descriptor(), WAKE, Interest::READ)?;
        let now = Instant::now();
        Ok(Self {
            poller,
            waker,
            commands,
            events,
            switch: Switch::new(table),
            endpoints: Endpoints::default(),
            pauses: VecDeque::new(),
            pauses_begun: 0,
            alarms: Alarms::default(),
            batch: Batch::new(),
            pool: BufferPool::default(),
            shaper: Shaper::default(),
            taps: None,
            started: now,
            now,
            rested: true,
            next_id: 1,
            lost: Vec::new(),
            destinations: Vec::new(),
            touched: Vec::new(),
        })
    }

    /// Until told to stop.
    ///
    /// # Errors
    /// When the poller itself fails.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut reports = Vec::new();
        loop {
            let before = Instant::now();
            let due =
                self.pauses.front().map(|pause| pause.deadline).into_iter().chain(self.alarms.next()).min();
            let timeout = due.map(|deadline| deadline.saturating_duration_since(before));
            self.poller.wait(&mut reports, timeout)?;
            self.now = Instant::now();
            self.rested = self.now.duration_since(before) > REST;
            let mut woken = false;
            for report in &reports {
                if report.token == WAKE {
                    woken = true;
                } else {
                    self.turn(report);
                }
            }
            self.end_overdue_pauses();
            self.answer_alarms();
            // Last, so that no slot changes its owner between a report and its turn.
            if woken {
                self.waker.clear();
                if self.obey() {
                    return Ok(());
                }
            }
        }
    }

    fn millis(&self) -> Millis {
        u64::try_from(self.now.duration_since(self.started).as_millis()).unwrap_or(Millis::MAX)
    }

    /// One turn of an endpoint: a batch out of its queue, a batch in.
    fn turn(&mut self, report: &Report) {
        let slot = report.token;
        let mut result = self.serve(slot, report);
        if let (Ok(done), Some(endpoint)) = (&result, self.endpoints.get_mut(slot)) {
            result = endpoint.note_report(*done > 0).map(|()| *done);
        }
        self.end_turn(slot, result);
    }

    fn end_turn(&mut self, slot: Slot, result: Result<usize, Down>) {
        if let Err(down) = result {
            self.lost.push((slot, down));
        }
        let endpoint = self.endpoints.get_mut(slot);
        let trouble = endpoint.and_then(|one| Some((one.id, one.member.port, one.port.take_trouble()?)));
        if let Some((endpoint, port, reason)) = trouble {
            self.events.push(Event::Trouble { endpoint, port, reason });
        }
        self.remove_lost();
        self.watch(slot);
    }

    /// A turn for each port that wanted one at a time that is over.
    fn answer_alarms(&mut self) {
        while let Some((slot, id)) = self.alarms.take_due(self.now) {
            let Some(endpoint) = self.endpoints.get_mut(slot).filter(|endpoint| endpoint.id == id) else {
                continue;
            };
            endpoint.alarm = false;
            let result =
                self.serve(slot, &Report { token: slot, readable: true, writable: true, broken: false });
            self.end_turn(slot, result);
        }
    }

    /// Says how much was done.
    fn serve(&mut self, slot: Slot, report: &Report) -> Result<usize, Down> {
        let Some(endpoint) = self.endpoints.get_mut(slot) else { return Ok(0) };
        if report.broken {
            endpoint.port.health()?;
        }
        let mut done = 0;
        let writable = report.writable || (report.readable && endpoint.port.readable_means_room());
        if writable && !endpoint.queue.is_empty() {
            done += endpoint.flush(&mut self.pool)?;
            if endpoint.queue.is_empty() {
                self.stop_waiting_for(slot);
            }
        }
        if report.readable {
            done += self.read(slot)?;
        }
        Ok(done)
    }

    /// Read a batch from an endpoint and pass it on. Says how many frames there were.
    fn read(&mut self, slot: Slot) -> Result<usize, Down> {
        let Some(endpoint) = self.endpoints.get_mut(slot) else { return Ok(0) };
        if endpoint.paused.is_some() {
            // Reported before it was paused in this very round; it has not been fruitless.
            return Ok(1);
        }
        let before = endpoint.counters.rx_bytes;
        let result = endpoint.receive(&mut self.batch);
        let copies = self.decide(slot);
        let bytes = self.endpoints.get(slot).map_or(0, |endpoint| endpoint.counters.rx_bytes - before);
        self.deliver(slot, self.batch.len() >= LARGE_FRAMES || bytes >= LARGE_BYTES);
        self.report_newcomers(slot);
        if let Some(endpoint) = self.endpoints.get_mut(slot) {
            endpoint.adapt_turn(self.batch.len(), copies, self.rested);
        }
        result.map(|()| self.batch.len())
    }

    /// Note at each destination which frames of the batch it gets; count the rest. Says how many copies.
    fn decide(&mut self, slot: Slot) -> usize {
        let now = self.millis();
        let mut copies = 0;
        // Frames of one flow come in a row: the same two addresses mean the same decision.
        let mut previous: Option<[u8; 12]> = None;
        let mut decision = Decision::Flood;
        let (door, mut slot) = (slot, slot);
        for index in 0..self.batch.len() {
            let origin = self.batch.origin(index).unwrap_or(door);
            if origin != slot {
                (slot, previous) = (origin, None);
            }
            let Some(source) = self.endpoints.get_mut(slot) else { continue };
            match self.batch.received(index) {
                Received::Nothing => continue,
                Received::Oversized => {
                    source.counters.received(frame::MAX_LEN);
                    source.counters.dropped(DropReason::Oversized);
                    continue;
                }
                Received::Dropped(len, reason) => {
                    source.counters.received(len);
                    source.counters.dropped(reason);
                    continue;
                }
                Received::Frame(len) => source.counters.received(len),
            }
            if source.down {
                source.counters.dropped(DropReason::PortDown);
                continue;
            }
            let bytes = self.batch.frame(index).ethernet();
            let addresses =
                if bytes.len() < frame::HEADER_LEN { None } else { bytes.first_chunk::<12>().copied() };
            if addresses.is_none() || addresses != previous {
                previous = addresses;
                let verdict = self.switch.decide(source.member, bytes, now);
                decision = verdict.decision;
                self.switch.destinations(decision, source.member, &mut self.destinations);
                if let Some(mac) = verdict.news.filter(|mac| source.is_new_address(*mac)) {
                    self.events.push(Event::FirstMac { endpoint: source.id, port: source.member.port, mac });
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

    /// Give frame `index` to the destinations at hand, finished where it must be. Says how many frames they get.
    fn address(&mut self, slot: Slot, index: usize) -> usize {
        let header = self.batch.header(index);
        let need = header.need();
        // How many frames it is for a destination that cannot take it as it is.
        let mut frames = 1;
        if need != Need::Nothing && !self.all_take(&header) {
            let refused = if need == Need::Checksum {
                let result = checksum::finish_checksum(header, self.batch.ethernet_mut(index));
                result
                    .map(|header| self.batch.set_header(index, header))
                    .err()
                    .map(|ChecksumOutsideFrame| DropReason::BadChecksumOffset)
            } else {
                let result = Segments::of(&header, self.batch.frame(index).ethernet());
                result.map(|segments| frames = segments.count()).err().map(|_| DropReason::BadSuperFrame)
            };
            if let (Some(reason), Some(source)) = (refused, self.endpoints.get_mut(slot)) {
                source.counters.dropped(reason);
                return 0;
            }
        }
        let mut copies = 0;
        for destination in &self.destinations {
            let Some(target) = self.endpoints.get_mut(*destination) else { continue };
            let cut = need == Need::Segmentation && !target.port.offloads().take(&header);
            target.cuts |= cut;
            if target.outgoing.is_empty() {
                self.touched.push(*destination);
            }
            target.outgoing.push(index as u8);
            copies += if cut { frames } else { 1 };
        }
        copies
    }

    fn all_take(&self, header: &VnetHeader) -> bool {
        let mut targets = self.destinations.iter().filter_map(|slot| self.endpoints.get(*slot));
        targets.all(|target| target.port.offloads().take(header))
    }

    /// Write each destination's share of the batch that `source` sent.
    fn deliver(&mut self, source: Slot, large: bool) {
        if let Some(taps) = &mut self.taps {
            taps.record(&self.batch, source, &self.endpoints, &self.touched);
        }
        let may_wait = large && self.touched.len() == 1;
        while let Some(destination) = self.touched.pop() {
            let Some(target) = self.endpoints.get_mut(destination) else { continue };
            if let Err(down) = target.deliver(&self.batch, &mut self.shaper, &mut self.pool) {
                self.lost.push((destination, down));
                continue;
            }
            let waits = !target.queue.is_empty();
            if waits || target.port.holds_frames() {
                self.watch(destination);
                if may_wait && waits {
                    self.pause(source, destination);
                }
            }
        }
    }

    /// Do not read `source` until the queue of `destination` is empty, or for [`PAUSE`].
    fn pause(&mut self, source: Slot, destination: Slot) {
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
    fn stop_waiting_for(&mut self, destination: Slot) {
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
    fn end_overdue_pauses(&mut self) {
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

    /// Let the poller watch an endpoint for what it is waiting for now.
    fn watch(&mut self, slot: Slot) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else { return };
        let holds = endpoint.port.holds_frames() && endpoint.paused.is_none();
        let delay = if holds { Some(SOON) } else { endpoint.port.again_after() };
        if let Some(delay) = delay.filter(|_| !endpoint.alarm) {
            endpoint.alarm = true;
            self.alarms.set(self.now + delay, slot, endpoint.id);
        }
        let wanted = endpoint.wanted();
        if wanted != endpoint.watched {
            endpoint.watched = wanted;
            if let Err(error) = self.poller.change(endpoint.port.descriptor(), slot, wanted) {
                self.lost.push((slot, Down(error.to_string())));
            }
        }
    }

    fn remove_lost(&mut self) {
        while let Some((slot, Down(reason))) = self.lost.pop() {
            if let Some(endpoint) = self.remove(slot) {
                let (endpoint, port) = (endpoint.id, endpoint.member.port);
                self.events.push(Event::EndpointDown { endpoint, port, reason });
            }
        }
    }
}
