//! What wakes a port, and how it wakes a guest: a poller of its own for the connection and the kicks, and the
//! descriptors for calls.
//!
//! Edge triggered, and what is reported is not read: a kick is a number that only ever grows in a descriptor that
//! the front end has too, and that would make us wait in `read` whenever the front end wanted. Half a message on the
//! connection is not reported again and again.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::port::descriptor;

/// Reports taken at once: the connection and two rings.
const REPORTS: usize = 4;

/// The connection's token.
const CONNECTION: u64 = 0;

/// Tells whether something happened at any of a few descriptors.
pub(super) struct Watch(OwnedFd);

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the call reads no memory.
        let epoll = descriptor::check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(epoll) }))
    }

    /// Readable from when something happened until [`Watch::happened`] is called.
    pub(super) fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// The connection, which is told from the rest.
    pub(super) fn add_connection(&self, what: &impl AsRawFd) -> io::Result<()> {
        self.add_as(what, CONNECTION)
    }

    pub(super) fn add(&self, what: &impl AsRawFd) -> io::Result<()> {
        self.add_as(what, CONNECTION + 1)
    }

    fn add_as(&self, what: &impl AsRawFd, token: u64) -> io::Result<()> {
        let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
        let mut event = libc::epoll_event { events, u64: token };
        let (epoll, what) = (self.0.as_raw_fd(), what.as_raw_fd());
        // SAFETY: `event` outlives the call, which only reads it.
        descriptor::check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, what, &raw mut event) })?;
        Ok(())
    }

    /// To be called before it is closed: the front end has it open, so that it would go on being watched.
    pub(super) fn remove(&self, what: &impl AsRawFd) {
        let (epoll, what) = (self.0.as_raw_fd(), what.as_raw_fd());
        // SAFETY: this operation reads no memory.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, what, std::ptr::null_mut()) };
    }

    /// Take note of what happened, for this time; whether something did on the connection.
    pub(super) fn happened(&self) -> bool {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; REPORTS];
        let epoll = self.0.as_raw_fd();
        // SAFETY: the pointer and the length are those of `events`, which outlives the call.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), REPORTS as libc::c_int, 0) };
        events.iter().take(usize::try_from(count).unwrap_or(0)).any(|event| event.u64 == CONNECTION)
    }
}

/// Where a guest hears of used buffers: an eventfd of the front end's, or of the kernel's for it.
pub(super) struct Call(File);

impl Call {
    pub(super) fn new(file: File) -> io::Result<Self> {
        descriptor::set_nonblocking(file.as_fd())?;
        Ok(Self(file))
    }

    /// One that cannot be told has been told before and did not look.
    ///
    /// The front end has the same open file: it can make writes wait and fill the counter up. So writes are made not
    /// to wait each time; only who changes that back between the two calls here, with a full counter, holds us.
    pub(super) fn tell(&self) {
        if descriptor::set_nonblocking(self.0.as_fd()).is_err() {
            return;
        }
        let one = 1_u64;
        // SAFETY: the pointer and the length are those of `one`, which outlives the call.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }
}
