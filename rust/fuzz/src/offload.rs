//! Segmentation and coalescing.

use vde_engine::offload::coalesce::Joiner;
use vde_engine::offload::segment::{MAX_SEGMENTS, Segments};
use vde_engine::pool::{BATCH, FrameRef};
use vde_engine::vnet_header::{LEN, Need, Offloads};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "offload",
    invariant: "What a batch is joined to can be cut again, with every byte of data in its place; no super-frame \
                makes more frames than allowed, nor one longer than itself.",
    run,
    seeds: || {
        let stream: Vec<u8> = (0..6).flat_map(|number| entry(&tcp(number, 90, 0x10))).collect();
        let odd = [entry(&tcp(0, 90, 0x10)), entry(&tcp(1, 90, 0x18)), entry(&tcp(2, 7, 0x11))].concat();
        let whole = tcp_super_frame();
        let mut datagrams = whole.clone();
        (datagrams[1], datagrams[LEN + 23]) = (5, 17);
        vec![stream, odd, entry(&whole), entry(&datagrams)]
    },
};

fn tcp_super_frame() -> Vec<u8> {
    let mut whole = tcp(0, 150, 0x19);
    whole[..2].copy_from_slice(&[1, 1]);
    whole[4] = 50;
    whole
}

/// A frame behind its header, as `run` takes it apart.
fn entry(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8][..], bytes].concat()
}

/// A finished TCP segment over IPv4, as number `number` of a stream of segments of 90 bytes.
pub(crate) fn tcp(number: u8, len: u8, flags: u8) -> Vec<u8> {
    let mut frame = vec![0x52; 12];
    frame.extend([8, 0, 0x45, 0, 0, 40 + len, 0, number, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let sum = sum(&frame[14..]);
    frame[24..26].copy_from_slice(&sum);
    let sequence = (u16::from(number) * 90).to_be_bytes();
    frame.extend([0, 7, 0, 9, 0, 0, sequence[0], sequence[1], 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    frame.extend(vec![number; usize::from(len)]);
    let pseudo = [&frame[26..34], &[0, 6, 0, 20 + len], &frame[34..]].concat();
    frame[50..52].copy_from_slice(&self::sum(&pseudo));
    [vec![0; LEN], frame].concat()
}

fn sum(bytes: &[u8]) -> [u8; 2] {
    vde_engine::offload::checksum::Sum::default().with(bytes).checksum().to_be_bytes()
}

/// Frames, each behind a byte that says how long it is with its header.
fn run(data: &[u8]) {
    joined(data);
}

/// How many frames became a part of another one.
fn joined(data: &[u8]) -> usize {
    let (mut frames, mut rest) = (Vec::new(), data);
    while let [len, bytes @ ..] = rest {
        let (frame, behind) = bytes.split_at(usize::from(*len).min(bytes.len()));
        rest = behind;
        if frame.len() >= LEN && frames.len() < BATCH {
            frames.push(FrameRef::new(frame));
        }
    }
    let mut joiner = Joiner::default();
    joiner.restart(Offloads::ALL);
    let begun = (0..frames.len()).filter(|position| joiner.add(*position, &frames).is_err()).count();
    assert_eq!(joiner.chains().len(), begun);
    assert_eq!(joiner.chains().iter().map(|chain| chain.count()).sum::<usize>(), frames.len());
    for chain in joiner.chains() {
        let first = frames[chain.first()];
        if chain.count() == 1 {
            cut(first);
            continue;
        }
        let mut whole = Vec::new();
        joiner.write(chain, &frames, &mut whole);
        let whole = FrameRef::new(&whole);
        assert_eq!(whole.header().need(), Need::Segmentation);
        let pieces = cut(whole).expect("what was joined can be cut");
        assert_eq!(pieces.len(), chain.count());
        assert_eq!(pieces[0].len(), first.with_header().len());
    }
    frames.len() - begun
}

/// The frames of a super-frame, if it can be cut.
fn cut(frame: FrameRef<'_>) -> Option<Vec<Vec<u8>>> {
    let segments = Segments::of(&frame.header(), frame.ethernet()).ok()?;
    assert!((1..=MAX_SEGMENTS).contains(&segments.count()));
    let pieces: Vec<Vec<u8>> = (0..segments.count())
        .map(|index| {
            let mut out = Vec::new();
            segments.write(index, &mut out);
            assert!(out.len() <= frame.with_header().len());
            assert_eq!(FrameRef::new(&out).header().need(), Need::Nothing);
            out
        })
        .collect();
    // Each repeats the same headers: what is left is the data, all of it.
    let headers = pieces.iter().map(Vec::len).sum::<usize>() - LEN * pieces.len();
    let repeated = headers - frame.ethernet().len();
    assert_eq!(repeated % (pieces.len() - 1).max(1), 0);
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_reach_what_is_under_test() {
        assert_eq!((TARGET.seeds)().iter().map(|seed| joined(seed)).collect::<Vec<_>>(), [5, 1, 0, 0]);
        let whole = tcp_super_frame();
        assert_eq!(cut(FrameRef::new(&whole)).map(|pieces| pieces.len()), Some(3));
    }
}
