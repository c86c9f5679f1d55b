//! The sockets of the user-mode stack, watched by a poller of their own.
//!
//! Before it sleeps the stack names every socket and what for. What is new against the last time goes to the
//! kernel, so that a thousand quiet connections cost no system call.

use std::io;
use std::os::fd::RawFd;

use libc::c_int;

use super::library::{POLL_HUP, POLL_IN, POLL_OUT};
use crate::sys::{Interest, Many, Report};

/// Sockets that are served in one turn at most: each may bring some 40 frames. The kernel reports the others
/// first the next time.
const A_TURN: usize = 16;

/// What is known about one descriptor number.
#[derive(Clone, Copy, Default)]
struct Socket {
    /// What the kernel watches it for; 0 is not at all.
    watched: c_int,
    /// Round in which the stack last named it.
    named: u32,
    /// It is among `listed`.
    listed: bool,
    /// What the kernel has reported and the stack has not been told.
    ready: c_int,
}

/// See the module's head.
pub(super) struct Sockets {
    poller: Many,
    sockets: Vec<Socket>,
    /// Those that the kernel watches, and some that it does not any more.
    listed: Vec<RawFd>,
    ready: Vec<RawFd>,
    round: u32,
    reports: Vec<Report>,
}

impl Sockets {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Many::new(A_TURN)?,
            sockets: Vec::new(),
            listed: Vec::new(),
            ready: Vec::new(),
            round: 0,
            reports: Vec::new(),
        })
    }

    pub(super) fn descriptor(&self) -> RawFd {
        self.poller.descriptor()
    }

    /// Watch one more descriptor that is not the stack's, for reading, for good.
    pub(super) fn add_own(&self, fd: RawFd) -> io::Result<()> {
        self.poller.add(fd, u32::MAX, Interest::READ)
    }

    /// The stack will now name its sockets.
    pub(super) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// The stack waits for `events` on this one. A kernel that refuses to watch it leaves it unwatched.
    pub(super) fn name(&mut self, fd: RawFd, events: c_int) {
        let Ok(index) = usize::try_from(fd) else { return };
        let wanted = events & (POLL_IN | POLL_OUT);
        if wanted == 0 {
            return;
        }
        if index >= self.sockets.len() {
            self.sockets.resize(index + 1, Socket::default());
        }
        let socket = &mut self.sockets[index];
        socket.named = self.round;
        if wanted == socket.watched {
            return;
        }
        let interest = Interest { read: wanted & POLL_IN != 0, write: wanted & POLL_OUT != 0 };
        let result = if socket.watched == 0 {
            self.poller.add(fd, index as u32, interest)
        } else {
            self.poller.change(fd, index as u32, interest)
        };
        if result.is_err() {
            return;
        }
        socket.watched = wanted;
        if !socket.listed {
            socket.listed = true;
            self.listed.push(fd);
        }
    }

    /// The stack has named all: those that it did not name are not watched any more.
    pub(super) fn end(&mut self) {
        let (round, sockets, poller) = (self.round, &mut self.sockets, &self.poller);
        self.listed.retain(|fd| {
            let Some(socket) = usize::try_from(*fd).ok().and_then(|index| sockets.get_mut(index)) else {
                return false;
            };
            if socket.named == round && socket.watched != 0 {
                return true;
            }
            if socket.watched != 0 {
                poller.remove(*fd);
            }
            (socket.watched, socket.listed, socket.ready) = (0, false, 0);
            false
        });
    }

    /// The stack closes this one, or has a new one with this number.
    pub(super) fn forget(&mut self, fd: RawFd) {
        let index = usize::try_from(fd).unwrap_or(usize::MAX);
        if let Some(socket) = self.sockets.get_mut(index) {
            if socket.watched != 0 {
                self.poller.remove(fd);
            }
            (socket.watched, socket.ready) = (0, 0);
        }
    }

    /// Ask the kernel what is ready, without waiting.
    pub(super) fn collect(&mut self) -> io::Result<()> {
        let mut reports = std::mem::take(&mut self.reports);
        reports.clear();
        let result = self.poller.wait(&mut reports, Some(std::time::Duration::ZERO));
        for report in &reports {
            let Some(socket) = self.sockets.get_mut(report.token as usize) else { continue };
            let mut ready = 0;
            if report.readable {
                ready |= POLL_IN;
            }
            if report.writable {
                ready |= POLL_OUT;
            }
            if report.broken {
                // Told as what the stack asked for: it then finds the error by itself.
                ready |= if socket.watched & POLL_IN != 0 { POLL_HUP } else { 0 };
                ready |= socket.watched & POLL_OUT;
            }
            socket.ready |= ready;
            self.ready.push(report.token as RawFd);
        }
        self.reports = reports;
        result
    }

    /// What was reported about a socket that the stack has named.
    pub(super) fn ready(&self, index: c_int) -> c_int {
        usize::try_from(index).ok().and_then(|index| self.sockets.get(index)).map_or(0, |socket| socket.ready)
    }

    /// The stack has been told everything.
    pub(super) fn told(&mut self) {
        for fd in self.ready.drain(..) {
            if let Some(socket) = usize::try_from(fd).ok().and_then(|index| self.sockets.get_mut(index)) {
                socket.ready = 0;
            }
        }
    }
}
