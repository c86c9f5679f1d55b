//! C blocks made by hand: the callbacks that Apple's libraries take. Layout as in the Block ABI of LLVM
//! (Block-ABI-Apple), as a compiler would have written it for `^{ ... }` with one captured object.
//!
//! A literal with copy and dispose helpers lies on the stack only until `_Block_copy` has moved it. What it
//! captures is an [`Arc`] whose count the helpers keep, so that a callback that comes late finds live memory and
//! nothing is left over when the last copy goes.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_ulong, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// `BLOCK_HAS_COPY_DISPOSE` and `BLOCK_HAS_SIGNATURE` (Block-ABI-Apple).
const FLAGS: c_int = 1 << 25 | 1 << 30;

type Copy = unsafe extern "C" fn(*const c_void) -> *mut c_void;
type Release = unsafe extern "C" fn(*const c_void);

/// The parts of the Blocks runtime that are called (libSystem on macOS, libBlocksRuntime elsewhere).
#[derive(Clone, Copy, Debug)]
pub struct BlockRuntime {
    /// Address of `_NSConcreteStackBlock`, never looked into.
    stack_block: *const c_void,
    copy: Copy,
    release: Release,
}

// SAFETY: addresses of code and of a symbol, the same for every thread.
unsafe impl Send for BlockRuntime {}
// SAFETY: as above; nothing behind them is changed through this type.
unsafe impl Sync for BlockRuntime {}

impl BlockRuntime {
    /// The addresses of the data symbol `_NSConcreteStackBlock` and of the functions `_Block_copy` and
    /// `_Block_release`. `None` when one of them is null.
    ///
    /// # Safety
    /// Each must be the address of that symbol of one Blocks runtime that stays loaded.
    #[must_use]
    pub unsafe fn from_addresses(stack_block: usize, copy: usize, release: usize) -> Option<Self> {
        let (copy, release) = (address(copy)?, address(release)?);
        Some(Self {
            stack_block: address(stack_block)?.as_ptr(),
            // SAFETY: the caller says that this is `void *_Block_copy(const void *)`.
            copy: unsafe { std::mem::transmute::<NonNull<c_void>, Copy>(copy) },
            // SAFETY: the caller says that this is `void _Block_release(const void *)`.
            release: unsafe { std::mem::transmute::<NonNull<c_void>, Release>(release) },
        })
    }
}

/// An address that came from outside as a number; `None` for null.
pub(super) fn address(number: usize) -> Option<NonNull<c_void>> {
    NonNull::new(ptr::with_exposed_provenance_mut(number))
}

/// What the runtime reads behind a literal.
#[repr(C)]
struct Descriptor {
    reserved: c_ulong,
    size: c_ulong,
    copy: unsafe extern "C" fn(*mut c_void, *const c_void),
    dispose: unsafe extern "C" fn(*const c_void),
    signature: *const c_char,
}

/// The block itself, the captured object behind the header.
#[repr(C)]
struct Literal<T> {
    isa: *const c_void,
    flags: c_int,
    reserved: c_int,
    invoke: *const c_void,
    descriptor: *const Descriptor,
    captured: *const T,
}

/// An object that a block captures, and how the block calls it.
pub(super) trait Captured: Send + Sync + Sized + 'static {
    /// The function that the block's caller calls, with the block as its first argument; it must not unwind.
    const INVOKE: *const c_void;
    /// Its arguments in Objective-C's type encoding, as compilers write it into the descriptor.
    const SIGNATURE: &'static CStr;
}

/// The descriptor of blocks that capture a `T`; a constant, so that a reference to it lives for ever.
struct DescriptorOf<T>(PhantomData<T>);

impl<T: Captured> DescriptorOf<T> {
    const DESCRIPTOR: Descriptor = Descriptor {
        reserved: 0,
        size: size_of::<Literal<T>>() as c_ulong,
        copy: retain_captured::<T>,
        dispose: release_captured::<T>,
        signature: T::SIGNATURE.as_ptr(),
    };
    const STATIC: &'static Descriptor = &Self::DESCRIPTOR;
}

/// Called by the runtime when it has copied the bytes of a literal.
unsafe extern "C" fn retain_captured<T>(_copy: *mut c_void, original: *const c_void) {
    let original: *const Literal<T> = original.cast();
    // SAFETY: the runtime passes the literal that it has copied; its captured pointer came from an Arc that
    // whoever holds the original keeps alive.
    unsafe { Arc::increment_strong_count((*original).captured) };
}

/// Called by the runtime when the last reference to a copy has gone.
unsafe extern "C" fn release_captured<T>(copy: *const c_void) {
    let copy: *const Literal<T> = copy.cast();
    // SAFETY: each copy owns the count that `retain_captured` added for it.
    unsafe { Arc::decrement_strong_count((*copy).captured) };
}

/// The object that a block captured, for as long as the call lasts.
///
/// # Safety
/// `block` must be the first argument of an invoke function of a block made by [`Block::new`] with a `T`.
pub(super) unsafe fn captured<'a, T: Captured>(block: *const c_void) -> &'a T {
    // SAFETY: by the contract it points to a `Literal<T>`, which holds a count of the object during the call.
    unsafe { &*(*block.cast::<Literal<T>>()).captured }
}

/// One reference to a block on the heap, given back when it is dropped.
pub(super) struct Block<T> {
    block: NonNull<c_void>,
    release: Release,
    object: PhantomData<Arc<T>>,
}

// SAFETY: the runtime counts references with atomic operations, and the object is itself Send and Sync.
unsafe impl<T: Captured> Send for Block<T> {}
// SAFETY: as above; a shared reference gives nothing but the address.
unsafe impl<T: Captured> Sync for Block<T> {}

impl<T: Captured> Block<T> {
    /// `None` when the runtime has no memory for it.
    pub(super) fn new(runtime: &BlockRuntime, object: &Arc<T>) -> Option<Self> {
        let literal = Literal {
            isa: runtime.stack_block,
            flags: FLAGS,
            reserved: 0,
            invoke: T::INVOKE,
            descriptor: DescriptorOf::<T>::STATIC,
            captured: Arc::as_ptr(object),
        };
        // SAFETY: `literal` has the layout of a block with helpers and outlives the call, as `object` does.
        let copied = unsafe { (runtime.copy)((&raw const literal).cast()) };
        NonNull::new(copied).map(|block| Self { block, release: runtime.release, object: PhantomData })
    }

    /// What is passed where a block is asked for.
    pub(super) fn as_ptr(&self) -> *mut c_void {
        self.block.as_ptr()
    }
}

impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        // SAFETY: this is the one reference that `_Block_copy` gave to this value.
        unsafe { (self.release)(self.block.as_ptr()) };
    }
}
