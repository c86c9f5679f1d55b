//! A time to wake up at, as a descriptor that becomes readable then: a kqueue with one timer in it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::check;

/// One time to wake up at, or none.
pub(crate) struct Timer(OwnedFd);

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the call reads no memory.
        let queue = check(unsafe { libc::kqueue() })?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
        let queue = unsafe { OwnedFd::from_raw_fd(queue) };
        // SAFETY: the call reads no memory and the descriptor is open.
        check(unsafe { libc::fcntl(queue.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
        Ok(Self(queue))
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Readable in `wait` from now, in place of whatever was set before; never with `None`.
    pub(crate) fn set(&self, wait: Option<Duration>) -> io::Result<()> {
        // One that has gone off stays readable until it is deleted.
        let removed = self.change(libc::EV_DELETE, 0);
        let Some(wait) = wait else {
            return match removed {
                // There was nothing to delete.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
                other => other,
            };
        };
        let micros = isize::try_from(wait.as_micros()).unwrap_or(isize::MAX);
        self.change(libc::EV_ADD | libc::EV_ONESHOT, micros)
    }

    fn change(&self, flags: u16, data: isize) -> io::Result<()> {
        let (filter, fflags, udata) = (libc::EVFILT_TIMER, libc::NOTE_USECONDS, ptr::null_mut());
        let change = libc::kevent { ident: 0, filter, flags, fflags, data, udata };
        // SAFETY: one change is read from `change`, which outlives the call, and nothing is written.
        let result =
            unsafe { libc::kevent(self.0.as_raw_fd(), &raw const change, 1, ptr::null_mut(), 0, ptr::null()) };
        check(result).map(drop)
    }
}
