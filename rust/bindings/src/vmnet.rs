//! Addresses of vmnet.framework and its libraries, from Python's numbers to the engine's types; the class `Completion`.
//!
//! The one place here with `unsafe`: a number is called an address of a function because Python says so.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use vde_engine::port::vmnet::{self, Functions, Limits, ObjectRuntime, Vmnet};

use crate::PATIENCE;

/// Longest wait: a year. More is a mistake.
const MAX_TIMEOUT: f64 = 365.0 * 86_400.0;

/// Addresses of the Blocks runtime.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct BlockRuntime {
    stack_block: usize,
    copy: usize,
    release: usize,
}

impl BlockRuntime {
    fn convert(&self) -> PyResult<vmnet::BlockRuntime> {
        // SAFETY: `_engine.pyi` asks for the addresses of these symbols, and nothing else may be given.
        unsafe { vmnet::BlockRuntime::from_addresses(self.stack_block, self.copy, self.release) }
            .ok_or_else(|| null("blocks"))
    }
}

/// Addresses of the calls that are made for frames.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct VmnetFunctions {
    read: usize,
    write: usize,
    set_event_callback: usize,
}

impl VmnetFunctions {
    fn convert(&self) -> PyResult<Functions> {
        // SAFETY: as for `BlockRuntime`.
        unsafe { Functions::from_addresses(self.read, self.write, self.set_event_callback) }
            .ok_or_else(|| null("functions"))
    }
}

fn null(what: &str) -> PyErr {
    PyValueError::new_err(format!("{what}: an address is null"))
}

/// What is said about an interface.
pub(crate) struct Interface {
    pub(crate) handle: usize,
    pub(crate) queue: usize,
    pub(crate) functions: VmnetFunctions,
    pub(crate) blocks: BlockRuntime,
    pub(crate) limits: Limits,
}

impl Interface {
    /// A port on the interface.
    pub(crate) fn open(&self) -> PyResult<Vmnet> {
        let (functions, blocks) = (self.functions.convert()?, self.blocks.convert()?);
        // SAFETY: `_engine.pyi` asks for the handle of a started interface and a queue, valid until the detach.
        let port = unsafe { Vmnet::new(self.handle, self.queue, functions, &blocks, self.limits) };
        port.map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

/// One completion handler.
#[pyclass(frozen, module = "vde_vmnet._engine")]
pub(crate) struct Completion {
    inner: vmnet::Completion,
}

#[pymethods]
impl Completion {
    #[new]
    #[pyo3(signature = (*, blocks, retain = 0, release = 0))]
    fn new(blocks: BlockRuntime, retain: usize, release: usize) -> PyResult<Self> {
        // SAFETY: as for `BlockRuntime`.
        let objects = unsafe { ObjectRuntime::from_addresses(retain, release) };
        if objects.is_none() && (retain, release) != (0, 0) {
            return Err(PyValueError::new_err("retain and release go together: one of them is null"));
        }
        let inner = vmnet::Completion::new(&blocks.convert()?, objects);
        Ok(Self { inner: inner.ok_or_else(|| PyMemoryError::new_err("no memory for a block"))? })
    }

    #[getter]
    fn block(&self) -> usize {
        self.inner.block()
    }

    fn wait(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<(u32, usize)>> {
        if !(0.0..=MAX_TIMEOUT).contains(&timeout) {
            return Err(PyValueError::new_err(format!("timeout must be 0 s to a year, not {timeout}")));
        }
        let deadline = Instant::now() + Duration::from_secs_f64(timeout);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(completed) = py.detach(|| self.inner.wait(left.min(PATIENCE))) {
                return Ok(Some((completed.status, completed.object)));
            }
            if left <= PATIENCE {
                return Ok(None);
            }
            py.check_signals()?;
        }
    }
}
