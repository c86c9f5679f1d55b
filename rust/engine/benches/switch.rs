//! What the pure part of the frame path costs: a known pair, and a flood of addresses made up.
#![allow(missing_docs, reason = "the macros of criterion make undocumented functions")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use vde_engine::mac_table::MacTable;
use vde_engine::switch::{Member, Switch};

const MEMBERS: [Member; 2] =
    [Member { slot: 0, port: 1, receive_only: false }, Member { slot: 1, port: 2, receive_only: false }];

fn switch() -> Switch {
    let mut switch = Switch::new(MacTable::new(8192, 300_000));
    MEMBERS.into_iter().for_each(|member| switch.join(member));
    switch
}

fn frame(destination: u32, source: u32) -> [u8; 64] {
    let mut frame = [0; 64];
    for (at, number) in [(0, destination), (6, source)] {
        frame[at] = 0x52;
        frame[at + 2..at + 6].copy_from_slice(&number.to_be_bytes());
    }
    frame
}

fn known_pair(criterion: &mut Criterion) {
    let mut switch = switch();
    let (there, back) = (frame(1, 2), frame(2, 1));
    switch.decide(MEMBERS[1], &back, 0);
    let mut out = Vec::new();
    criterion.bench_function("known pair", |bencher| {
        bencher.iter(|| {
            let verdict = switch.decide(MEMBERS[0], &there, 0);
            switch.destinations(verdict.decision, MEMBERS[0], &mut out);
            out.len()
        });
    });
}

fn made_up_sources(criterion: &mut Criterion) {
    let mut switch = switch();
    let mut number = 0_u32;
    criterion.bench_function("made-up source, full table", |bencher| {
        let next = || {
            number = number.wrapping_add(1);
            frame(1, number)
        };
        bencher.iter_batched(next, |bytes| switch.decide(MEMBERS[0], &bytes, 0), BatchSize::SmallInput);
    });
}

criterion_group!(benches, known_pair, made_up_sources);
criterion_main!(benches);
