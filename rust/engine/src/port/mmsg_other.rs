//! The batch calls where the kernel has none: one `recvmsg` or `sendmsg` a frame.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use crate::pool::{Batch, FrameRef, Received};
use crate::vnet_header::{self, VnetHeader};

/// The error that says "the peer has no room" where the poller does not say when it has some again: on macOS a
/// datagram socket is always writable, and a full one does not even make a blocking call wait.
#[cfg(not(target_os = "linux"))]
pub(super) const FULL_UNSAID: Option<libc::c_int> = Some(libc::ENOBUFS);

/// Read as many datagrams as `batch` has room for and say how many there were.
pub(super) fn receive(socket: &UnixDatagram, batch: &mut Batch) -> io::Result<usize> {
    let room = batch.room();
    for got in 0..room {
        let Some(slot) = batch.free_slots().next() else { return Ok(got) };
        let len = slot.len() - vnet_header::LEN - 1;
        let mut iov = libc::iovec { iov_base: slot[vnet_header::LEN..].as_mut_ptr().cast(), iov_len: len };
        // SAFETY: all-zero bytes are a valid msghdr: null pointers with lengths of zero.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        // SAFETY: the message points to `iov`, and that into a slot of `batch`; both outlive the call.
        let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        if result < 0 {
            let error = io::Error::last_os_error();
            return if got > 0 { Ok(got) } else { Err(error) };
        }
        let received = match result as usize {
            _ if message.msg_flags & libc::MSG_TRUNC != 0 => Received::Oversized,
            0 => Received::Nothing,
            len => Received::Frame(len),
        };
        batch.push(received, Some(VnetHeader::default()));
    }
    Ok(room)
}

/// Send `frames` (at least one) and say how many the kernel took.
pub(super) fn send(socket: &UnixDatagram, frames: &[FrameRef<'_>]) -> io::Result<usize> {
    for (sent, frame) in frames.iter().enumerate() {
        let bytes = frame.ethernet();
        // SAFETY: pointer and length are those of a slice that outlives the call.
        let result =
            unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) };
        if result < 0 {
            let error = io::Error::last_os_error();
            return if sent > 0 { Ok(sent) } else { Err(error) };
        }
    }
    Ok(frames.len())
}
