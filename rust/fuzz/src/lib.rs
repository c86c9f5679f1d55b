//! The targets: functions that panic when their one-sentence invariant does not hold for some bytes.

mod adopt;
mod bpf;
mod checksum;
mod frame;
mod offload;
mod sources;
mod stream;
mod switch;
#[cfg(target_os = "linux")]
mod vhost_user;

/// One function under attack.
pub struct Target {
    /// What it is called on the command line.
    pub name: &'static str,
    /// What must hold for any bytes.
    pub invariant: &'static str,
    /// Panics when it does not.
    pub run: fn(&[u8]),
    /// Inputs to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Everything there is.
pub const TARGETS: &[Target] = &[
    frame::TARGET,
    checksum::TARGET,
    adopt::TARGET,
    bpf::TARGET,
    offload::TARGET,
    switch::TARGET,
    stream::TARGET,
    sources::TARGET,
    #[cfg(target_os = "linux")]
    vhost_user::TARGET,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_hold() {
        for target in TARGETS {
            (target.run)(&[]);
            (target.seeds)().iter().for_each(|seed| (target.run)(seed));
        }
    }
}
