//! Engine values to Python values, and engine errors to Python exceptions.

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use vde_engine::capture::CaptureStats;
use vde_engine::mac_table::Station;
use vde_engine::port::PortError;
use vde_engine::stats::DropReason;
use vde_engine::{EndpointStats, Event};

use crate::EngineError;

/// The message of an error and of what caused it, on one line.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

pub(crate) fn engine_error(error: &vde_engine::EngineError) -> PyErr {
    EngineError::new_err(describe(error))
}

/// With its `errno`, where the kernel gave one.
pub(crate) fn os_error(error: &std::io::Error) -> PyErr {
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, error.to_string())),
        None => PyOSError::new_err(error.to_string()),
    }
}

pub(crate) fn port_error(error: &PortError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

pub(crate) fn counters<'py>(py: Python<'py>, stats: &EndpointStats) -> PyResult<Bound<'py, PyDict>> {
    let drops = PyDict::new(py);
    for reason in DropReason::ALL {
        drops.set_item(reason.name(), stats.counters.drops(reason))?;
    }
    let dict = PyDict::new(py);
    dict.set_item("port", stats.port)?;
    dict.set_item("name", &stats.name)?;
    dict.set_item("rx_frames", stats.counters.rx_frames)?;
    dict.set_item("rx_bytes", stats.counters.rx_bytes)?;
    dict.set_item("tx_frames", stats.counters.tx_frames)?;
    dict.set_item("tx_bytes", stats.counters.tx_bytes)?;
    dict.set_item("queued_frames", stats.queued_frames)?;
    dict.set_item("drops", drops)?;
    Ok(dict)
}

pub(crate) fn capture<'py>(py: Python<'py>, stats: &CaptureStats) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("frames", stats.frames)?;
    dict.set_item("dropped", stats.dropped)?;
    Ok(dict)
}

pub(crate) fn station<'py>(py: Python<'py>, station: &Station) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("mac", station.mac.to_string())?;
    dict.set_item("port", station.port)?;
    dict.set_item("age_seconds", station.age as f64 / 1000.0)?;
    Ok(dict)
}

pub(crate) fn event<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyDict>> {
    let mut sender: &[u8] = &[];
    let mut capture = None;
    let (kind, endpoint, port, mac, reason) = match event {
        Event::Newcomer { endpoint, port, address } => {
            sender = address;
            ("newcomer", Some(*endpoint), *port, String::new(), "")
        }
        Event::FirstMac { endpoint, port, mac } => ("first_mac", Some(*endpoint), *port, mac.to_string(), ""),
        Event::EndpointDown { endpoint, port, reason } => {
            ("endpoint_down", Some(*endpoint), *port, String::new(), reason.as_str())
        }
        Event::Trouble { endpoint, port, reason } => {
            ("trouble", Some(*endpoint), *port, String::new(), reason.as_str())
        }
        Event::CaptureEnded { stats, reason } => {
            capture = Some(stats);
            ("capture_ended", None, 0, String::new(), reason.as_str())
        }
        Event::EngineFailed { reason } => ("engine_failed", None, 0, String::new(), reason.as_str()),
    };
    let dict = PyDict::new(py);
    dict.set_item("kind", kind)?;
    match endpoint {
        Some(number) => dict.set_item("endpoint", number)?,
        None => dict.set_item("endpoint", -1)?,
    }
    dict.set_item("port", port)?;
    dict.set_item("mac", mac)?;
    dict.set_item("reason", reason)?;
    dict.set_item("address", PyBytes::new(py, sender))?;
    if let Some(stats) = capture {
        dict.set_item("capture", stats.capture)?;
        dict.set_item("frames", stats.frames)?;
        dict.set_item("dropped", stats.dropped)?;
    }
    Ok(dict)
}
