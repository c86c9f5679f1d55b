//! `recvmmsg` and `sendmmsg`: a batch of datagrams in one call.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::ptr;

use crate::pool::{BATCH, Batch, FrameRef, Received};
use crate::vnet_header::{self, VnetHeader};

/// One message whose data is where `iov` points; `iov` must stay where it is as long as the message is used.
fn message(iov: *mut libc::iovec) -> libc::mmsghdr {
    libc::mmsghdr {
        msg_hdr: libc::msghdr {
            msg_name: ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: iov,
            msg_iovlen: 1,
            msg_control: ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        },
        msg_len: 0,
    }
}

/// Read up to `most` datagrams into `batch` and say how many there were.
pub(super) fn receive(socket: &UnixDatagram, batch: &mut Batch, most: usize) -> io::Result<usize> {
    let mut iovs = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let mut prepared = 0;
    for (slot, (iov, message_place)) in batch.free_slots().take(most).zip(iovs.iter_mut().zip(&mut messages)) {
        // One byte of the slot is left alone: here the kernel says when a datagram was too long.
        let len = slot.len() - vnet_header::LEN - 1;
        let base = slot[vnet_header::LEN..].as_mut_ptr().cast();
        let iov = iov.write(libc::iovec { iov_base: base, iov_len: len });
        message_place.write(message(iov));
        prepared += 1;
    }
    // SAFETY: the first `prepared` messages were written above; each points to its own iovec in `iovs`, which
    // points into its own slot of `batch`. Nothing else uses either before the call returns.
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
    for message in &messages[..got] {
        // SAFETY: `got` is at most `prepared`, and those messages were written.
        let message = unsafe { message.assume_init_ref() };
        let received = match message.msg_len as usize {
            _ if message.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 => Received::Oversized,
            0 => Received::Nothing,
            len => Received::Frame(len),
        };
        batch.push(received, Some(VnetHeader::default()));
    }
    Ok(got)
}

/// Send `frames` (at least one; the first [`BATCH`] of them) and say how many the kernel took.
pub(super) fn send(socket: &UnixDatagram, frames: &[FrameRef<'_>]) -> io::Result<usize> {
    let mut iovs = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
    let mut messages = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
    let mut prepared = 0;
    for (frame, (iov, message_place)) in frames.iter().zip(iovs.iter_mut().zip(&mut messages)) {
        let bytes = frame.ethernet();
        // The kernel only reads from it, whatever the type says.
        let iov = iov.write(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
        message_place.write(message(iov));
        prepared += 1;
    }
    // SAFETY: the first `prepared` messages were written above; each points to its own iovec in `iovs`, which
    // points to a frame that is borrowed for longer than this call. sendmmsg writes only to `msg_len`.
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
