//! epoll, for many descriptors.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

use super::{Interest, Report, check, exact, milliseconds};

/// See `Poller`.
pub(crate) struct Many {
    epoll: OwnedFd,
    events: Vec<libc::epoll_event>,
    /// Whether the kernel has the call that keeps to fractions of a millisecond (Linux 5.11).
    punctual: bool,
}

impl Many {
    /// `reports`: how many are taken from the kernel at once.
    pub(crate) fn new(reports: usize) -> io::Result<Self> {
        // SAFETY: the call reads no memory.
        let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; reports];
        let punctual = exact::epoll(epoll.as_raw_fd(), &mut events, Some(Duration::ZERO)) == 0;
        Ok(Self { epoll, events, punctual })
    }

    /// Whether waits end when they should, not at the next millisecond.
    pub(crate) fn is_punctual(&self) -> bool {
        self.punctual
    }

    /// Readable while there is something to report, so that another poller can watch it.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    pub(crate) fn add(&self, fd: RawFd, token: u32, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    pub(crate) fn change(&self, fd: RawFd, token: u32, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// One that is not watched (any more) is no error.
    pub(crate) fn remove(&self, fd: RawFd) {
        // SAFETY: EPOLL_CTL_DEL ignores its last argument, and both descriptors are only numbers to the kernel.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd, ptr::null_mut()) };
    }

    /// See `Poller::wait`.
    pub(crate) fn wait(&mut self, reports: &mut Vec<Report>, timeout: Option<Duration>) -> io::Result<()> {
        let result = if self.punctual {
            exact::epoll(self.epoll.as_raw_fd(), &mut self.events, timeout) as libc::c_int
        } else {
            let (target, room) = (self.events.as_mut_ptr(), self.events.len() as libc::c_int);
            // SAFETY: `target` and `room` describe `events`, which nothing else uses before the call returns.
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), target, room, milliseconds(timeout)) }
        };
        let count = match check(result) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            other => other? as usize,
        };
        reports.extend(self.events[..count].iter().map(|event| {
            let bits = event.events as libc::c_int;
            Report {
                token: event.u64 as u32,
                readable: bits & libc::EPOLLIN != 0,
                writable: bits & libc::EPOLLOUT != 0,
                broken: bits & (libc::EPOLLERR | libc::EPOLLHUP) != 0,
            }
        }));
        Ok(())
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, token: u32, interest: Interest) -> io::Result<()> {
        let read = if interest.read { libc::EPOLLIN } else { 0 };
        let write = if interest.write { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: (read | write) as u32, u64: u64::from(token) };
        // SAFETY: `event` outlives the call, which only reads it.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) })?;
        Ok(())
    }
}
