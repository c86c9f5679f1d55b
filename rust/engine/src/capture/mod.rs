//! Captures: copies of frames, as a pcapng file, into a descriptor that somebody reads.
//!
//! The loop puts records into a ring of bytes (`Taps`, one `Tap` for each capture), and a thread of the capture's own
//! writes them to the descriptor when the processor has nothing better to do (`writer`). The two share no lock and
//! neither waits for the other: what does not fit into the ring is lost, counted, and told in the file.
//!
//! A frame is recorded where it enters, whatever the switch then does with it. With a choice of ports it is recorded
//! where it enters one of them and where it leaves through one, once for each endpoint that it is given to, as it
//! was received: before a super-frame is cut or frames are joined, and before a full queue may drop it.

mod pace;
pub(crate) mod writer;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bpf::Program;
use crate::endpoint::Endpoint;
use crate::endpoints::Endpoints;
use crate::event::{EndpointId, Event, EventQueue};
use crate::pcapng::{self, Direction, Packet, Statistics};
use crate::pool::{Batch, Received};
pub use crate::stats::{CaptureId, CaptureStats};
use crate::switch::Slot;
use crate::sys::Producer;
use writer::Control;

/// Captures at once at most.
pub const MOST_CAPTURES: usize = 8;

/// Bytes of a frame that are kept by default: all, as in tcpdump.
pub const SNAPLEN: u32 = 262_144;

/// What the memory of a capture may be, in bytes.
pub const BUFFERS: std::ops::RangeInclusive<usize> = 1 << 17..=64 << 20;

/// Longest prefix of a capture, in bytes. Chosen: any head of an answer is shorter, any ring longer.
pub const LONGEST_PREFIX: usize = 4096;

/// What is to be captured, and how.
#[derive(Clone, Debug)]
pub struct CaptureConfig {
    /// On which ports; on all where they enter, without.
    pub ports: Option<Vec<u16>>,
    /// Bytes to keep of a frame, from 1.
    pub snaplen: u32,
    /// Bytes that may wait to be written, of [`BUFFERS`].
    pub buffer: usize,
    /// Which frames, and how much of each.
    pub filter: Option<Program>,
    /// End after so many frames.
    pub limit: Option<u64>,
    /// What goes before the file, such as the head of an answer; at most [`LONGEST_PREFIX`] bytes.
    pub prefix: Vec<u8>,
}

impl Default for CaptureConfig {
    fn default() -> Self {
        Self { ports: None, snaplen: SNAPLEN, buffer: 4 << 20, filter: None, limit: None, prefix: Vec::new() }
    }
}

/// An endpoint in a capture.
struct Interface {
    endpoint: EndpointId,
    number: u32,
    statistics: Statistics,
    /// Frames lost since the last one that was recorded.
    lost: u64,
}

/// One capture in the loop.
pub(crate) struct Tap {
    id: CaptureId,
    config: CaptureConfig,
    records: Producer,
    control: Arc<Control>,
    /// By slot. Whoever has the slot later is another interface.
    interfaces: Vec<Option<Interface>>,
    described: u32,
    frames: u64,
    dropped: u64,
}

impl Tap {
    pub(crate) fn new(id: CaptureId, config: CaptureConfig, records: Producer, control: Arc<Control>) -> Self {
        Self { id, config, records, control, interfaces: Vec::new(), described: 0, frames: 0, dropped: 0 }
    }

    /// What a file begins with, and a description of everybody there is, so that all are seen, also the silent.
    fn begin(&mut self, endpoints: &Endpoints) {
        let application = concat!("vde_vmnet ", env!("CARGO_PKG_VERSION"));
        // The ring is empty, and larger than this.
        let _ = self.records.push(&[&self.config.prefix, &pcapng::section_header(application)]);
        for endpoint in endpoints.all().filter(|endpoint| endpoint.is_place) {
            if self.config.wants(endpoint) {
                self.describe(endpoint, 0);
            }
        }
        self.publish();
    }

    fn stats(&self) -> CaptureStats {
        CaptureStats { capture: self.id, frames: self.frames, dropped: self.dropped }
    }

    /// Record what concerns this capture of a batch that came through `door` and was decided.
    fn record(&mut self, batch: &Batch, door: Slot, endpoints: &Endpoints, touched: &[Slot], time: u64) {
        for index in 0..batch.len() {
            if let Received::Frame(_) = batch.received(index) {
                let source = endpoints.get(batch.origin(index).unwrap_or(door));
                if let Some(endpoint) = source.filter(|endpoint| self.config.wants(endpoint)) {
                    self.put(endpoint, Direction::Inbound, batch.frame(index).ethernet(), time);
                }
            }
        }
        if self.config.ports.is_some() {
            let targets = touched.iter().filter_map(|slot| endpoints.get(*slot));
            for target in targets.filter(|target| !target.down) {
                if self.config.wants(target) {
                    for index in &target.outgoing {
                        let frame = batch.frame(usize::from(*index)).ethernet();
                        self.put(target, Direction::Outbound, frame, time);
                    }
                }
            }
        }
        self.publish();
    }

    fn put(&mut self, endpoint: &Endpoint, direction: Direction, frame: &[u8], time: u64) {
        if self.is_over().is_some() {
            return;
        }
        let wanted = self.config.filter.as_ref().map_or(u32::MAX, |filter| filter.run(frame));
        let Some(interface) = self.interface(endpoint, time) else {
            if wanted > 0 {
                self.dropped += 1;
            }
            return;
        };
        interface.statistics.seen += 1;
        if wanted == 0 {
            return;
        }
        interface.statistics.accepted += 1;
        let (number, lost) = (interface.number, interface.lost);
        let length = frame.len() as u32;
        let kept = length.min(wanted).min(self.config.snaplen);
        let packet = Packet { interface: number, time, kept, length, direction, lost };
        let (tail, tail_len) = packet.tail();
        let taken = self.records.push(&[&packet.head(), &frame[..kept as usize], &tail[..tail_len]]);
        if taken {
            self.frames += 1;
        } else {
            self.dropped += 1;
        }
        if let Some(Some(interface)) = self.interfaces.get_mut(endpoint.member.slot as usize) {
            if taken {
                interface.statistics.recorded += 1;
                interface.lost = 0;
            } else {
                interface.statistics.lost += 1;
                interface.lost += 1;
            }
        }
    }

    /// The endpoint's, described before; `None` when there is no room to do so.
    fn interface(&mut self, endpoint: &Endpoint, time: u64) -> Option<&mut Interface> {
        let slot = endpoint.member.slot as usize;
        let known = matches!(self.interfaces.get(slot), Some(Some(known)) if known.endpoint == endpoint.id);
        if !known && !self.describe(endpoint, time) {
            return None;
        }
        self.interfaces.get_mut(slot)?.as_mut()
    }

    /// Describe an endpoint that is new to the file, and say what became of the one that had its slot before.
    fn describe(&mut self, endpoint: &Endpoint, time: u64) -> bool {
        let slot = endpoint.member.slot as usize;
        if self.interfaces.len() <= slot {
            self.interfaces.resize_with(slot + 1, || None);
        }
        let before = self.interfaces[slot].as_ref();
        let last = before.map(|one| pcapng::statistics(one.number, time, &one.statistics)).unwrap_or_default();
        let description = format!("port {}, endpoint {}", endpoint.member.port, endpoint.id);
        let described = pcapng::interface(&endpoint.name, &description, self.config.snaplen);
        if !self.records.push(&[&last, &described]) {
            return false;
        }
        let number = self.described;
        self.described += 1;
        let interface = Interface { endpoint: endpoint.id, number, statistics: Statistics::default(), lost: 0 };
        self.interfaces[slot] = Some(interface);
        true
    }

    fn publish(&self) {
        self.records.publish();
        self.control.count(self.frames, self.dropped);
        self.control.wake();
    }

    /// Why it has ended by itself, if it has.
    fn is_over(&self) -> Option<&'static str> {
        if self.control.is_gone() {
            return Some("nobody reads it any more");
        }
        self.config.limit.is_some_and(|limit| self.frames >= limit).then_some("it has the frames asked for")
    }
}

impl Drop for Tap {
    /// The file ends with what each interface has seen.
    fn drop(&mut self) {
        let time = nanoseconds(SystemTime::now());
        let known = self.interfaces.iter().flatten();
        let last = known.flat_map(|one| pcapng::statistics(one.number, time, &one.statistics)).collect();
        self.control.finish(last);
    }
}

impl CaptureConfig {
    fn wants(&self, endpoint: &Endpoint) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&endpoint.member.port))
    }
}

/// All captures of a loop; there is none of these while nothing is captured.
pub(crate) struct Taps {
    taps: Vec<Tap>,
    events: Arc<EventQueue>,
}

impl Taps {
    pub(crate) fn new(events: Arc<EventQueue>) -> Self {
        Self { taps: Vec::new(), events }
    }

    pub(crate) fn start(&mut self, mut tap: Tap, endpoints: &Endpoints) {
        tap.begin(endpoints);
        self.taps.push(tap);
    }

    /// End one; its numbers, if it was there.
    pub(crate) fn stop(&mut self, id: CaptureId, reason: &str) -> Option<CaptureStats> {
        let place = self.taps.iter().position(|tap| tap.id == id)?;
        let stats = self.taps.swap_remove(place).stats();
        self.events.push(Event::CaptureEnded { stats, reason: reason.into() });
        Some(stats)
    }

    pub(crate) fn stats(&self) -> Vec<CaptureStats> {
        self.taps.iter().map(Tap::stats).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.taps.is_empty()
    }

    /// Record a batch that came through `door`, after it was decided and before its shares, of the endpoints
    /// `touched`, are written.
    pub(crate) fn record(&mut self, batch: &Batch, door: Slot, endpoints: &Endpoints, touched: &[Slot]) {
        let time = nanoseconds(SystemTime::now());
        let mut over = Vec::new();
        for tap in &mut self.taps {
            tap.record(batch, door, endpoints, touched, time);
            over.extend(tap.is_over().map(|reason| (tap.id, reason)));
        }
        for (id, reason) in over {
            self.stop(id, reason);
        }
    }
}

/// Since 1970; a clock before that says 0.
fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
