//! One split virtqueue, as the device sees it (virtio 1.2, 2.7).
//!
//! Buffers are given back in the order in which they came, each before the next one is looked at by the other side:
//! what was taken is done with when a call here returns, so that one number says how far the ring is, and nothing is
//! lost or seen twice when either side starts anew there.
//!
//! The guest is hostile: an index is masked or checked before it is used, an address is looked up in the guest's
//! memory, each word that something is decided on is read once, and the work of one call is bounded. What no driver
//! does ([`RingError`]) costs the guest its port.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU16, Ordering, fence};

use super::memory::{Memory, Piece};

/// Longest ring. Chosen: the longest that a split virtqueue may have.
pub(super) const MOST_ENTRIES: u16 = 32_768;

/// Descriptors of one chain. Chosen: as many as drivers and QEMU have at most, well above the 19 of Linux.
const MOST_DESCRIPTORS: usize = 1024;

const DESCRIPTOR_LEN: usize = 16;
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// In `avail.flags`: the driver wants no interrupts. In `used.flags`: we want no kicks.
const NO_NOTICE: u16 = 1;

/// What a driver never does.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RingError {
    #[error("{0} buffers are said to be available in a ring of {1}")]
    TooManyAvailable(u16, u16),
    #[error("Descriptor {0} in a ring of {1}")]
    DescriptorNumber(u16, u16),
    #[error("A chain of more than {MOST_DESCRIPTORS} descriptors")]
    LongChain,
    #[error("A buffer of {1} bytes at {0:#x}, where the guest has no memory")]
    OutsideMemory(u64, u32),
    #[error("A buffer for the wrong direction")]
    Direction,
    #[error("An indirect table that was not agreed on, or is none")]
    Indirect,
    #[error("Receive buffers with no room to speak of")]
    TinyBuffers,
}

/// Where a ring lies, in addresses of the front end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Addresses {
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

/// Where a ring lies for us; all of it is mapped.
#[derive(Clone, Copy)]
struct Layout {
    descriptors: *const u8,
    available: *mut u16,
    used: *mut u16,
}

/// See the module's head.
pub(super) struct Ring {
    size: u16,
    addresses: Addresses,
    layout: Option<Layout>,
    /// The next entry to take, which is also the next to give back, but for those of the call under way.
    next: u16,
    /// `next` when the driver was last asked whether it wants to hear; none before that.
    told: Option<u16>,
    event_idx: bool,
    indirect: bool,
}

/// Where a chain of descriptors leads.
pub(super) struct Chain {
    pub(super) head: u16,
    /// Bytes in its pieces.
    pub(super) len: usize,
    pub(super) descriptors: usize,
    pub(super) pieces: usize,
}

impl Default for Ring {
    fn default() -> Self {
        let addresses = Addresses::default();
        Self { size: 0, addresses, layout: None, next: 0, told: None, event_idx: false, indirect: false }
    }
}

impl Ring {
    /// Whether it has a size and its addresses lead somewhere.
    pub(super) fn is_laid_out(&self) -> bool {
        self.layout.is_some()
    }

    pub(super) fn size(&self) -> usize {
        self.size.into()
    }

    pub(super) fn next(&self) -> u16 {
        self.next
    }

    pub(super) fn set_next(&mut self, next: u16) {
        self.next = next;
    }

    /// `size` was checked: a power of two, at most [`MOST_ENTRIES`].
    pub(super) fn set_size(&mut self, size: u16, memory: &Memory) {
        self.size = size;
        self.locate(memory);
    }

    /// False when it does not lie in memory, or not as it must.
    pub(super) fn set_addresses(&mut self, addresses: Addresses, memory: &Memory) -> bool {
        self.addresses = addresses;
        self.locate(memory);
        self.layout.is_some()
    }

    /// The driver begins, and has agreed on these.
    pub(super) fn start(&mut self, event_idx: bool, indirect: bool) {
        self.event_idx = event_idx;
        self.indirect = indirect;
        self.told = None;
    }

    /// Find it again, in other memory.
    pub(super) fn locate(&mut self, memory: &Memory) {
        let size = usize::from(self.size);
        let Addresses { descriptors, available, used } = self.addresses;
        let find = |address: u64, len: usize, align: usize| {
            memory.user(address, len).filter(|at| size > 0 && at.addr() % align == 0)
        };
        // The rings end with a word for the event index, agreed on or not.
        self.layout = find(descriptors, DESCRIPTOR_LEN * size, 16).and_then(|descriptors| {
            let available = find(available, 2 * size + 6, 2)?.cast();
            let used = find(used, 8 * size + 6, 4)?.cast();
            Some(Layout { descriptors, available, used })
        });
    }

    /// A word that both sides use.
    fn word(&self, at: *mut u16) -> &AtomicU16 {
        // SAFETY: callers pass an aligned word of the layout, which is mapped as long as the ring has that layout;
        // both sides use it atomically.
        unsafe { AtomicU16::from_ptr(at) }
    }

    /// Entries that wait. None while there is no layout.
    ///
    /// # Errors
    /// When there are more than the ring has.
    #[inline]
    pub(super) fn waiting(&self) -> Result<u16, RingError> {
        let Some(layout) = self.layout else { return Ok(0) };
        // SAFETY: the second word of the available ring.
        let index = self.word(unsafe { layout.available.add(1) }).load(Ordering::Acquire);
        let count = u16::from_le(index).wrapping_sub(self.next);
        if count > self.size { Err(RingError::TooManyAvailable(count, self.size)) } else { Ok(count) }
    }

    /// Whether so many entries are all that it can have.
    pub(super) fn is_whole(&self, count: u16) -> bool {
        count == self.size
    }

    /// Look at the entry that is `ahead` of the next one, which waits, and put its pieces behind those in `pieces`.
    ///
    /// # Errors
    /// [`RingError`].
    #[inline]
    pub(super) fn chain(
        &self,
        ahead: u16,
        writable: bool,
        memory: &Memory,
        pieces: &mut Vec<Piece>,
    ) -> Result<Chain, RingError> {
        let Some(layout) = self.layout else { return Err(RingError::TooManyAvailable(ahead, 0)) };
        let place = usize::from(self.next.wrapping_add(ahead) & (self.size - 1));
        // SAFETY: an entry of the available ring, behind its two first words.
        let head = u16::from_le(unsafe { layout.available.add(2 + place).read_volatile() });
        if head >= self.size {
            return Err(RingError::DescriptorNumber(head, self.size));
        }
        // SAFETY: less than the size of the table.
        let first = Descriptor::read(unsafe { layout.descriptors.add(DESCRIPTOR_LEN * usize::from(head)) });
        let before = pieces.len();
        let mut chain = Chain { head, len: 0, descriptors: 0, pieces: 0 };
        if first.flags & INDIRECT != 0 {
            let (table, count) = self.indirect_table(&first, memory)?;
            // SAFETY: there is at least one.
            let first = Descriptor::read(table);
            self.walk(table, count, first, writable, memory, pieces, &mut chain)?;
        } else {
            self.walk(layout.descriptors, self.size, first, writable, memory, pieces, &mut chain)?;
        }
        chain.pieces = pieces.len() - before;
        Ok(chain)
    }

    fn indirect_table(&self, at: &Descriptor, memory: &Memory) -> Result<(*const u8, u16), RingError> {
        let len = at.len as usize;
        let count = len / DESCRIPTOR_LEN;
        if !self.indirect || at.flags & NEXT != 0 || len % DESCRIPTOR_LEN != 0 || count == 0 {
            return Err(RingError::Indirect);
        }
        if count > usize::from(MOST_ENTRIES) {
            return Err(RingError::LongChain);
        }
        let piece = memory.guest(at.address, len).filter(|piece| piece.len == len);
        let piece = piece.ok_or(RingError::OutsideMemory(at.address, at.len))?;
        Ok((piece.at, count as u16))
    }

    /// Follow a chain from `at`, which is in the `table` of `count` descriptors.
    #[allow(clippy::too_many_arguments, reason = "one place for all that is checked")]
    #[inline]
    fn walk(
        &self,
        table: *const u8,
        count: u16,
        mut at: Descriptor,
        writable: bool,
        memory: &Memory,
        pieces: &mut Vec<Piece>,
        chain: &mut Chain,
    ) -> Result<(), RingError> {
        for _ in 0..MOST_DESCRIPTORS.min(usize::from(count)) {
            chain.descriptors += 1;
            if at.flags & INDIRECT != 0 {
                return Err(RingError::Indirect);
            }
            if (at.flags & WRITE != 0) != writable {
                return Err(RingError::Direction);
            }
            let (mut address, mut left) = (at.address, at.len as usize);
            // A buffer may lie across two regions; more are no buffer.
            for _ in 0..2 {
                if left == 0 {
                    break;
                }
                let piece = memory.guest(address, left).ok_or(RingError::OutsideMemory(at.address, at.len))?;
                pieces.push(piece);
                left -= piece.len;
                address = address.wrapping_add(piece.len as u64);
            }
            if left > 0 {
                return Err(RingError::OutsideMemory(at.address, at.len));
            }
            chain.len += at.len as usize;
            if at.flags & NEXT == 0 {
                return Ok(());
            }
            if at.next >= count {
                return Err(RingError::DescriptorNumber(at.next, count));
            }
            // SAFETY: less than the size of the table.
            at = Descriptor::read(unsafe { table.add(DESCRIPTOR_LEN * usize::from(at.next)) });
        }
        Err(RingError::LongChain)
    }

    /// Note that the entry `ahead` of the next one, whose chain begins with `head`, is done with and has so many
    /// bytes in it. The driver sees nothing before [`Ring::give_back`].
    #[inline]
    pub(super) fn put_used(&mut self, ahead: u16, head: u16, len: u32) {
        let Some(layout) = self.layout else { return };
        let place = usize::from(self.next.wrapping_add(ahead) & (self.size - 1));
        let element = u64::from(head) | u64::from(len) << 32;
        // SAFETY: an element of the used ring, behind its two first words; aligned to 4 as the ring is.
        unsafe {
            let at = layout.used.add(2 + 4 * place).cast::<u32>();
            at.write_volatile((element as u32).to_le());
            at.add(1).write_volatile(((element >> 32) as u32).to_le());
        }
    }

    /// Show the driver the next `count` entries as done with. Says whether it wants to be told.
    pub(super) fn give_back(&mut self, count: u16) -> bool {
        let Some(layout) = self.layout else { return false };
        if count == 0 {
            return false;
        }
        self.next = self.next.wrapping_add(count);
        // SAFETY: the second word of the used ring.
        self.word(unsafe { layout.used.add(1) }).store(self.next.to_le(), Ordering::Release);
        // What the driver wants is looked at after it can see what there is.
        fence(Ordering::SeqCst);
        let told = self.told.replace(self.next);
        if !self.event_idx {
            let flags = u16::from_le(self.word(layout.available).load(Ordering::Relaxed));
            return flags & NO_NOTICE == 0;
        }
        // SAFETY: the word behind the entries of the available ring.
        let event = self.word(unsafe { layout.available.add(2 + usize::from(self.size)) });
        let event = u16::from_le(event.load(Ordering::Relaxed));
        // Whether the entry that it asked to be told of is among those that came since it was last asked.
        told.is_none_or(|told| self.next.wrapping_sub(event).wrapping_sub(1) < self.next.wrapping_sub(told))
    }

    /// Ask the driver not to kick. With the event index it does once more at most.
    pub(super) fn want_no_kicks(&self) {
        let Some(layout) = self.layout else { return };
        if !self.event_idx {
            self.word(layout.used).store(NO_NOTICE.to_le(), Ordering::Relaxed);
        }
    }

    /// Ask the driver to kick with the next entry it adds to those that wait. Says whether it has added one beyond
    /// the `known` ones before it could see that.
    ///
    /// # Errors
    /// [`RingError`].
    pub(super) fn want_kick(&self, known: u16) -> Result<bool, RingError> {
        let Some(layout) = self.layout else { return Ok(false) };
        if self.event_idx {
            // SAFETY: the word behind the elements of the used ring.
            let event = self.word(unsafe { layout.used.add(2 + 4 * usize::from(self.size)) });
            event.store(self.next.wrapping_add(known).to_le(), Ordering::Relaxed);
        } else {
            self.word(layout.used).store(0, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        Ok(self.waiting()? > known)
    }
}

/// One descriptor, as it was when it was read.
struct Descriptor {
    address: u64,
    len: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    /// `at`: 16 mapped bytes. Each of them is read once.
    #[inline]
    fn read(at: *const u8) -> Self {
        let words: [u64; 2] = if at.addr() % 8 == 0 {
            let at = at.cast::<u64>();
            // SAFETY: as said, and aligned.
            unsafe { [at.read_volatile(), at.add(1).read_volatile()] }
        } else {
            let mut bytes = [0; DESCRIPTOR_LEN];
            for (index, byte) in bytes.iter_mut().enumerate() {
                // SAFETY: as said.
                *byte = unsafe { at.add(index).read_volatile() };
            }
            let (first, second) = bytes.split_at(8);
            [first, second].map(|half| half.first_chunk().map_or(0, |half| u64::from_ne_bytes(*half)))
        };
        let [address, rest] = words.map(u64::from_le);
        Self { address, len: rest as u32, flags: (rest >> 32) as u16, next: (rest >> 48) as u16 }
    }
}
