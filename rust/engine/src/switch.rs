//! The learning switch: (port, frame, now) -> where it goes, or why not. Pure: no I/O, time is an argument.
//!
//! Also who sits on which port: a port is a number, its members are endpoints, and a port may have several.
//! Transparent to VLAN tags and to the reserved group addresses: both are forwarded like anything else.

use std::collections::{HashMap, HashSet};

use crate::frame::{Addresses, MacAddress};
use crate::mac_table::{Learned, MacTable, Millis, Station};
use crate::stats::DropReason;

/// Number of an endpoint inside the engine's loop; used again after the endpoint has gone.
pub type Slot = u32;

/// Where a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To the port where the station is.
    Port(u16),
    /// To every port but the one it came from: a group, or a station not heard of yet.
    Flood,
    /// Nowhere, and why.
    Drop(DropReason),
}

/// A decision and what was learned while making it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where the frame goes.
    pub decision: Decision,
    /// The source address, when it was news.
    pub news: Option<MacAddress>,
}

/// An endpoint's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// The endpoint.
    pub slot: Slot,
    /// The port it is on.
    pub port: u16,
    /// Frames are taken from it and never given to it; of those it brings only unicast ones count.
    pub receive_only: bool,
}

/// The forwarding database and the members of all ports.
pub struct Switch {
    table: MacTable,
    ports: HashMap<u16, Vec<Member>>,
    /// Everybody who can be given frames, for flooding.
    receivers: Vec<Member>,
    /// Ports that were put down, with members or without.
    down: HashSet<u16>,
}

impl Switch {
    /// A switch without members.
    #[must_use]
    pub fn new(table: MacTable) -> Self {
        Self { table, ports: HashMap::new(), receivers: Vec::new(), down: HashSet::new() }
    }

    /// Put an endpoint on its port.
    pub fn join(&mut self, member: Member) {
        self.ports.entry(member.port).or_default().push(member);
        if !member.receive_only {
            self.receivers.push(member);
        }
    }

    /// Take an endpoint off its port; with the last one what was learned through the port is forgotten.
    pub fn leave(&mut self, slot: Slot, port: u16) {
        self.receivers.retain(|member| member.slot != slot);
        if let Some(members) = self.ports.get_mut(&port) {
            members.retain(|member| member.slot != slot);
            if members.is_empty() {
                self.ports.remove(&port);
                self.table.forget_port(port);
            }
        }
    }

    /// Put a port up or down. What was learned through it is forgotten; its members, also those that come later, are to
    /// be given nothing, and nothing is to be taken from them, which is for whoever moves the frames to do.
    pub fn set_port(&mut self, port: u16, up: bool) {
        if up {
            self.down.remove(&port);
        } else if self.down.insert(port) {
            self.table.forget_port(port);
        }
    }

    /// Whether a port is up, as each is that was not put down.
    #[must_use]
    pub fn is_up(&self, port: u16) -> bool {
        !self.down.contains(&port)
    }

    /// Learn from a frame that came in through `from`, and say where it goes.
    pub fn decide(&mut self, from: Member, frame: &[u8], now: Millis) -> Verdict {
        let refuse = |reason| Verdict { decision: Decision::Drop(reason), news: None };
        let Some(Addresses { destination, source }) = Addresses::parse(frame) else {
            return refuse(DropReason::Runt);
        };
        if !source.is_valid_source() {
            return refuse(DropReason::BadSource);
        }
        if from.receive_only && destination.is_group() {
            // Every endpoint of the port hears it; the one that is not receive-only brings it in.
            return refuse(DropReason::GroupAddress);
        }
        let news = (self.table.learn(source, from.port, now) != Learned::Known).then_some(source);
        let decision = if destination.is_group() {
            Decision::Flood
        } else {
            match self.table.lookup(destination, now) {
                Some(port) if port == from.port => Decision::Drop(DropReason::SamePort),
                Some(port) => Decision::Port(port),
                None => Decision::Flood,
            }
        };
        Verdict { decision, news }
    }

    /// Put the endpoints that `decision` means into `out`, in place of what was there.
    pub fn destinations(&self, decision: Decision, from: Member, out: &mut Vec<Slot>) {
        out.clear();
        match decision {
            Decision::Port(port) => {
                let members = self.ports.get(&port).map_or(&[][..], Vec::as_slice);
                out.extend(members.iter().filter(|member| !member.receive_only).map(|member| member.slot));
            }
            Decision::Flood => {
                let others = self.receivers.iter().filter(|member| member.port != from.port);
                out.extend(others.map(|member| member.slot));
            }
            Decision::Drop(_) => {}
        }
    }

    /// What was learned and is not too old.
    #[must_use]
    pub fn stations(&self, now: Millis) -> Vec<Station> {
        self.table.stations(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0xa];
    const B: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0xb];
    const BROADCAST: [u8; 6] = [0xff; 6];

    fn frame(destination: [u8; 6], source: [u8; 6]) -> Vec<u8> {
        [&destination[..], &source[..], &[0x88, 0xb5, 1, 2, 3]].concat()
    }

    fn member(slot: Slot, port: u16) -> Member {
        Member { slot, port, receive_only: false }
    }

    fn switch(members: &[Member]) -> Switch {
        let mut switch = Switch::new(MacTable::new(64, 300_000));
        for member in members {
            switch.join(*member);
        }
        switch
    }

    fn reached(switch: &mut Switch, from: Member, frame: &[u8]) -> Vec<Slot> {
        let mut out = Vec::new();
        let verdict = switch.decide(from, frame, 0);
        switch.destinations(verdict.decision, from, &mut out);
        out
    }

    #[test]
    fn unknown_stations_are_looked_for_everywhere_and_known_ones_are_not() {
        let (one, two, three) = (member(1, 1), member(2, 2), member(3, 3));
        let mut switch = switch(&[one, two, three]);
        assert_eq!(reached(&mut switch, one, &frame(B, A)), [2, 3]);
        assert_eq!(reached(&mut switch, two, &frame(A, B)), [1]);
        assert_eq!(reached(&mut switch, one, &frame(B, A)), [2]);
        assert_eq!(reached(&mut switch, one, &frame(BROADCAST, A)), [2, 3]);
    }

    #[test]
    fn siblings_on_a_port_hear_the_others_but_not_each_other() {
        let (one, sibling, other) = (member(1, 1), member(2, 1), member(3, 2));
        let mut switch = switch(&[one, sibling, other]);
        assert_eq!(reached(&mut switch, one, &frame(BROADCAST, A)), [3]);
        assert_eq!(reached(&mut switch, other, &frame(A, B)), [1, 2]);
        let verdict = switch.decide(sibling, &frame(A, [2, 0, 0, 0, 0, 1]), 0);
        assert_eq!(verdict.decision, Decision::Drop(DropReason::SamePort));
    }

    #[test]
    fn a_receive_only_endpoint_is_given_nothing_and_brings_unicast_only() {
        let (uplink, guest) = (member(1, 0), member(3, 1));
        let extra = Member { slot: 2, port: 0, receive_only: true };
        let mut switch = switch(&[uplink, extra, guest]);
        assert_eq!(reached(&mut switch, guest, &frame(BROADCAST, A)), [1]);
        let refused = switch.decide(extra, &frame(BROADCAST, B), 0);
        assert_eq!(refused.decision, Decision::Drop(DropReason::GroupAddress));
        assert_eq!(reached(&mut switch, extra, &frame(A, B)), [3]);
        assert_eq!(reached(&mut switch, guest, &frame(B, A)), [1]);
    }

    #[test]
    fn refusals_have_names() {
        let one = member(1, 1);
        let mut switch = switch(&[one]);
        let table: [(&str, &[u8], DropReason); 3] = [
            ("thirteen bytes", &[0x52; 13], DropReason::Runt),
            ("group source", &frame(A, BROADCAST), DropReason::BadSource),
            ("zero source", &frame(A, [0; 6]), DropReason::BadSource),
        ];
        for (name, bytes, reason) in table {
            assert_eq!(switch.decide(one, bytes, 0).decision, Decision::Drop(reason), "{name}");
        }
        assert_eq!(switch.stations(0), []);
    }

    #[test]
    fn a_source_is_news_once_and_again_when_it_moves() {
        let (one, two) = (member(1, 1), member(2, 2));
        let mut switch = switch(&[one, two]);
        assert_eq!(switch.decide(one, &frame(B, A), 0).news, Some(MacAddress(A)));
        assert_eq!(switch.decide(one, &frame(B, A), 0).news, None);
        assert_eq!(switch.decide(two, &frame(B, A), 0).news, Some(MacAddress(A)));
    }

    #[test]
    fn what_a_port_taught_goes_with_its_last_endpoint() {
        let (one, sibling, other) = (member(1, 1), member(2, 1), member(3, 2));
        let mut switch = switch(&[one, sibling, other]);
        switch.decide(one, &frame(B, A), 0);
        switch.leave(1, 1);
        assert_eq!(switch.stations(0).len(), 1);
        switch.leave(2, 1);
        assert_eq!(switch.stations(0), []);
        assert_eq!(reached(&mut switch, other, &frame(A, B)), Vec::<Slot>::new());
    }

    #[test]
    fn a_port_that_goes_down_is_forgotten_and_stays_so() {
        let (one, two) = (member(1, 1), member(2, 2));
        let mut switch = switch(&[one, two]);
        switch.decide(one, &frame(B, A), 0);
        switch.decide(two, &frame(A, B), 0);
        switch.set_port(1, false);
        assert_eq!((switch.is_up(1), switch.is_up(2)), (false, true));
        assert_eq!(switch.stations(0).iter().map(|station| station.port).collect::<Vec<_>>(), [2]);
        switch.leave(1, 1);
        assert!(!switch.is_up(1));
        switch.set_port(1, true);
        assert!(switch.is_up(1));
    }

    proptest! {
        #[test]
        fn nothing_ever_goes_back_to_its_port(
            frames in prop::collection::vec((0u32..6, prop::collection::vec(any::<u8>(), 0..40)), 0..100),
        ) {
            let members: Vec<_> = (0..6).map(|slot| Member {
                slot, port: (slot / 2) as u16, receive_only: slot == 5,
            }).collect();
            let mut switch = switch(&members);
            for (slot, bytes) in frames {
                let from = members[slot as usize];
                let to = reached(&mut switch, from, &bytes);
                prop_assert!(to.iter().all(|other| members[*other as usize].port != from.port));
                prop_assert!(to.iter().all(|other| !members[*other as usize].receive_only));
            }
        }
    }
}
