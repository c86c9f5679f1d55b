//! A front end and its guest's driver in one, for tests and fuzzing: shared memory with two rings in it, and the
//! messages that set them up. It does what it is told, right or wrong.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;

use crate::port::descriptor::check;

/// Bytes of memory that are shared.
pub const MEMORY: usize = 4 << 20;

/// Where the guest has it.
pub const GUEST: u64 = 0x10_0000;

/// Where the front end has it.
pub const USER: u64 = 0x7f00_0000_0000;

/// Entries of each ring.
pub const SIZE: u16 = 64;

/// To the guest, and from it.
pub const RECEIVE: usize = 0;
/// See [`RECEIVE`].
pub const TRANSMIT: usize = 1;

/// From the memory's start, for each of the two rings: descriptors, available, used. Buffers lie behind them.
pub const RINGS: [[usize; 3]; 2] = [[0, 0x1000, 0x2000], [0x4000, 0x5000, 0x6000]];

/// Where buffers begin.
pub const BUFFERS: usize = 0x10000;

/// A descriptor goes on with the next one.
pub const NEXT: u16 = 1;
/// A descriptor is for the device to write.
pub const WRITE: u16 = 2;
/// A descriptor is a table of descriptors.
pub const INDIRECT: u16 = 4;

/// A file in memory of `len` bytes.
///
/// # Errors
/// What the kernel says.
pub fn memory_file(len: u64) -> io::Result<File> {
    // SAFETY: the name is a C string that outlives the call.
    let file = check(unsafe { libc::memfd_create(c"double".as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    let file = unsafe { File::from_raw_fd(file) };
    file.set_len(len)?;
    Ok(file)
}

fn event() -> io::Result<OwnedFd> {
    // SAFETY: the call reads no memory.
    let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: as above.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// See the module's head.
pub struct FrontEnd {
    socket: UnixStream,
    memory: *mut u8,
    file: File,
    kicks: [OwnedFd; 2],
    calls: [OwnedFd; 2],
    next_free: [u16; 2],
    next_available: [u16; 2],
    seen: [u16; 2],
    next_buffer: usize,
}

// SAFETY: the mapping belongs to nobody else.
unsafe impl Send for FrontEnd {}

impl Drop for FrontEnd {
    fn drop(&mut self) {
        // SAFETY: a mapping of that length, of which no reference is left.
        unsafe { libc::munmap(self.memory.cast(), MEMORY) };
    }
}

impl FrontEnd {
    /// One, and the other end of its connection.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (socket, other) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        let file = memory_file(MEMORY as u64)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, which touches nothing that is there.
        let memory =
            unsafe { libc::mmap(ptr::null_mut(), MEMORY, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let (kicks, calls) = ([event()?, event()?], [event()?, event()?]);
        let (next_free, next_available, seen) = ([0; 2], [0; 2], [0; 2]);
        let memory = memory.cast();
        let next_buffer = BUFFERS;
        let made = Self { socket, memory, file, kicks, calls, next_free, next_available, seen, next_buffer };
        Ok((made, other.into()))
    }

    /// Send a message, with descriptors.
    ///
    /// # Errors
    /// What the kernel says, also when nobody reads.
    pub fn message(&self, request: u32, flags: u32, body: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for word in [request, flags, body.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(body);
        self.raw(&bytes, fds)
    }

    /// Send bytes, with descriptors.
    ///
    /// # Errors
    /// As [`FrontEnd::message`].
    pub fn raw(&self, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
        let mut control = [0_u64; 16];
        let mut piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: all-zero bytes are a valid msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut piece;
        header.msg_iovlen = 1;
        let len = size_of_val(fds) as u32;
        if !fds.is_empty() {
            header.msg_control = control.as_mut_ptr().cast();
            // SAFETY: arithmetic; there is room for a few descriptors, and the pointers are those of `control`.
            unsafe {
                header.msg_controllen = libc::CMSG_SPACE(len) as usize;
                let at = libc::CMSG_FIRSTHDR(&raw const header);
                (*at).cmsg_level = libc::SOL_SOCKET;
                (*at).cmsg_type = libc::SCM_RIGHTS;
                (*at).cmsg_len = libc::CMSG_LEN(len) as usize;
                ptr::copy_nonoverlapping(fds.as_ptr().cast(), libc::CMSG_DATA(at), len as usize);
            }
        }
        // SAFETY: everything that `header` points to outlives the call.
        let sent = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Bytes that were answered, all there are.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn answers(&mut self) -> io::Result<Vec<u8>> {
        let (mut answers, mut bytes) = (Vec::new(), [0; 4096]);
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Ok(answers),
                Ok(got) => answers.extend(&bytes[..got]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(answers),
                Err(error) => return Err(error),
            }
        }
    }

    /// Share the memory, and agree on `features`.
    ///
    /// # Errors
    /// As [`FrontEnd::message`].
    pub fn share(&self, features: u64) -> io::Result<()> {
        self.message(3, 1, &[], &[])?;
        self.message(2, 1, &features.to_ne_bytes(), &[])?;
        let words = [1, GUEST, MEMORY as u64, USER, 0].map(u64::to_ne_bytes);
        self.message(5, 1, words.as_flattened(), &[self.file.as_raw_fd()])
    }

    /// Start a ring, at `base`.
    ///
    /// # Errors
    /// As [`FrontEnd::message`].
    pub fn start(&self, ring: usize, base: u16) -> io::Result<()> {
        let state = |value: u32| [ring as u32, value].map(u32::to_ne_bytes);
        self.message(8, 1, state(u32::from(SIZE)).as_flattened(), &[])?;
        self.message(10, 1, state(u32::from(base)).as_flattened(), &[])?;
        let [descriptors, available, used] = RINGS[ring].map(|at| USER + at as u64);
        let words = [ring as u64, descriptors, used, available, 0].map(u64::to_ne_bytes);
        self.message(9, 1, words.as_flattened(), &[])?;
        let which = (ring as u64).to_ne_bytes();
        self.message(13, 1, &which, &[self.calls[ring].as_raw_fd()])?;
        self.message(12, 1, &which, &[self.kicks[ring].as_raw_fd()])?;
        self.message(18, 1, state(1).as_flattened(), &[])
    }

    /// The file behind the memory.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Write into the memory; beyond its end nothing happens.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        if at.saturating_add(bytes.len()) <= MEMORY {
            // SAFETY: inside the mapping, and nothing in our own memory overlaps it.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.add(at), bytes.len()) };
        }
    }

    /// What is in the memory; nothing beyond its end.
    #[must_use]
    pub fn read(&self, at: usize, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        if at.saturating_add(len) <= MEMORY {
            // SAFETY: as in `write`.
            unsafe { ptr::copy_nonoverlapping(self.memory.add(at), bytes.as_mut_ptr(), len) };
        }
        bytes
    }

    fn word(&self, at: usize) -> u16 {
        self.read(at, 2).first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes))
    }

    /// Write one descriptor into a table.
    pub fn descriptor(&self, table: usize, index: u16, address: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = address.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.write(table + 16 * usize::from(index), &bytes);
    }

    /// Room for a buffer; where it is.
    pub fn buffer(&mut self, len: usize) -> usize {
        let at = self.next_buffer;
        self.next_buffer += len.next_multiple_of(16);
        if self.next_buffer > MEMORY {
            self.next_buffer = BUFFERS + len.next_multiple_of(16);
            return BUFFERS;
        }
        at
    }

    /// Make buffers of these lengths, one chain, available in a ring; where they are.
    pub fn chain(&mut self, ring: usize, lens: &[usize]) -> Vec<usize> {
        let buffers: Vec<usize> = lens.iter().map(|len| self.buffer(*len)).collect();
        let head = self.next_free[ring];
        let write = if ring == RECEIVE { WRITE } else { 0 };
        for (place, (at, len)) in buffers.iter().zip(lens).enumerate() {
            let index = (head + place as u16) % SIZE;
            let more = if place + 1 < lens.len() { NEXT } else { 0 };
            let address = GUEST + *at as u64;
            self.descriptor(RINGS[ring][0], index, address, *len as u32, write | more, (index + 1) % SIZE);
        }
        self.next_free[ring] = (head + lens.len() as u16) % SIZE;
        self.make_available(ring, head);
        buffers
    }

    /// Go on at `position`, as if everything before had been used.
    pub fn set_position(&mut self, ring: usize, position: u16) {
        self.next_available[ring] = position;
        self.seen[ring] = position;
        self.write(RINGS[ring][1] + 2, &position.to_le_bytes());
        self.write(RINGS[ring][2] + 2, &position.to_le_bytes());
    }

    /// Put a chain's head into the available ring.
    pub fn make_available(&mut self, ring: usize, head: u16) {
        let available = RINGS[ring][1];
        let next = self.next_available[ring];
        self.write(available + 4 + 2 * usize::from(next % SIZE), &head.to_le_bytes());
        self.next_available[ring] = next.wrapping_add(1);
        self.write(available + 2, &next.wrapping_add(1).to_le_bytes());
    }

    /// A frame behind its header, in a chain cut into pieces of `piece` bytes.
    pub fn transmit(&mut self, bytes: &[u8], piece: usize) {
        let lens: Vec<usize> = bytes.chunks(piece).map(<[u8]>::len).collect();
        let places = self.chain(TRANSMIT, &lens);
        for (at, bytes) in places.into_iter().zip(bytes.chunks(piece)) {
            self.write(at, bytes);
        }
    }

    /// Chains that were given back since the last call: head and length.
    pub fn used(&mut self, ring: usize) -> Vec<(u32, u32)> {
        let used = RINGS[ring][2];
        let until = self.word(used + 2);
        let mut found = Vec::new();
        while self.seen[ring] != until {
            let at = used + 4 + 8 * usize::from(self.seen[ring] % SIZE);
            let words = [at, at + 4]
                .map(|at| self.read(at, 4).first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)));
            found.push((words[0], words[1]));
            self.seen[ring] = self.seen[ring].wrapping_add(1);
        }
        found
    }

    /// Kick a ring.
    pub fn kick(&self, ring: usize) {
        let one = 1_u64;
        // SAFETY: pointer and length are those of `one`, which outlives the call.
        unsafe { libc::write(self.kicks[ring].as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Calls since the last one of these.
    #[must_use]
    pub fn calls(&self, ring: usize) -> u64 {
        let mut count = 0_u64;
        // SAFETY: pointer and length are those of `count`, which outlives the call.
        let got = unsafe { libc::read(self.calls[ring].as_raw_fd(), (&raw mut count).cast(), 8) };
        if got == 8 { count } else { 0 }
    }

    /// Whether we are asked not to kick: the flag, and where to kick with the event index.
    #[must_use]
    pub fn wanted_kicks(&self, ring: usize) -> (bool, u16) {
        let used = RINGS[ring][2];
        (self.word(used) & 1 == 0, self.word(used + 4 + 8 * usize::from(SIZE)))
    }

    /// Ask not to be called, or where to be with the event index.
    pub fn want_calls(&self, ring: usize, flag: bool, event: u16) {
        let available = RINGS[ring][1];
        self.write(available, &u16::from(!flag).to_le_bytes());
        self.write(available + 4 + 2 * usize::from(SIZE), &event.to_le_bytes());
    }
}
