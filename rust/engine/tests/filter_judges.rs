//! The interpreter of filters against two that others wrote: libpcap's, and the kernel's at a socket.
#![cfg(target_os = "linux")]
#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::ffi::{CStr, c_int, c_uint, c_void};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use proptest::prelude::*;
use vde_engine::bpf::{Instruction, Program};

/// `struct bpf_insn` of libpcap and `struct sock_filter` of Linux.
#[repr(C)]
#[derive(Clone, Copy)]
struct Raw {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

#[repr(C)]
struct RawProgram {
    len: u16,
    filter: *const Raw,
}

fn raw(program: &[Instruction]) -> Vec<Raw> {
    program.iter().map(|one| Raw { code: one.code, jt: one.jt, jf: one.jf, k: one.k }).collect()
}

type BpfFilter = unsafe extern "C" fn(*const Raw, *const u8, c_uint, c_uint) -> c_uint;
type BpfValidate = unsafe extern "C" fn(*const Raw, c_int) -> c_int;

/// A function of the installed libpcap, which stays loaded.
fn libpcap(name: &CStr) -> *mut c_void {
    // Debian's name, and that of others.
    let mut names = [c"libpcap.so.0.8", c"libpcap.so.1"].into_iter();
    let library = names.find_map(|name| {
        // SAFETY: the name ends with a zero; the library's initialisers are those of one that tcpdump loads too.
        let library = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW) };
        (!library.is_null()).then_some(library)
    });
    let library = library.unwrap_or_else(|| panic!("libpcap is needed to judge the filters"));
    // SAFETY: the library is open and the name ends with a zero.
    let symbol = unsafe { libc::dlsym(library, name.as_ptr()) };
    assert!(!symbol.is_null());
    symbol
}

fn judged_by_libpcap(program: &[Instruction], frame: &[u8]) -> u32 {
    // SAFETY: this is the function's type in pcap/bpf.h.
    let run: BpfFilter = unsafe { std::mem::transmute(libpcap(c"bpf_filter")) };
    let (raw, len) = (raw(program), frame.len() as c_uint);
    // SAFETY: the program was checked, by the function that libpcap has for that too, and `len` is the frame's.
    unsafe { run(raw.as_ptr(), frame.as_ptr(), len, len) }
}

fn accepted_by_libpcap(program: &[Instruction]) -> bool {
    // SAFETY: this is the function's type in pcap-int.h, which tcpdump calls as well.
    let validate: BpfValidate = unsafe { std::mem::transmute(libpcap(c"bpf_validate")) };
    let raw = raw(program);
    // SAFETY: the call reads as many instructions as there are.
    unsafe { validate(raw.as_ptr(), raw.len() as c_int) != 0 }
}

/// How many bytes of the frame come through a socket with this filter; `None` when the kernel refuses the filter.
fn judged_by_the_kernel(program: &[Instruction], frame: &[u8]) -> Option<usize> {
    let (near, far) = UnixDatagram::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let raw = raw(program);
    let program = RawProgram { len: raw.len() as u16, filter: raw.as_ptr() };
    let len = size_of::<RawProgram>() as libc::socklen_t;
    let source = (&raw const program).cast();
    // SAFETY: `source` and `len` describe `program`, which with what it points to outlives the call.
    let result =
        unsafe { libc::setsockopt(far.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, source, len) };
    if result != 0 {
        return None;
    }
    near.send(frame).unwrap();
    Some(far.recv(&mut [0; 4096]).unwrap_or(0))
}

fn instruction(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// Operands that matter: small ones, offsets into a frame, and those at the edges.
fn operand() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..80, Just(0x0800), Just(0xffff), Just(u32::MAX), Just(1 << 31), any::<u32>()]
}

/// One instruction of a program whose X stays small if it is to be `tame`: the kernel reads elsewhere than in the
/// frame when X and an offset are negative together, and shifts modulo 32.
fn any_instruction(tame: bool) -> BoxedStrategy<Instruction> {
    let loads = prop::sample::select(&[0x20_u16, 0x28, 0x30, 0x40, 0x48, 0x50, 0xb1][..]);
    let constants = prop::sample::select(&[0x04_u16, 0x14, 0x24, 0x44, 0x54, 0xa4, 0x00][..]);
    let by_x = prop::sample::select(if tame {
        &[0x0c_u16, 0x1c, 0x2c, 0x3c, 0x4c, 0x5c, 0x9c, 0xac][..]
    } else {
        &[0x3c_u16, 0x6c, 0x7c, 0x9c][..]
    });
    let words =
        prop::sample::select(if tame { &[0x60_u16, 0x02][..] } else { &[0x60_u16, 0x61, 0x02, 0x03][..] });
    let plain = prop::sample::select(if tame {
        &[0x80_u16, 0x84, 0x87][..]
    } else {
        &[0x80_u16, 0x81, 0x84, 0x07, 0x87][..]
    });
    let tests = prop::sample::select(&[0x15_u16, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d][..]);
    prop_oneof![
        (loads, 0_u32..70).prop_map(|(code, k)| instruction(code, k)),
        (constants, operand()).prop_map(|(code, k)| instruction(code, k)),
        (prop::sample::select(&[0x34_u16, 0x94, 0x64, 0x74][..]), 1_u32..32)
            .prop_map(|(code, k)| instruction(code, k)),
        (0_u32..64).prop_map(|k| instruction(0x01, k)),
        by_x.prop_map(|code| instruction(code, 0)),
        (words, 0_u32..16).prop_map(|(code, k)| instruction(code, k)),
        plain.prop_map(|code| instruction(code, 0)),
        (tests, operand(), 0_u8..4, 0_u8..4).prop_map(|(code, k, jt, jf)| Instruction { code, jt, jf, k }),
        (0_u32..3).prop_map(|k| instruction(0x05, k)),
        prop_oneof![Just(instruction(0x16, 0)), operand().prop_map(|k| instruction(0x06, k))],
    ]
    .boxed()
}

/// A program that all three take: its words are set first, since two of the three refuse to read others, and jumps
/// are shortened to its end.
fn any_program(tame: bool) -> impl Strategy<Value = Vec<Instruction>> {
    prop::collection::vec(any_instruction(tame), 1..40).prop_map(|body| {
        let mut program: Vec<_> = (0..16).map(|word| instruction(0x02, word)).collect();
        program.extend(body);
        program.push(instruction(0x16, 0));
        let count = program.len();
        for (at, one) in program.iter_mut().enumerate() {
            let left = count - at - 1;
            let longest = left.saturating_sub(1);
            one.jt = one.jt.min(longest.min(255) as u8);
            one.jf = one.jf.min(longest.min(255) as u8);
            if one.code == 0x05 {
                one.k = one.k.min(longest as u32);
            }
        }
        program
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn libpcap_says_the_same(program in any_program(false), frame in prop::collection::vec(any::<u8>(), 1..80)) {
        prop_assert!(accepted_by_libpcap(&program));
        prop_assert_eq!(Program::new(&program).unwrap().run(&frame), judged_by_libpcap(&program, &frame));
    }

    #[test]
    fn the_kernel_says_the_same(program in any_program(true), frame in prop::collection::vec(any::<u8>(), 1..80)) {
        let kept = (Program::new(&program).unwrap().run(&frame) as usize).min(frame.len());
        prop_assert_eq!(judged_by_the_kernel(&program, &frame), Some(kept));
    }

    #[test]
    fn what_is_accepted_the_others_accept_too(
        program in prop::collection::vec(
            (prop_oneof![0_u16..0x100, any::<u16>()], 0_u8..6, 0_u8..6, prop_oneof![0_u32..40, any::<u32>()])
                .prop_map(|(code, jt, jf, k)| Instruction { code, jt, jf, k }),
            0..6,
        ),
        end in prop_oneof![Just(0x06_u16), Just(0x16)],
    ) {
        let program = [program, vec![instruction(end, 1)]].concat();
        if let Ok(checked) = Program::new(&program) {
            prop_assert!(accepted_by_libpcap(&program));
            let _ = checked.run(&[1; 60]);
        }
    }
}
