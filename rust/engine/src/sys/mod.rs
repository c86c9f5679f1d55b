//! The poller, level triggered, one file for each kernel; the waker of a thread that waits in it, and
//! what passes bytes to a thread that does not matter much.
//!
//! Level triggered on purpose: what was not read is reported again, so that the loop neither has to read until
//! the kernel says "no more" (a system call a frame on a quiet network) nor to remember who had more.
//!
//! Besides `port/` the only place with `unsafe`: the calls of the poller.

use std::io;
use std::time::Duration;

#[cfg(target_os = "linux")]
#[path = "exact_linux.rs"]
mod exact;
#[cfg(target_os = "macos")]
#[path = "exact_macos.rs"]
mod exact;
mod few;
#[cfg(target_os = "linux")]
#[path = "idle_linux.rs"]
mod idle;
#[cfg(target_os = "macos")]
#[path = "idle_macos.rs"]
mod idle;
#[cfg(target_os = "linux")]
#[path = "many_linux.rs"]
mod many;
#[cfg(target_os = "macos")]
#[path = "many_macos.rs"]
mod many;
mod poller;
mod ring;
#[cfg(target_os = "linux")]
#[path = "timer_linux.rs"]
mod timer;
#[cfg(target_os = "macos")]
#[path = "timer_macos.rs"]
mod timer;
mod waker;

pub(crate) use exact::be_punctual;
pub(crate) use idle::{OwnShare, run_when_idle};
pub(crate) use many::Many;
pub(crate) use poller::Poller;
pub(crate) use ring::{Consumer, Producer, ring};
pub(crate) use timer::Timer;
pub(crate) use waker::{Waker, WakerEnd};

/// What a descriptor is watched for. Errors are reported whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

impl Interest {
    pub(crate) const READ: Self = Self { read: true, write: false };
}

/// What the kernel says about one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// As given when the descriptor was added.
    pub(crate) token: u32,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// An error or a hang-up.
    pub(crate) broken: bool,
}

/// For how long a thread has run, and waited for a processor, since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) ran: Duration,
    pub(crate) waited: Duration,
}

/// Reports taken from the kernel at once; more come with the next call.
const REPORTS: usize = 256;

/// The result of a system call that says -1 for an error.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A timeout as `poll` and `epoll_wait` take it; never less than asked for.
fn milliseconds(timeout: Option<Duration>) -> libc::c_int {
    timeout.map_or(-1, |time| {
        libc::c_int::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    fn wait(poller: &mut Poller) -> Vec<Report> {
        let mut reports = Vec::new();
        poller.wait(&mut reports, Some(Duration::ZERO)).unwrap();
        reports
    }

    #[test]
    fn what_is_not_read_is_reported_again() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let mut poller = Poller::new();
        poller.add(near.as_raw_fd(), 7, Interest::READ).unwrap();
        assert_eq!(wait(&mut poller), []);
        far.write_all(&[1]).unwrap();
        for _ in 0..2 {
            let readable = Report { token: 7, readable: true, writable: false, broken: false };
            assert_eq!(wait(&mut poller), [readable]);
        }
        near.read_exact(&mut [0]).unwrap();
        assert_eq!(wait(&mut poller), []);
    }

    #[test]
    fn interest_can_be_changed_and_given_up() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut poller = Poller::new();
        poller.add(near.as_raw_fd(), 7, Interest::READ).unwrap();
        far.write_all(&[1]).unwrap();
        poller.change(near.as_raw_fd(), 7, Interest { read: false, write: true }).unwrap();
        assert!(matches!(wait(&mut poller)[..], [Report { readable: false, writable: true, .. }]));
        poller.change(near.as_raw_fd(), 7, Interest { read: false, write: false }).unwrap();
        assert_eq!(wait(&mut poller), []);
        poller.change(near.as_raw_fd(), 7, Interest { read: true, write: true }).unwrap();
        assert!(!wait(&mut poller).is_empty());
        poller.remove(near.as_raw_fd());
        assert_eq!(wait(&mut poller), []);
    }

    #[test]
    fn few_or_many_makes_no_difference() {
        let pairs: Vec<_> = (0..3 * poller::FEW).map(|_| UnixStream::pair().unwrap()).collect();
        let mut poller = Poller::new();
        let check = |poller: &mut Poller, count: usize| {
            for (token, (near, far)) in pairs[..count].iter().enumerate() {
                (&*far).write_all(&[1]).unwrap();
                let expected = Report { token: token as u32, readable: true, writable: false, broken: false };
                assert_eq!(wait(poller), [expected], "of {count}");
                (&*near).read_exact(&mut [0]).unwrap();
            }
        };
        for (token, (near, _)) in pairs.iter().enumerate() {
            poller.add(near.as_raw_fd(), token as u32, Interest::READ).unwrap();
            check(&mut poller, token + 1);
        }
        for count in (0..pairs.len()).rev() {
            poller.remove(pairs[count].0.as_raw_fd());
            check(&mut poller, count);
        }
    }

    #[test]
    fn a_closed_peer_is_reported_as_broken() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut poller = Poller::new();
        poller.add(near.as_raw_fd(), 7, Interest::READ).unwrap();
        drop(far);
        assert!(wait(&mut poller)[0].broken);
    }

    #[test]
    fn the_waker_ends_a_wait_once() {
        let (waker, end) = Waker::new().unwrap();
        let mut poller = Poller::new();
        poller.add(end.descriptor(), 7, Interest::READ).unwrap();
        let thread = std::thread::spawn(move || {
            waker.wake();
            waker.wake();
            waker
        });
        let mut reports = Vec::new();
        poller.wait(&mut reports, None).unwrap();
        assert!(reports[0].readable);
        let _waker = thread.join().unwrap();
        end.clear();
        assert_eq!(wait(&mut poller), []);
    }

    #[test]
    fn a_wait_never_ends_before_its_time() {
        let mut poller = Poller::new();
        let before = Instant::now();
        poller.wait(&mut Vec::new(), Some(Duration::from_micros(1_500))).unwrap();
        assert!(before.elapsed() >= Duration::from_micros(1_500));
    }
}
