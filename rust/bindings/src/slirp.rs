//! Arguments of `Engine.attach_slirp` and `Engine.forward`: Python values to the engine's.

use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use vde_engine::port::slirp::{Addresses, Config, Forward, Ipv6Config, Rule};

/// `SlirpFunctions` of the stub.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Functions {
    new: usize,
    cleanup: usize,
    input: usize,
    pollfds_fill: usize,
    pollfds_poll: usize,
    add_hostxfwd: usize,
    remove_hostxfwd: usize,
}

impl From<Functions> for Addresses {
    fn from(at: Functions) -> Self {
        Self {
            new: at.new,
            cleanup: at.cleanup,
            input: at.input,
            pollfds_fill: at.pollfds_fill,
            pollfds_poll: at.pollfds_poll,
            add_hostxfwd: at.add_hostxfwd,
            remove_hostxfwd: at.remove_hostxfwd,
        }
    }
}

/// `SlirpConfig` of the stub.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Segment {
    restricted: bool,
    network: String,
    mask: String,
    host: String,
    nameserver: String,
    dhcp_start: String,
    dhcp: bool,
    prefix6: Option<String>,
    host6: Option<String>,
    nameserver6: Option<String>,
    domain: String,
    mtu: u16,
    rules: Vec<(String, u8, bool)>,
}

fn parse<T: std::str::FromStr>(text: &str) -> PyResult<T> {
    text.parse()
        .map_err(|_| PyValueError::new_err(format!("\"{text}\" is not an address of the expected family")))
}

impl Segment {
    pub(crate) fn config(&self) -> PyResult<Config> {
        let six = |text: &Option<String>| text.as_deref().map(parse::<Ipv6Addr>).transpose();
        let ipv6 = match (six(&self.prefix6)?, six(&self.host6)?, six(&self.nameserver6)?) {
            (Some(prefix), Some(host), Some(nameserver)) => Some(Ipv6Config { prefix, host, nameserver }),
            _ => None,
        };
        let four = |text: &str| parse::<Ipv4Addr>(text);
        let rules = self.rules.iter().map(|(network, prefix, allow)| {
            Ok(Rule { network: parse::<IpAddr>(network)?, prefix: *prefix, allow: *allow })
        });
        Ok(Config {
            restricted: self.restricted,
            network: four(&self.network)?,
            mask: four(&self.mask)?,
            host: four(&self.host)?,
            nameserver: four(&self.nameserver)?,
            dhcp_start: four(&self.dhcp_start)?,
            dhcp: self.dhcp,
            ipv6,
            domain: CString::new(self.domain.as_str())
                .map_err(|error| PyValueError::new_err(error.to_string()))?,
            mtu: self.mtu,
            rules: rules.collect::<PyResult<Vec<_>>>()?,
        })
    }
}

pub(crate) fn forward(udp: bool, host: (&str, u16), guest: (&str, u16)) -> PyResult<Forward> {
    let address = |(text, port)| Ok::<_, PyErr>(SocketAddr::new(parse::<IpAddr>(text)?, port));
    let (host, guest) = (address(host)?, address(guest)?);
    if host.is_ipv4() != guest.is_ipv4() {
        return Err(PyValueError::new_err(format!("{host} and {guest} are of different families")));
    }
    Ok(Forward { udp, host, guest })
}
