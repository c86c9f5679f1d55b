//! A connected stream socket with QEMU's framing (`-netdev stream`, `-netdev socket,fd=`, socket_vmnet's clients).
//!
//! Reading: one call takes what is there, and the frames are copied into their slots. That is cheaper than finding
//! out first where frames end, since the kernel's share of reading is the larger one. Complete frames that the batch
//! had no room for wait in here, and the loop is told so ([`Port::holds_frames`]).
//!
//! Writing: headers and frames of a batch go out in one call. Of a frame that the kernel took in part, the rest
//! must follow before anything else; it stays at the head of the loop's queue, and here only how much of it is out.
//!
//! Facts this file rests on: some peers write header and frame separately, some cut anywhere; the end of what the
//! peer writes is the end of the connection, since QEMU reads and writes until it closes; a close with something
//! unread in it is ECONNRESET here.
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::ptr;

use super::{Down, Port, PortError, descriptor};
use crate::framing::{self, HEADER_LEN, Partial};
use crate::pool::{BATCH, Batch, FrameRef, Received};
use crate::stats::{Counters, DropReason};
use crate::vnet_header::{self, VnetHeader};

/// Bytes taken in one call at most. Chosen: a batch of full frames (64 of 1518 bytes with their lengths), so that
/// none of them waits; more than the longest frame.
const LOOK: usize = 96 << 10;
const _: () = assert!(LOOK > HEADER_LEN + framing::MAX_LEN);

/// A frame that has begun with more than this is read to its end by calls of its own; a shorter beginning is put in
/// front of what comes next. Chosen: above a full frame, the beginning of which is what a call ends with.
const SHORT: usize = 2048;

type Look = [MaybeUninit<u8>; LOOK];

/// The port. See the module's head.
pub struct Stream {
    socket: OwnedFd,
    partial: Partial,
    /// Bytes that begin with a complete frame (or an impossible length) at `held_at`.
    held: Vec<u8>,
    held_at: usize,
    /// Bytes of the next frame to be sent, header included, that are out already.
    out: usize,
    /// See [`Port::sender_room`].
    room: usize,
}

impl Stream {
    /// `own` is what the caller called `given`; messages name that.
    ///
    /// # Errors
    /// [`PortError::WrongKind`] for anything but a connected stream socket.
    pub fn new(own: OwnedFd, given: RawFd) -> Result<Self, PortError> {
        let wrong = PortError::WrongKind { fd: given, wanted: "a connected stream socket" };
        match descriptor::socket_option(own.as_fd(), libc::SO_TYPE) {
            Ok(libc::SOCK_STREAM) if descriptor::has_peer(own.as_fd()) => {}
            _ => return Err(wrong),
        }
        descriptor::set_nonblocking(own.as_fd()).map_err(|source| PortError::Unusable { fd: given, source })?;
        let room = descriptor::peer_room(own.as_fd());
        descriptor::enlarge_buffers(own.as_fd());
        Ok(Self { socket: own, partial: Partial::default(), held: Vec::new(), held_at: 0, out: 0, room })
    }

    /// Read at most `len` bytes into `look` from `from` on, or only look at them; how many, or `None` when there are
    /// none now.
    fn recv(
        &self,
        look: &mut Look,
        from: usize,
        len: usize,
        flags: libc::c_int,
    ) -> Result<Option<usize>, Down> {
        let target = &mut look[from..];
        let len = len.min(target.len());
        loop {
            // SAFETY: the pointer is that of `target`, which is at least `len` bytes long and outlives the call.
            let result = unsafe { libc::recv(self.socket.as_raw_fd(), target.as_mut_ptr().cast(), len, flags) };
            match usize::try_from(result) {
                Ok(0) => return Err(Down::closed()),
                Ok(got) => return Ok(Some(got)),
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    error => return Err(lost(&error)),
                },
            }
        }
    }

    /// Read more of the frame that is not complete; `true` when the next one may be looked at.
    fn complete_partial(&mut self, look: &mut Look, batch: &mut Batch) -> Result<bool, Down> {
        let missing = self.partial.missing().map_err(|error| Down(error.to_string()))?;
        let Some(got) = self.recv(look, 0, missing, 0)? else { return Ok(false) };
        let all = got == missing;
        // SAFETY: the kernel has written that many bytes.
        self.partial.extend(unsafe { begun(look, got) });
        if !all || self.partial.missing().map_err(|error| Down(error.to_string()))? > 0 {
            // Some bytes came, so that the report was not in vain.
            batch.push(Received::Nothing, None);
            return Ok(false);
        }
        push(batch, self.partial.frame());
        self.partial.clear();
        Ok(true)
    }

    /// Put the frames at the beginning of `bytes` into `batch`, and keep the beginning of one. How many bytes were
    /// not looked at, because there was no more room.
    fn unpack(&mut self, bytes: &[u8], batch: &mut Batch) -> Result<usize, Down> {
        let (mut rest, before) = (bytes, batch.len());
        loop {
            match framing::first_frame(rest) {
                Ok(Some(len)) if batch.room() > 0 => {
                    push(batch, &rest[HEADER_LEN..][..len]);
                    rest = &rest[HEADER_LEN + len..];
                }
                Ok(None) => {
                    self.partial.extend(rest);
                    if batch.len() == before {
                        // Some bytes came, so that the report was not in vain.
                        batch.push(Received::Nothing, None);
                    }
                    return Ok(0);
                }
                // Frames before it are still good.
                Err(error) if batch.len() == before => return Err(Down(error.to_string())),
                Ok(Some(_)) | Err(_) => return Ok(rest.len()),
            }
        }
    }

    /// One call for `frames`; how many bytes of their headers and contents the kernel took.
    fn write(&self, frames: &[FrameRef<'_>]) -> io::Result<usize> {
        let mut headers = [[0; HEADER_LEN]; BATCH];
        let mut iovs = [const { MaybeUninit::<libc::iovec>::uninit() }; 2 * BATCH];
        let mut used = 0;
        let mut skip = self.out;
        for (frame, header) in frames.iter().zip(&mut headers) {
            let bytes = frame.ethernet();
            *header = framing::header(bytes.len());
            for part in [&header[..], bytes] {
                let rest = &part[skip.min(part.len())..];
                skip -= part.len() - rest.len();
                // The kernel only reads from it, whatever the type says.
                let base = rest.as_ptr().cast_mut().cast();
                iovs[used].write(libc::iovec { iov_base: base, iov_len: rest.len() });
                used += 1;
            }
        }
        let message = message(iovs.as_mut_ptr().cast(), used);
        // SAFETY: the message points to `used` iovecs that were written above; each points to a header or a frame
        // that is borrowed for longer than this call.
        let result = unsafe { libc::sendmsg(self.socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

fn message(iov: *mut libc::iovec, count: usize) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid msghdr: null pointers with lengths of zero.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = ptr::null_mut();
    message.msg_iov = iov;
    message.msg_iovlen = count as _;
    message
}

fn lost(error: &io::Error) -> Down {
    if error.kind() == io::ErrorKind::ConnectionReset { Down::closed() } else { Down(error.to_string()) }
}

/// The first `len` bytes of `look`.
///
/// # Safety
/// They have been written.
unsafe fn begun(look: &Look, len: usize) -> &[u8] {
    debug_assert!(len <= LOOK);
    // SAFETY: the caller says that they have been written.
    unsafe { std::slice::from_raw_parts(look.as_ptr().cast(), len) }
}

/// Copy a frame into the next slot; of one that is too long, the length.
fn push(batch: &mut Batch, frame: &[u8]) {
    if let Some(slot) = batch.next_slot() {
        let room = &mut slot[vnet_header::LEN..];
        let fits = frame.len().min(room.len());
        room[..fits].copy_from_slice(&frame[..fits]);
    }
    let received = if frame.is_empty() { Received::Nothing } else { Received::Frame(frame.len()) };
    batch.push(received, Some(VnetHeader::default()));
}

impl Port for Stream {
    fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn receive(&mut self, batch: &mut Batch) -> Result<(), Down> {
        if self.holds_frames() {
            let held = std::mem::take(&mut self.held);
            let later = self.unpack(&held[self.held_at..], batch)?;
            if later > 0 {
                self.held_at = held.len() - later;
                self.held = held;
            }
            return Ok(());
        }
        let mut look: Look = [const { MaybeUninit::uninit() }; LOOK];
        if self.partial.len() > SHORT && !self.complete_partial(&mut look, batch)? {
            return Ok(());
        }
        // What has begun before goes in front.
        let before = self.partial.len();
        for (place, byte) in look.iter_mut().zip(self.partial.bytes()) {
            place.write(*byte);
        }
        let Some(got) = self.recv(&mut look, before, LOOK, 0)? else { return Ok(()) };
        self.partial.clear();
        // SAFETY: the first `before` bytes were written above, and the kernel has written that many behind them.
        let bytes = unsafe { begun(&look, before + got) };
        let later = self.unpack(bytes, batch)?;
        if later > 0 {
            self.held.extend_from_slice(&bytes[bytes.len() - later..]);
            self.held_at = 0;
        }
        Ok(())
    }

    fn holds_frames(&self) -> bool {
        !self.held.is_empty()
    }

    fn send(&mut self, frames: &[FrameRef<'_>], counters: &mut Counters) -> Result<usize, Down> {
        let mut taken = 0;
        while taken < frames.len() {
            match self.write(&frames[taken..]) {
                Ok(bytes) => {
                    self.out += bytes;
                    while let Some(frame) = frames.get(taken) {
                        let len = frame.ethernet().len();
                        if self.out < HEADER_LEN + len {
                            break;
                        }
                        self.out -= HEADER_LEN + len;
                        counters.sent(len);
                        taken += 1;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM)) => {
                    // No memory for it now. Half a frame must be finished all the same.
                    if self.out > 0 {
                        break;
                    }
                    counters.dropped(DropReason::Refused);
                    taken += 1;
                }
                Err(_) => {
                    // The peer does not read any more. What it wrote before may still be there, and reading
                    // tells when it has ended.
                    frames[taken..].iter().for_each(|_| counters.dropped(DropReason::PeerGone));
                    taken = frames.len();
                }
            }
        }
        Ok(taken)
    }

    fn health(&mut self) -> Result<(), Down> {
        if self.holds_frames() {
            // Sent before the end, which reading tells after them.
            return Ok(());
        }
        let mut look: Look = [const { MaybeUninit::uninit() }; LOOK];
        self.recv(&mut look, 0, 1, libc::MSG_PEEK).map(drop)
    }

    fn sender_waits(&self) -> bool {
        true
    }

    fn sender_room(&self) -> Option<usize> {
        Some(self.room)
    }

    fn reads_many_at_once(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use proptest::prelude::*;

    use super::*;
    use crate::frame;

    fn joined() -> (Stream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Stream::new(ours.into(), 0).unwrap(), theirs)
    }

    fn wire(frames: &[Vec<u8>]) -> Vec<u8> {
        frames.iter().flat_map(|frame| [&framing::header(frame.len())[..], frame].concat()).collect()
    }

    /// Everything that can be read now, in turns of `turn` frames.
    fn read(port: &mut Stream, turn: usize) -> Result<Vec<Result<Vec<u8>, Received>>, Down> {
        let (mut batch, mut all) = (Batch::new(), Vec::new());
        loop {
            batch.restart(turn);
            let result = port.receive(&mut batch);
            for index in 0..batch.len() {
                match batch.received(index) {
                    Received::Nothing => {}
                    Received::Frame(_) => {
                        assert_eq!(batch.header(index), VnetHeader::default());
                        all.push(Ok(batch.frame(index).ethernet().to_vec()));
                    }
                    other => all.push(Err(other)),
                }
            }
            result?;
            if batch.is_empty() {
                return Ok(all);
            }
        }
    }

    fn frames(lens: &[usize]) -> Vec<Vec<u8>> {
        lens.iter().enumerate().map(|(index, len)| vec![index as u8 + 1; *len]).collect()
    }

    #[test]
    fn only_connected_streams_are_taken() {
        let (dgram, _) = UnixDatagram::pair().unwrap();
        assert!(matches!(Stream::new(dgram.into(), 7), Err(PortError::WrongKind { fd: 7, .. })));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(matches!(Stream::new(listener.into(), 7), Err(PortError::WrongKind { .. })));
    }

    #[test]
    fn a_batch_comes_in_one_turn_and_a_frame_a_turn_when_that_is_asked_for() {
        let (mut port, mut peer) = joined();
        let sent = frames(&[60, 1514, 14, 1, 9000]);
        peer.write_all(&wire(&sent)).unwrap();
        let mut batch = Batch::new();
        batch.restart(4);
        port.receive(&mut batch).unwrap();
        assert_eq!(batch.len(), 4);
        let rest = read(&mut port, 1).unwrap();
        assert_eq!(rest, vec![Ok(sent[4].clone())]);
    }

    #[test]
    fn the_longest_frames_are_read_and_the_too_long_ones_passed_over() {
        let (mut port, mut peer) = joined();
        let sent = frames(&[frame::MAX_LEN, framing::MAX_LEN, frame::MAX_LEN + 1, 60]);
        let bytes = wire(&sent);
        let writer = std::thread::spawn(move || peer.write_all(&bytes).map(|()| peer));
        let mut got = Vec::new();
        while got.len() < 4 {
            got.extend(read(&mut port, 1).unwrap());
        }
        let oversized = || Err(Received::Oversized);
        assert_eq!(got, vec![Ok(sent[0].clone()), oversized(), oversized(), Ok(sent[3].clone())]);
        let mut peer = writer.join().unwrap().unwrap();
        peer.write_all(&wire(&sent[1..2])).unwrap();
        assert_eq!(read(&mut port, BATCH).unwrap(), vec![Err(Received::Oversized)]);
    }

    #[test]
    fn nothing_announced_is_nothing_and_too_much_is_the_end() {
        let (mut port, mut peer) = joined();
        peer.write_all(&[0; 40]).unwrap();
        assert_eq!(read(&mut port, 3).unwrap(), vec![]);
        peer.write_all(&wire(&frames(&[60]))).unwrap();
        peer.write_all(b"GET / HTTP/1.1").unwrap();
        let mut batch = Batch::new();
        port.receive(&mut batch).unwrap();
        assert_eq!(batch.len(), 1, "what was sent before it is forwarded");
        let Down(reason) = port.receive(&mut batch).unwrap_err();
        assert!(reason.contains("1195725856 bytes"), "{reason}");
    }

    #[test]
    fn the_end_of_what_a_peer_writes_is_the_end_after_all_of_it_was_read() {
        let (mut port, mut peer) = joined();
        peer.write_all(&wire(&frames(&[60, 70]))).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(port.health(), Ok(()));
        let mut batch = Batch::new();
        port.receive(&mut batch).unwrap();
        assert_eq!(batch.len(), 2);
        assert_eq!(port.receive(&mut batch), Err(Down::closed()));
        assert_eq!(port.health(), Err(Down::closed()));
    }

    #[test]
    fn a_peer_that_is_gone_drops_frames_and_says_nothing() {
        let (mut port, peer) = joined();
        drop(peer);
        let bytes = [0; 12 + 60];
        let mut counters = Counters::default();
        assert_eq!(port.send(&[FrameRef::new(&bytes); 3], &mut counters), Ok(3));
        assert_eq!(counters.drops(DropReason::PeerGone), 3);
    }

    #[test]
    fn a_frame_that_went_out_in_part_is_finished_before_the_next() {
        let (mut port, mut peer) = joined();
        let stored: Vec<Vec<u8>> = (0..200_u8).map(|byte| vec![byte; 12 + 40_000]).collect();
        let frames: Vec<_> = stored.iter().map(|bytes| FrameRef::new(bytes)).collect();
        let mut counters = Counters::default();
        let (mut taken, mut got, mut waits) = (0, Vec::new(), 0);
        peer.set_nonblocking(true).unwrap();
        let mut piece = vec![0; 10_007];
        while taken < frames.len() {
            taken += port.send(&frames[taken..frames.len().min(taken + BATCH)], &mut counters).unwrap();
            waits += usize::from(port.out > 0);
            while let Ok(count) = peer.read(&mut piece) {
                got.extend_from_slice(&piece[..count]);
            }
        }
        assert!(waits > 0, "the case was not met");
        assert_eq!(counters.tx_frames, 200);
        let expected: Vec<u8> =
            frames.iter().flat_map(|frame| [&framing::header(40_000)[..], frame.ethernet()].concat()).collect();
        assert!(got == expected);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_arrive_whole_however_they_are_cut(
            lens in prop::collection::vec(0_usize..5000, 1..20),
            pieces in prop::collection::vec(1_usize..6000, 1..30),
            turn in 1_usize..=BATCH,
            single: bool,
        ) {
            let (mut port, mut peer) = joined();
            let sent = frames(&lens);
            let (bytes, mut got, mut at) = (wire(&sent), Vec::new(), 0);
            let mut sizes = pieces.into_iter().cycle();
            while at < bytes.len() {
                let size = if single && at < 300 { 1 } else { sizes.next().unwrap_or(1) };
                let end = (at + size).min(bytes.len());
                peer.write_all(&bytes[at..end]).unwrap();
                at = end;
                got.extend(read(&mut port, turn).unwrap());
            }
            let expected: Vec<_> = sent.into_iter().filter(|frame| !frame.is_empty()).map(Ok).collect();
            prop_assert_eq!(got, expected);
        }
    }
}
