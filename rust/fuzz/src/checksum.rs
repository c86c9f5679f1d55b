//! virtio-net header and the checksum it asks for.

use vde_engine::offload::checksum::finish_checksum;
use vde_engine::vnet_header::{LEN, Need, VnetHeader};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "checksum",
    invariant: "Any header reads back as itself, and finishing a checksum changes two bytes inside the frame or none.",
    run,
    seeds: || {
        let header =
            VnetHeader { flags: 1, csum_start: 34, csum_offset: 16, num_buffers: 1, ..VnetHeader::default() };
        let tso = VnetHeader { gso_type: 1, gso_size: 1448, hdr_len: 66, ..header };
        let frame: Vec<u8> = (0..90).collect();
        vec![[&header.to_bytes()[..], &frame].concat(), [&tso.to_bytes()[..], &frame].concat()]
    },
};

fn run(data: &[u8]) {
    let Some((bytes, frame)) = data.split_first_chunk::<LEN>() else { return };
    let header = VnetHeader::parse(bytes);
    assert_eq!(header.to_bytes(), *bytes);
    let mut finished = frame.to_vec();
    match finish_checksum(header, &mut finished) {
        Err(_) => assert_eq!(finished, frame),
        Ok(after) => {
            let field = usize::from(header.csum_start) + usize::from(header.csum_offset);
            let differs = |at: &usize| finished[*at] != frame[*at];
            let changed: Vec<usize> = (0..frame.len()).filter(differs).collect();
            if header.need() == Need::Nothing {
                assert!(changed.is_empty() && after == header);
            } else {
                assert!(changed.iter().all(|at| (field..field + 2).contains(at)));
                assert_eq!(after.need(), Need::Nothing);
            }
        }
    }
}
