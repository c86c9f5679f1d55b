//! `recvmmsg` and `sendmmsg`: a batch of datagrams in one call.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::ptr;

use super::names::{Name, Names};
use crate::pool::{BATCH, Batch, FrameRef, Received};
use crate::vnet_header::{self, VnetHeader};

/// The error that says "the peer has no room" where the poller does not say when it has some again.
pub(super) const FULL_UNSAID: Option<libc::c_int> = None;

/// No address.
const NOBODY: (*mut libc::c_void, libc::socklen_t) = (ptr::null_mut(), 0);

/// One message whose data is where `iov` points, and whose other end is where `name` points; both must stay where
/// they are as long as the message is used.
fn message(iov: *mut libc::iovec, name: (*mut libc::c_void, libc::socklen_t)) -> libc::mmsghdr {
    libc::mmsghdr {
        msg_hdr: libc::msghdr {
            msg_name: name.0,
            msg_namelen: name.1,
            msg_iov: iov,
            msg_iovlen: 1,
            msg_control: ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        },
        msg_len: 0,
    }
}

/// Read as many datagrams as `batch` has room for and say how many there were.
pub(super) fn receive(socket: &UnixDatagram, batch: &mut Batch) -> io::Result<usize> {
    if batch.room() == 1 {
        return receive_one(socket, batch);
    }
    receive_many(socket, batch, None)
}

/// The same, and write down who sent them: the first under number 0.
pub(super) fn receive_from(socket: &UnixDatagram, batch: &mut Batch, names: &mut Names) -> io::Result<usize> {
    receive_many(socket, batch, Some(names))
}

fn receive_many(socket: &UnixDatagram, batch: &mut Batch, mut names: Option<&mut Names>) -> io::Result<usize> {
    let mut iovs = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let mut prepared = 0;
    for (slot, (iov, message_place)) in batch.free_slots().zip(iovs.iter_mut().zip(&mut messages)) {
        // One byte of the slot is left alone: here the kernel says when a datagram was too long.
        let len = slot.len() - vnet_header::LEN - 1;
        let base = slot[vnet_header::LEN..].as_mut_ptr().cast();
        let iov = iov.write(libc::iovec { iov_base: base, iov_len: len });
        let name = names.as_mut().map_or(NOBODY, |names| names.place(prepared));
        message_place.write(message(iov, name));
        prepared += 1;
    }
    // SAFETY: the first `prepared` messages were written above; each points to its own iovec in `iovs`, which
    // points into its own slot of `batch`, and to its own place in `names`. Nothing else uses any of them before
    // the call returns.
    let result = unsafe {
        libc::recvmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr().cast(),
            prepared as libc::c_uint,
            libc::MSG_DONTWAIT as _,
            ptr::null_mut(),
        )
    };
    let got = super::descriptor::check(result)? as usize;
    for (index, message) in messages[..got].iter().enumerate() {
        // SAFETY: `got` is at most `prepared`, and those messages were written.
        let message = unsafe { message.assume_init_ref() };
        if let Some(names) = &mut names {
            names.written(index, message.msg_hdr.msg_namelen);
        }
        let len = message.msg_len as usize;
        let truncated = message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
        batch.push(if truncated { Received::Oversized } else { received(len) }, Some(VnetHeader::default()));
    }
    Ok(got)
}

/// Two thirds of the price of a `recvmmsg` for one datagram, which is what a quiet network has.
fn receive_one(socket: &UnixDatagram, batch: &mut Batch) -> io::Result<usize> {
    let Some(slot) = batch.free_slots().next() else { return Ok(0) };
    let memory = &mut slot[vnet_header::LEN..];
    // With MSG_TRUNC the result is the datagram's own length, which `push` compares with the longest allowed.
    let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: pointer and length are those of a slice that outlives the call.
    let result = unsafe { libc::recv(socket.as_raw_fd(), memory.as_mut_ptr().cast(), memory.len(), flags) };
    let Ok(len) = usize::try_from(result) else { return Err(io::Error::last_os_error()) };
    batch.push(received(len), Some(VnetHeader::default()));
    Ok(1)
}

fn received(len: usize) -> Received {
    if len == 0 { Received::Nothing } else { Received::Frame(len) }
}

/// Send `frames` (at least one; the first [`BATCH`] of them) and say how many the kernel took.
pub(super) fn send(socket: &UnixDatagram, frames: &[FrameRef<'_>]) -> io::Result<usize> {
    if let [only] = frames {
        return send_one(socket, only.ethernet());
    }
    send_to(socket, frames, None)
}

/// The same to somebody in particular.
pub(super) fn send_to(socket: &UnixDatagram, frames: &[FrameRef<'_>], to: Option<&Name>) -> io::Result<usize> {
    let mut iovs = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let mut prepared = 0;
    for (frame, (iov, message_place)) in frames.iter().zip(iovs.iter_mut().zip(&mut messages)) {
        let bytes = frame.ethernet();
        // The kernel only reads from it, whatever the type says.
        let iov = iov.write(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        message_place.write(message(iov, to.map_or(NOBODY, Name::as_message_name)));
        prepared += 1;
    }
    // SAFETY: the first `prepared` messages were written above; each points to its own iovec in `iovs`, which
    // points to a frame that is borrowed for longer than this call, as `to` is. sendmmsg writes only to `msg_len`.
    let result = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr().cast(),
            prepared as libc::c_uint,
            (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
        )
    };
    super::descriptor::check(result).map(|count| count as usize)
}

/// As [`receive_one`]: for one frame the plain call is cheaper.
fn send_one(socket: &UnixDatagram, bytes: &[u8]) -> io::Result<usize> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: pointer and length are those of a slice that outlives the call.
    let result = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(1) }
}
