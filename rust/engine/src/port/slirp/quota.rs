//! How many sockets the user-mode stack may have, and how they are shared out. Pure.
//!
//! Every socket makes each turn of the stack longer, and the process has only so many descriptors. A station may
//! have as many as are left: so one that opens all it can gets half of them, and another one finds room.

use std::collections::{HashMap, HashSet};
use std::os::fd::RawFd;

use super::guard::{Flow, Opens};
use crate::frame::MacAddress;

/// Who sent the frame that the stack is looking at.
type Sender = (MacAddress, Option<Flow>);

/// The sockets by descriptor and by whom they are for.
pub(super) struct Quota {
    most: usize,
    sockets: HashMap<RawFd, Option<Sender>>,
    stations: HashMap<MacAddress, usize>,
    flows: HashSet<Flow>,
    sender: Option<Sender>,
}

impl Quota {
    pub(super) fn new(most: usize) -> Self {
        Self { most, sockets: HashMap::new(), stations: HashMap::new(), flows: HashSet::new(), sender: None }
    }

    /// Whether a frame of this station that may open a socket may go to the stack.
    pub(super) fn allows(&self, station: MacAddress, opens: Opens) -> bool {
        match opens {
            Opens::Nothing => true,
            Opens::Flow(flow) if self.flows.contains(&flow) => true,
            Opens::Flow(_) | Opens::Always => {
                let left = self.most.saturating_sub(self.sockets.len());
                self.stations.get(&station).copied().unwrap_or(0) < left
            }
        }
    }

    /// Sockets that are opened from now on are for this station.
    pub(super) fn begin(&mut self, station: MacAddress, opens: Opens) {
        let flow = if let Opens::Flow(flow) = opens { Some(flow) } else { None };
        self.sender = Some((station, flow));
    }

    /// Sockets that are opened from now on are nobody's: connections from outside.
    pub(super) fn end(&mut self) {
        self.sender = None;
    }

    /// The stack has this socket now.
    pub(super) fn opened(&mut self, fd: RawFd) {
        self.closed(fd);
        if let Some((station, flow)) = self.sender {
            *self.stations.entry(station).or_insert(0) += 1;
            self.flows.extend(flow);
        }
        self.sockets.insert(fd, self.sender);
    }

    /// The stack does not have it any more; one that was never reported is no error.
    pub(super) fn closed(&mut self, fd: RawFd) {
        let Some(Some((station, flow))) = self.sockets.remove(&fd) else { return };
        if let Some(flow) = flow {
            self.flows.remove(&flow);
        }
        if let Some(count) = self.stations.get_mut(&station) {
            *count -= 1;
            if *count == 0 {
                self.stations.remove(&station);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    const ONE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
    const FLOW: Flow = (IpAddr::V4(Ipv4Addr::new(10, 0, 0, 5)), 4711);

    fn open(quota: &mut Quota, station: MacAddress, opens: Opens, fd: RawFd) {
        quota.begin(station, opens);
        quota.opened(fd);
        quota.end();
    }

    #[test]
    fn a_greedy_station_gets_half_and_leaves_room_for_others() {
        let mut quota = Quota::new(100);
        let mut fds = 0..;
        for (station, share) in [(ONE, 50), (OTHER, 25)] {
            let mut got = 0;
            while quota.allows(station, Opens::Always) {
                open(&mut quota, station, Opens::Always, fds.next().unwrap());
                got += 1;
            }
            assert_eq!(got, share);
        }
    }

    #[test]
    fn what_is_closed_can_be_opened_again() {
        let mut quota = Quota::new(4);
        for round in 0..10 {
            open(&mut quota, ONE, Opens::Always, round);
            assert!(quota.allows(ONE, Opens::Always));
            quota.closed(round);
        }
        assert!(quota.stations.is_empty() && quota.sockets.is_empty());
        quota.closed(99);
    }

    #[test]
    fn a_flow_that_has_its_socket_needs_no_other() {
        let mut quota = Quota::new(1);
        open(&mut quota, ONE, Opens::Flow(FLOW), 7);
        assert!(quota.allows(ONE, Opens::Flow(FLOW)));
        assert!(!quota.allows(ONE, Opens::Flow((FLOW.0, 1))));
        assert!(quota.allows(ONE, Opens::Nothing));
        quota.closed(7);
        assert!(quota.flows.is_empty());
    }

    #[test]
    fn a_number_that_is_used_again_counts_once() {
        let mut quota = Quota::new(10);
        open(&mut quota, ONE, Opens::Flow(FLOW), 7);
        open(&mut quota, OTHER, Opens::Always, 7);
        assert_eq!(quota.stations.len(), 1);
        assert!(quota.flows.is_empty());
    }

    #[test]
    fn connections_from_outside_count_for_nobody() {
        let mut quota = Quota::new(3);
        quota.opened(7);
        assert!(quota.stations.is_empty());
        assert!(quota.allows(ONE, Opens::Always));
        quota.opened(8);
        quota.opened(9);
        assert!(!quota.allows(ONE, Opens::Always));
    }
}
