//! Ethernet header.

use vde_engine::frame::{Addresses, HEADER_LEN};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "frame",
    invariant: "Bytes are a frame exactly if there are 14 of them, and the addresses are the first twelve.",
    run,
    seeds: || vec![vec![0; 13], vec![0xff; 14], (0..60).collect()],
};

fn run(data: &[u8]) {
    let parsed = Addresses::parse(data);
    assert_eq!(parsed.is_some(), data.len() >= HEADER_LEN);
    if let Some(Addresses { destination, source }) = parsed {
        assert_eq!([destination.0, source.0].concat(), data[..12]);
        assert!(!source.is_valid_source() || source.0[0] & 1 == 0);
        assert_eq!(destination.to_string().len(), 17);
    }
}
