//! A completion handler of the framework: a block that keeps what it is called with until somebody asks.
//!
//! The handler runs on a thread of the framework's. It takes one short lock and nothing else, so that it never
//! waits for an interpreter.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::blocks::{Block, BlockRuntime, Captured, address, captured};

type Retain = unsafe extern "C" fn(*mut c_void) -> *mut c_void;
type Release = unsafe extern "C" fn(*mut c_void);

/// How objects that a handler is given are kept: `xpc_retain` and `xpc_release`.
#[derive(Clone, Copy, Debug)]
pub struct ObjectRuntime {
    retain: Retain,
    release: Release,
}

impl ObjectRuntime {
    /// The addresses of `xpc_retain` and `xpc_release`. `None` when one of them is null.
    ///
    /// # Safety
    /// Each must be the address of that function, which stays loaded.
    #[must_use]
    pub unsafe fn from_addresses(retain: usize, release: usize) -> Option<Self> {
        let (retain, release) = (address(retain)?, address(release)?);
        Some(Self {
            // SAFETY: the caller says that this is `xpc_object_t xpc_retain(xpc_object_t)`.
            retain: unsafe { std::mem::transmute::<NonNull<c_void>, Retain>(retain) },
            // SAFETY: the caller says that this is `void xpc_release(xpc_object_t)`.
            release: unsafe { std::mem::transmute::<NonNull<c_void>, Release>(release) },
        })
    }
}

/// What a handler was called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completed {
    /// A `vmnet_return_t`.
    pub status: u32,
    /// Address of an object that whoever gets this releases; 0 for none.
    pub object: usize,
}

/// An object of which this holds one reference.
struct Kept {
    object: NonNull<c_void>,
    release: Release,
}

// SAFETY: XPC objects may be retained, released and read by any thread; this only holds a reference.
unsafe impl Send for Kept {}

impl Kept {
    fn give_away(self) -> usize {
        let object = self.object;
        std::mem::forget(self);
        object.as_ptr().expose_provenance()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // SAFETY: the reference was taken by the retain function beside this one and is given back once.
        unsafe { (self.release)(self.object.as_ptr()) };
    }
}

#[derive(Default)]
struct State {
    status: Option<u32>,
    object: Option<Kept>,
    /// Nobody will ask any more.
    abandoned: bool,
}

/// Shared by the block and whoever waits.
struct Shared {
    objects: Option<ObjectRuntime>,
    state: Mutex<State>,
    called: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handler. Only the first call counts.
    fn complete(&self, status: u32, object: *mut c_void) {
        let mut state = self.lock();
        if state.abandoned || state.status.is_some() {
            return;
        }
        state.status = Some(status);
        if let (Some(objects), Some(object)) = (self.objects, NonNull::new(object)) {
            // SAFETY: the framework lends the object for as long as the handler runs.
            unsafe { (objects.retain)(object.as_ptr()) };
            state.object = Some(Kept { object, release: objects.release });
        }
        self.called.notify_all();
    }
}

/// A handler `void (^)(vmnet_return_t status, xpc_object_t object)`.
struct WithObject(Shared);

impl Captured for WithObject {
    const INVOKE: *const c_void = completed_with_object as *const c_void;
    const SIGNATURE: &'static CStr = c"v20@?0I8@12";
}

unsafe extern "C" fn completed_with_object(block: *const c_void, status: u32, object: *mut c_void) {
    // SAFETY: this function is the invoke function of blocks with a `WithObject` and of no others.
    unsafe { captured::<WithObject>(block) }.0.complete(status, object);
}

/// A handler `void (^)(vmnet_return_t status)`.
struct StatusOnly(Shared);

impl Captured for StatusOnly {
    const INVOKE: *const c_void = completed as *const c_void;
    const SIGNATURE: &'static CStr = c"v12@?0I8";
}

unsafe extern "C" fn completed(block: *const c_void, status: u32) {
    // SAFETY: this function is the invoke function of blocks with a `StatusOnly` and of no others.
    unsafe { captured::<StatusOnly>(block) }.0.complete(status, ptr::null_mut());
}

enum Handler {
    WithObject(Arc<WithObject>, Block<WithObject>),
    StatusOnly(Arc<StatusOnly>, Block<StatusOnly>),
}

/// One completion handler. When it is dropped the handler may still be called; it then does nothing.
pub struct Completion(Handler);

impl Completion {
    /// With `objects`: a handler that is given a status and an object. Without: one that is given a status.
    /// `None` when the runtime has no memory for the block.
    #[must_use]
    pub fn new(runtime: &BlockRuntime, objects: Option<ObjectRuntime>) -> Option<Self> {
        let shared = Shared { objects, state: Mutex::default(), called: Condvar::new() };
        Some(Self(if objects.is_some() {
            let handler = Arc::new(WithObject(shared));
            let block = Block::new(runtime, &handler)?;
            Handler::WithObject(handler, block)
        } else {
            let handler = Arc::new(StatusOnly(shared));
            let block = Block::new(runtime, &handler)?;
            Handler::StatusOnly(handler, block)
        }))
    }

    /// Address of the block, to be passed where the framework takes the handler. The framework copies it.
    #[must_use]
    pub fn block(&self) -> usize {
        match &self.0 {
            Handler::WithObject(_, block) => block.as_ptr().expose_provenance(),
            Handler::StatusOnly(_, block) => block.as_ptr().expose_provenance(),
        }
    }

    /// Wait until the handler is called, for `patience` at most. The object is given once.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> Option<Completed> {
        let shared = self.shared();
        let waiting = |state: &mut State| state.status.is_none();
        let (mut state, _) = shared
            .called
            .wait_timeout_while(shared.lock(), patience, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        let object = state.object.take().map_or(0, Kept::give_away);
        state.status.map(|status| Completed { status, object })
    }

    fn shared(&self) -> &Shared {
        match &self.0 {
            Handler::WithObject(handler, _) => &handler.0,
            Handler::StatusOnly(handler, _) => &handler.0,
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        let mut state = self.shared().lock();
        state.abandoned = true;
        // Not under the lock: what releasing does is not ours.
        let object = state.object.take();
        drop(state);
        drop(object);
    }
}
