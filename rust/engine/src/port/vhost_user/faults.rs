//! A front end shares its memory as a file, and may shorten that file afterwards; whoever then touches the mapping
//! gets SIGBUS, which would end the daemon. The handler here puts fresh memory under the whole mapping and marks
//! it, so that the port is lost and nothing else. Any other SIGBUS goes to whoever had the signal before.
//!
//! The one thing that the engine keeps process-wide: a signal has one handler, which can use nothing but a table
//! that is there already, without a lock.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};

/// Mappings at once, of all ports. Chosen: 64 guests with all the regions that they may have, or a thousand as QEMU
/// makes them; 64 KiB.
const MOST: usize = 2048;

struct Place {
    taken: AtomicBool,
    /// 0 while there is no mapping.
    start: AtomicUsize,
    len: AtomicUsize,
    cut: AtomicBool,
}

static PLACES: [Place; MOST] = [const {
    Place {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        len: AtomicUsize::new(0),
        cut: AtomicBool::new(false),
    }
}; MOST];

/// What the signal did before we came.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// As long as it lives, a fault in its mapping is survived. To be dropped before the mapping.
pub(super) struct Watch(&'static Place);

impl Watch {
    /// For the mapping of `len` bytes at `start`.
    pub(super) fn new(start: *const u8, len: usize) -> io::Result<Self> {
        install()?;
        let free = |place: &&Place| {
            place.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let place = PLACES.iter().find(free).ok_or(io::ErrorKind::OutOfMemory)?;
        place.cut.store(false, Ordering::Relaxed);
        place.len.store(len, Ordering::Relaxed);
        place.start.store(start as usize, Ordering::Release);
        Ok(Self(place))
    }

    /// Whether there was a fault, since when the mapping is not the front end's memory any more.
    pub(super) fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
        self.0.taken.store(false, Ordering::Release);
    }
}

fn install() -> io::Result<()> {
    if BEFORE.get().is_some() {
        return Ok(());
    }
    // SAFETY: all-zero bytes are a valid sigaction, into which the call writes.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: null means that nothing is changed; `before` outlives the call.
    if unsafe { libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if BEFORE.set(before).is_err() {
        return Ok(()); // another engine's thread was faster
    }
    // SAFETY: as above.
    let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
    ours.sa_sigaction = handler as *const () as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: `ours` outlives the call; the handler only does what a handler may.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

extern "C" fn handler(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a valid siginfo. `si_addr` means something only for faults, and is compared only.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    if code > 0 && replace(address) {
        return;
    }
    let Some(before) = BEFORE.get() else { return };
    match before.sa_sigaction {
        libc::SIG_IGN if code <= 0 => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // The instruction faults again, or the signal is sent again, and this time it counts.
            // SAFETY: both calls may be made in a handler, and `before` lives for ever.
            unsafe {
                libc::sigaction(signal, ptr::from_ref(before), ptr::null_mut());
                if code <= 0 {
                    libc::raise(signal);
                }
            }
        }
        function if before.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: that is what the flag says about the function.
            let function: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                unsafe { std::mem::transmute(function) };
            function(signal, info, context);
        }
        function => {
            // SAFETY: neither of the two constants, and without the flag it is of this type.
            let function: extern "C" fn(c_int) = unsafe { std::mem::transmute(function) };
            function(signal);
        }
    }
}

/// Put fresh memory in place of the mapping that `address` is in; whether there is one.
fn replace(address: usize) -> bool {
    for place in &PLACES {
        let start = place.start.load(Ordering::Acquire);
        let len = place.len.load(Ordering::Relaxed);
        if start == 0 || !(start..start.saturating_add(len)).contains(&address) {
            continue;
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: exactly the range of a mapping of ours, which stays mapped; raw pointers into it, the only ones
        // there are, stay good. The call is a bare system call; errno is what it was.
        let mapped = unsafe {
            let errno = libc::__errno_location();
            let kept = *errno;
            let mapped = libc::mmap(ptr::with_exposed_provenance_mut(start), len, protection, flags, -1, 0);
            *errno = kept;
            mapped
        };
        if mapped != libc::MAP_FAILED {
            place.cut.store(true, Ordering::Relaxed);
            return true;
        }
    }
    false
}
