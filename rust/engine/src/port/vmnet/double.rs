//! Test doubles: a framework of one interface, and the part of a Blocks runtime that is called. They check what
//! they are given as the real ones might, and more.
#![allow(unsafe_code, reason = "the other side of a C interface")]

use std::alloc::{Layout, alloc, dealloc};
use std::collections::VecDeque;
use std::ffi::{c_int, c_ulong, c_void};
use std::ptr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicIsize, Ordering};

use super::blocks::BlockRuntime;
use super::calls::Functions;
use super::completion::ObjectRuntime;
use super::{Limits, Vmnet};

/// What every block begins with, written anew from the ABI's documentation.
#[repr(C)]
struct Header {
    isa: *const c_void,
    flags: c_int,
    references: c_int,
    invoke: *const c_void,
    descriptor: *const Descriptor,
}

#[repr(C)]
struct Descriptor {
    reserved: c_ulong,
    size: c_ulong,
    copy: unsafe extern "C" fn(*mut c_void, *const c_void),
    dispose: unsafe extern "C" fn(*const c_void),
    signature: *const std::ffi::c_char,
}

static STACK: u8 = 0;
static HEAP: u8 = 0;
/// `BLOCK_HAS_COPY_DISPOSE`.
const HELPERS: c_int = 1 << 25;

thread_local! {
    /// Blocks of this thread's test on the heap.
    static BLOCKS: AtomicIsize = const { AtomicIsize::new(0) };
}

/// How many blocks are alive that this thread has copied.
pub(super) fn blocks_alive() -> isize {
    BLOCKS.with(|alive| alive.load(Ordering::SeqCst))
}

fn layout(size: c_ulong) -> Layout {
    Layout::from_size_align(size as usize, 16).unwrap()
}

unsafe extern "C" fn block_copy(block: *const c_void) -> *mut c_void {
    let original = block.cast::<Header>().cast_mut();
    // SAFETY: the tests only pass blocks.
    unsafe {
        assert_ne!((*original).flags & HELPERS, 0);
        if ptr::eq((*original).isa, (&raw const HEAP).cast()) {
            (*original).references += 1;
            return original.cast();
        }
        assert!(ptr::eq((*original).isa, (&raw const STACK).cast()));
        let descriptor = &*(*original).descriptor;
        let copy = alloc(layout(descriptor.size));
        ptr::copy_nonoverlapping(block.cast(), copy, descriptor.size as usize);
        let header = copy.cast::<Header>();
        ((*header).isa, (*header).references) = ((&raw const HEAP).cast(), 1);
        (descriptor.copy)(copy.cast(), block);
        BLOCKS.with(|alive| alive.fetch_add(1, Ordering::SeqCst));
        copy.cast()
    }
}

unsafe extern "C" fn block_release(block: *const c_void) {
    let header = block.cast::<Header>().cast_mut();
    // SAFETY: the tests only pass blocks that `block_copy` made.
    unsafe {
        (*header).references -= 1;
        assert!((*header).references >= 0);
        if (*header).references == 0 {
            let descriptor = &*(*header).descriptor;
            (descriptor.dispose)(block);
            dealloc(header.cast(), layout(descriptor.size));
            BLOCKS.with(|alive| alive.fetch_sub(1, Ordering::SeqCst));
        }
    }
}

pub(super) fn runtime() -> BlockRuntime {
    let (copy, release) = (block_copy as *const (), block_release as *const ());
    let stack: *const u8 = &raw const STACK;
    // SAFETY: these are the symbols of the runtime above.
    unsafe { BlockRuntime::from_addresses(stack.expose_provenance(), copy as usize, release as usize) }.unwrap()
}

/// Keep a block as the framework would, and give it up again.
pub(super) struct Kept(*mut c_void);

impl Kept {
    pub(super) fn new(block: usize) -> Self {
        // SAFETY: the tests only pass blocks.
        Self(unsafe { block_copy(ptr::with_exposed_provenance(block)) })
    }

    /// `void (^)(uint32_t, void *)`
    pub(super) fn call_with_object(&self, status: u32, object: *mut c_void) {
        // SAFETY: the test knows of which kind the block is.
        unsafe {
            let invoke = (*self.0.cast::<Header>()).invoke;
            let invoke: unsafe extern "C" fn(*mut c_void, u32, *mut c_void) = std::mem::transmute(invoke);
            invoke(self.0, status, object);
        }
    }

    /// `void (^)(uint32_t)`
    pub(super) fn call(&self, status: u32) {
        // SAFETY: the test knows of which kind the block is.
        unsafe {
            let invoke = (*self.0.cast::<Header>()).invoke;
            let invoke: unsafe extern "C" fn(*mut c_void, u32) = std::mem::transmute(invoke);
            invoke(self.0, status);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: the reference is the one taken by `new`.
        unsafe { block_release(self.0) };
    }
}

/// An object with a count of references, in XPC's place.
pub(super) type Object = AtomicIsize;

unsafe extern "C" fn object_retain(object: *mut c_void) -> *mut c_void {
    // SAFETY: the tests only pass objects.
    unsafe { &*object.cast::<Object>() }.fetch_add(1, Ordering::SeqCst);
    object
}

unsafe extern "C" fn object_release(object: *mut c_void) {
    // SAFETY: the tests only pass objects.
    unsafe { &*object.cast::<Object>() }.fetch_sub(1, Ordering::SeqCst);
}

pub(super) fn objects() -> ObjectRuntime {
    let (retain, release) = (object_retain as *const (), object_release as *const ());
    // SAFETY: these are the functions of the runtime above.
    unsafe { ObjectRuntime::from_addresses(retain as usize, release as usize) }.unwrap()
}

#[repr(C)]
struct Packet {
    size: usize,
    iov: *mut libc::iovec,
    iov_count: u32,
    flags: u32,
}

/// What the interface does and has seen.
#[derive(Default)]
pub(super) struct State {
    pub(super) arriving: VecDeque<Vec<u8>>,
    pub(super) written: Vec<Vec<u8>>,
    /// What the next reads and writes give in place of success.
    pub(super) read_statuses: VecDeque<u32>,
    pub(super) write_statuses: VecDeque<u32>,
    /// Frames that the kernel still has room for.
    pub(super) room: usize,
    pub(super) reads: usize,
    pub(super) write_sizes: Vec<usize>,
    /// Frames whose last byte is this are not liked.
    pub(super) disliked: Option<u8>,
    pub(super) refuses_callback: bool,
    callback: Option<Kept>,
}

// SAFETY: the tests call it from one thread at a time.
unsafe impl Send for State {}

/// The framework; its address is the interface's handle.
pub(super) struct Framework {
    pub(super) limits: Limits,
    pub(super) state: Mutex<State>,
}

impl Framework {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::new(State { room: usize::MAX, ..State::default() }) }
    }

    pub(super) fn port(&self) -> Vmnet {
        self.try_port().unwrap()
    }

    pub(super) fn try_port(&self) -> Result<Vmnet, super::VmnetError> {
        let (read, write) = (vmnet_read as *const (), vmnet_write as *const ());
        let set = set_event_callback as *const ();
        // SAFETY: these are the functions of the framework below, and its handle.
        unsafe {
            let functions = Functions::from_addresses(read as usize, write as usize, set as usize).unwrap();
            Vmnet::new(ptr::from_ref(self).expose_provenance(), 1, functions, &runtime(), self.limits)
        }
    }

    /// Frames arrive and the event callback is called.
    pub(super) fn arrive(&self, frames: impl IntoIterator<Item = Vec<u8>>) {
        self.state.lock().unwrap().arriving.extend(frames);
        self.event();
    }

    pub(super) fn event(&self) {
        if let Some(callback) = &self.state.lock().unwrap().callback {
            callback.call_with_object(1, ptr::null_mut());
        }
    }

    pub(super) fn has_callback(&self) -> bool {
        self.state.lock().unwrap().callback.is_some()
    }
}

/// The descriptors of one call, checked as the framework does and more.
unsafe fn packets<'a>(packets: *mut Packet, count: *mut c_int, most: usize) -> &'a mut [Packet] {
    // SAFETY: the caller of the framework says that there are `*count` packets.
    let packets = unsafe { std::slice::from_raw_parts_mut(packets, usize::try_from(*count).unwrap()) };
    assert!((1..=most).contains(&packets.len()), "{} packets in a call", packets.len());
    let mut bytes = 0;
    for packet in packets.iter() {
        assert_eq!((packet.iov_count, packet.flags), (1, 0));
        // SAFETY: as above, each has one iovec.
        assert_eq!(unsafe { (*packet.iov).iov_len }, packet.size);
        bytes += packet.size;
    }
    assert!(bytes <= 256 << 10 || packets.len() == 1);
    packets
}

unsafe extern "C" fn vmnet_read(interface: *mut c_void, array: *mut Packet, count: *mut c_int) -> u32 {
    // SAFETY: the handle is a `Framework`'s address; for the rest see `packets`.
    unsafe {
        let framework = &*interface.cast::<Framework>();
        let packets = packets(array, count, framework.limits.read_max_packets);
        let mut state = framework.state.lock().unwrap();
        state.reads += 1;
        if let Some(status) = state.read_statuses.pop_front().filter(|status| *status != 1000) {
            return status;
        }
        *count = 0;
        for packet in packets {
            assert!(packet.size >= framework.limits.max_packet_size);
            let Some(frame) = state.arriving.pop_front() else { break };
            let fits = frame.len().min((*packet.iov).iov_len);
            ptr::copy_nonoverlapping(frame.as_ptr(), (*packet.iov).iov_base.cast(), fits);
            packet.size = frame.len();
            // What a client must not rely on finding as it left it.
            (packet.iov_count, packet.flags) = (7, 7);
            *count += 1;
        }
        1000
    }
}

unsafe extern "C" fn vmnet_write(interface: *mut c_void, array: *mut Packet, count: *mut c_int) -> u32 {
    // SAFETY: the handle is a `Framework`'s address; for the rest see `packets`.
    unsafe {
        let framework = &*interface.cast::<Framework>();
        let packets = packets(array, count, framework.limits.write_max_packets);
        let mut state = framework.state.lock().unwrap();
        state.write_sizes.push(packets.len());
        if let Some(status) = state.write_statuses.pop_front().filter(|status| *status != 1000) {
            return status;
        }
        let frames: Vec<_> = packets
            .iter()
            .map(|packet| std::slice::from_raw_parts((*packet.iov).iov_base.cast::<u8>(), packet.size).to_vec())
            .collect();
        if frames.iter().any(|frame| frame.len() > framework.limits.max_packet_size) {
            return 1006;
        }
        if frames.iter().any(|frame| frame.len() < 14 || frame.last() == state.disliked.as_ref()) {
            return 1003;
        }
        if state.room < frames.len() {
            return 1007;
        }
        state.room -= frames.len();
        state.written.extend(frames);
        1000
    }
}

unsafe extern "C" fn set_event_callback(
    interface: *mut c_void,
    mask: u32,
    queue: *mut c_void,
    block: *mut c_void,
) -> u32 {
    // SAFETY: the handle is a `Framework`'s address.
    let framework = unsafe { &*interface.cast::<Framework>() };
    let mut state = framework.state.lock().unwrap();
    assert_eq!(mask, 1);
    assert_eq!(queue.is_null(), block.is_null());
    if state.refuses_callback {
        return 1003;
    }
    state.callback = (!block.is_null()).then(|| Kept::new(block.expose_provenance()));
    1000
}
