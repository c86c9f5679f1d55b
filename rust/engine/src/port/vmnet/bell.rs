//! The event callback: a block that marks that there is something to read and wakes the loop, once, until the
//! loop has looked. It runs on threads of the framework's, possibly several at once, possibly late.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_void};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::blocks::{Captured, captured};

/// What the callback captures.
pub(super) struct Bell {
    rung: AtomicBool,
    rope: UnixStream,
}

/// The end that the poller watches: readable from a ring to the next [`BellEnd::silence`].
pub(super) struct BellEnd {
    bell: Arc<Bell>,
    heard: UnixStream,
}

impl Bell {
    /// Never waits. A failed write means that the loop's end is closed.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            let _ = (&self.rope).write(&[1]);
        }
    }
}

impl BellEnd {
    pub(super) fn new() -> io::Result<Self> {
        let (heard, rope) = UnixStream::pair()?;
        heard.set_nonblocking(true)?;
        rope.set_nonblocking(true)?;
        Ok(Self { bell: Arc::new(Bell { rung: AtomicBool::new(false), rope }), heard })
    }

    pub(super) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.heard.as_raw_fd()
    }

    /// Forget the rings so far. What they announced must be looked at after this: a ring from now on is heard.
    pub(super) fn silence(&self) {
        // In this order: a ring in between may leave a byte without a mark, which wakes the loop in vain once; a mark
        // without a byte would silence the bell for ever.
        let mut bytes = [0; 16];
        while matches!((&self.heard).read(&mut bytes), Ok(count) if count == bytes.len()) {}
        // A swap, not a store: it sees what a ring that found the mark set has announced.
        self.bell.rung.swap(false, Ordering::AcqRel);
    }
}

impl Captured for Bell {
    const INVOKE: *const c_void = packets_available as *const c_void;
    const SIGNATURE: &'static CStr = c"v20@?0I8@12";
}

/// `void (^)(interface_event_t event_mask, xpc_object_t event)`. The event says how many packets there might be,
/// which is not to be relied on, so that it is not looked at.
unsafe extern "C" fn packets_available(block: *const c_void, _mask: u32, _event: *mut c_void) {
    // SAFETY: this function is the invoke function of blocks with a `Bell` and of no others.
    unsafe { captured::<Bell>(block) }.ring();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Interest, Poller};
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    fn readable(end: &BellEnd, patience: Duration) -> bool {
        let mut poller = Poller::new();
        poller.add(end.descriptor(), 0, Interest::READ).unwrap();
        let mut reports = Vec::new();
        poller.wait(&mut reports, Some(patience)).unwrap();
        !reports.is_empty()
    }

    #[test]
    fn it_is_heard_until_it_is_silenced() {
        let end = BellEnd::new().unwrap();
        assert!(!readable(&end, Duration::ZERO));
        for _ in 0..3 {
            for _ in 0..100 {
                end.bell().ring();
            }
            assert!(readable(&end, Duration::ZERO));
            end.silence();
            assert!(!readable(&end, Duration::ZERO));
        }
    }

    #[test]
    fn no_ring_is_lost_however_many_ring() {
        let end = BellEnd::new().unwrap();
        let count = AtomicU32::new(0);
        let rings = 20_000;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..rings {
                        count.fetch_add(1, Ordering::SeqCst);
                        end.bell().ring();
                    }
                });
            }
            let mut seen = 0;
            while seen < 2 * rings {
                assert!(readable(&end, Duration::from_secs(5)), "{seen}");
                end.silence();
                seen = count.load(Ordering::SeqCst);
            }
        });
    }
}
