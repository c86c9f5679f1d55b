//! What is to be captured, from Python's values.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vde_engine::bpf::{Instruction, Program};
use vde_engine::capture::{BUFFERS, CaptureConfig, LONGEST_PREFIX};

use crate::convert;

/// An instruction as libpcap lays it out: code, jt, jf, k.
pub(crate) type Bpf = (u16, u8, u8, u32);

pub(crate) fn config(
    ports: Option<Vec<u16>>,
    snaplen: u32,
    buffer: usize,
    program: Option<Vec<Bpf>>,
    limit: Option<u64>,
    prefix: Vec<u8>,
) -> PyResult<CaptureConfig> {
    if snaplen == 0 {
        return Err(PyValueError::new_err("snaplen must be at least 1, not 0"));
    }
    if !BUFFERS.contains(&buffer) {
        let (least, most) = BUFFERS.into_inner();
        return Err(PyValueError::new_err(format!("buffer must be {least}…{most} bytes, not {buffer}")));
    }
    if limit == Some(0) {
        return Err(PyValueError::new_err("limit must be at least 1, not 0"));
    }
    if prefix.len() > LONGEST_PREFIX {
        return Err(PyValueError::new_err(format!("prefix must be at most {LONGEST_PREFIX} bytes")));
    }
    let filter = program.map(|program| filter(&program)).transpose()?;
    Ok(CaptureConfig { ports, snaplen, buffer, filter, limit, prefix })
}

fn filter(program: &[Bpf]) -> PyResult<Program> {
    let instructions: Vec<_> =
        program.iter().map(|&(code, jt, jf, k)| Instruction { code, jt, jf, k }).collect();
    Program::new(&instructions).map_err(|error| PyValueError::new_err(convert::describe(&error)))
}
