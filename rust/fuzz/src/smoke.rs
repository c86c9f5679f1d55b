//! Every target for a while, on a stable compiler: `cargo run --release -- --seconds 30`.
//!
//! Not guided by coverage: inputs are the seeds and what was made of them, changed a little each time. The same
//! `--seed` gives the same inputs. For the guided way see `guided`.

use std::panic;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use vde_engine_fuzz::{TARGETS, Target};

/// Longest input made; everything under test reads far less at once or repeats itself.
const LONGEST: usize = 4096;

/// Inputs kept to make others of.
const KEPT: usize = 256;

/// Numbers that parsers trip over.
const INTERESTING: [u8; 8] = [0, 1, 12, 13, 14, 0x7f, 0x80, 0xff];

/// xorshift64*: the same numbers everywhere for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

fn mutate(input: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(6) {
        let at = random.below(input.len() + 1);
        let end = (at + random.below(24)).min(input.len());
        match random.below(7) {
            0 if at < input.len() => input[at] ^= 1 << random.below(8),
            1 if at < input.len() => input[at] = INTERESTING[random.below(INTERESTING.len())],
            2 => drop(input.drain(at..end)),
            3 => {
                let piece: Vec<u8> = (0..random.below(24)).map(|_| random.byte()).collect();
                drop(input.splice(at..at, piece));
            }
            4 => {
                let piece = input[at..end].to_vec();
                drop(input.splice(at..at, piece));
            }
            5 => {
                let other = &others[random.below(others.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(200)).min(other.len());
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
            _ if at < input.len() => input[at] = input[at].wrapping_add(random.byte() % 9).wrapping_sub(4),
            _ => {}
        }
    }
    input.truncate(LONGEST);
}

/// How many inputs were tried, or the one that broke the target.
fn attack(target: &Target, seconds: u64, seed: u64) -> Result<u64, Vec<u8>> {
    let mut random = Random(seed | 1);
    let mut kept = (target.seeds)();
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut tried = 0;
    while tried % 64 != 0 || Instant::now() < deadline {
        let mut input = kept[random.below(kept.len())].clone();
        mutate(&mut input, &kept, &mut random);
        if panic::catch_unwind(|| (target.run)(&input)).is_err() {
            return Err(input);
        }
        tried += 1;
        // Now and then what came out is where the next ones start, so that changes add up.
        if random.below(50) == 0 {
            if kept.len() < KEPT {
                kept.push(input);
            } else {
                let seeds = (target.seeds)().len();
                let place = seeds + random.below(KEPT - seeds);
                kept[place] = input;
            }
        }
    }
    Ok(tried)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [option, name, folder] = &arguments[..] {
        if option == "--write-seeds" {
            return write_seeds(name, Path::new(folder));
        }
    }
    let (mut seconds, mut seed, mut only) = (30, 1, None);
    for pair in arguments.chunks(2) {
        match pair {
            [option, value] if option == "--seconds" => seconds = value.parse().unwrap_or(30),
            [option, value] if option == "--seed" => seed = value.parse().unwrap_or(1),
            [option, value] if option == "--only" => only = Some(value.clone()),
            _ => {
                eprintln!("usage: smoke [--seconds N] [--seed N] [--only TARGET]");
                return ExitCode::from(2);
            }
        }
    }
    let chosen = TARGETS.iter().filter(|target| only.as_ref().is_none_or(|name| name == target.name));
    let mut status = ExitCode::SUCCESS;
    for target in chosen {
        match attack(target, seconds, seed) {
            Ok(tried) => println!("{:10} {tried:>10} inputs in {seconds} s: {}", target.name, target.invariant),
            Err(input) => {
                let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
                println!("{:10} BROKEN: {}\n{:10} by {hex}", target.name, target.invariant, "");
                status = ExitCode::FAILURE;
            }
        }
    }
    status
}

/// The seeds as files, for the guided way to start with.
fn write_seeds(name: &str, folder: &Path) -> ExitCode {
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        eprintln!("There is no target {name}");
        return ExitCode::from(2);
    };
    for (number, seed) in (target.seeds)().iter().enumerate() {
        if let Err(error) = std::fs::write(folder.join(format!("seed-{number}")), seed) {
            eprintln!("{}: {error}", folder.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
