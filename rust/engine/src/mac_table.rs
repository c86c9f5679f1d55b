//! The forwarding database: which MAC address was last seen on which port. Pure: time is an argument.
//!
//! Invariants:
//! - never more than `capacity` addresses, whatever is sent;
//! - lookup and refresh cost the same however full the table is; learning a new address costs at most the
//!   logarithm of the number of ports; nothing on the frame path walks the table;
//! - when the table is full, the port with the most addresses gives up its oldest one (the learning port
//!   itself if it is among those). So a port that holds no more than its fair share, capacity divided by
//!   ports, never loses an address to another port's flood;
//! - ageing is lazy: an old entry counts as unknown and its place is used again when it is needed.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

use crate::frame::MacAddress;

/// Milliseconds since any fixed moment; only differences count.
pub type Millis = u64;

/// How exact "last seen" is, unless ageing is so quick that it needs more: a station that sends all the time
/// moves to the front of its port's list once a second, not once a frame. Chosen: far below the usual 300 s.
const REFRESH_AFTER: Millis = 1_000;

/// End of a list.
const NIL: u32 = u32::MAX;

/// What learning an address changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// Known on this port already.
    Known,
    /// Not known before.
    New,
    /// Known on another port until now: the last port wins, so that a migrated guest is found at once.
    Moved,
}

/// One line of the table, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// The station's address.
    pub mac: MacAddress,
    /// Where it was seen last.
    pub port: u16,
    /// How long ago, to the precision of `last seen`.
    pub age: Millis,
}

#[derive(Clone, Copy)]
struct Entry {
    mac: MacAddress,
    port: u16,
    last_seen: Millis,
    /// Next entry in the same hash bucket; next free one when the entry is unused.
    chain: u32,
    newer: u32,
    older: u32,
}

/// The addresses of one port, newest first.
#[derive(Clone, Copy)]
struct PortList {
    newest: u32,
    oldest: u32,
    count: u32,
}

/// Bounded, ageing, fair. See the module's head.
pub struct MacTable {
    capacity: usize,
    ageing: Millis,
    refresh_after: Millis,
    /// Keyed with random numbers, so that a guest cannot choose addresses that collide.
    hasher: RandomState,
    buckets: Vec<u32>,
    entries: Vec<Entry>,
    free: u32,
    ports: HashMap<u16, PortList>,
    /// (addresses, port), to find the fullest port.
    by_count: BTreeSet<(u32, u16)>,
}

impl MacTable {
    /// A table for `capacity` addresses (at least 1) that forgets what was not seen for `ageing`.
    #[must_use]
    pub fn new(capacity: usize, ageing: Millis) -> Self {
        let capacity = capacity.clamp(1, NIL as usize - 1);
        Self {
            capacity,
            ageing,
            refresh_after: REFRESH_AFTER.min(ageing / 8),
            hasher: RandomState::new(),
            buckets: vec![NIL; capacity.next_power_of_two()],
            entries: Vec::new(),
            free: NIL,
            ports: HashMap::new(),
            by_count: BTreeSet::new(),
        }
    }

    /// The port where `mac` was seen less than the ageing time ago.
    #[must_use]
    pub fn lookup(&self, mac: MacAddress, now: Millis) -> Option<u16> {
        let entry = &self.entries[self.find(self.bucket(mac), mac)? as usize];
        (now.saturating_sub(entry.last_seen) <= self.ageing).then_some(entry.port)
    }

    /// `mac` was seen on `port` just now. The caller has checked that it is a station's address.
    pub fn learn(&mut self, mac: MacAddress, port: u16, now: Millis) -> Learned {
        let bucket = self.bucket(mac);
        if let Some(index) = self.find(bucket, mac) {
            let entry = &mut self.entries[index as usize];
            if entry.port != port {
                self.unlink(index);
                self.link(index, port, now);
                return Learned::Moved;
            }
            if now.saturating_sub(entry.last_seen) >= self.refresh_after {
                entry.last_seen = now;
                self.move_to_front(index);
            }
            return Learned::Known;
        }
        let index = self.take_place(port);
        let entry = &mut self.entries[index as usize];
        entry.mac = mac;
        entry.chain = self.buckets[bucket];
        self.buckets[bucket] = index;
        self.link(index, port, now);
        Learned::New
    }

    /// Forget every address of `port`. Costs as much as the port has addresses; not for the frame path.
    pub fn forget_port(&mut self, port: u16) {
        while let Some(list) = self.ports.get(&port).copied() {
            self.remove(list.oldest);
        }
    }

    /// Everything that is not too old, in no order. Costs as much as the table is full.
    #[must_use]
    pub fn stations(&self, now: Millis) -> Vec<Station> {
        let mut stations = Vec::with_capacity(self.len());
        for list in self.ports.values() {
            let mut index = list.newest;
            while index != NIL {
                let entry = &self.entries[index as usize];
                let age = now.saturating_sub(entry.last_seen);
                if age <= self.ageing {
                    stations.push(Station { mac: entry.mac, port: entry.port, age });
                }
                index = entry.older;
            }
        }
        stations
    }

    /// Addresses held, old ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ports.values().map(|list| list.count as usize).sum()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    fn bucket(&self, mac: MacAddress) -> usize {
        // The number of buckets is a power of two; the low bits of a SipHash are as good as any.
        (self.hasher.hash_one(mac) as usize) & (self.buckets.len() - 1)
    }

    fn find(&self, bucket: usize, mac: MacAddress) -> Option<u32> {
        let mut index = self.buckets[bucket];
        while index != NIL {
            let entry = &self.entries[index as usize];
            if entry.mac == mac {
                return Some(index);
            }
            index = entry.chain;
        }
        None
    }

    /// A place for one more address of `port`: an unused one, or the one that fairness says must go.
    fn take_place(&mut self, port: u16) -> u32 {
        if self.free == NIL && self.entries.len() < self.capacity {
            let unused =
                Entry { mac: MacAddress([0; 6]), port, last_seen: 0, chain: NIL, newer: NIL, older: NIL };
            self.entries.push(unused);
            return self.entries.len() as u32 - 1;
        }
        if self.free == NIL {
            let own = self.ports.get(&port).copied();
            if let Some(&(most, fullest)) = self.by_count.last() {
                let oldest = match own {
                    Some(list) if list.count >= most => list.oldest,
                    _ => self.ports[&fullest].oldest,
                };
                self.remove(oldest);
            }
        }
        let index = self.free;
        self.free = self.entries[index as usize].chain;
        index
    }

    fn remove(&mut self, index: u32) {
        self.unlink(index);
        let bucket = self.bucket(self.entries[index as usize].mac);
        let next = self.entries[index as usize].chain;
        let mut before = self.buckets[bucket];
        if before == index {
            self.buckets[bucket] = next;
        } else {
            while self.entries[before as usize].chain != index {
                before = self.entries[before as usize].chain;
            }
            self.entries[before as usize].chain = next;
        }
        self.entries[index as usize].chain = self.free;
        self.free = index;
    }

    /// Put an entry at the front of `port`'s list.
    fn link(&mut self, index: u32, port: u16, now: Millis) {
        let list = self.ports.entry(port).or_insert(PortList { newest: NIL, oldest: NIL, count: 0 });
        let entry = &mut self.entries[index as usize];
        (entry.port, entry.last_seen, entry.newer, entry.older) = (port, now, NIL, list.newest);
        let second = list.newest;
        list.newest = index;
        if second == NIL {
            list.oldest = index;
        } else {
            self.entries[second as usize].newer = index;
        }
        self.by_count.remove(&(list.count, port));
        list.count += 1;
        self.by_count.insert((list.count, port));
    }

    /// Take an entry out of its port's list; the port goes with its last one.
    fn unlink(&mut self, index: u32) {
        let Entry { port, newer, older, .. } = self.entries[index as usize];
        if newer != NIL {
            self.entries[newer as usize].older = older;
        }
        if older != NIL {
            self.entries[older as usize].newer = newer;
        }
        let Some(list) = self.ports.get_mut(&port) else { return };
        if newer == NIL {
            list.newest = older;
        }
        if older == NIL {
            list.oldest = newer;
        }
        self.by_count.remove(&(list.count, port));
        list.count -= 1;
        if list.count == 0 {
            self.ports.remove(&port);
        } else {
            self.by_count.insert((list.count, port));
        }
    }

    /// Move an entry to the front of the list it is in; no count changes.
    fn move_to_front(&mut self, index: u32) {
        let Entry { port, newer, older, .. } = self.entries[index as usize];
        if newer == NIL {
            return;
        }
        self.entries[newer as usize].older = older;
        if older != NIL {
            self.entries[older as usize].newer = newer;
        }
        let Some(list) = self.ports.get_mut(&port) else { return };
        if older == NIL {
            list.oldest = newer;
        }
        let second = std::mem::replace(&mut list.newest, index);
        self.entries[second as usize].newer = index;
        let entry = &mut self.entries[index as usize];
        (entry.newer, entry.older) = (NIL, second);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mac(number: u32) -> MacAddress {
        let [a, b, c, d] = number.to_be_bytes();
        MacAddress([0x52, 0x54, a, b, c, d])
    }

    #[test]
    fn a_station_is_found_until_it_is_too_old() {
        let mut table = MacTable::new(8, 300_000);
        assert_eq!(table.learn(mac(1), 7, 1_000), Learned::New);
        assert_eq!(table.lookup(mac(1), 301_000), Some(7));
        assert_eq!(table.lookup(mac(1), 301_001), None);
        assert_eq!(table.stations(301_001), []);
    }

    #[test]
    fn sending_keeps_a_station_young() {
        let mut table = MacTable::new(8, 300_000);
        table.learn(mac(1), 7, 0);
        assert_eq!(table.learn(mac(1), 7, 299_000), Learned::Known);
        assert_eq!(table.lookup(mac(1), 598_000), Some(7));
    }

    #[test]
    fn the_last_port_wins() {
        let mut table = MacTable::new(8, 300_000);
        table.learn(mac(1), 7, 0);
        assert_eq!(table.learn(mac(1), 9, 1), Learned::Moved);
        assert_eq!(table.lookup(mac(1), 2), Some(9));
        table.forget_port(7);
        assert_eq!(table.lookup(mac(1), 2), Some(9));
        table.forget_port(9);
        assert_eq!(table.lookup(mac(1), 2), None);
        assert!(table.is_empty());
    }

    #[test]
    fn a_flood_costs_other_ports_nothing() {
        let mut table = MacTable::new(100, 300_000);
        for number in 0..50 {
            table.learn(mac(number), 1, 0);
        }
        for number in 1_000..100_000 {
            table.learn(mac(number), 2, 1);
        }
        assert_eq!(table.len(), 100);
        for number in 0..50 {
            assert_eq!(table.lookup(mac(number), 1), Some(1), "station {number} was pushed out");
        }
    }

    #[test]
    fn a_full_table_makes_room_for_the_small_port_at_the_cost_of_the_big_one() {
        let mut table = MacTable::new(100, 300_000);
        for number in 0..1_000 {
            table.learn(mac(number), 1, 0);
        }
        for number in 5_000..5_050 {
            assert_eq!(table.learn(mac(number), 2, 1), Learned::New);
        }
        for number in 5_000..5_050 {
            assert_eq!(table.lookup(mac(number), 1), Some(2));
        }
        assert_eq!(table.len(), 100);
    }

    #[test]
    fn the_oldest_of_a_port_goes_first() {
        let mut table = MacTable::new(3, 300_000);
        for number in 0..3 {
            table.learn(mac(number), 1, u64::from(number));
        }
        table.learn(mac(0), 1, 5_000); // heard again: now number 1 is the oldest
        table.learn(mac(9), 1, 5_001);
        assert_eq!(table.lookup(mac(0), 5_001), Some(1));
        assert_eq!(table.lookup(mac(1), 5_001), None);
    }

    /// What the table should know, without a bound.
    #[derive(Default)]
    struct Model(HashMap<MacAddress, (u16, Millis)>);

    #[derive(Clone, Debug)]
    enum Step {
        Learn(u32, u16),
        Forget(u16),
        Wait(Millis),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            8 => (0u32..40, 0u16..4).prop_map(|(number, port)| Step::Learn(number, port)),
            1 => (0u16..4).prop_map(Step::Forget),
            1 => (0u64..200_000).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..300)
    }

    proptest! {
        #[test]
        fn with_room_enough_it_knows_what_a_plain_map_knows(steps in steps()) {
            let (mut table, mut model, mut now) = (MacTable::new(64, 300_000), Model::default(), 0);
            for step in steps {
                match step {
                    Step::Learn(number, port) => {
                        table.learn(mac(number), port, now);
                        model.0.insert(mac(number), (port, now));
                    }
                    Step::Forget(port) => {
                        table.forget_port(port);
                        model.0.retain(|_, (at, _)| *at != port);
                    }
                    Step::Wait(time) => now += time,
                }
                prop_assert_eq!(table.len(), model.0.len());
            }
            for (mac, (port, seen)) in model.0 {
                let age = now - seen;
                // Within the precision of "last seen" either answer is right.
                if age + REFRESH_AFTER <= 300_000 {
                    prop_assert_eq!(table.lookup(mac, now), Some(port));
                } else if age > 300_000 {
                    prop_assert_eq!(table.lookup(mac, now), None);
                }
            }
        }

        #[test]
        fn it_never_outgrows_its_capacity_and_its_lists_agree(steps in steps(), capacity in 1usize..16) {
            let (mut table, mut now) = (MacTable::new(capacity, 300_000), 0);
            for step in steps {
                match step {
                    Step::Learn(number, port) => {
                        table.learn(mac(number), port, now);
                        prop_assert_eq!(table.lookup(mac(number), now), Some(port));
                    }
                    Step::Forget(port) => table.forget_port(port),
                    Step::Wait(time) => now += time,
                }
                prop_assert!(table.len() <= capacity);
                prop_assert!(table.entries.len() <= capacity);
                prop_assert_eq!(table.by_count.len(), table.ports.len());
                let counted: usize = table.by_count.iter().map(|(count, _)| *count as usize).sum();
                prop_assert_eq!(counted, table.len());
            }
            let listed = table.stations(now);
            prop_assert!(listed.iter().all(|station| table.lookup(station.mac, now) == Some(station.port)));
        }

        #[test]
        fn a_port_within_its_share_keeps_its_stations(
            flood in prop::collection::vec((1_000u32..100_000, 1u16..4), 0..500),
        ) {
            let mut table = MacTable::new(40, 300_000);
            for number in 0..10 {
                table.learn(mac(number), 0, 0);
            }
            for (number, port) in flood {
                table.learn(mac(number), port, 1);
            }
            for number in 0..10 {
                prop_assert_eq!(table.lookup(mac(number), 2), Some(0));
            }
        }
    }
}
