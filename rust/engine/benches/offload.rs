//! What shaping costs: a super-frame cut, a batch joined, a checksum summed.
#![allow(missing_docs, reason = "the macros of criterion make undocumented functions")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vde_engine::offload::checksum::Sum;
use vde_engine::offload::coalesce::Joiner;
use vde_engine::offload::segment::Segments;
use vde_engine::pool::FrameRef;
use vde_engine::vnet_header::{FLAG_NEEDS_CSUM, GSO_TCPV4, LEN, Offloads, VnetHeader};

const SIZE: usize = 1_448;
const COUNT: usize = 44;
const HEADERS: usize = 54;

/// A TCP frame that brings `len` bytes, behind a virtio-net header that asks for nothing.
fn frame(len: usize) -> Vec<u8> {
    let total = ((HEADERS - 14 + len) as u16).to_be_bytes();
    let mut frame = [0x52; 12].to_vec();
    frame.extend([8, 0, 0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0, 7, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    frame.extend((0..len).map(|at| at as u8));
    [vec![0; LEN], frame].concat()
}

fn tso() -> VnetHeader {
    VnetHeader { flags: FLAG_NEEDS_CSUM, gso_type: GSO_TCPV4, gso_size: SIZE as u16, ..VnetHeader::default() }
}

fn cut(whole: &[u8]) -> Vec<Vec<u8>> {
    let Ok(segments) = Segments::of(&tso(), &whole[LEN..]) else { return Vec::new() };
    (0..segments.count())
        .map(|index| {
            let mut out = Vec::new();
            segments.write(index, &mut out);
            out
        })
        .collect()
}

fn cutting(criterion: &mut Criterion) {
    let whole = frame(SIZE * COUNT);
    let mut group = criterion.benchmark_group("offload");
    group.throughput(Throughput::Bytes(whole.len() as u64));
    let mut out = Vec::new();
    group.bench_function("cut one super-frame into 44", |bencher| {
        bencher.iter(|| {
            out.clear();
            if let Ok(segments) = Segments::of(&tso(), &whole[LEN..]) {
                (0..segments.count()).for_each(|index| segments.write(index, &mut out));
            }
            out.len()
        });
    });
    group.finish();
}

fn joining(criterion: &mut Criterion) {
    let whole = frame(SIZE * COUNT);
    let segments = cut(&whole);
    let frames: Vec<_> = segments.iter().map(|bytes| FrameRef::new(bytes)).collect();
    let mut group = criterion.benchmark_group("offload");
    group.throughput(Throughput::Bytes(whole.len() as u64));
    let (mut joiner, mut out) = (Joiner::default(), Vec::new());
    group.bench_function("join 44 frames", |bencher| {
        bencher.iter(|| {
            joiner.restart(Offloads::ALL);
            out.clear();
            let begun = (0..frames.len()).filter(|at| joiner.add(*at, &frames).is_err()).count();
            joiner.chains().iter().for_each(|chain| joiner.write(chain, &frames, &mut out));
            assert_eq!(begun, 1);
            out.len()
        });
    });
    group.finish();
}

fn summing(criterion: &mut Criterion) {
    let bytes = frame(SIZE);
    let mut group = criterion.benchmark_group("offload");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("sum one full frame", |bencher| bencher.iter(|| Sum::default().with(&bytes).folded()));
    group.finish();
}

criterion_group!(benches, cutting, joining, summing);
criterion_main!(benches);
