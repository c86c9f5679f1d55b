//! Questions to and settings of open descriptors, for the ports beside this file.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Bytes the kernel may hold for a peer, and for us, if the system's limit allows and nobody has set more. Chosen:
/// some 450 full frames, so that a peer that is off the processor for a moment costs nothing.
const SOCKET_BUFFER: libc::c_int = 1 << 20;

/// The result of a system call that says -1 for an error.
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A second descriptor, close-on-exec, for what `fd` is open on.
///
/// # Errors
/// What the kernel says when `fd` is not open or there are no descriptors left.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call reads no memory; a number that is not open is answered with EBADF.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Close a descriptor that somebody handed over by number, once the engine has taken it for good.
pub fn close(fd: RawFd) {
    // SAFETY: the call touches no memory. The caller gave `fd` away by the contract of `attach`.
    unsafe { libc::close(fd) };
}

/// Make reads and writes return at once.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call reads no memory and the descriptor is open.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    if flags & libc::O_NONBLOCK == 0 {
        // SAFETY: as above.
        check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    }
    Ok(())
}

/// A socket option of type int.
pub(super) fn socket_option(fd: BorrowedFd<'_>, option: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    let target = (&raw mut value).cast();
    // SAFETY: `target` and `len` describe `value`, which outlives the call.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, target, &raw mut len) })?;
    Ok(value)
}

/// Set a socket option of type int.
pub(super) fn set_socket_option(fd: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let source = (&raw const value).cast();
    // SAFETY: `source` and `len` describe `value`, which outlives the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, source, len) })?;
    Ok(())
}

/// Raise both buffers of a socket to what the system allows without privilege; never shrink what a privileged
/// caller has set.
pub(super) fn enlarge_buffers(fd: BorrowedFd<'_>) {
    for option in [libc::SO_SNDBUF, libc::SO_RCVBUF] {
        if socket_option(fd, option).is_ok_and(|bytes| bytes < SOCKET_BUFFER) {
            // A refusal leaves the default, which works, only with fewer frames in flight.
            let _ = set_socket_option(fd, option, SOCKET_BUFFER);
        }
    }
}

/// What Linux gives a socket that nobody asked more for.
const DEFAULT_BUFFER: libc::c_int = 212_992;

/// Bytes that the peer of a socket of ours may have sent before it must wait, if both were made alike; to be asked
/// before [`enlarge_buffers`]. Who made ours larger need not have done so with the peer's.
pub(super) fn peer_room(fd: BorrowedFd<'_>) -> usize {
    let bytes = socket_option(fd, libc::SO_SNDBUF).map_or(0, |bytes| bytes.min(DEFAULT_BUFFER));
    usize::try_from(bytes).unwrap_or(0)
}

/// Bytes that a socket has sent and nobody has read, where the system says so.
pub(super) fn unsent(fd: BorrowedFd<'_>) -> usize {
    let mut value: libc::c_int = 0;
    // SAFETY: the call writes one int, to `value`, which outlives it.
    let result = check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut value) });
    result.map_or(0, |_| usize::try_from(value).unwrap_or(0))
}

/// Whether a socket is connected.
pub(super) fn has_peer(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: all-zero bytes are a valid sockaddr_storage.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    let target = (&raw mut address).cast();
    // SAFETY: `target` and `len` describe `address`, which outlives the call.
    check(unsafe { libc::getpeername(fd.as_raw_fd(), target, &raw mut len) }).is_ok()
}

/// Two connected `SOCK_SEQPACKET` sockets, non-blocking, for tests.
#[cfg(all(test, target_os = "linux"))]
pub(super) fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the call writes two descriptors to `fds`.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the kernel has just made them for us and nobody else knows their numbers.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}
