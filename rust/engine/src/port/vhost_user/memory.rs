//! The memory that a front end shares, and where in it an address of the guest's, or of the front end's, is.
//!
//! The other side changes it whenever it likes: it is touched through raw pointers only, what is decided on is
//! copied out first, and no reference into it is ever made.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vhost::vhost_user::message::VhostUserMemoryRegion;
use vm_memory::{FileOffset, MmapRegion};

use super::faults;

/// Regions of one guest. Chosen: QEMU makes two or three, and one for each memory module that is plugged in later.
pub(super) const MOST_REGIONS: usize = 32;

/// Bytes of one guest. Chosen: more than any guest has, and it leaves room for others in the address space.
const MOST_BYTES: u64 = 4 << 40;

/// Why a region is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum MemoryError {
    #[error("More than {MOST_REGIONS} memory regions")]
    TooMany,
    #[error("Memory regions of more than {MOST_BYTES} bytes")]
    TooMuch,
    #[error("Guest memory that is neither a memfd nor a file on tmpfs or hugetlbfs")]
    WrongFile,
    #[error("A memory region that overlaps another one")]
    Overlap,
    #[error("A memory region that cannot be mapped: {0}")]
    Map(String),
    #[error("There is no such memory region")]
    Unknown,
}

impl From<MemoryError> for io::Error {
    fn from(error: MemoryError) -> Self {
        Self::other(error.to_string())
    }
}

/// A piece of guest memory: all of it lies in one mapping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) at: *mut u8,
    pub(super) len: usize,
}

impl Piece {
    /// Have the processor fetch its beginning, as far as it knows how.
    #[inline]
    pub(super) fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which reads nothing that the program could see, from any address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.at.cast());
            _mm_prefetch::<_MM_HINT_T0>(self.at.wrapping_add(64).cast());
        }
    }
}

struct Region {
    guest: u64,
    user: u64,
    len: u64,
    host: *mut u8,
    /// Before the mapping, since fields are dropped in order.
    watch: faults::Watch,
    _mapping: MmapRegion,
}

impl Region {
    fn map(region: &VhostUserMemoryRegion, file: File) -> Result<Self, MemoryError> {
        // Memory that belongs to no other file system: a page of it is there or not, and nobody is asked for it. On
        // FUSE a page fault, and even fstat(), would wait for the one who sent us the file; this question is
        // answered by the kernel alone.
        // SAFETY: the call reads no memory and the descriptor is open.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) } < 0 {
            return Err(MemoryError::WrongFile);
        }
        let VhostUserMemoryRegion { guest_phys_addr, memory_size, user_addr, mmap_offset } = *region;
        let too_much = |_| MemoryError::TooMuch;
        // From the file's start: an offset need not be a multiple of a huge page.
        let whole = usize::try_from(mmap_offset.saturating_add(memory_size)).map_err(too_much)?;
        let whole = whole.checked_next_multiple_of(page_len(&file)).ok_or(MemoryError::TooMuch)?;
        let offset = usize::try_from(mmap_offset).map_err(too_much)?;
        if file.metadata().map_err(|error| MemoryError::Map(error.to_string()))?.len() < whole as u64 {
            return Err(MemoryError::Map("it is longer than its file".into()));
        }
        let mapping = MmapRegion::from_file(FileOffset::new(file, 0), whole)
            .map_err(|error| MemoryError::Map(error.to_string()))?;
        let watch =
            faults::Watch::new(mapping.as_ptr(), whole).map_err(|error| MemoryError::Map(error.to_string()))?;
        // SAFETY: `offset` is less than the length of the mapping, since the region is not empty.
        let host = unsafe { mapping.as_ptr().add(offset) };
        let (guest, user) = (guest_phys_addr, user_addr);
        Ok(Self { guest, user, len: memory_size, host, watch, _mapping: mapping })
    }

    fn overlaps(&self, other: &VhostUserMemoryRegion) -> bool {
        self.guest < other.guest_phys_addr.saturating_add(other.memory_size)
            && other.guest_phys_addr < self.guest.saturating_add(self.len)
    }
}

/// What lengths of mappings of this file are counted in, where that is more than a byte.
fn page_len(file: &File) -> usize {
    // SAFETY: all-zero bytes are a valid statfs, into which the call writes.
    let mut about: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `about` outlives the call, which only writes there.
    let result = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut about) };
    let huge = result == 0 && about.f_type == libc::HUGETLBFS_MAGIC;
    if huge { usize::try_from(about.f_bsize).unwrap_or(1).max(1) } else { 1 }
}

/// All regions of one guest.
#[derive(Default)]
pub(super) struct Memory {
    regions: Vec<Region>,
}

impl Memory {
    /// # Errors
    /// [`MemoryError`]; what was there stays.
    pub(super) fn add(&mut self, region: &VhostUserMemoryRegion, file: File) -> Result<(), MemoryError> {
        if self.regions.len() >= MOST_REGIONS {
            return Err(MemoryError::TooMany);
        }
        let bytes: u64 = self.regions.iter().map(|one| one.len).sum();
        let new = region.memory_size.saturating_add(region.mmap_offset);
        if new == 0 || bytes.saturating_add(new) > MOST_BYTES {
            return Err(MemoryError::TooMuch);
        }
        if self.regions.iter().any(|one| one.overlaps(region)) {
            return Err(MemoryError::Overlap);
        }
        self.regions.push(Region::map(region, file)?);
        Ok(())
    }

    /// # Errors
    /// When there is none like it.
    pub(super) fn remove(&mut self, region: &VhostUserMemoryRegion) -> Result<(), MemoryError> {
        let key = (region.guest_phys_addr, region.user_addr, region.memory_size);
        let place = self.regions.iter().position(|one| (one.guest, one.user, one.len) == key);
        self.regions.remove(place.ok_or(MemoryError::Unknown)?);
        Ok(())
    }

    /// Whether the front end has shortened a file behind it.
    pub(super) fn is_cut(&self) -> bool {
        self.regions.iter().any(|region| region.watch.is_cut())
    }

    /// What begins at an address of the guest's: `len` bytes, or as many as there are in one piece.
    #[inline]
    pub(super) fn guest(&self, address: u64, len: usize) -> Option<Piece> {
        self.find(address, len, |region| region.guest)
    }

    /// The same for an address of the front end's, of which all `len` bytes are wanted.
    pub(super) fn user(&self, address: u64, len: usize) -> Option<*mut u8> {
        let piece = self.find(address, len, |region| region.user)?;
        (piece.len == len).then_some(piece.at)
    }

    #[inline]
    fn find(&self, address: u64, len: usize, base: impl Fn(&Region) -> u64) -> Option<Piece> {
        for region in &self.regions {
            let offset = address.wrapping_sub(base(region));
            if offset < region.len {
                let left = region.len - offset;
                // SAFETY: `offset` is less than the region's length, all of which is mapped from `host`.
                let at = unsafe { region.host.add(offset as usize) };
                return Some(Piece { at, len: len.min(usize::try_from(left).unwrap_or(usize::MAX)) });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::double;
    use super::*;

    fn memory_file(len: u64) -> File {
        double::memory_file(len).unwrap()
    }

    fn region(guest: u64, len: u64, user: u64, offset: u64) -> VhostUserMemoryRegion {
        VhostUserMemoryRegion::new(guest, len, user, offset)
    }

    #[test]
    fn addresses_are_found_in_their_region() {
        let mut memory = Memory::default();
        memory.add(&region(0x1000, 0x2000, 0x7000_0000, 0x1000), memory_file(0x3000)).unwrap();
        memory.add(&region(0x3000, 0x1000, 0x9000_0000, 0), memory_file(0x1000)).unwrap();
        let first = memory.guest(0x1000, 8).unwrap();
        assert_eq!(first.len, 8);
        assert_eq!(memory.user(0x7000_0000, 0x2000), Some(first.at));
        assert_eq!(memory.guest(0x2ff0, 100).unwrap().len, 16);
        assert_eq!(memory.user(0x7000_1ff0, 100), None);
        for outside in [0, 0xfff, 0x4000, u64::MAX] {
            assert!(memory.guest(outside, 1).is_none(), "{outside:x}");
        }
        memory.remove(&region(0x1000, 0x2000, 0x7000_0000, 0x1000)).unwrap();
        assert!(memory.guest(0x1000, 8).is_none());
        assert!(matches!(memory.remove(&region(1, 1, 1, 0)), Err(MemoryError::Unknown)));
    }

    #[test]
    fn what_cannot_be_mapped_is_refused() {
        let mut memory = Memory::default();
        let refused = |result| matches!(result, Err(MemoryError::Map(_)));
        assert!(refused(memory.add(&region(0, 0x2000, 0, 0), memory_file(0x1000))), "longer than its file");
        assert!(refused(memory.add(&region(0, 0x1000, 0, 0x1000), memory_file(0x1000))));
        let big = memory.add(&region(0, 1 << 50, 0, 0), memory_file(0x1000));
        assert!(matches!(big, Err(MemoryError::TooMuch)));
        memory.add(&region(0x1000, 0x1000, 0, 0), memory_file(0x1000)).unwrap();
        let twice = memory.add(&region(0x1fff, 0x1000, 0x5000, 0), memory_file(0x1000));
        assert!(matches!(twice, Err(MemoryError::Overlap)));
        for number in 1..MOST_REGIONS as u64 {
            let next = region(0x10_0000 * number, 0x1000, 0x10_0000 * number, 0);
            memory.add(&next, memory_file(0x1000)).unwrap();
        }
        let more = memory.add(&region(0, 0x1000, 0, 0), memory_file(0x1000));
        assert!(matches!(more, Err(MemoryError::TooMany)));
    }

    #[test]
    fn only_memory_is_taken_for_memory() {
        let mut memory = Memory::default();
        for path in ["/proc/self/maps", "/dev/zero", "/proc/self/exe"] {
            let result = memory.add(&region(0, 0x1000, 0, 0), File::open(path).unwrap());
            assert!(matches!(result, Err(MemoryError::WrongFile)), "{path}");
        }
    }

    #[test]
    fn a_file_that_was_cut_costs_no_more_than_a_mark() {
        let mut memory = Memory::default();
        let file = memory_file(0x4000);
        memory.add(&region(0, 0x4000, 0, 0), file.try_clone().unwrap()).unwrap();
        memory.add(&region(0x10000, 0x1000, 0x10000, 0), memory_file(0x1000)).unwrap();
        let piece = memory.guest(0x3000, 8).unwrap();
        // SAFETY: the piece is mapped.
        unsafe { piece.at.write_volatile(7) };
        assert!(!memory.is_cut());
        file.set_len(0x1000).unwrap();
        // SAFETY: mapped still, though there is nothing behind it: this is the fault that is survived.
        assert_eq!(unsafe { piece.at.read_volatile() }, 0);
        assert!(memory.is_cut());
        // SAFETY: as above.
        unsafe { piece.at.write_volatile(9) };
    }
}
