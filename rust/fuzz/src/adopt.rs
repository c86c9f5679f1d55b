//! The header of a frame that came without one.

use vde_engine::offload::adopt::adopt;
use vde_engine::offload::checksum::finish_checksum;
use vde_engine::offload::segment::{CannotCut, Segments};
use vde_engine::vnet_header::{LEN, Need};

use crate::{Target, offload};

pub(crate) const TARGET: Target = Target {
    name: "adopt",
    invariant: "What is said to ask for a checksum can be finished, what is said to be a super-frame can be cut into \
                frames that fit the link, and a frame that is refused is unchanged.",
    run,
    seeds: || {
        let whole = offload::tcp(0, 150, 0x10).split_off(LEN);
        // A finished one, one too long, and one with the pseudo-header's sum alone.
        let long = [&[100, 0][..], &whole].concat();
        let mut left = long.clone();
        let _ = adopt(&mut left[2..], 100);
        left[0] = 220;
        vec![[&[220, 0][..], &whole].concat(), long, left]
    },
};

/// The link's MTU in two bytes, then the frame.
fn run(data: &[u8]) {
    asked_for(data);
}

/// What the frame turned out to ask for.
fn asked_for(data: &[u8]) -> Option<Need> {
    let (mtu, frame) = data.split_first_chunk::<2>()?;
    let mtu = usize::from(u16::from_le_bytes(*mtu));
    let mut adopted = frame.to_vec();
    let Ok(header) = adopt(&mut adopted, mtu) else {
        assert_eq!(adopted, frame);
        return None;
    };
    match header.need() {
        Need::Nothing => {}
        Need::Checksum => assert!(finish_checksum(header, &mut adopted).is_ok()),
        Need::Segmentation => match Segments::of(&header, &adopted) {
            Err(reason) => assert_eq!(reason, CannotCut::TooMany),
            Ok(segments) => (0..segments.count()).for_each(|index| {
                let mut out = Vec::new();
                segments.write(index, &mut out);
                assert!(out.len() <= LEN + 14 + 8 + mtu);
            }),
        },
    }
    Some(header.need())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_reach_what_is_under_test() {
        let asked: Vec<_> = (TARGET.seeds)().iter().map(|seed| asked_for(seed)).collect();
        assert_eq!(asked, [Some(Need::Nothing), Some(Need::Segmentation), Some(Need::Checksum)]);
    }
}
