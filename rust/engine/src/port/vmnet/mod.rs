//! An interface of Apple's vmnet.framework, which has no descriptor: frames are read and written by calls in arrays,
//! and an event callback says when there is something to read.
//!
//! The framework is handed over as addresses (see `Functions`, `BlockRuntime`): nothing is opened here and no
//! symbol's name is known.
//!
//! Facts this file rests on (Apple's `vmnet.h` and overview, and what QEMU, vmnet-helper and socket_vmnet found):
//! with TSO and checksum offload frames are as [`super::bare`] wants them, with virtio-net headers as the engine has them
//! itself; a read may give nothing, and says so with success; frames may be shorter than 60 bytes; a write takes all of its
//! frames or none, so that one that it does not like costs the whole array; the callback's estimate is none to
//! rely on; taking the callback back does not wait for one under way.
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::ptr;
use std::time::{Duration, Instant};

use super::backoff::{Backoff, LONGEST};
use super::{Down, Port};
use crate::frame;
use crate::pool::{BATCH, Batch, FrameRef, Received};
use crate::stats::{Counters, DropReason};
use crate::vnet_header::{self, Offloads, VnetHeader};

mod bell;
mod blocks;
mod calls;
mod completion;
mod status;

pub use blocks::BlockRuntime;
pub use calls::Functions;
pub use completion::{Completed, Completion, ObjectRuntime};

use bell::{Bell, BellEnd};
use blocks::{Block, address};
use calls::Interface;
use status::{Blame, Complaints, Status, Trouble};

/// Bytes that one call may move (Apple's overview of vmnet: 256 KB).
const CALL_BYTES: usize = 256 << 10;

/// Smallest `max_packet_size` that makes sense: an Ethernet frame of the least length, without its FCS.
const LEAST_PACKET_SIZE: usize = 60;

/// How long reads may fail, all of them, before the interface is given up. Chosen: longer than the system's
/// service takes to come back, shorter than the patience of whoever waits for the network.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(10);

/// Bytes after which a turn ends before the batch is full, as for a TAP: four super-frames.
const TURN_BYTES: usize = 256 << 10;

/// What is known about an interface when it has started.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Packets in one read.
    pub read_max_packets: usize,
    /// Packets in one write.
    pub write_max_packets: usize,
    /// Bytes of the longest frame, its header included.
    pub max_packet_size: usize,
    /// Whether each frame has a virtio-net header of 12 bytes in front, both ways.
    pub headers: bool,
}

impl Limits {
    fn header_len(&self) -> usize {
        if self.headers { vnet_header::LEN } else { 0 }
    }
}

/// Why an interface cannot become a port.
#[derive(Debug, thiserror::Error)]
pub enum VmnetError {
    /// A limit that cannot be.
    #[error("{name} must be {least}…{most}, not {value}")]
    Limit {
        /// Which one.
        name: &'static str,
        /// Smallest value.
        least: usize,
        /// Largest value.
        most: usize,
        /// What was given.
        value: usize,
    },
    /// An address that must not be null.
    #[error("{0} is a null address")]
    Null(&'static str),
    /// No socket pair.
    #[error("Cannot make a pair of sockets for the event callback")]
    Sockets(#[source] std::io::Error),
    /// The Blocks runtime has no memory.
    #[error("There is no memory for a block")]
    Block,
    /// The framework does not take the callback.
    #[error("vmnet_interface_set_event_callback gives {0}")]
    Callback(String),
}

/// The port. See the module's head.
pub struct Vmnet {
    interface: Interface,
    bell: BellEnd,
    /// Our reference to the callback, which the framework copied.
    _callback: Block<Bell>,
    limits: Limits,
    reading: Backoff,
    /// Since when every read has failed.
    failing_since: Option<Instant>,
    given_up_after: Duration,
    writing: Backoff,
    complaints: Complaints,
}

impl Vmnet {
    /// `interface` is a started `interface_ref` and `queue` the queue to call the event callback on, both as
    /// addresses. The caller stops the interface and releases the queue after the port is gone.
    ///
    /// # Safety
    /// Both must stay valid until the port is dropped, and belong to the framework of `functions`.
    ///
    /// # Errors
    /// [`VmnetError`]; the callback is then not set.
    pub unsafe fn new(
        interface: usize,
        queue: usize,
        functions: Functions,
        blocks: &BlockRuntime,
        limits: Limits,
    ) -> Result<Self, VmnetError> {
        let limits = checked(limits)?;
        let handle = address(interface).ok_or(VmnetError::Null("interface"))?;
        let queue = address(queue).ok_or(VmnetError::Null("queue"))?;
        let bell = BellEnd::new().map_err(VmnetError::Sockets)?;
        let callback = Block::new(blocks, bell.bell()).ok_or(VmnetError::Block)?;
        let interface = Interface::new(functions, handle);
        interface
            .set_callback(queue.as_ptr(), callback.as_ptr())
            .map_err(|status| VmnetError::Callback(status.to_string()))?;
        // What came before the callback was set.
        bell.bell().ring();
        Ok(Self {
            interface,
            bell,
            _callback: callback,
            limits,
            reading: Backoff::new(LONGEST),
            failing_since: None,
            given_up_after: GIVEN_UP_AFTER,
            writing: Backoff::new(LONGEST),
            complaints: Complaints::default(),
        })
    }

    /// Come back at once; a ring that was there already does no harm.
    fn ring(&self) {
        self.bell.bell().ring();
    }

    fn complain(&mut self, call: &'static str, status: Status, then: &'static str) {
        if self.complaints.note(Trouble { call, status, then }, Instant::now()) {
            self.ring();
        }
    }

    /// One read.
    fn read(&mut self, batch: &mut Batch) -> Result<Reading, Status> {
        let (capacity, header_len) = (self.limits.max_packet_size, self.limits.header_len());
        let most = self.limits.read_max_packets.min(CALL_BYTES / capacity).max(1);
        let asked = batch.room().min(most);
        let begin = vnet_header::LEN - header_len;
        let slots = batch.free_slots().take(asked).map(|slot| &mut slot[begin..][..capacity]);
        let count = self.interface.read(slots)?;
        let mut bytes = 0;
        for index in 0..count {
            let len = self.interface.length(index);
            bytes += len.min(capacity);
            let received = match len.checked_sub(header_len) {
                None | Some(0) => Received::Nothing,
                Some(_) if len > capacity => Received::Oversized,
                Some(len) => Received::Frame(len),
            };
            batch.push(received, (!self.limits.headers).then(VnetHeader::default));
        }
        Ok(Reading { count, bytes, drained: count < asked })
    }

    /// A read was refused: try again later, and in the end no more.
    fn read_failed(&mut self, status: Status) -> Result<(), Down> {
        self.bell.silence();
        self.reading.failed();
        let now = Instant::now();
        let since = *self.failing_since.get_or_insert(now);
        if status.blame() != Blame::Moment && now.duration_since(since) >= self.given_up_after {
            return Err(Down(format!("vmnet_read gives {status} again and again")));
        }
        self.complain("vmnet_read", status, "trying again");
        Ok(())
    }

    /// How many of `frames`, from the first, may go out with one call; none when the first is too long.
    fn share(&self, frames: &[FrameRef<'_>]) -> usize {
        let mut bytes = 0;
        let fits = |frame: &&FrameRef<'_>| {
            let len = self.limits.header_len() + frame.ethernet().len();
            bytes += len;
            len <= self.limits.max_packet_size && bytes <= CALL_BYTES
        };
        frames.iter().take(self.limits.write_max_packets).take_while(fits).count()
    }
}

/// What one read brought.
struct Reading {
    count: usize,
    bytes: usize,
    /// There was room for more.
    drained: bool,
}

/// The limits if they make sense, and no larger than what is used here.
fn checked(limits: Limits) -> Result<Limits, VmnetError> {
    let Limits { read_max_packets, write_max_packets, max_packet_size, headers } = limits;
    let most = usize::try_from(libc::c_int::MAX).unwrap_or(usize::MAX);
    for (name, value, least, most) in [
        ("read_max_packets", read_max_packets, 1, most),
        ("write_max_packets", write_max_packets, 1, most),
        ("max_packet_size", max_packet_size, LEAST_PACKET_SIZE, limits.header_len() + frame::MAX_LEN),
    ] {
        if !(least..=most).contains(&value) {
            return Err(VmnetError::Limit { name, least, most, value });
        }
    }
    let (read_max_packets, write_max_packets) = (read_max_packets.min(BATCH), write_max_packets.min(BATCH));
    Ok(Limits { read_max_packets, write_max_packets, max_packet_size, headers })
}

impl Port for Vmnet {
    fn descriptor(&self) -> RawFd {
        self.bell.descriptor()
    }

    /// Until there is nothing more, `batch` is full or the turn is over. The bell is silenced before the last read that gives
    /// nothing, so that whatever comes after that read is heard.
    fn receive(&mut self, batch: &mut Batch) -> Result<(), Down> {
        let (mut silenced, mut bytes) = (false, 0);
        while batch.room() > 0 && bytes < TURN_BYTES {
            let reading = match self.read(batch) {
                Ok(reading) => reading,
                Err(status) => return self.read_failed(status),
            };
            bytes += reading.bytes;
            self.reading.reset();
            self.failing_since = None;
            if reading.count == 0 && silenced {
                if batch.is_empty() {
                    // An event without frames is something that was read, too.
                    batch.push(Received::Nothing, None);
                }
                return Ok(());
            }
            if reading.drained && !silenced {
                self.bell.silence();
                silenced = true;
            }
        }
        self.ring();
        Ok(())
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down> {
        let mut taken = 0;
        // So many are to be written one by one, since one of them is not liked.
        let mut apart = 0_usize;
        while taken < frames.len() {
            let rest = &frames[taken..];
            let share = self.share(rest).min(if apart > 0 { 1 } else { BATCH });
            if share == 0 {
                counters.dropped(DropReason::TooLong);
                taken += 1;
                apart = apart.saturating_sub(1);
                continue;
            }
            let headers = self.limits.headers;
            let bytes =
                rest[..share].iter().map(|frame| if headers { frame.with_header() } else { frame.ethernet() });
            let done = match self.interface.write(bytes) {
                Ok(count) => {
                    if count > 0 {
                        self.writing.reset();
                    }
                    rest[..count].iter().for_each(|frame| counters.sent(frame.ethernet().len()));
                    count
                }
                Err(status) => match status.blame() {
                    Blame::Frame if share > 1 => {
                        apart = share;
                        continue;
                    }
                    Blame::Frame => {
                        counters.dropped(DropReason::Refused);
                        self.complain("vmnet_write", status, "such frames are dropped");
                        1
                    }
                    Blame::Moment => {
                        if self.writing.exhausted() {
                            self.complain("vmnet_write", status, "frames wait");
                        }
                        0
                    }
                    Blame::Interface => {
                        rest[..share].iter().for_each(|_| counters.dropped(DropReason::WriteFailed));
                        self.complain("vmnet_write", status, "frames are dropped");
                        // Reading tells whether the interface has gone for good.
                        self.ring();
                        share
                    }
                },
            };
            if done == 0 {
                self.writing.failed();
                return Ok(taken);
            }
            taken += done;
            apart = apart.saturating_sub(done);
        }
        self.writing.reset();
        Ok(taken)
    }

    fn again_after(&self) -> Option<Duration> {
        self.reading.delay().into_iter().chain(self.writing.delay()).min()
    }

    fn take_trouble(&mut self) -> Option<String> {
        self.complaints.take().map(|trouble| trouble.to_string())
    }

    fn reads_many_at_once(&self) -> bool {
        true
    }

    fn offloads(&self) -> Offloads {
        // UDP super-frames are said to be taken nowhere.
        if self.limits.headers { Offloads { uso: false, ..Offloads::ALL } } else { Offloads::NONE }
    }
}

impl Drop for Vmnet {
    fn drop(&mut self) {
        // A refusal changes nothing: a callback that still comes rings a bell that nobody hears.
        let _ = self.interface.set_callback(ptr::null_mut(), ptr::null_mut());
    }
}

#[cfg(test)]
mod double;
#[cfg(test)]
mod tests;
