//! A bound `AF_UNIX` datagram socket that many send to: clients of QEMU's `-netdev dgram` with addresses, and of
//! unixgram. It only reads; each client has an endpoint of its own, which the frames are said to come from.
//!
//! Facts this file rests on: QEMU sends each frame to a path and never connects; vfkit begins with the four bytes
//! `VFKT`, so that the server learns its address; others begin with a frame. A sender that is not bound has no
//! address, so that nobody could answer it.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;

#[cfg(target_os = "linux")]
use super::mmsg_linux as mmsg;
#[cfg(not(target_os = "linux"))]
use super::mmsg_macos as mmsg;
use super::names::Names;
use super::{Down, Port, PortError, descriptor};
use crate::pool::{Batch, FrameRef, Received};
use crate::sources::{Origin, Sources};
use crate::stats::{Counters, DropReason};

/// vfkit's word of introduction.
const INTRODUCTION: &[u8] = b"VFKT";

/// The port. See the module's head.
pub struct Door {
    socket: UnixDatagram,
    sources: Sources,
    names: Names,
}

impl Door {
    /// `own` is what the caller called `given`; messages name that.
    ///
    /// # Errors
    /// [`PortError::WrongKind`] for anything but an `AF_UNIX` datagram socket that is bound to a name.
    pub fn new(own: OwnedFd, given: RawFd) -> Result<Self, PortError> {
        let wrong = PortError::WrongKind { fd: given, wanted: "a bound UNIX datagram socket" };
        match descriptor::socket_option(own.as_fd(), libc::SO_TYPE) {
            Ok(libc::SOCK_DGRAM) => {}
            _ => return Err(wrong),
        }
        let socket = UnixDatagram::from(own);
        match socket.local_addr() {
            Ok(address) if !address.is_unnamed() => {}
            _ => return Err(wrong),
        }
        descriptor::enlarge_buffers(socket.as_fd());
        Ok(Self { socket, sources: Sources::default(), names: Names::default() })
    }

    /// What number `index` of the batch is, and which endpoint it is from.
    fn sort(&mut self, address: usize, index: usize, batch: &mut Batch) {
        let address = self.names.get(address);
        let (len, origin) = match batch.received(index) {
            Received::Nothing | Received::Dropped(..) => return,
            Received::Oversized => match self.sources.known(address) {
                Some(slot) => (0, Origin::Known(slot)),
                None => (crate::frame::MAX_LEN, Origin::Full),
            },
            Received::Frame(len) if address.is_empty() => {
                batch.replace(index, Received::Dropped(len, DropReason::NoAddress));
                return;
            }
            Received::Frame(len) => {
                let bytes = batch.frame(index).ethernet();
                if bytes == INTRODUCTION {
                    self.sources.classify(address, &[]);
                    batch.replace(index, Received::Nothing);
                    return;
                }
                (len, self.sources.classify(address, bytes))
            }
        };
        match origin {
            Origin::Known(slot) => batch.set_origin(index, slot),
            Origin::Held => batch.replace(index, Received::Nothing),
            Origin::Full => batch.replace(index, Received::Dropped(len, DropReason::UnknownSender)),
        }
    }
}

impl Port for Door {
    fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn receive(&mut self, batch: &mut Batch) -> Result<(), Down> {
        let first = batch.len();
        // An error is nothing to a socket without a peer.
        let count = mmsg::receive_from(&self.socket, batch, &mut self.names).unwrap_or(0);
        for number in 0..count {
            self.sort(number, first + number, batch);
        }
        Ok(())
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down> {
        // Nothing is ever addressed to it: it is not on the switch.
        frames.iter().for_each(|_| counters.dropped(DropReason::NoDestination));
        Ok(frames.len())
    }

    fn health(&mut self) -> Result<(), Down> {
        let _ = self.socket.take_error();
        Ok(())
    }

    fn sources(&mut self) -> Option<&mut Sources> {
        Some(&mut self.sources)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mmsg_other;
    use super::super::names::Name;
    use super::*;
    use crate::frame;
    use crate::pool::BATCH;

    struct Place(std::path::PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let place = std::env::temp_dir().join(format!("vde-door-{}-{name}", std::process::id()));
            std::fs::create_dir(&place).unwrap();
            Self(place)
        }

        fn bind(&self, name: &str) -> UnixDatagram {
            let socket = UnixDatagram::bind(self.0.join(name)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        }

        fn address(&self, name: &str) -> Vec<u8> {
            self.0.join(name).into_os_string().into_encoded_bytes()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn read(door: &mut Door, batch: &mut Batch, room: usize) -> Vec<Received> {
        batch.restart(room);
        door.receive(batch).unwrap();
        (0..batch.len()).map(|index| batch.received(index)).collect()
    }

    #[test]
    fn frames_are_their_senders() {
        for room in [1, BATCH] {
            let place = Place::new(&format!("frames-{room}"));
            let mut door = Door::new(place.bind("door").into(), 99).unwrap();
            let mut batch = Batch::new();
            for (slot, name) in [(3, "a"), (4, "b")] {
                let client = place.bind(name);
                client.send_to(&[7; 60], place.0.join("door")).unwrap();
                assert_eq!(read(&mut door, &mut batch, room), [Received::Nothing]);
                assert_eq!(door.sources.take_newcomers(), [place.address(name).into_boxed_slice()]);
                assert_eq!(door.sources.admit(&place.address(name), slot), [[7; 60]]);
                client.connect(place.0.join("door")).unwrap();
                for len in [60, 1_514, frame::MAX_LEN] {
                    client.send(&vec![7; len]).unwrap();
                    assert_eq!(read(&mut door, &mut batch, room), [Received::Frame(len)]);
                    assert_eq!(batch.origin(0), Some(slot));
                }
                client.send(&vec![7; frame::MAX_LEN + 1]).unwrap();
                assert_eq!(read(&mut door, &mut batch, room), [Received::Oversized]);
                assert_eq!(batch.origin(0), Some(slot));
            }
        }
    }

    #[test]
    fn both_ways_to_read_say_who_it_was_and_both_ways_to_write_reach_them() {
        type Receive = fn(&UnixDatagram, &mut Batch, &mut Names) -> std::io::Result<usize>;
        type Send = fn(&UnixDatagram, &[FrameRef<'_>], Option<&Name>) -> std::io::Result<usize>;
        let ways: [(&str, Receive, Send); 2] = [
            ("batch", mmsg::receive_from, mmsg::send_to),
            ("fallback", mmsg_other::receive_from, mmsg_other::send_to),
        ];
        for (way, receive, send) in ways {
            let place = Place::new(way);
            let door = place.bind("door");
            let (mut batch, mut names) = (Batch::new(), Names::default());
            let clients = ["a", "bb", "ccc"].map(|name| (name, place.bind(name)));
            for (name, client) in &clients {
                client.send_to(&vec![7; 20 + name.len()], place.0.join("door")).unwrap();
            }
            UnixDatagram::unbound().unwrap().send_to(&[7; 60], place.0.join("door")).unwrap();
            assert_eq!(receive(&door, &mut batch, &mut names).unwrap(), 4, "{way}");
            assert_eq!(names.get(3), b"");
            for (index, (name, client)) in clients.iter().enumerate() {
                assert_eq!(batch.received(index), Received::Frame(20 + name.len()));
                assert_eq!(names.get(index), place.address(name), "{way}");
                let to = Name::new(names.get(index)).unwrap();
                let frames = [batch.frame(index); 2];
                assert_eq!(send(&door, &frames, Some(&to)).unwrap(), 2, "{way}");
                for _ in 0..2 {
                    assert_eq!(client.recv(&mut [0; 100]).unwrap(), 20 + name.len());
                }
            }
        }
    }

    #[test]
    fn an_introduction_and_an_empty_datagram_are_no_frames() {
        let place = Place::new("introduction");
        let mut door = Door::new(place.bind("door").into(), 99).unwrap();
        let mut batch = Batch::new();
        let client = place.bind("a");
        client.connect(place.0.join("door")).unwrap();
        client.send(&[]).unwrap();
        assert_eq!(read(&mut door, &mut batch, BATCH), [Received::Nothing]);
        assert_eq!(door.sources.take_newcomers().len(), 0);
        for reported in [1, 0] {
            client.send(INTRODUCTION).unwrap();
            assert_eq!(read(&mut door, &mut batch, BATCH), [Received::Nothing]);
            assert_eq!(door.sources.take_newcomers().len(), reported);
        }
        assert_eq!(door.sources.admit(&place.address("a"), 3), Vec::<Vec<u8>>::new());
        client.send(INTRODUCTION).unwrap();
        assert_eq!(read(&mut door, &mut batch, BATCH), [Received::Nothing]);
    }

    #[test]
    fn who_has_no_address_is_not_heard() {
        let place = Place::new("nameless");
        let mut door = Door::new(place.bind("door").into(), 99).unwrap();
        let mut batch = Batch::new();
        let nobody = UnixDatagram::unbound().unwrap();
        nobody.send_to(&[7; 60], place.0.join("door")).unwrap();
        assert_eq!(read(&mut door, &mut batch, BATCH), [Received::Dropped(60, DropReason::NoAddress)]);
        assert_eq!(door.sources.take_newcomers().len(), 0);
    }

    #[test]
    fn only_bound_datagram_sockets_are_doors() {
        let (near, _far) = UnixDatagram::pair().unwrap();
        let stream = std::os::unix::net::UnixStream::pair().unwrap().0;
        for own in [OwnedFd::from(near), OwnedFd::from(UnixDatagram::unbound().unwrap()), OwnedFd::from(stream)]
        {
            assert!(matches!(Door::new(own, 99), Err(PortError::WrongKind { fd: 99, .. })));
        }
    }
}
