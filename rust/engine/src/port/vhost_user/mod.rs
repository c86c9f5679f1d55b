//! A guest that shares its memory: the back end of vhost-user, for a network card.
//!
//! A connected stream socket with QEMU (`-netdev vhost-user`), or another front end, at the other end. It says where
//! the guest's memory and its two rings are; frames are then copied from and to them, without a system call for
//! each, and super-frames pass whole.
//!
//! While there is traffic the guest is asked not to kick, and its ring is looked at once a round (`holds_frames`);
//! when a look finds nothing, kicks are asked for. When there is no room in the guest, a kick says when there is.
//!
//! Guest and front end are hostile. Whatever they do in their memory, on the connection, with descriptors that they
//! passed, costs them their port (`ring`, `connection`, `memory`, `faults`). What was not offered is refused.
//!
//! Facts this file rests on: QEMU 7.2 enables rings before features are agreed on, and before there is memory;
//! after a restart of ours it says where to go on, by what the used ring says, which is where we were since buffers
//! are given back in order.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use self::connection::{Connection, Said};
use self::ring::RingError;
use super::{Down, Port, PortError, descriptor};
use crate::frame::{self, MacAddress};
use crate::pool::{Batch, FrameRef, Received};
use crate::stats::Counters;
use crate::vnet_header::{self, Offloads, VnetHeader};

mod connection;
mod device;
pub mod double;
mod faults;
mod features;
mod frames;
mod memory;
mod notice;
mod ring;
#[cfg(test)]
mod tests;

const WANTED: &str = "a connected stream socket";

/// Of a RARP frame, which says where a station is now (RFC 903).
const RARP: u16 = 0x8035;

/// The port. See the module's head.
pub struct VhostUser {
    connection: Connection,
    descriptor: RawFd,
    /// There may be something to do that no descriptor tells of.
    restless: bool,
    /// Messages were left for the next turn.
    more: bool,
    offloads: Offloads,
    sender_room: usize,
}

impl VhostUser {
    /// `own` is what the caller called `given`; messages name that.
    ///
    /// # Errors
    /// [`PortError`] for anything but a connected stream socket.
    pub fn new(own: OwnedFd, given: RawFd) -> Result<Self, PortError> {
        let fd = own.as_fd();
        let kind = descriptor::socket_option(fd, libc::SO_TYPE);
        let listens = descriptor::socket_option(fd, libc::SO_ACCEPTCONN);
        let family = descriptor::socket_option(fd, libc::SO_DOMAIN);
        let right = matches!((kind, listens, family), (Ok(libc::SOCK_STREAM), Ok(0), Ok(libc::AF_UNIX)));
        if !right {
            return Err(PortError::WrongKind { fd: given, wanted: WANTED });
        }
        let unusable = |source| PortError::Unusable { fd: given, source };
        descriptor::set_nonblocking(fd).map_err(unusable)?;
        let connection = Connection::new(own).map_err(unusable)?;
        let descriptor = connection.as_raw_fd();
        Ok(Self {
            connection,
            descriptor,
            restless: true,
            more: true,
            offloads: Offloads::NONE,
            sender_room: 0,
        })
    }

    /// Why the port is lost, after `error`.
    fn lost(&self, error: &RingError) -> Down {
        if self.connection.device().is_cut() {
            return cut();
        }
        Down(format!("The guest's driver is broken: {error}"))
    }

    fn announce(&mut self, batch: &mut Batch) {
        while batch.room() > 0 {
            let Some(station) = self.connection.take_announced() else { return };
            let frame = rarp(station);
            if let Some(slot) = batch.free_slots().next() {
                slot[vnet_header::LEN..][..frame.len()].copy_from_slice(&frame);
            }
            batch.push(Received::Frame(frame.len()), Some(VnetHeader::default()));
        }
    }
}

fn cut() -> Down {
    Down("The front end shortened the file behind its memory".into())
}

/// What tells everybody where `station` is: a request for its own address, broadcast.
fn rarp(MacAddress(station): MacAddress) -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&station);
    frame[12..14].copy_from_slice(&RARP.to_be_bytes());
    // Ethernet, IPv4, their lengths, "request reverse"; then the station as sender and as the one asked for.
    frame[frame::HEADER_LEN..][..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 3]);
    frame[22..28].copy_from_slice(&station);
    frame[32..38].copy_from_slice(&station);
    frame
}

impl Port for VhostUser {
    fn descriptor(&self) -> RawFd {
        self.descriptor
    }

    fn receive(&mut self, batch: &mut Batch) -> Result<(), Down> {
        if self.connection.device().watch().happened() || self.more {
            self.more = matches!(self.connection.obey()?, Said::More);
        }
        self.announce(batch);
        let mut device = self.connection.device();
        self.offloads = device.offloads();
        self.sender_room = device.sender_room();
        let taken = if batch.room() > 0 { device.take(batch) } else { Ok(1) };
        let is_cut = device.is_cut();
        drop(device);
        let taken = taken.map_err(|error| self.lost(&error))?;
        if is_cut {
            return Err(cut());
        }
        self.restless = self.more || taken > 0;
        if batch.is_empty() {
            // A message, a kick: it was for something, though it gave no frame.
            batch.push(Received::Nothing, None);
        }
        Ok(())
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down> {
        let mut device = self.connection.device();
        let result = device.give(frames, counters);
        let is_cut = device.is_cut();
        drop(device);
        let count = result.map_err(|error| self.lost(&error))?;
        if is_cut { Err(cut()) } else { Ok(count) }
    }

    fn holds_frames(&self) -> bool {
        self.restless
    }

    fn readable_means_room(&self) -> bool {
        true
    }

    fn reads_many_at_once(&self) -> bool {
        true
    }

    fn sender_waits(&self) -> bool {
        true
    }

    fn may_rest(&self) -> bool {
        !self.more // what waits, waits in the guest's ring
    }

    fn sender_room(&self) -> Option<usize> {
        Some(self.sender_room)
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }
}
