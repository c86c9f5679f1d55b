//! What TCP's sending side does with the bytes of one connection: which are sent when, and again when (RFC 9293,
//! RFC 5681, RFC 6582, RFC 6298). Pure; the time is an argument.
//!
//! The bytes are those that the stack has sent and that the guest has not acknowledged yet. The stack takes them for
//! delivered, so that nobody but this can send them again.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::segment::before;

/// Under way to a guest at most, whatever its windows: a third of what its queue holds of full frames. Measured: with
/// half of it TCP to a guest on `-netdev vde` is a tenth slower, with twice as much no faster.
pub(super) const MOST_UNDER_WAY: u32 = 512 << 10;

/// So many segments may be under way however many connections share what a guest is sent at once: where 500 of them
/// do, its queue has room for that.
const LEAST_SEGMENTS: u32 = 2;

/// Before anything is known of the way there: what the stack itself would send at once at most.
const FIRST_UNDER_WAY: u32 = 64 << 10;

/// RFC 6298 2.1 and 2.5; the minimum is Linux's, since nothing is far away here.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);
const LEAST_PATIENCE: Duration = Duration::from_millis(200);
const MOST_PATIENCE: Duration = Duration::from_secs(60);

/// Times in a row that a guest answers nothing at all before it is taken for gone: some nine minutes, as in the stack.
const MOST_SILENCE: u32 = 12;

/// While more is under way, the window must have opened by this part of it, so that segments go out in handfuls
/// rather than by twos (as in Linux's `tcp_tso_win_divisor`).
const WORTH: usize = 3;

/// RFC 5681 3.2.
const DUPLICATES: u32 = 3;

/// A stretch of the connection that is to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) seq: u32,
    pub(super) len: usize,
    /// Nothing comes behind it for now.
    pub(super) last: bool,
    /// Nothing comes behind it ever.
    pub(super) fin: bool,
}

/// See the module's head.
pub(super) struct Sender {
    /// From the number `acked` on.
    bytes: VecDeque<u8>,
    acked: u32,
    /// The next one to be sent, and the one after the last that has been.
    next: u32,
    most: u32,
    /// The stack has said that no more will come; that is to be sent; it has been at some time; the guest knows.
    fin: bool,
    fin_due: bool,
    fin_sent: bool,
    fin_acked: bool,
    window: u32,
    /// Congestion window, and where its slow start ends.
    allowed: u32,
    threshold: u32,
    segment_size: u32,
    duplicates: u32,
    /// Lost bytes are being sent again until this number is acknowledged.
    recover: Option<u32>,
    /// The first segment is to be sent again; one byte is to be sent though the window is shut.
    resend: bool,
    probe: bool,
    /// A number whose acknowledgement tells how long the way is, and since when.
    timed: Option<(u32, Instant)>,
    /// How long it has been, smoothed, and by how much that differs.
    round_trip: Option<(Duration, Duration)>,
    tries: u32,
    silence: u32,
    deadline: Option<Instant>,
}

impl Sender {
    /// The first byte will have the number `first`; the guest has said that it takes `window` bytes, in segments of
    /// `segment_size`.
    pub(super) fn new(first: u32, window: u32, segment_size: u16) -> Self {
        Self {
            bytes: VecDeque::new(),
            acked: first,
            next: first,
            most: first,
            fin: false,
            fin_due: false,
            fin_sent: false,
            fin_acked: false,
            window,
            allowed: FIRST_UNDER_WAY,
            threshold: MOST_UNDER_WAY,
            segment_size: u32::from(segment_size.max(1)),
            duplicates: 0,
            recover: None,
            resend: false,
            probe: false,
            timed: None,
            round_trip: None,
            tries: 0,
            silence: 0,
            deadline: None,
        }
    }

    /// The number after the last byte that it has.
    fn end(&self) -> u32 {
        self.acked.wrapping_add(self.bytes.len() as u32)
    }

    /// What the stack may be told that the guest has read: everything that is kept here, but the end only when the
    /// guest knows of it.
    pub(super) fn kept(&self) -> u32 {
        self.end().wrapping_add(u32::from(self.fin_acked))
    }

    /// The number of a segment without data.
    pub(super) fn after_last_sent(&self) -> u32 {
        self.most.wrapping_add(u32::from(self.fin_sent))
    }

    /// Bytes that it keeps.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The guest has everything, and knows that it has.
    pub(super) fn is_over(&self) -> bool {
        self.fin_acked
    }

    /// For what comes next, while nothing is kept; returns what there was for it.
    pub(super) fn exchange_memory(&mut self, memory: VecDeque<u8>) -> VecDeque<u8> {
        debug_assert!(self.bytes.is_empty());
        std::mem::replace(&mut self.bytes, memory)
    }

    /// What the stack sends, beginning with the number `seq`; what is there already is nothing new, and what would
    /// leave a gap is not taken. No more than `room` bytes. `false`: there was nothing new in it.
    pub(super) fn take(&mut self, seq: u32, data: &[u8], fin: bool, room: usize, now: Instant) -> bool {
        let known = self.end().wrapping_sub(seq);
        let Some(new) = usize::try_from(known).ok().and_then(|known| data.get(known..)) else {
            return false;
        };
        let fits = new.len().min(room);
        self.bytes.extend(&new[..fits]);
        let ends = fin && fits == new.len() && !self.fin;
        self.fin |= ends;
        self.fin_due |= ends;
        self.arm(now);
        fits > 0 || ends
    }

    /// The guest acknowledges `ack` and takes `window` bytes from there on. `alone`: it says nothing else.
    pub(super) fn acknowledged(&mut self, ack: u32, window: u32, alone: bool, now: Instant) {
        let ahead = ack.wrapping_sub(self.acked);
        if ahead > self.after_last_sent().wrapping_sub(self.acked) {
            // Old, or of something that nobody has sent.
            return;
        }
        self.silence = 0;
        if ahead == 0 {
            let duplicate = alone && window == self.window && self.most != self.acked;
            self.duplicates = if duplicate { self.duplicates + 1 } else { 0 };
            if self.duplicates == DUPLICATES && self.recover.is_none() {
                self.lost_one();
            }
        } else {
            self.progress(ack, ahead as usize, now);
        }
        if self.window == 0 && window > 0 {
            // Whatever was sent to find that out was not taken, or is sent once more.
            self.next = self.acked;
        }
        self.window = window;
        self.probe = false;
        self.arm(now);
    }

    fn progress(&mut self, ack: u32, ahead: usize, now: Instant) {
        let bytes = ahead.min(self.bytes.len());
        self.bytes.drain(..bytes);
        self.acked = self.acked.wrapping_add(bytes as u32);
        self.fin_acked |= ahead > bytes;
        if before(self.next, self.acked) {
            self.next = self.acked;
        }
        (self.duplicates, self.tries, self.deadline) = (0, 0, None);
        if let Some((_, since)) = self.timed.filter(|(number, _)| !before(ack, *number)) {
            self.timed = None;
            self.learn(now.saturating_duration_since(since));
        }
        match self.recover {
            Some(until) if before(ack, until) => self.resend = true,
            Some(_) => {
                self.recover = None;
                self.allowed = self.threshold;
            }
            None => self.widen(bytes as u32),
        }
    }

    /// RFC 5681 3.1.
    fn widen(&mut self, bytes: u32) {
        let by = if self.allowed < self.threshold {
            bytes
        } else {
            (self.segment_size * self.segment_size / self.allowed).max(1)
        };
        self.allowed = (self.allowed + by).min(MOST_UNDER_WAY);
    }

    /// RFC 6298 2.
    fn learn(&mut self, took: Duration) {
        self.round_trip = Some(match self.round_trip {
            None => (took, took / 2),
            Some((mean, deviation)) => ((mean * 7 + took) / 8, (deviation * 3 + mean.abs_diff(took)) / 4),
        });
    }

    fn patience(&self) -> Duration {
        let usual = self.round_trip.map_or(FIRST_PATIENCE, |(mean, deviation)| mean + deviation * 4);
        usual.max(LEAST_PATIENCE).saturating_mul(1 << self.tries.min(16)).min(MOST_PATIENCE)
    }

    fn halve(&mut self) {
        let under_way = self.most.wrapping_sub(self.acked);
        self.threshold = (under_way / 2).max(2 * self.segment_size);
    }

    fn lost_one(&mut self) {
        self.halve();
        self.allowed = self.threshold;
        self.recover = Some(self.most);
        self.resend = true;
        self.timed = None;
    }

    /// While something is to be acknowledged, or cannot be sent, there is a time at which it is done again.
    fn arm(&mut self, now: Instant) {
        let waits = !self.bytes.is_empty() || (self.fin && !self.fin_acked);
        if !waits {
            self.deadline = None;
        } else if self.deadline.is_none() {
            self.deadline = Some(now + self.patience());
        }
    }

    /// Look whether something is to be sent again by now. `false`: the guest is taken for gone.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return true;
        }
        self.silence += 1;
        self.deadline = None;
        if self.silence > MOST_SILENCE {
            return false;
        }
        if self.most != self.acked {
            self.halve();
            self.allowed = self.segment_size;
        }
        self.next = self.acked;
        self.probe = self.window == 0;
        self.fin_due = self.fin && !self.fin_acked;
        (self.recover, self.resend, self.duplicates, self.timed) = (None, false, 0, None);
        self.tries += 1;
        self.arm(now);
        true
    }

    /// Whether there is a piece, as in [`Sender::piece`].
    pub(super) fn can_send(&self, share: u32, at_most: usize) -> bool {
        self.choose(share, at_most).is_some()
    }

    /// Something is under way that is not acknowledged.
    pub(super) fn is_busy(&self) -> bool {
        self.most != self.acked
    }

    pub(super) fn segment_size(&self) -> u16 {
        // Made of such.
        self.segment_size as u16
    }

    /// What is to be sent now, of `at_most` bytes, while no more than `share` are under way; it counts as sent then.
    pub(super) fn piece(&mut self, share: u32, at_most: usize, now: Instant) -> Option<Piece> {
        let piece = self.choose(share, at_most)?;
        let after = piece.seq.wrapping_add(piece.len as u32);
        if !before(piece.seq, self.next) {
            self.next = after;
        }
        if before(self.most, after) {
            if piece.seq == self.most && self.timed.is_none() {
                self.timed = Some((after, now));
            }
            self.most = after;
        }
        if piece.fin {
            (self.fin_due, self.fin_sent) = (false, true);
        }
        (self.resend, self.probe) = (false, false);
        self.arm(now);
        Some(piece)
    }

    fn choose(&self, share: u32, at_most: usize) -> Option<Piece> {
        let size = self.segment_size as usize;
        if self.resend {
            return Some(self.stretch(self.acked, self.bytes.len().min(size)));
        }
        let sent = self.next.wrapping_sub(self.acked) as usize;
        let rest = self.bytes.len().checked_sub(sent)?;
        if self.probe {
            return Some(self.stretch(self.acked, self.bytes.len().min(1)));
        }
        let window = self.window.min(self.allowed).min(share.max(LEAST_SEGMENTS * self.segment_size)) as usize;
        let len = rest.min(window.saturating_sub(sent)).min(at_most);
        if len == rest {
            return (len > 0 || self.fin_due).then(|| self.stretch(self.next, len));
        }
        // Short segments are for the end, or for a guest with a small window that has nothing to acknowledge.
        let whole = len - len % size;
        if whole > 0 && (sent == 0 || whole + size > at_most || whole * WORTH >= window) {
            return Some(self.stretch(self.next, whole));
        }
        (len > 0 && sent == 0).then(|| self.stretch(self.next, len))
    }

    fn stretch(&self, seq: u32, len: usize) -> Piece {
        let last = seq.wrapping_add(len as u32) == self.end();
        Piece { seq, len, last, fin: last && self.fin }
    }

    /// Write the bytes of a piece.
    pub(super) fn copy(&self, piece: Piece, out: &mut [u8]) {
        let from = piece.seq.wrapping_sub(self.acked) as usize;
        let (front, back) = self.bytes.as_slices();
        let in_front = front.get(from..).unwrap_or_default();
        let first = in_front.len().min(out.len());
        out[..first].copy_from_slice(&in_front[..first]);
        let skipped = from.saturating_sub(front.len());
        let rest = out.len() - first;
        out[first..].copy_from_slice(&back[skipped..skipped + rest]);
    }
}
