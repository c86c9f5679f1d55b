//! Who sends what to a door, in any order.

use std::collections::{HashMap, HashSet};

use vde_engine::sources::{HELD_BYTES, HELD_FRAMES, Origin, Sources, WAITING};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "sources",
    invariant: "A frame belongs to the endpoint its sender was admitted as, is kept once and in order, or is refused.",
    run,
    seeds: || {
        vec![
            vec![0, 1, 60, 0, 1, 61, 1, 1, 9, 0, 1, 62, 3, 9, 0, 0, 1, 63],
            (0..200).flat_map(|sender| [0, sender, 14]).chain([2, 3, 0, 0, 3, 5]).collect(),
            [0, 7, 255].repeat(20),
        ]
    },
};

/// Three bytes are one event: what happens, the sender or endpoint, and a length or endpoint.
fn run(data: &[u8]) {
    let mut sources = Sources::default();
    let mut known: HashMap<u8, u32> = HashMap::new();
    let mut held: HashMap<u8, Vec<Vec<u8>>> = HashMap::new();
    let mut told = HashSet::new();
    for event in data.chunks_exact(3) {
        let [what, who, more] = *event else { return };
        let address = [b'/', who];
        match what % 4 {
            0 => {
                let frame = vec![more; usize::from(more) * 40];
                let origin = sources.classify(&address, &frame);
                match known.get(&who) {
                    Some(slot) => assert_eq!(origin, Origin::Known(*slot)),
                    None => {
                        let waits = held.contains_key(&who) || held.len() < WAITING;
                        let kept = held.get(&who).map_or(&[][..], Vec::as_slice);
                        let bytes: usize = kept.iter().map(Vec::len).sum();
                        let room = kept.len() < HELD_FRAMES && bytes + frame.len() <= HELD_BYTES;
                        let expected =
                            if waits && (room || frame.is_empty()) { Origin::Held } else { Origin::Full };
                        assert_eq!(origin, expected);
                        if waits {
                            let kept = held.entry(who).or_default();
                            if expected == Origin::Held && !frame.is_empty() {
                                kept.push(frame);
                            }
                        }
                    }
                }
            }
            1 => {
                assert_eq!(sources.admit(&address, u32::from(more)), held.remove(&who).unwrap_or_default());
                told.remove(&who);
                known.insert(who, u32::from(more));
            }
            2 => {
                assert_eq!(sources.turn_away(&address), held.remove(&who).unwrap_or_default());
                told.remove(&who);
            }
            _ => {
                sources.forget(u32::from(who));
                known.retain(|_, slot| *slot != u32::from(who));
            }
        }
        if more % 2 == 0 {
            for newcomer in sources.take_newcomers() {
                assert!(held.contains_key(&newcomer[1]));
                assert!(told.insert(newcomer[1]), "told twice");
            }
        }
        assert_eq!(sources.known(&address), known.get(&who).copied());
    }
}
