//! Who is who on one datagram socket with many senders: address of the sender to the endpoint that is theirs. Pure.
//!
//! A sender that nobody knows yet is a newcomer: it is reported once, and what it sends is kept until the control
//! plane has admitted it or turned it away, so that the first frames of a guest are not lost. Who makes addresses
//! up fills the waiting room, which is bounded, and nothing else.

use std::collections::HashMap;

use crate::frame;
use crate::switch::Slot;

/// Newcomers that wait at once. Chosen: more guests than start at the same moment on one socket.
pub const WAITING: usize = 64;

/// Frames kept for a newcomer. Chosen: what a guest says while its card comes up; the answer takes milliseconds.
pub const HELD_FRAMES: usize = 8;

/// Bytes kept for a newcomer: one of the longest frames, or some full ones.
pub const HELD_BYTES: usize = frame::MAX_LEN;

/// Whose a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It came from this endpoint's peer.
    Known(Slot),
    /// It was kept.
    Held,
    /// There was no room to keep it.
    Full,
}

enum State {
    Known(Slot),
    Waiting { frames: Vec<Vec<u8>>, bytes: usize },
}

/// The senders of one socket.
#[derive(Default)]
pub struct Sources {
    senders: HashMap<Box<[u8]>, State>,
    waiting: usize,
    newcomers: Vec<Box<[u8]>>,
}

impl Sources {
    /// Whose `frame` is, which came from `address`. An empty frame only introduces its sender.
    pub fn classify(&mut self, address: &[u8], frame: &[u8]) -> Origin {
        match self.senders.get_mut(address) {
            Some(State::Known(slot)) => Origin::Known(*slot),
            Some(State::Waiting { frames, bytes }) => hold(frames, bytes, frame),
            None if self.waiting >= WAITING => Origin::Full,
            None => {
                let (mut frames, mut bytes) = (Vec::new(), 0);
                let origin = hold(&mut frames, &mut bytes, frame);
                self.senders.insert(address.into(), State::Waiting { frames, bytes });
                self.newcomers.push(address.into());
                self.waiting += 1;
                origin
            }
        }
    }

    /// Whose a datagram that is no frame is; nobody is reported for such a one.
    #[must_use]
    pub fn known(&self, address: &[u8]) -> Option<Slot> {
        match self.senders.get(address) {
            Some(State::Known(slot)) => Some(*slot),
            _ => None,
        }
    }

    /// From now on `address` is the peer of endpoint `slot`. Gives what was kept, in order.
    pub fn admit(&mut self, address: &[u8], slot: Slot) -> Vec<Vec<u8>> {
        let held = self.turn_away(address);
        self.senders.insert(address.into(), State::Known(slot));
        held
    }

    /// Forget a newcomer; with its next datagram it is one again. Gives what was kept.
    pub fn turn_away(&mut self, address: &[u8]) -> Vec<Vec<u8>> {
        if !matches!(self.senders.get(address), Some(State::Waiting { .. })) {
            return Vec::new();
        }
        self.waiting -= 1;
        self.newcomers.retain(|newcomer| **newcomer != *address);
        match self.senders.remove(address) {
            Some(State::Waiting { frames, .. }) => frames,
            _ => Vec::new(),
        }
    }

    /// Endpoint `slot` has gone.
    pub fn forget(&mut self, slot: Slot) {
        self.senders.retain(|_, state| !matches!(state, State::Known(known) if *known == slot));
    }

    /// Who has to be reported.
    pub fn take_newcomers(&mut self) -> Vec<Box<[u8]>> {
        std::mem::take(&mut self.newcomers)
    }
}

fn hold(frames: &mut Vec<Vec<u8>>, bytes: &mut usize, frame: &[u8]) -> Origin {
    if frame.is_empty() {
        return Origin::Held;
    }
    if frames.len() >= HELD_FRAMES || *bytes + frame.len() > HELD_BYTES {
        return Origin::Full;
    }
    *bytes += frame.len();
    frames.push(frame.to_vec());
    Origin::Held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> Vec<u8> {
        format!("/run/guest-{number}").into_bytes()
    }

    #[test]
    fn a_newcomer_is_reported_once_and_its_frames_are_kept_in_order() {
        let mut sources = Sources::default();
        for number in 0..3 {
            assert_eq!(sources.classify(b"/a", &[number; 60]), Origin::Held);
        }
        assert_eq!(sources.take_newcomers(), [Box::from(&b"/a"[..])]);
        assert_eq!(sources.take_newcomers(), []);
        assert_eq!(sources.admit(b"/a", 7), [[0; 60], [1; 60], [2; 60]].map(Vec::from));
        assert_eq!(sources.classify(b"/a", &[3; 60]), Origin::Known(7));
        assert_eq!(sources.known(b"/a"), Some(7));
    }

    #[test]
    fn an_introduction_is_not_kept() {
        let mut sources = Sources::default();
        assert_eq!(sources.classify(b"/a", &[]), Origin::Held);
        assert_eq!(sources.take_newcomers().len(), 1);
        assert_eq!(sources.admit(b"/a", 7), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn what_is_kept_is_bounded_in_frames_and_bytes() {
        let mut sources = Sources::default();
        for _ in 0..HELD_FRAMES {
            assert_eq!(sources.classify(b"/a", &[0; 60]), Origin::Held);
        }
        assert_eq!(sources.classify(b"/a", &[0; 60]), Origin::Full);
        assert_eq!(sources.classify(b"/b", &[0; HELD_BYTES]), Origin::Held);
        assert_eq!(sources.classify(b"/b", &[0; 14]), Origin::Full);
        assert_eq!(sources.turn_away(b"/a").len(), HELD_FRAMES);
    }

    #[test]
    fn the_waiting_room_is_bounded_and_those_who_are_known_do_not_notice() {
        let mut sources = Sources::default();
        sources.classify(b"/a", &[0; 60]);
        sources.admit(b"/a", 7);
        let kept =
            (0..2 * WAITING).filter(|number| sources.classify(&address(*number), &[0; 60]) == Origin::Held);
        assert_eq!(kept.count(), WAITING);
        assert_eq!(sources.take_newcomers().len(), WAITING);
        assert_eq!(sources.classify(b"/a", &[0; 60]), Origin::Known(7));
        assert_eq!(sources.classify(b"/b", &[0; 60]), Origin::Full);
        sources.turn_away(&address(3));
        assert_eq!(sources.classify(b"/b", &[0; 60]), Origin::Held);
    }

    #[test]
    fn one_who_left_is_a_newcomer_again() {
        let mut sources = Sources::default();
        sources.classify(b"/a", &[0; 60]);
        sources.admit(b"/a", 7);
        sources.forget(8);
        assert_eq!(sources.known(b"/a"), Some(7));
        assert_eq!(sources.turn_away(b"/a"), Vec::<Vec<u8>>::new());
        assert_eq!(sources.known(b"/a"), Some(7));
        sources.take_newcomers();
        sources.forget(7);
        assert_eq!(sources.known(b"/a"), None);
        assert_eq!(sources.classify(b"/a", &[0; 60]), Origin::Held);
        assert_eq!(sources.take_newcomers().len(), 1);
    }

    #[test]
    fn who_is_admitted_unasked_is_known() {
        let mut sources = Sources::default();
        assert_eq!(sources.admit(b"/a", 7), Vec::<Vec<u8>>::new());
        assert_eq!(sources.classify(b"/a", &[0; 60]), Origin::Known(7));
    }
}
