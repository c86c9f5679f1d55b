//! Which descriptors are ready: asked with `poll` while they are few, and with epoll or kqueue when they are many.
//!
//! `poll` looks at every descriptor each time, so that it must not be used for many; for a handful it costs
//! less than half of what epoll does, and on a quiet network this call is the larger part of a frame's delay.

use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use super::few::Few;
use super::many::Many;
use super::{Interest, REPORTS, Report, exact};

/// Most descriptors that `poll` is used for. Measured: a round trip through a relay takes 18.5 µs with `poll` on 4
/// to 16 descriptors and 21 µs with epoll (Linux 6.18, virtual machine, all on one processor).
pub(super) const FEW: usize = 16;

enum Kernel {
    Few(Few),
    Many(Many),
}

/// Level triggered readiness. See the head of `sys`.
pub(crate) struct Poller {
    kernel: Kernel,
    watched: HashMap<RawFd, (u32, Interest)>,
}

impl Poller {
    pub(crate) fn new() -> Self {
        Self { kernel: Kernel::Few(Few::default()), watched: HashMap::new() }
    }

    /// Report about `fd` under the name of `token` from now on.
    pub(crate) fn add(&mut self, fd: RawFd, token: u32, interest: Interest) -> io::Result<()> {
        match &mut self.kernel {
            Kernel::Few(few) if self.watched.len() < FEW => few.add(fd, token, interest),
            Kernel::Few(_) => {
                let many = Many::new(REPORTS)?;
                for (fd, (token, interest)) in &self.watched {
                    many.add(*fd, *token, *interest)?;
                }
                many.add(fd, token, interest)?;
                self.kernel = Kernel::Many(many);
            }
            Kernel::Many(many) => many.add(fd, token, interest)?,
        }
        self.watched.insert(fd, (token, interest));
        Ok(())
    }

    /// Watch `fd`, which was added, for something else from now on.
    pub(crate) fn change(&mut self, fd: RawFd, token: u32, interest: Interest) -> io::Result<()> {
        match &mut self.kernel {
            Kernel::Few(few) => few.change(fd, interest),
            Kernel::Many(many) => many.change(fd, token, interest)?,
        }
        self.watched.insert(fd, (token, interest));
        Ok(())
    }

    /// Report about `fd` no more; to be called before it is closed.
    pub(crate) fn remove(&mut self, fd: RawFd) {
        self.watched.remove(&fd);
        match &mut self.kernel {
            Kernel::Few(few) => few.remove(fd),
            // Half as many, so that one plug that comes and goes does not change the way each time.
            Kernel::Many(_) if self.watched.len() <= FEW / 2 => {
                let mut few = Few::default();
                for (fd, (token, interest)) in &self.watched {
                    few.add(*fd, *token, *interest);
                }
                self.kernel = Kernel::Few(few);
            }
            Kernel::Many(many) => many.remove(fd),
        }
    }

    /// Whether a wait keeps to fractions of a millisecond, else `timeout` is rounded up.
    pub(crate) fn is_punctual(&self) -> bool {
        match &self.kernel {
            Kernel::Few(_) => exact::POLL_IS_PUNCTUAL,
            Kernel::Many(many) => many.is_punctual(),
        }
    }

    /// Wait until something is to be reported, `timeout` is over, or a signal came;
    /// `reports` then holds what there was, in place of what it held.
    pub(crate) fn wait(&mut self, reports: &mut Vec<Report>, timeout: Option<Duration>) -> io::Result<()> {
        reports.clear();
        match &mut self.kernel {
            Kernel::Few(few) => few.wait(reports, timeout),
            Kernel::Many(many) => many.wait(reports, timeout),
        }
    }
}
