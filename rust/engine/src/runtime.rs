//! The one loop: poll, read a batch from a ready endpoint, switch it, write each destination's share.
//!
//! Each ready endpoint has a turn of one batch in each direction before the poller is asked again, and the
//! poller reports the ready ones in turn: a busy endpoint delays the others by a batch, and all have the same number
//! of bytes to a turn (`budget`). Nothing here waits but the poller, and that without a timeout unless somebody is
//! paused, or is left alone for a moment (`gather`).

mod membership;
mod pausing;
mod requests;
mod waiting;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::alarms::Alarms;
use crate::capture::Taps;
use crate::egress::Shaper;
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
use crate::sys::{self, Interest, Poller, Report, WakerEnd};
use crate::vnet_header::{Need, VnetHeader};

use pausing::Pause;
pub(crate) use requests::{Attachment, Command};

/// A batch of fewer frames, and of fewer bytes, does not make its sender wait: it is not what filled the queue.
const LARGE_FRAMES: usize = 16;
const LARGE_BYTES: usize = 16 << 10;

/// When everybody else has had a turn.
const SOON: Duration = Duration::from_nanos(1);

/// The poller's token of the waker; endpoints have their slots.
const WAKE: u32 = u32::MAX;

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
    /// More than one endpoint is ready.
    shared: bool,
    /// For how long to ask again and again before going to sleep.
    busy_poll: Duration,
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
        busy_poll: Duration,
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
            shared: false,
            busy_poll,
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
        sys::be_punctual();
        let mut reports = Vec::new();
        while !self.round(&mut reports)? {}
        Ok(())
    }

    /// Wait until there is something to do, and a turn for each who is ready; `true` to stop.
    fn round(&mut self, reports: &mut Vec<Report>) -> io::Result<bool> {
        self.wait(reports)?;
        self.shared = reports.len() > 1;
        let mut woken = false;
        for report in &*reports {
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
            return Ok(self.obey());
        }
        Ok(false)
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
            endpoint.end_alarm();
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
        if !endpoint.budget.begin(self.shared) {
            return Ok(1); // it had more than its share before
        }
        let result = endpoint.receive(&mut self.batch);
        let copies = self.decide(slot);
        self.deliver(slot, self.batch.len() >= LARGE_FRAMES || self.batch.bytes() >= LARGE_BYTES);
        self.report_newcomers(slot);
        if let Some(endpoint) = self.endpoints.get_mut(slot) {
            endpoint.adapt_turn(self.batch.len(), copies, self.rested);
            endpoint.budget.end(self.batch.len(), self.batch.bytes(), self.batch.room() > 0);
            if result.is_ok() && self.poller.is_punctual() {
                self.rest(slot);
            }
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

    /// Let the poller watch an endpoint for what it is waiting for now.
    fn watch(&mut self, slot: Slot) {
        let Some(endpoint) = self.endpoints.get_mut(slot) else { return };
        let holds = endpoint.port.holds_frames() && endpoint.paused.is_none();
        let unsaid = !endpoint.queue.is_empty() && !endpoint.port.says_room();
        let delay = if holds { Some(SOON) } else { endpoint.port.again_after().or(unsaid.then_some(SOON)) };
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

#[cfg(test)]
mod tests;
