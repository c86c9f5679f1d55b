//! The switch: learning, ageing, who gets what, while endpoints come and go.

use std::collections::HashSet;

use vde_engine::frame::{Addresses, HEADER_LEN};
use vde_engine::mac_table::MacTable;
use vde_engine::stats::DropReason;
use vde_engine::switch::{Decision, Member, Switch};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "switch",
    invariant: "A frame never returns to its port nor reaches a receive-only endpoint, a known station is not looked \
                for, and the table stays within its capacity.",
    run,
    seeds: || {
        let exchange =
            [frame(1, 2, 3), frame(2, 3, 2), frame(1, 0xff, 2), vec![0x40, 2], frame(3, 2, 9)].concat();
        let flood: Vec<u8> = (0..40).flat_map(|number| frame(0, 1, number * 2)).collect();
        vec![exchange, flood]
    },
};

const CAPACITY: usize = 8;
const AGEING: u64 = 1_000;

/// A frame as a step of an input: who sends, and the bytes that follow; see `run`.
fn frame(from: u8, to: u8, source: u8) -> Vec<u8> {
    [&[from, HEADER_LEN as u8][..], &[to; 6], &[source; 6], &[8, 0]].concat()
}

/// Steps of the form (what, argument[, bytes]): the two high bits of `what` say whether `argument` bytes come
/// from endpoint `what`, endpoint `what` leaves or comes back, or time passes.
fn run(data: &[u8]) {
    let members: Vec<Member> =
        (0..8).map(|slot| Member { slot, port: slot as u16 / 2, receive_only: slot == 7 }).collect();
    let mut present = [true; 8];
    let mut switch = Switch::new(MacTable::new(CAPACITY, AGEING));
    members.iter().for_each(|member| switch.join(*member));
    let (mut now, mut rest, mut out) = (0, data, Vec::new());
    let mut sources = HashSet::new();
    while let [what, argument, behind @ ..] = rest {
        rest = behind;
        let index = usize::from(*what) % members.len();
        let member = members[index];
        match what >> 6 {
            0 | 3 if present[index] => {
                let (bytes, behind) = rest.split_at(usize::from(*argument).min(rest.len()));
                rest = behind;
                sources.extend(Addresses::parse(bytes).map(|addresses| addresses.source.0));
                forward(&mut switch, member, bytes, now, &mut out, sources.len() <= CAPACITY);
                for slot in &out {
                    let target = members[*slot as usize];
                    assert!(target.port != member.port && !target.receive_only && present[*slot as usize]);
                }
            }
            1 => {
                present[index] = !present[index];
                if present[index] {
                    switch.join(member);
                } else {
                    switch.leave(member.slot, member.port);
                }
            }
            _ => now += u64::from(*argument) * 8,
        }
        let stations = switch.stations(now);
        assert!(stations.len() <= CAPACITY);
        for station in stations {
            assert!(station.age <= AGEING && station.mac.is_valid_source());
            assert!(members.iter().any(|member| member.port == station.port && present[member.slot as usize]));
        }
    }
}

fn forward(switch: &mut Switch, from: Member, bytes: &[u8], now: u64, out: &mut Vec<u32>, roomy: bool) {
    let known: Vec<_> = switch.stations(now);
    let decision = switch.decide(from, bytes, now).decision;
    switch.destinations(decision, from, out);
    let Some(Addresses { destination, source }) = Addresses::parse(bytes) else {
        assert_eq!(decision, Decision::Drop(DropReason::Runt));
        return;
    };
    match decision {
        Decision::Flood => {
            let place = known.iter().find(|station| station.mac == destination);
            // Learning the source may have pushed the destination out of a full table.
            assert!(place.is_none() || !roomy);
        }
        Decision::Port(port) => {
            assert!(
                port != from.port && known.iter().any(|place| place.mac == destination && place.port == port)
            );
        }
        Decision::Drop(DropReason::SamePort) => {
            let place = switch.stations(now).into_iter().find(|station| station.mac == destination);
            assert_eq!(place.map(|station| station.port), Some(from.port));
        }
        Decision::Drop(DropReason::BadSource) => assert!(!source.is_valid_source()),
        Decision::Drop(DropReason::GroupAddress) => assert!(from.receive_only && destination.is_group()),
        Decision::Drop(other) => panic!("{other:?} is not for the switch to raise"),
    }
}
