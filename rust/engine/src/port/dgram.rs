//! A connected `AF_UNIX` datagram socket: one datagram is one bare frame (VDE, QEMU `-netdev dgram`).
//!
//! Facts this file rests on: a zero-length datagram is how old VDE clients say good-bye, and makes some QEMU
//! versions stop reading, so it is ignored on input and never sent; a peer that closed its end gives
//! ECONNREFUSED once and ENOTCONN from then on, one that connected elsewhere EPERM.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;

#[cfg(target_os = "linux")]
use super::mmsg_linux as mmsg;
#[cfg(not(target_os = "linux"))]
use super::mmsg_other as mmsg;
use super::{Down, Port, PortError, descriptor};
use crate::pool::{Batch, FrameRef};
use crate::stats::{Counters, DropReason};

/// The port. See the module's head.
pub struct Dgram {
    socket: UnixDatagram,
}

impl Dgram {
    /// `own` is what the caller called `given`; messages name that.
    ///
    /// # Errors
    /// [`PortError::WrongKind`] for anything but a connected `AF_UNIX` datagram socket.
    pub fn new(own: OwnedFd, given: RawFd) -> Result<Self, PortError> {
        let wrong = PortError::WrongKind { fd: given, wanted: "a connected UNIX datagram socket" };
        match descriptor::socket_option(own.as_fd(), libc::SO_TYPE) {
            Ok(libc::SOCK_DGRAM) => {}
            _ => return Err(wrong),
        }
        let socket = UnixDatagram::from(own);
        if socket.peer_addr().is_err() {
            return Err(wrong);
        }
        descriptor::enlarge_buffers(socket.as_fd());
        Ok(Self { socket })
    }
}

impl Port for Dgram {
    fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn receive(&mut self, batch: &mut Batch) -> Result<(), Down> {
        // An error is no reason to give the endpoint up: it is what the socket remembers of a peer that went,
        // told once, and the control connection decides.
        let _ = mmsg::receive(&self.socket, batch);
        Ok(())
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down> {
        let mut taken = 0;
        while taken < frames.len() {
            let rest = &frames[taken..];
            match mmsg::send(&self.socket, rest) {
                Ok(count) => {
                    for frame in &rest[..count] {
                        counters.sent(frame.ethernet().len());
                    }
                    taken += count;
                }
                Err(error) => match fate(&error) {
                    Fate::Again => {}
                    Fate::Wait => break,
                    Fate::DropOne(reason) => {
                        counters.dropped(reason);
                        taken += 1;
                    }
                    Fate::DropAll(reason) => {
                        rest.iter().for_each(|_| counters.dropped(reason));
                        taken = frames.len();
                    }
                },
            }
        }
        Ok(taken)
    }

    fn health(&mut self) -> Result<(), Down> {
        // Reading the error takes it off the socket; for the rest see `receive`.
        let _ = self.socket.take_error();
        Ok(())
    }

    fn sender_waits(&self) -> bool {
        true
    }
}

/// What an error on sending means for the frames.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Again,
    Wait,
    DropOne(DropReason),
    DropAll(DropReason),
}

fn fate(error: &io::Error) -> Fate {
    match error.raw_os_error().unwrap_or(0) {
        libc::EINTR => Fate::Again,
        libc::EAGAIN => Fate::Wait,
        libc::EMSGSIZE | libc::ENOBUFS | libc::ENOMEM => Fate::DropOne(DropReason::Refused),
        // ECONNREFUSED, ENOTCONN, EPERM, ECONNRESET, EPIPE, EDESTADDRREQ; anything new is as final as these.
        _ => Fate::DropAll(DropReason::PeerGone),
    }
}
