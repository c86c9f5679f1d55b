//! Waits in whole milliseconds: macOS has no `ppoll`. kqueue, for many descriptors, is punctual.
#![allow(unsafe_code)]

use std::time::Duration;

use super::milliseconds;

/// Whether [`poll`] keeps to fractions of a millisecond.
pub(super) const POLL_IS_PUNCTUAL: bool = false;

/// `poll` for at most `timeout`, rounded up; what the call says.
pub(super) fn poll(descriptors: &mut [libc::pollfd], timeout: Option<Duration>) -> libc::c_int {
    let (target, count) = (descriptors.as_mut_ptr(), descriptors.len() as libc::nfds_t);
    // SAFETY: `target` and `count` are those of a slice that nobody else uses before the call returns.
    unsafe { libc::poll(target, count, milliseconds(timeout)) }
}

/// Nothing is to be asked for.
pub(crate) fn be_punctual() {}
