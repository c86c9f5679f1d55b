//! One connection between the stack and a guest, as the proxy sees it. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Fate;
use super::segment::{Headers, Key, Marks, Offer, Segment, before};
use super::sender::Sender;
use crate::offload::tcp_flags::{ACK, FIN, PSH, RST};
use crate::pool::{Batch, Received};
use crate::vnet_header::{self, FLAG_NEEDS_CSUM, GSO_TCPV4, GSO_TCPV6, VnetHeader};

/// The stack is told of more room in such steps; it sends whole segments, of which none is longer.
const STEP: u32 = 32 << 10;

/// Bytes of data in one super-frame at most.
const MOST_IN_A_FRAME: usize = 60 << 10;

/// More than the stack and a guest try for (75 and some 127 s).
const MOST_TO_BEGIN: Duration = Duration::from_secs(180);

/// What a guest must take in one segment at least, whatever it says (Linux's `TCP_MIN_SND_MSS`): bounds what one
/// super-frame costs.
const LEAST_SEGMENT: u16 = 48;

/// What is known once both sides have said that windows may be scaled.
struct Begun {
    sender: Sender,
    /// The number of the stack's SYN.
    first: u32,
    shift: u8,
    /// The guest has acknowledged that SYN.
    synced: bool,
    /// From the stack to the guest.
    headers: Headers,
    /// The stack's last word on what it has read and still takes, and what of it the guest has been told.
    stack_ack: u32,
    stack_window: u16,
    told_guest: (u32, u16),
    /// What the stack has been told that the guest has read, and up to where it may send.
    told_stack: u32,
    edge: u32,
    gone: bool,
}

/// See the module's head.
pub(super) struct Connection {
    pub(super) key: Key,
    since: Instant,
    /// In which of the proxy's lists it is.
    pub(super) ready: bool,
    pub(super) to_tell: bool,
    /// When its time is to be looked at.
    pub(super) timed: Option<Instant>,
    /// It is one of those of its guest with something under way.
    pub(super) counted: bool,
    /// Of the guest's SYN: what it offers, and its window.
    offer: Option<(Offer, u16)>,
    /// The number of the stack's SYN, where it speaks first.
    opened: Option<(u32, Headers)>,
    begun: Option<Begun>,
    /// The number after the last that the guest has used; where it ended.
    guest_next: u32,
    guest_fin: Option<u32>,
}

impl Connection {
    pub(super) fn new(key: Key, since: Instant) -> Self {
        Self {
            key,
            since,
            ready: false,
            to_tell: false,
            timed: None,
            counted: false,
            offer: None,
            opened: None,
            begun: None,
            guest_next: 0,
            guest_fin: None,
        }
    }

    /// It was to begin, and nothing has come of it.
    pub(super) fn has_failed(&self, now: Instant) -> bool {
        self.begun.is_none() && now.saturating_duration_since(self.since) > MOST_TO_BEGIN
    }

    /// Bytes that are kept.
    pub(super) fn kept(&self) -> usize {
        self.begun.as_ref().map_or(0, |begun| begun.sender.len())
    }

    /// Both sides have everything, and know it.
    pub(super) fn is_over(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| {
            begun.sender.is_over() && self.guest_fin.is_some_and(|end| !before(begun.stack_ack, end))
        })
    }

    /// The guest does not answer any more.
    pub(super) fn is_gone(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.gone)
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.begun.as_ref().and_then(|begun| begun.sender.deadline())
    }

    /// A SYN of the guest, alone or as an answer. `true`: its segments will be made here.
    pub(super) fn guest_begins(&mut self, segment: &Segment, offer: Offer) -> bool {
        self.guest_next = segment.end();
        self.guest_fin = None;
        self.offer = Some((offer, segment.window));
        let Some((first, headers)) = self.opened.take() else {
            // Else the stack has not answered: it will.
            return self.begun.is_none() || !segment.has(ACK);
        };
        if !segment.has(ACK) || segment.ack != first.wrapping_add(1) {
            return false;
        }
        let mut begun = Begun::new(first, offer, segment.window, headers);
        begun.synced = true;
        begun.told_stack = segment.ack;
        begun.stack_ack = segment.end();
        self.begun = Some(begun);
        true
    }

    /// A SYN of the stack, alone or as an answer. `true`: the guest is told that windows may be scaled.
    pub(super) fn stack_begins(&mut self, segment: &Segment, frame: &[u8]) -> bool {
        if !segment.has(ACK) {
            if self.begun.as_ref().is_none_or(|begun| begun.first != segment.seq) {
                self.begun = None;
                self.opened = Some((segment.seq, segment.headers(frame)));
            }
            return true;
        }
        let Some((offer, window)) = self.offer else { return false };
        if self.begun.as_ref().is_none_or(|begun| begun.first != segment.seq) {
            let mut begun = Begun::new(segment.seq, offer, window, segment.headers(frame));
            (begun.stack_ack, begun.stack_window) = (segment.ack, segment.window);
            begun.told_guest = (segment.ack, segment.window);
            self.begun = Some(begun);
        }
        true
    }

    /// Whether the stack will believe this RST of the guest.
    pub(super) fn would_be_reset_by(&self, segment: &Segment) -> bool {
        self.begun.as_ref().is_none_or(|begun| segment.seq.wrapping_sub(begun.stack_ack) <= u32::from(u16::MAX))
    }

    /// What the guest sends once it has begun. `false`: the stack need not have it.
    pub(super) fn hear_guest(&mut self, segment: &Segment, frame: &mut [u8], now: Instant) -> bool {
        let Some(begun) = self.begun.as_mut().filter(|_| segment.has(ACK)) else { return true };
        if !begun.synced {
            if segment.ack != begun.first.wrapping_add(1) {
                return true;
            }
            begun.synced = true;
        }
        let alone = segment.only_acknowledges();
        let window = u32::from(segment.window) << begun.shift;
        begun.sender.acknowledged(segment.ack, window, alone, now);
        if before(self.guest_next, segment.end()) {
            self.guest_next = segment.end();
        }
        if segment.has(FIN) {
            self.guest_fin = Some(segment.end());
        }
        if alone && segment.seq == self.guest_next {
            return false;
        }
        // Also a question whether the stack is still there, which is one byte behind.
        let ack = begun.sender.kept();
        begun.told_stack = ack;
        segment.set_ack_and_window(frame, ack, begun.window());
        true
    }

    /// What the stack sends once it has begun; `room` bytes more may be kept.
    pub(super) fn hear_stack(
        &mut self,
        segment: &Segment,
        frame: &[u8],
        room: usize,
        out: &mut Vec<u8>,
        now: Instant,
    ) -> Fate {
        let Some(begun) = self.begun.as_mut() else { return Fate::Same };
        if segment.has(ACK) {
            (begun.stack_ack, begun.stack_window) = (segment.ack, segment.window);
        }
        if segment.has(RST) || (segment.data.is_empty() && !segment.has(FIN)) {
            out.clear();
            out.extend_from_slice(frame);
            segment.set_seq(out, begun.sender.after_last_sent());
            begun.told_guest = (begun.stack_ack, begun.stack_window);
            return Fate::Changed;
        }
        // What the stack was allowed to send is kept whatever there is of other connections.
        let promised = begun.edge.wrapping_sub(begun.sender.kept()) as usize;
        let room = room.max(promised);
        begun.sender.take(segment.seq, &frame[segment.data.clone()], segment.has(FIN), room, now);
        Fate::Kept
    }

    /// Whether the stack is to be told something, if `room` bytes more may be kept.
    pub(super) fn wants_to_tell(&self, room: usize) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.synced && begun.has_news(room))
    }

    /// Into `out`, a frame that tells it; `false` when there is nothing to tell.
    pub(super) fn tell(&mut self, room: usize, out: &mut Vec<u8>) -> bool {
        let seq = self.guest_next;
        let Some(begun) = self.begun.as_mut().filter(|begun| begun.synced && begun.has_news(room)) else {
            return false;
        };
        begun.widen(room);
        begun.told_stack = begun.sender.kept();
        let marks = Marks { seq, ack: begun.told_stack, window: begun.window(), flags: ACK, identification: 0 };
        begun.headers.answering().alone(out, marks);
        true
    }

    /// Into `out`, a frame that ends it for the stack.
    pub(super) fn reset(&mut self, out: &mut Vec<u8>) {
        let Some(begun) = self.begun.as_ref() else { return };
        let marks = Marks {
            seq: begun.stack_ack,
            ack: begun.told_stack,
            window: 0,
            flags: RST | ACK,
            identification: 0,
        };
        begun.headers.answering().alone(out, marks);
    }

    /// Something is under way to the guest.
    pub(super) fn is_busy(&self) -> bool {
        self.begun.as_ref().is_some_and(|begun| begun.sender.is_busy())
    }

    /// Whether the guest is to be sent something, while no more than `share` bytes are under way.
    pub(super) fn wants_to_send(&self, share: u32) -> bool {
        self.begun.as_ref().is_some_and(|begun| {
            begun.synced && (begun.owes_word() || begun.sender.can_send(share, MOST_IN_A_FRAME))
        })
    }

    /// One frame into a batch with room, while no more than `share` bytes are under way; how many segments it will be,
    /// or `None` when there is nothing to send.
    pub(super) fn send(
        &mut self,
        batch: &mut Batch,
        share: u32,
        identification: u16,
        now: Instant,
    ) -> Option<u16> {
        let begun = self.begun.as_mut().filter(|begun| begun.synced)?;
        let piece = begun.sender.piece(share, MOST_IN_A_FRAME, now);
        if piece.is_none() && !begun.owes_word() {
            return None;
        }
        let (seq, len) = piece.map_or((begun.sender.after_last_sent(), 0), |piece| (piece.seq, piece.len));
        let mut flags = ACK;
        if piece.is_some_and(|piece| piece.last && piece.len > 0) {
            flags |= PSH;
        }
        if piece.is_some_and(|piece| piece.fin) {
            flags |= FIN;
        }
        let marks = Marks { seq, ack: begun.stack_ack, window: begun.stack_window, flags, identification };
        begun.told_guest = (begun.stack_ack, begun.stack_window);
        let headers_len = begun.headers.len();
        let frame = batch.next_slot()?.get_mut(vnet_header::LEN..)?.get_mut(..headers_len + len)?;
        begun.headers.write(frame, marks);
        if let Some(piece) = piece {
            begun.sender.copy(piece, &mut frame[headers_len..]);
        }
        let size = begun.sender.segment_size();
        let segments = len.div_ceil(usize::from(size)).max(1);
        batch.push(Received::Frame(headers_len + len), Some(begun.vnet_header(segments > 1, size)));
        // Fewer than a packet has bytes.
        Some(segments as u16)
    }

    /// The time has come at which something may have to be sent again.
    pub(super) fn look(&mut self, now: Instant) {
        let Some(begun) = self.begun.as_mut() else { return };
        begun.gone |= !begun.sender.look(now);
    }

    /// For what comes next, while nothing is kept; returns what there was for it.
    pub(super) fn exchange_memory(&mut self, memory: VecDeque<u8>) -> VecDeque<u8> {
        match self.begun.as_mut() {
            Some(begun) => begun.sender.exchange_memory(memory),
            None => memory,
        }
    }
}

impl Begun {
    fn new(first: u32, offer: Offer, window: u16, headers: Headers) -> Self {
        let next = first.wrapping_add(1);
        let segment_size = offer.segment_size.clamp(LEAST_SEGMENT, MOST_IN_A_FRAME as u16);
        Self {
            sender: Sender::new(next, u32::from(window), segment_size),
            first,
            shift: offer.shift,
            synced: false,
            headers,
            stack_ack: 0,
            stack_window: 0,
            told_guest: (0, 0),
            told_stack: first,
            edge: next.wrapping_add(u32::from(window)),
            gone: false,
        }
    }

    /// Up to where the stack may send, as the window of a segment that acknowledges what is kept.
    fn window(&self) -> u16 {
        u16::try_from(self.edge.wrapping_sub(self.sender.kept())).unwrap_or(u16::MAX)
    }

    /// Where the stack might be let go to.
    fn wider(&self, room: usize) -> u32 {
        let edge = self.sender.kept().wrapping_add(room.min(usize::from(u16::MAX)) as u32);
        if before(self.edge, edge) { edge } else { self.edge }
    }

    fn widen(&mut self, room: usize) {
        self.edge = self.wider(room);
    }

    fn has_news(&self, room: usize) -> bool {
        self.sender.kept() != self.told_stack || self.wider(room).wrapping_sub(self.edge) >= STEP
    }

    /// The stack has said something that no segment has told the guest.
    fn owes_word(&self) -> bool {
        self.told_guest != (self.stack_ack, self.stack_window)
    }

    fn vnet_header(&self, cut: bool, size: u16) -> VnetHeader {
        let checked = VnetHeader {
            flags: FLAG_NEEDS_CSUM,
            csum_start: self.headers.transport() as u16,
            csum_offset: 16,
            ..VnetHeader::default()
        };
        if !cut {
            return checked;
        }
        let gso_type = if self.headers.is_ipv6() { GSO_TCPV6 } else { GSO_TCPV4 };
        VnetHeader { gso_type, gso_size: size, hdr_len: self.headers.len() as u16, ..checked }
    }
}
