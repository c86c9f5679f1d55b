//! poll, for few descriptors.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::{Interest, Report, check, exact};

/// See `Poller`.
#[derive(Default)]
pub(super) struct Few {
    descriptors: Vec<libc::pollfd>,
    tokens: Vec<u32>,
}

impl Few {
    pub(super) fn add(&mut self, fd: RawFd, token: u32, interest: Interest) {
        self.descriptors.push(libc::pollfd { fd, events: bits(interest), revents: 0 });
        self.tokens.push(token);
    }

    pub(super) fn change(&mut self, fd: RawFd, interest: Interest) {
        for descriptor in self.descriptors.iter_mut().filter(|descriptor| descriptor.fd == fd) {
            descriptor.events = bits(interest);
        }
    }

    pub(super) fn remove(&mut self, fd: RawFd) {
        if let Some(index) = self.descriptors.iter().position(|descriptor| descriptor.fd == fd) {
            self.descriptors.swap_remove(index);
            self.tokens.swap_remove(index);
        }
    }

    /// See `Poller::wait`.
    pub(super) fn wait(&mut self, reports: &mut Vec<Report>, timeout: Option<Duration>) -> io::Result<()> {
        match check(exact::poll(&mut self.descriptors, timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        };
        for (descriptor, token) in self.descriptors.iter().zip(&self.tokens) {
            let bits = descriptor.revents;
            if bits != 0 {
                reports.push(Report {
                    token: *token,
                    readable: bits & libc::POLLIN != 0,
                    writable: bits & libc::POLLOUT != 0,
                    broken: bits & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0,
                });
            }
        }
        Ok(())
    }
}

fn bits(interest: Interest) -> libc::c_short {
    (if interest.read { libc::POLLIN } else { 0 }) | (if interest.write { libc::POLLOUT } else { 0 })
}
