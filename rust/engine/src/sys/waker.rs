//! Ends a thread's wait in the poller from another thread. Standard library only.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// The half that wakes.
pub(crate) struct Waker(UnixStream);

/// The half that the poller watches.
pub(crate) struct WakerEnd(UnixStream);

impl Waker {
    pub(crate) fn new() -> io::Result<(Self, WakerEnd)> {
        let (near, far) = UnixStream::pair()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        Ok((Self(near), WakerEnd(far)))
    }

    /// Never waits. When it fails, either enough bytes wait there already or the thread has ended.
    pub(crate) fn wake(&self) {
        let _ = (&self.0).write(&[1]);
    }
}

impl WakerEnd {
    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Forget the calls so far. Whatever the waker announced must be looked at after this, not before.
    pub(crate) fn clear(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.0).read(&mut bytes), Ok(count) if count == bytes.len()) {}
    }
}
