//! libFuzzer's way in; `FUZZ_TARGET` names the target.
#![no_main]

use std::sync::LazyLock;

use vde_engine_fuzz::{TARGETS, Target};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    TARGETS.iter().find(|target| target.name == name).expect("FUZZ_TARGET names no target")
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
