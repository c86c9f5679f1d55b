//! kqueue, for many descriptors. Read and write are two filters there, and report separately.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::{Interest, Report, check};

/// See `Poller`.
pub(crate) struct Many {
    queue: OwnedFd,
    events: Vec<libc::kevent>,
}

const NOTHING: libc::kevent =
    libc::kevent { ident: 0, filter: 0, flags: 0, fflags: 0, data: 0, udata: ptr::null_mut() };

// SAFETY: `udata` holds numbers, never pointers, so that the events may go to another thread.
unsafe impl Send for Many {}

impl Many {
    /// `reports`: how many are taken from the kernel at once.
    pub(crate) fn new(reports: usize) -> io::Result<Self> {
        // SAFETY: the call reads no memory.
        let queue = check(unsafe { libc::kqueue() })?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
        let queue = unsafe { OwnedFd::from_raw_fd(queue) };
        // SAFETY: the call reads no memory and the descriptor is open.
        check(unsafe { libc::fcntl(queue.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) })?;
        Ok(Self { queue, events: vec![NOTHING; reports] })
    }

    /// Whether waits end when they should, not at the next millisecond.
    pub(crate) fn is_punctual(&self) -> bool {
        true
    }

    /// Readable while there is something to report, so that another poller can watch it.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.queue.as_raw_fd()
    }

    pub(crate) fn add(&self, fd: RawFd, token: u32, interest: Interest) -> io::Result<()> {
        self.change(fd, token, interest)
    }

    pub(crate) fn change(&self, fd: RawFd, token: u32, interest: Interest) -> io::Result<()> {
        self.filter(fd, token, libc::EVFILT_READ, interest.read)?;
        self.filter(fd, token, libc::EVFILT_WRITE, interest.write)
    }

    /// One that is not watched (any more) is no error.
    pub(crate) fn remove(&self, fd: RawFd) {
        let _ = self.change(fd, 0, Interest { read: false, write: false });
    }

    /// See `Poller::wait`.
    pub(crate) fn wait(&mut self, reports: &mut Vec<Report>, timeout: Option<Duration>) -> io::Result<()> {
        let limit = timeout.map(|time| libc::timespec {
            tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(time.subsec_nanos() as i32),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (target, room) = (self.events.as_mut_ptr(), self.events.len() as libc::c_int);
        // SAFETY: `target` and `room` describe `events`, which nothing else uses before the call returns; `limit`
        // is null or points to a value that outlives the call.
        let result = unsafe { libc::kevent(self.queue.as_raw_fd(), ptr::null(), 0, target, room, limit) };
        let count = match check(result) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other? as usize,
        };
        reports.extend(self.events[..count].iter().map(|event| Report {
            token: event.udata as usize as u32,
            readable: event.filter == libc::EVFILT_READ,
            writable: event.filter == libc::EVFILT_WRITE,
            broken: event.flags & (libc::EV_EOF | libc::EV_ERROR) != 0,
        }));
        Ok(())
    }

    fn filter(&self, fd: RawFd, token: u32, filter: i16, on: bool) -> io::Result<()> {
        let flags = if on { libc::EV_ADD } else { libc::EV_DELETE };
        let udata = ptr::without_provenance_mut(token as usize);
        let change = libc::kevent { ident: fd as usize, filter, flags, udata, ..NOTHING };
        // SAFETY: one change is read from `change`, which outlives the call, and nothing is written.
        let result = unsafe {
            libc::kevent(self.queue.as_raw_fd(), &raw const change, 1, ptr::null_mut(), 0, ptr::null())
        };
        match check(result) {
            // There was nothing to delete.
            Err(error) if !on && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other.map(drop),
        }
    }
}
