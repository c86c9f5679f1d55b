//! Waits that end when they should, not at the next millisecond.
#![allow(unsafe_code)]

use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

/// Whether [`poll`] keeps to fractions of a millisecond.
pub(super) const POLL_IS_PUNCTUAL: bool = true;

fn timespec(time: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(time.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(time.subsec_nanos() as i32),
    }
}

/// `poll` for at most `timeout`; what the call says.
pub(super) fn poll(descriptors: &mut [libc::pollfd], timeout: Option<Duration>) -> libc::c_int {
    let limit = timeout.map(timespec);
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    let (target, count) = (descriptors.as_mut_ptr(), descriptors.len() as libc::nfds_t);
    // SAFETY: `target` and `count` are those of a slice that nobody else uses before the call returns; `limit` is
    // null or points to a value that outlives the call; no signal mask is given.
    unsafe { libc::ppoll(target, count, limit, ptr::null()) }
}

/// `epoll_wait` for at most `timeout`; what the call says. It is not in all C libraries.
pub(super) fn epoll(epoll: RawFd, events: &mut [libc::epoll_event], timeout: Option<Duration>) -> libc::c_long {
    let limit = timeout.map(timespec);
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    let (target, room) = (events.as_mut_ptr(), events.len() as libc::c_int);
    let no_mask = (ptr::null::<libc::sigset_t>(), 0_usize);
    // SAFETY: `target` and `room` are those of a slice that nobody else uses before the call returns; `limit` is
    // null or points to a value that outlives the call; no signal mask is given.
    unsafe { libc::syscall(libc::SYS_epoll_pwait2, epoll, target, room, limit, no_mask.0, no_mask.1) }
}

/// Let the calling thread be woken when it asked for it: by default Linux adds up to 50 µs, to wake several at once.
pub(crate) fn be_punctual() {
    // SAFETY: the call reads no memory. Where it is refused, waits are a little longer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
}
