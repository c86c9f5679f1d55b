//! A time to wake up at, as a descriptor that becomes readable then: timerfd.
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
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: the call reads no memory.
        let timer = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(timer) }))
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Readable in `wait` from now, in place of whatever was set before; never with `None`.
    pub(crate) fn set(&self, wait: Option<Duration>) -> io::Result<()> {
        // All zero would mean never.
        let wait = wait.map_or(Duration::ZERO, |wait| wait.max(Duration::from_nanos(1)));
        let it_value = libc::timespec {
            tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(wait.subsec_nanos() as i32),
        };
        let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::itimerspec { it_interval: once, it_value };
        // SAFETY: `value` outlives the call, which only reads it, and a null pointer asks for nothing back.
        check(unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const value, ptr::null_mut()) })?;
        Ok(())
    }
}
