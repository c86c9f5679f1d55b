//! Programs of capture filters, run on a frame.

use vde_engine::bpf::{Instruction, MOST_INSTRUCTIONS, Program};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "bpf",
    invariant: "Any bytes are a program that ends and gives the same each time, or refused; and none jumps out of itself.",
    run,
    seeds: || {
        vec![
            // tcpdump -d arp, ip and udp port 67
            encode(&[(0x28, 0, 0, 12), (0x15, 0, 1, 0x806), (6, 0, 0, 262_144), (6, 0, 0, 0)], &[1; 60]),
            encode(
                &[
                    (0x28, 0, 0, 12),
                    (0x15, 0, 8, 0x800),
                    (0x30, 0, 0, 23),
                    (0x15, 0, 6, 17),
                    (0x28, 0, 0, 20),
                    (0x45, 4, 0, 0x1fff),
                    (0xb1, 0, 0, 14),
                    (0x48, 0, 0, 16),
                    (0x15, 0, 1, 67),
                    (6, 0, 0, 262_144),
                    (6, 0, 0, 0),
                ],
                &[0x45; 80],
            ),
            encode(&[(0x80, 0, 0, 0), (7, 0, 0, 0), (0x02, 0, 0, 3), (0x3c, 0, 0, 0), (0x16, 0, 0, 0)], &[]),
            encode(
                &[(0x64, 0, 0, 31), (0x7c, 0, 0, 0), (0x61, 0, 0, 15), (0x05, 0, 0, 0), (0x16, 0, 0, 0)],
                &[9; 14],
            ),
        ]
    },
};

/// A length in instructions, the instructions, the frame.
fn encode(program: &[(u16, u8, u8, u32)], frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![program.len() as u8];
    for (code, jt, jf, k) in program {
        bytes.extend(code.to_be_bytes());
        bytes.extend([*jt, *jf]);
        bytes.extend(k.to_be_bytes());
    }
    bytes.extend(frame);
    bytes
}

fn run(data: &[u8]) {
    let Some((count, rest)) = data.split_first() else { return };
    let (program, frame) = rest.split_at(rest.len().min(usize::from(*count) * 8));
    let instructions: Vec<_> = program
        .chunks_exact(8)
        .map(|one| Instruction {
            code: u16::from_be_bytes([one[0], one[1]]),
            jt: one[2],
            jf: one[3],
            k: u32::from_be_bytes([one[4], one[5], one[6], one[7]]),
        })
        .collect();
    let Ok(checked) = Program::new(&instructions) else { return };
    assert!(!instructions.is_empty() && instructions.len() <= MOST_INSTRUCTIONS);
    for (at, one) in instructions.iter().enumerate() {
        let left = (instructions.len() - at - 1) as u64;
        let furthest = match one.code {
            0x05 => u64::from(one.k) + 1,
            code if code & 7 == 5 => u64::from(one.jt.max(one.jf)) + 1,
            _ => 0,
        };
        assert!(furthest <= left, "instruction {at} jumps out");
    }
    assert_eq!(checked.run(frame), checked.run(frame));
}
