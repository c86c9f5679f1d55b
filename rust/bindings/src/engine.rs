//! The class `Engine`: releases the GIL around every wait and lets signals through.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use vde_engine::port::bare::Bare;
use vde_engine::port::vmnet::Limits;
use vde_engine::port::{self, Kind, Port};
use vde_engine::{EndpointId, EngineConfig, Pending};

use crate::vmnet::{BlockRuntime, Interface, VmnetFunctions};
use crate::{EngineError, PATIENCE, capture, convert, slirp};

/// Longest ageing time: a year. More is a mistake.
const MAX_AGEING: f64 = 365.0 * 86_400.0;

/// Packets that every IPv4 host takes (RFC 791), and the longest there are.
const LEAST_MTU: usize = 576;
const MOST_MTU: usize = 65_535;

/// Longest busy polling: more would keep a processor busy for nothing.
const MAX_BUSY_POLL: f64 = 0.001;

/// Largest table, some 50 MB.
const MAX_CAPACITY: usize = 1 << 20;

/// A learning switch with its own thread.
#[pyclass(frozen, module = "vde_vmnet._engine")]
pub(crate) struct Engine {
    inner: vde_engine::Engine,
}

/// Ask the engine's thread and wait for the answer without the GIL; Ctrl-C ends the wait.
fn answer<T: Send>(
    py: Python<'_>,
    ask: impl FnOnce() -> Result<Pending<T>, vde_engine::EngineError> + Send,
) -> PyResult<T> {
    // Receivers cannot be shared between threads, but they can be handed over.
    let mut pending = py.detach(ask).map_err(|error| convert::engine_error(&error))?;
    loop {
        let (result, back) = py.detach(move || (pending.wait(PATIENCE), pending));
        if let Some(value) = result.map_err(|error| convert::engine_error(&error))? {
            return Ok(value);
        }
        pending = back;
        py.check_signals()?;
    }
}

/// A number of a port, from Python's.
fn port_number(port: i64) -> PyResult<u16> {
    u16::try_from(port).map_err(|_| PyValueError::new_err(format!("port must be 0…65535, not {port}")))
}

/// Length of a packet, from Python's.
fn packet_len(name: &str, len: i64) -> PyResult<usize> {
    let fits = usize::try_from(len).ok().filter(|len| (LEAST_MTU..=MOST_MTU).contains(len));
    fits.ok_or_else(|| PyValueError::new_err(format!("{name} must be {LEAST_MTU}…{MOST_MTU}, not {len}")))
}

impl Engine {
    fn put(
        &self,
        py: Python<'_>,
        port: u16,
        name: String,
        receive_only: bool,
        io: Box<dyn Port>,
    ) -> PyResult<u64> {
        let attached = answer(py, || self.inner.attach(port, name, receive_only, io))?;
        attached.map_err(|error| convert::engine_error(&error))
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, fdb_capacity = 8192, fdb_ageing_seconds = 300.0, busy_poll_seconds = 0.0))]
    fn new(
        py: Python<'_>,
        fdb_capacity: usize,
        fdb_ageing_seconds: f64,
        busy_poll_seconds: f64,
    ) -> PyResult<Self> {
        if !(1..=MAX_CAPACITY).contains(&fdb_capacity) {
            let message = format!("fdb_capacity must be 1…{MAX_CAPACITY}, not {fdb_capacity}");
            return Err(PyValueError::new_err(message));
        }
        if !(fdb_ageing_seconds > 0.0 && fdb_ageing_seconds <= MAX_AGEING) {
            let message =
                format!("fdb_ageing_seconds must be above 0 and at most a year, not {fdb_ageing_seconds}");
            return Err(PyValueError::new_err(message));
        }
        if !(0.0..=MAX_BUSY_POLL).contains(&busy_poll_seconds) {
            let message = format!("busy_poll_seconds must be 0…{MAX_BUSY_POLL}, not {busy_poll_seconds}");
            return Err(PyValueError::new_err(message));
        }
        let config = EngineConfig {
            fdb_capacity,
            fdb_ageing: Duration::from_secs_f64(fdb_ageing_seconds),
            busy_poll: Duration::from_secs_f64(busy_poll_seconds),
        };
        let inner = py.detach(|| vde_engine::Engine::start(config));
        Ok(Self { inner: inner.map_err(|error| convert::engine_error(&error))? })
    }

    #[getter]
    fn event_fd(&self) -> i32 {
        self.inner.event_descriptor()
    }

    #[pyo3(signature = (*, port, kind, fd, name, receive_only = false, peer = Vec::new(),
        offload_mtu = None))]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    fn attach(
        &self,
        py: Python<'_>,
        port: i64,
        kind: &str,
        fd: i32,
        name: String,
        receive_only: bool,
        peer: Vec<u8>,
        offload_mtu: Option<i64>,
    ) -> PyResult<u64> {
        let offload_mtu = offload_mtu.map(|len| packet_len("offload_mtu", len)).transpose()?;
        let number = port_number(port)?;
        let kind = Kind::from_name(kind).ok_or_else(|| {
            PyValueError::new_err(format!(
                "kind must be 'dgram', 'unixgram', 'door', 'reply', 'stream', 'tap' or 'vhost_user', not '{kind}'"
            ))
        })?;
        let mut io = port::open(kind, fd, &peer).map_err(|error| convert::port_error(&error))?;
        if let Some(mtu) = offload_mtu {
            io = Box::new(Bare::krunkit(io, mtu));
        }
        let endpoint = self.put(py, number, name, receive_only, io)?;
        // The engine works on a duplicate; the caller's number is closed only now that nothing can fail.
        port::descriptor::close(fd);
        Ok(endpoint)
    }

    #[pyo3(signature = (*, port, name, functions, segment))]
    fn attach_slirp(
        &self,
        py: Python<'_>,
        port: i64,
        name: String,
        functions: slirp::Functions,
        segment: slirp::Segment,
    ) -> PyResult<u64> {
        let number = port_number(port)?;
        let io = port::slirp::Slirp::new(functions.into(), &segment.config()?);
        let io = io.map_err(|error| PyValueError::new_err(convert::describe(&error)))?;
        self.put(py, number, name, false, Box::new(io))
    }

    #[pyo3(signature = (*, endpoint, udp, host, guest, on))]
    fn forward(
        &self,
        py: Python<'_>,
        endpoint: i64,
        udp: bool,
        host: (String, u16),
        guest: (String, u16),
        on: bool,
    ) -> PyResult<()> {
        let forward = slirp::forward(udp, (&host.0, host.1), (&guest.0, guest.1))?;
        let number = EndpointId::try_from(endpoint).unwrap_or(EndpointId::MAX);
        answer(py, || self.inner.forward(number, forward, on))?.map_err(|error| convert::os_error(&error))
    }

    #[pyo3(signature = (*, port, name, interface, queue, functions, blocks, read_max_packets, write_max_packets,
        max_packet_size, offload = "none", mtu = 1500))]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    fn attach_vmnet(
        &self,
        py: Python<'_>,
        port: i64,
        name: String,
        interface: usize,
        queue: usize,
        functions: VmnetFunctions,
        blocks: BlockRuntime,
        read_max_packets: usize,
        write_max_packets: usize,
        max_packet_size: usize,
        offload: &str,
        mtu: i64,
    ) -> PyResult<u64> {
        let number = port_number(port)?;
        let mtu = packet_len("mtu", mtu)?;
        let headers = match offload {
            "none" | "tso" => false,
            "virtio" => true,
            _ => {
                let message = format!("offload must be 'none', 'tso' or 'virtio', not '{offload}'");
                return Err(PyValueError::new_err(message));
            }
        };
        let limits = Limits { read_max_packets, write_max_packets, max_packet_size, headers };
        let mut io: Box<dyn Port> =
            Box::new(Interface { handle: interface, queue, functions, blocks, limits }.open()?);
        if offload == "tso" {
            io = Box::new(Bare::vmnet(io, mtu));
        }
        self.put(py, number, name, false, io)
    }

    #[pyo3(signature = (*, endpoint))]
    fn detach(&self, py: Python<'_>, endpoint: i64) -> PyResult<()> {
        let Ok(number) = EndpointId::try_from(endpoint) else { return Ok(()) };
        match answer(py, || self.inner.detach(number)) {
            // With the engine every endpoint has gone.
            Err(error) if error.is_instance_of::<EngineError>(py) => Ok(()),
            other => other,
        }
    }

    #[pyo3(signature = (*, door, address, endpoint = None))]
    fn admit(&self, py: Python<'_>, door: u64, address: Vec<u8>, endpoint: Option<u64>) -> PyResult<()> {
        answer(py, || self.inner.admit(door, &address, endpoint))
    }

    #[pyo3(signature = (*, endpoint))]
    fn share_socket(&self, py: Python<'_>, endpoint: u64) -> PyResult<()> {
        answer(py, || self.inner.share_socket(endpoint))
    }

    #[pyo3(signature = (*, port, up))]
    fn set_port(&self, py: Python<'_>, port: i64, up: bool) -> PyResult<()> {
        let number = port_number(port)?;
        answer(py, || self.inner.set_port(number, up))
    }

    #[pyo3(signature = (*, fd, ports = None, snaplen = 262_144, buffer = 4_194_304, program = None,
        limit = None, prefix = Vec::new()))]
    #[allow(clippy::too_many_arguments, reason = "keywords in Python")]
    fn start_capture(
        &self,
        py: Python<'_>,
        fd: i32,
        ports: Option<Vec<u16>>,
        snaplen: u32,
        buffer: usize,
        program: Option<Vec<capture::Bpf>>,
        limit: Option<u64>,
        prefix: Vec<u8>,
    ) -> PyResult<u64> {
        let config = capture::config(ports, snaplen, buffer, program, limit, prefix)?;
        let target = port::descriptor::duplicate(fd).map_err(|error| convert::os_error(&error))?;
        let mut number = 0;
        answer(py, || {
            let (capture, started) = self.inner.start_capture(target, config)?;
            number = capture;
            Ok(started)
        })?;
        port::descriptor::close(fd);
        Ok(number)
    }

    #[pyo3(signature = (*, capture))]
    fn stop_capture<'py>(&self, py: Python<'py>, capture: u64) -> PyResult<Option<Bound<'py, PyDict>>> {
        let stats = answer(py, || self.inner.stop_capture(capture))?;
        stats.map(|stats| convert::capture(py, &stats)).transpose()
    }

    fn captures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for stats in answer(py, || self.inner.captures())? {
            dict.set_item(stats.capture, convert::capture(py, &stats)?)?;
        }
        Ok(dict)
    }

    fn take_events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let events = self.inner.take_events();
        let list = PyList::empty(py);
        for event in &events {
            list.append(convert::event(py, event)?)?;
        }
        Ok(list)
    }

    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = answer(py, || self.inner.counters())?;
        let dict = PyDict::new(py);
        for stats in &all {
            dict.set_item(stats.endpoint, convert::counters(py, stats)?)?;
        }
        Ok(dict)
    }

    fn fdb<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let stations = answer(py, || self.inner.stations())?;
        let list = PyList::empty(py);
        for station in &stations {
            list.append(convert::station(py, station)?)?;
        }
        Ok(list)
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.inner.close());
    }
}
