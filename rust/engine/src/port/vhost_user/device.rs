//! The device as its front end sets it up, message by message: memory, two rings, what was agreed on.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{Error, GpuBackend, Result, VhostUserBackendReqHandlerMut};

use super::features::{self, Acknowledged};
use super::frames::{self, Done, Scratch};
use super::memory::Memory;
use super::notice::{Call, Watch};
use super::ring::{Addresses, MOST_ENTRIES, Ring, RingError};
use crate::pool::{Batch, FrameRef};
use crate::stats::{Counters, DropReason};
use crate::vnet_header::Offloads;

/// To the guest, and from it, in the order in which the front end numbers them.
const TO_GUEST: usize = 0;
const FROM_GUEST: usize = 1;
const RINGS: usize = 2;

/// What an entry of the ring from the guest counts as, in bytes. Chosen: what a small frame counts as, so that the
/// ring is full with so many of those; a super-frame has up to 19 entries where tables were not agreed on.
const ROOM_AN_ENTRY: usize = 3 << 10;

/// One ring and its descriptors.
#[derive(Default)]
struct Queue {
    ring: Ring,
    kick: Option<File>,
    call: Option<Call>,
    enabled: bool,
    /// We were asked to be told of the next buffer.
    wants_kick: bool,
}

impl Queue {
    /// Whether the driver and its front end have done all that is needed.
    fn is_running(&self) -> bool {
        self.kick.is_some() && self.ring.is_laid_out()
    }

    fn tell(&self, done: &Done) {
        if let Some(call) = self.call.as_ref().filter(|_| done.tell) {
            call.tell();
        }
    }

    fn want_no_kicks(&mut self) {
        self.wants_kick = false;
        self.ring.want_no_kicks();
    }

    fn want_kick(&mut self, known: u16) -> std::result::Result<bool, RingError> {
        self.wants_kick = true;
        self.ring.want_kick(known)
    }
}

/// See the module's head.
pub(super) struct Device {
    watch: Watch,
    memory: Memory,
    queues: [Queue; RINGS],
    acknowledged: Acknowledged,
    protocol: u64,
    scratch: Scratch,
}

// SAFETY: see below, the raw pointers of memory and rings are used by whoever owns the device only.
#[allow(unsafe_code)]
unsafe impl Send for Device {}

impl Device {
    /// With what is to be watched beside its rings.
    pub(super) fn new(watch: Watch) -> Self {
        Self {
            watch,
            memory: Memory::default(),
            queues: Default::default(),
            acknowledged: Acknowledged::default(),
            protocol: 0,
            scratch: Scratch::default(),
        }
    }

    pub(super) fn watch(&self) -> &Watch {
        &self.watch
    }

    pub(super) fn offloads(&self) -> Offloads {
        self.acknowledged.offloads()
    }

    /// Whether this bit of the protocol between front end and us was agreed on.
    pub(super) fn agreed(&self, bit: VhostUserProtocolFeatures) -> bool {
        self.protocol & bit.bits() != 0
    }

    /// Whether the front end has taken back what it shared.
    pub(super) fn is_cut(&self) -> bool {
        self.memory.is_cut()
    }

    /// See [`Port::sender_room`](crate::port::Port::sender_room): an entry of the ring for each frame.
    pub(super) fn sender_room(&self) -> usize {
        self.queues[FROM_GUEST].ring.size() * ROOM_AN_ENTRY
    }

    /// A batch from the guest. Says how many buffers were taken; none mean that a kick will say when there are more.
    ///
    /// # Errors
    /// [`RingError`].
    pub(super) fn take(&mut self, batch: &mut Batch) -> std::result::Result<usize, RingError> {
        let Self { memory, queues, acknowledged, scratch, .. } = self;
        let queue = &mut queues[FROM_GUEST];
        if !queue.is_running() {
            return Ok(0);
        }
        // What a guest sends through a ring that is off is lost, and does not wait until it is on.
        let keep = queue.enabled;
        let done = loop {
            let done = frames::take(&mut queue.ring, memory, *acknowledged, keep, batch, scratch)?;
            if done.count > 0 || queue.wants_kick || !queue.want_kick(0)? {
                break done;
            }
            queue.want_no_kicks();
        };
        if done.count > 0 && queue.wants_kick {
            queue.want_no_kicks();
        }
        queue.tell(&done);
        Ok(done.count)
    }

    /// A batch to the guest. Says how many frames are done with; after fewer than all a kick says when to go on.
    ///
    /// # Errors
    /// [`RingError`].
    pub(super) fn give(
        &mut self,
        frames: &[FrameRef<'_>],
        counters: &mut Counters,
    ) -> std::result::Result<usize, RingError> {
        let Self { memory, queues, acknowledged, scratch, .. } = self;
        let queue = &mut queues[TO_GUEST];
        if !queue.is_running() || !queue.enabled {
            frames.iter().for_each(|_| counters.dropped(DropReason::InterfaceDown));
            return Ok(frames.len());
        }
        if queue.wants_kick {
            queue.want_no_kicks();
        }
        let mut count = 0;
        loop {
            let done =
                frames::give(&mut queue.ring, memory, *acknowledged, &frames[count..], counters, scratch)?;
            queue.tell(&done);
            count += done.count;
            if count == frames.len() {
                break;
            }
            // What is left over may be too little for the next frame.
            let known = queue.ring.waiting()?;
            if queue.wants_kick || !queue.want_kick(known)? {
                break;
            }
        }
        Ok(count)
    }

    fn queue(&mut self, index: u32) -> Result<&mut Queue> {
        let known = usize::try_from(index).ok().and_then(|index| self.queues.get_mut(index));
        known.ok_or(Error::InvalidOperation("There is one pair of queues"))
    }

    /// What the rings' addresses lead to, after the memory changed.
    fn locate(&mut self) {
        for queue in &mut self.queues {
            queue.ring.locate(&self.memory);
        }
    }

    fn stop(&mut self, index: usize) {
        let queue = &mut self.queues[index];
        if let Some(kick) = queue.kick.take() {
            self.watch.remove(&kick);
        }
    }

    /// # Errors
    /// For a queue that is not there.
    pub(super) fn enable(&mut self, index: u32, on: bool) -> Result<()> {
        self.queue(index)?.enabled = on;
        Ok(())
    }
}

/// A descriptor to kick or to call with. Anything but an eventfd might keep us waiting.
fn eventfd(file: File) -> Result<File> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if link.is_ok_and(|link| link.as_os_str() == "anon_inode:[eventfd]") {
        return Ok(file);
    }
    Err(Error::InvalidOperation("A descriptor to kick or to call with that is no eventfd"))
}

fn refused(error: impl Into<io::Error>) -> Error {
    Error::ReqHandlerError(error.into())
}

const NOT_OFFERED: Error = Error::InvalidOperation("Not among what was offered");

impl VhostUserBackendReqHandlerMut for Device {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        Ok(()) // "no longer used", says the specification; its meaning was never clear
    }

    fn reset_device(&mut self) -> Result<()> {
        for index in 0..RINGS {
            self.stop(index);
            self.queues[index].enabled = false;
            self.queues[index].ring = Ring::default();
        }
        self.acknowledged = Acknowledged::default();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(features::OFFERED)
    }

    fn set_features(&mut self, bits: u64) -> Result<()> {
        if bits & !features::OFFERED != 0 {
            return Err(NOT_OFFERED);
        }
        self.acknowledged = Acknowledged(bits);
        if !self.acknowledged.has(features::PROTOCOL_FEATURES) {
            // Such a front end does not know how to enable a ring.
            self.queues.iter_mut().for_each(|queue| queue.enabled = true);
        }
        Ok(())
    }

    fn set_mem_table(&mut self, regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<()> {
        let mut memory = Memory::default();
        for (region, file) in regions.iter().zip(files) {
            memory.add(region, file).map_err(refused)?;
        }
        self.memory = memory;
        self.locate();
        Ok(())
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let size = u16::try_from(num).ok().filter(|size| size.is_power_of_two() && *size <= MOST_ENTRIES);
        let size = size.ok_or(Error::InvalidOperation("A ring whose size is no power of two up to 32768"))?;
        self.queue(index)?;
        self.queues[index as usize].ring.set_size(size, &self.memory);
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        self.queue(index)?;
        let addresses = Addresses { descriptors, available, used };
        if !self.queues[index as usize].ring.set_addresses(addresses, &self.memory) {
            return Err(Error::InvalidOperation("A ring that does not lie in the guest's memory"));
        }
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        // The upper half is for packed rings.
        self.queue(index)?.ring.set_next(base as u16);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let next = self.queue(index)?.ring.next();
        self.stop(index as usize);
        Ok(VhostUserVringState::new(index, u32::from(next)))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.queue(u32::from(index))?;
        let file =
            file.ok_or(Error::InvalidOperation("A ring without kicks, which would have to be polled"))?;
        let kick = eventfd(file)?;
        self.stop(usize::from(index));
        self.watch.add(&kick).map_err(refused)?;
        let (event_idx, indirect) =
            (self.acknowledged.has(features::EVENT_IDX), self.acknowledged.has(features::INDIRECT_DESC));
        let queue = &mut self.queues[usize::from(index)];
        queue.kick = Some(kick);
        queue.ring.start(event_idx, indirect);
        queue.want_no_kicks();
        Ok(())
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let call = file.map(|file| Call::new(eventfd(file)?).map_err(refused)).transpose()?;
        self.queue(u32::from(index))?.call = call;
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _file: Option<File>) -> Result<()> {
        self.queue(u32::from(index)).map(drop) // an error ends the connection, which says more
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(features::protocol())
    }

    fn set_protocol_features(&mut self, bits: u64) -> Result<()> {
        if bits & !features::protocol().bits() != 0 {
            return Err(NOT_OFFERED);
        }
        self.protocol = bits;
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(1)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        self.enable(index, enable)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(super::memory::MOST_REGIONS as u64)
    }

    fn add_mem_region(&mut self, region: &VhostUserSingleMemoryRegion, file: File) -> Result<()> {
        self.memory.add(region, file).map_err(refused)?;
        self.locate();
        Ok(())
    }

    fn remove_mem_region(&mut self, region: &VhostUserSingleMemoryRegion) -> Result<()> {
        self.memory.remove(region).map_err(refused)?;
        self.locate();
        Ok(())
    }

    // What follows was not offered, and is refused before it comes here.

    fn get_config(&mut self, _offset: u32, _size: u32, _flags: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Err(NOT_OFFERED)
    }

    fn set_config(&mut self, _offset: u32, _bytes: &[u8], _flags: VhostUserConfigFlags) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn set_gpu_socket(&mut self, _gpu: GpuBackend) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shared_object(&mut self, _which: VhostUserSharedMsg) -> Result<File> {
        Err(NOT_OFFERED)
    }

    fn get_inflight_fd(&mut self, _inflight: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(NOT_OFFERED)
    }

    fn set_inflight_fd(&mut self, _inflight: &VhostUserInflight, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn set_device_state_fd(
        &mut self,
        _direction: VhostTransferStateDirection,
        _phase: VhostTransferStatePhase,
        _file: File,
    ) -> Result<Option<File>> {
        Err(NOT_OFFERED)
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(NOT_OFFERED)
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(NOT_OFFERED)
    }

    fn set_log_base(&mut self, _log: &VhostUserLog, _file: File) -> Result<()> {
        Err(NOT_OFFERED)
    }
}
