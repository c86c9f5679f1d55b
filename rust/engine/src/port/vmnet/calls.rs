//! The calls that are made for frames: arrays of packet descriptors, one iovec a packet, made anew for each call,
//! since the framework changes them and reads back what it finds (Apple's `vmnet.h`).
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};

use super::blocks::address;
use super::status::{self, Status};
use crate::pool::BATCH;

/// `VMNET_INTERFACE_PACKETS_AVAILABLE`, the only event there is.
const PACKETS_AVAILABLE: u32 = 1;

/// `struct vmpktdesc`.
#[repr(C)]
struct Packet {
    /// Capacity or length, and after a read the length.
    size: usize,
    iov: *mut libc::iovec,
    iov_count: u32,
    flags: u32,
}

const _: () = assert!(size_of::<Packet>() == 24 && size_of::<libc::iovec>() == 16, "64-bit systems only");

type ReadOrWrite = unsafe extern "C" fn(*mut c_void, *mut Packet, *mut c_int) -> u32;
type SetEventCallback = unsafe extern "C" fn(*mut c_void, u32, *mut c_void, *mut c_void) -> u32;

/// The framework's functions.
#[derive(Clone, Copy, Debug)]
pub struct Functions {
    read: ReadOrWrite,
    write: ReadOrWrite,
    set_event_callback: SetEventCallback,
}

impl Functions {
    /// The addresses of `vmnet_read`, `vmnet_write` and `vmnet_interface_set_event_callback`. `None` when one of
    /// them is null.
    ///
    /// # Safety
    /// Each must be the address of that function, which stays loaded.
    #[must_use]
    pub unsafe fn from_addresses(read: usize, write: usize, set_event_callback: usize) -> Option<Self> {
        let (read, write, set) = (address(read)?, address(write)?, address(set_event_callback)?);
        Some(Self {
            // SAFETY: the caller says that this is vmnet_read; `Packet` is its vmpktdesc.
            read: unsafe { std::mem::transmute::<NonNull<c_void>, ReadOrWrite>(read) },
            // SAFETY: the caller says that this is vmnet_write, of the same type.
            write: unsafe { std::mem::transmute::<NonNull<c_void>, ReadOrWrite>(write) },
            // SAFETY: the caller says that this is vmnet_interface_set_event_callback.
            set_event_callback: unsafe { std::mem::transmute::<NonNull<c_void>, SetEventCallback>(set) },
        })
    }
}

/// A started interface, and the arrays for its calls, which are allocated once.
pub(super) struct Interface {
    functions: Functions,
    handle: NonNull<c_void>,
    packets: Box<[Packet; BATCH]>,
    iovs: Box<[libc::iovec; BATCH]>,
}

// SAFETY: the framework's calls may be made from any thread; the pointers in the arrays are used only during a
// call, after they have been written anew.
unsafe impl Send for Interface {}

impl Interface {
    pub(super) fn new(functions: Functions, handle: NonNull<c_void>) -> Self {
        let packet = || Packet { size: 0, iov: ptr::null_mut(), iov_count: 0, flags: 0 };
        let iov = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        let packets = Box::new(std::array::from_fn(|_| packet()));
        Self { functions, handle, packets, iovs: Box::new([iov; BATCH]) }
    }

    /// Have `block` called on `queue` when packets have arrived.
    pub(super) fn set_callback(&self, queue: *mut c_void, block: *mut c_void) -> Result<(), Status> {
        // SAFETY: the handle is that of a started interface, the rest a queue and a block or null.
        let set = unsafe {
            (self.functions.set_event_callback)(self.handle.as_ptr(), PACKETS_AVAILABLE, queue, block)
        };
        status::check(set)
    }

    /// Read into `slots`, of which at most the first [`BATCH`] are used, and say how many packets there were.
    pub(super) fn read<'a>(&mut self, slots: impl Iterator<Item = &'a mut [u8]>) -> Result<usize, Status> {
        let mut asked = 0;
        for ((packet, iov), slot) in self.packets.iter_mut().zip(self.iovs.iter_mut()).zip(slots) {
            prepare(packet, iov, slot.as_mut_ptr(), slot.len());
            asked += 1;
        }
        // SAFETY: the first `asked` descriptors were made above; each has one iovec that describes a slot, which
        // is borrowed for longer than the call.
        unsafe { self.call(self.functions.read, asked) }
    }

    /// The length of packet `index` of the last read, as the framework says: it may be more than there was room for.
    pub(super) fn length(&self, index: usize) -> usize {
        self.packets[index].size
    }

    /// Write `frames`, of which at most the first [`BATCH`] are used, and say how many were written.
    pub(super) fn write<'a>(&mut self, frames: impl Iterator<Item = &'a [u8]>) -> Result<usize, Status> {
        let mut asked = 0;
        for ((packet, iov), frame) in self.packets.iter_mut().zip(self.iovs.iter_mut()).zip(frames) {
            // The framework only reads from it, whatever the type says.
            prepare(packet, iov, frame.as_ptr().cast_mut(), frame.len());
            asked += 1;
        }
        // SAFETY: as for reading; the frames are borrowed for longer than the call.
        unsafe { self.call(self.functions.write, asked) }
    }

    /// # Safety
    /// The first `asked` descriptors must describe memory that `function` may use.
    unsafe fn call(&mut self, function: ReadOrWrite, asked: usize) -> Result<usize, Status> {
        let mut count = asked as c_int;
        // SAFETY: the handle is that of a started interface; for the array see the contract.
        let result = unsafe { function(self.handle.as_ptr(), self.packets.as_mut_ptr(), &raw mut count) };
        status::check(result)?;
        Ok(usize::try_from(count).unwrap_or(0).min(asked))
    }
}

fn prepare(packet: &mut Packet, iov: &mut libc::iovec, memory: *mut u8, len: usize) {
    *iov = libc::iovec { iov_base: memory.cast(), iov_len: len };
    *packet = Packet { size: len, iov, iov_count: 1, flags: 0 };
}
