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
use super::{Port, PortError, Readiness, Sent, descriptor};
use crate::pool::{BATCH, Batch, FrameRef};
use crate::stats::{Counters, DropReason};

/// Bytes the kernel may hold for the peer, if the system's limit allows and nobody has set more. Chosen: some
/// 450 full frames, so that a peer that is off the processor for a moment costs nothing.
const SEND_BUFFER: libc::c_int = 1 << 20;

/// Messages asked for in the first call on a quiet socket; doubled while they fill. Preparing the call costs
/// more than a lone frame is worth otherwise.
const FEWEST: usize = 4;

/// The port. See the module's head.
pub struct Dgram {
    socket: UnixDatagram,
    expected: usize,
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
        enlarge(&socket, libc::SO_SNDBUF);
        enlarge(&socket, libc::SO_RCVBUF);
        Ok(Self { socket, expected: FEWEST })
    }
}

/// Raise a buffer to what the system allows without privilege; never shrink what a privileged caller has set.
fn enlarge(socket: &UnixDatagram, option: libc::c_int) {
    let current = descriptor::socket_option(socket.as_fd(), option);
    if current.is_ok_and(|bytes| bytes < SEND_BUFFER) {
        // A refusal leaves the default, which works, only with fewer frames in flight.
        let _ = descriptor::set_socket_option(socket.as_fd(), option, SEND_BUFFER);
    }
}

impl Port for Dgram {
    fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn receive(&mut self, batch: &mut Batch) -> Readiness {
        let mut remembered = false;
        loop {
            let asked = self.expected.min(batch.room());
            match mmsg::receive(&self.socket, batch, asked) {
                Ok(got) if got < asked => {
                    // The kernel looked for one more and found none: whatever comes now is a new edge.
                    self.expected = (self.expected / 2).max(FEWEST);
                    return Readiness::Drained;
                }
                Ok(_) => {
                    self.expected = (self.expected * 2).min(BATCH);
                    if batch.room() == 0 {
                        return Readiness::More;
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.expected = FEWEST;
                        return Readiness::Drained;
                    }
                    io::ErrorKind::Interrupted => {}
                    // What the socket remembers of a peer that went (ECONNRESET and the like) is told once.
                    _ if !remembered => remembered = true,
                    _ => return Readiness::Down(error.to_string()),
                },
            }
        }
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Sent {
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
                    Fate::Wait => return Sent { taken, readiness: Readiness::Drained },
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
        Sent { taken, readiness: Readiness::More }
    }

    fn health(&mut self) -> Readiness {
        // Reading the error takes it off the socket. The endpoint stays: its control connection decides.
        let _ = self.socket.take_error();
        Readiness::More
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
