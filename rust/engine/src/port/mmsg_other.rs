//! The batch calls where the kernel has none: one `recvmsg` or `sendmsg` a frame.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use super::names::{Name, Names};
use crate::pool::{Batch, FrameRef, Received};
use crate::vnet_header::{self, VnetHeader};

/// The error that says "the peer has no room" where the poller does not say when it has some again: on macOS a
/// datagram socket is always writable, and a full one does not even make a blocking call wait.
#[cfg(not(target_os = "linux"))]
pub(super) const FULL_UNSAID: Option<libc::c_int> = Some(libc::ENOBUFS);

/// Read as many datagrams as `batch` has room for and say how many there were.
pub(super) fn receive(socket: &UnixDatagram, batch: &mut Batch) -> io::Result<usize> {
    receive_all(socket, batch, None)
}

/// The same, and write down who sent them: the first under number 0.
pub(super) fn receive_from(socket: &UnixDatagram, batch: &mut Batch, names: &mut Names) -> io::Result<usize> {
    receive_all(socket, batch, Some(names))
}

fn receive_all(socket: &UnixDatagram, batch: &mut Batch, mut names: Option<&mut Names>) -> io::Result<usize> {
    let room = batch.room();
    for got in 0..room {
        let Some(slot) = batch.free_slots().next() else { return Ok(got) };
        let len = slot.len() - vnet_header::LEN - 1;
        let mut iov = libc::iovec { iov_base: slot[vnet_header::LEN..].as_mut_ptr().cast(), iov_len: len };
        // SAFETY: all-zero bytes are a valid msghdr: null pointers with lengths of zero.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        if let Some(names) = &mut names {
            (message.msg_name, message.msg_namelen) = names.place(got);
        }
        // SAFETY: the message points to `iov`, and that into a slot of `batch`, and to a place in `names`; all of
        // them outlive the call.
        let result = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        if result < 0 {
            let error = io::Error::last_os_error();
            return if got > 0 { Ok(got) } else { Err(error) };
        }
        if let Some(names) = &mut names {
            names.written(got, message.msg_namelen);
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
    send_to(socket, frames, None)
}

/// The same to somebody in particular.
pub(super) fn send_to(socket: &UnixDatagram, frames: &[FrameRef<'_>], to: Option<&Name>) -> io::Result<usize> {
    let (name, len) = to.map_or((std::ptr::null_mut(), 0), Name::as_message_name);
    for (sent, frame) in frames.iter().enumerate() {
        let bytes = frame.ethernet();
        let (data, flags) = (bytes.as_ptr().cast(), libc::MSG_DONTWAIT);
        // SAFETY: `data` is a slice and `name` an address of those lengths; both outlive the call.
        let result = unsafe {
            libc::sendto(socket.as_raw_fd(), data, bytes.len(), flags, name.cast_const().cast(), len)
        };
        if result < 0 {
            let error = io::Error::last_os_error();
            return if sent > 0 { Ok(sent) } else { Err(error) };
        }
    }
    Ok(frames.len())
}
