//! `vde_vmnet._engine`: the engine for Python. Converts, nothing else; `_engine.pyi` is its manual.

mod capture;
mod convert;
mod engine;
mod slirp;
mod vmnet;

use std::time::Duration;

use pyo3::prelude::*;

/// How long to wait without the GIL before looking for signals.
const PATIENCE: Duration = Duration::from_millis(50);

pyo3::create_exception!(
    _engine,
    EngineError,
    pyo3::exceptions::PyException,
    "The engine refused a request or its thread has ended; the message says why."
);

/// The frame path, in Rust.
#[pymodule]
mod _engine {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::EngineError;
    #[pymodule_export]
    use super::engine::Engine;
    #[pymodule_export]
    use super::vmnet::Completion;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", vde_engine::VERSION)
    }
}
