//! What of a guest's frames the user-mode stack gets to see: a pure decision over the bytes of one frame.
//!
//! libslirp connects wherever a packet points, as this process. So what a guest may reach is decided here, on
//! the addresses of every packet, fragments included, before the library parses anything. What the library has
//! had trouble with and no guest needs (TFTP, NC-SI, urgent data) does not reach it at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::pep::segment;
use super::{Config, Rule};
use crate::frame;
use crate::offload::layers::{TCP, UDP};
use crate::offload::tcp_flags::{ACK, FIN, RST, SYN, URG};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ARP_LEN: usize = frame::HEADER_LEN + 28;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const DHCP_SERVER: u16 = 67;
const TFTP_SERVER: u16 = 69;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST6: u8 = 128;

/// A station of the segment by address and port.
pub(super) type Flow = (IpAddr, u16);

/// What may come of a packet in the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opens {
    /// No socket, as far as one can see.
    Nothing,
    /// A socket, unless the flow has one.
    Flow(Flow),
    /// A socket each time.
    Always,
}

/// What to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Give it to the stack. `settles`: it may tell the stack where a station is, for which packets may wait.
    Pass { opens: Opens, settles: bool },
    /// The same, once the urgent mark of the TCP header at this offset is taken off.
    PassCalm { tcp: usize },
    /// Its destination is not allowed, or it is nothing that the stack is for.
    Deny,
    /// Its source is no address of the segment.
    Forged,
}

const PASS: Verdict = Verdict::Pass { opens: Opens::Nothing, settles: false };
const SETTLES: Verdict = Verdict::Pass { opens: Opens::Nothing, settles: true };

/// The rules of one segment.
pub(super) struct Guard {
    network: Ipv4Addr,
    mask: Ipv4Addr,
    host: Ipv4Addr,
    nameserver: Ipv4Addr,
    /// Prefix (a /64), host, name server.
    ipv6: Option<(Ipv6Addr, Ipv6Addr, Ipv6Addr)>,
    /// The most specific first, and of equals the one that denies.
    rules: Vec<Rule>,
    /// Whether the gateway's addresses stand for the host's loopback.
    loopback4: bool,
    loopback6: bool,
}

impl Guard {
    pub(super) fn new(config: &Config) -> Self {
        let mut rules = config.rules.clone();
        rules.sort_by_key(|rule| (std::cmp::Reverse(rule.prefix), rule.allow));
        let loopback4 = allows(&rules, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let loopback6 = allows(&rules, IpAddr::V6(Ipv6Addr::LOCALHOST));
        Self {
            network: config.network,
            mask: config.mask,
            host: config.host,
            nameserver: config.nameserver,
            ipv6: config.ipv6.map(|six| (six.prefix, six.host, six.nameserver)),
            rules,
            loopback4,
            loopback6,
        }
    }

    /// Whether the stack must be able to connect to the host's loopback.
    pub(super) fn reaches_loopback(&self) -> bool {
        self.loopback4 || self.loopback6
    }

    /// The decision about one frame, whatever its bytes are.
    pub(super) fn verdict(&self, bytes: &[u8]) -> Verdict {
        let Some(kind) = word(bytes, 12) else { return Verdict::Deny };
        match kind {
            ETHERTYPE_ARP if bytes.len() >= ARP_LEN => SETTLES,
            ETHERTYPE_IPV4 => self.ipv4(bytes).unwrap_or(Verdict::Deny),
            ETHERTYPE_IPV6 if self.ipv6.is_some() => self.ipv6(bytes).unwrap_or(Verdict::Deny),
            _ => Verdict::Deny,
        }
    }

    /// `None` for a packet that ends too early.
    fn ipv4(&self, bytes: &[u8]) -> Option<Verdict> {
        let ip = bytes.get(frame::HEADER_LEN..)?;
        let first = *ip.first()?;
        let header = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || header < 20 {
            return None;
        }
        let fragment = word(ip, 6)? & 0x3fff != 0;
        let protocol = *ip.get(9)?;
        let source = Ipv4Addr::from(ip.get(12..)?.first_chunk::<4>().copied()?);
        let target = Ipv4Addr::from(ip.get(16..)?.first_chunk::<4>().copied()?);
        let port = if fragment { None } else { word(ip, header + 2) };
        // What belongs to a connection from outside may be answered, wherever it came from.
        let begins = fragment || protocol != TCP || begins_connection(ip.get(header + 13).copied()?);
        let asks_dhcp = protocol == UDP && port == Some(DHCP_SERVER);
        if !self.is_local(source) || source == self.host || source == self.nameserver {
            let unset = source.is_unspecified() && asks_dhcp;
            return Some(if unset && (target.is_broadcast() || target == self.host) {
                PASS
            } else {
                Verdict::Forged
            });
        }
        if target.is_broadcast() {
            return Some(if asks_dhcp { PASS } else { Verdict::Deny });
        }
        if self.is_local(target) {
            let for_us = target == self.host || target == self.nameserver;
            // No guest needs to cut what it says to the gateway into pieces, and no TFTP.
            let strange = fragment || (protocol == UDP && port == Some(TFTP_SERVER));
            if !for_us || strange {
                return Some(Verdict::Deny);
            }
            if asks_dhcp || protocol == ICMP {
                return Some(PASS);
            }
            // The stack itself refuses the loopback, with an answer, unless another family may reach it.
            if target == self.host && !self.loopback4 && self.reaches_loopback() && begins {
                return Some(Verdict::Deny);
            }
        } else if target.is_multicast() || (begins && !allows(&self.rules, IpAddr::V4(target))) {
            return Some(Verdict::Deny);
        }
        Some(transport(bytes, frame::HEADER_LEN + header, protocol, fragment, IpAddr::V4(source)))
    }

    /// `None` for a packet that ends too early.
    fn ipv6(&self, bytes: &[u8]) -> Option<Verdict> {
        let (prefix, host, nameserver) = self.ipv6?;
        let ip = bytes.get(frame::HEADER_LEN..)?;
        let protocol = *ip.get(6)?;
        let source = Ipv6Addr::from(ip.get(8..)?.first_chunk::<16>().copied()?);
        let target = Ipv6Addr::from(ip.get(24..)?.first_chunk::<16>().copied()?);
        if ip.first()? >> 4 != 6 {
            return None;
        }
        let local = same_64(source, prefix);
        let begins = protocol != TCP || begins_connection(ip.get(40 + 13).copied()?);
        if !(local || source.is_unicast_link_local() || source.is_unspecified())
            || source == host
            || source == nameserver
        {
            return Some(Verdict::Forged);
        }
        let [scope_high, scope_low, ..] = target.octets();
        if target.is_unicast_link_local() || (scope_high == 0xff && scope_low & 0x0f == 2) {
            // Neighbours, routers and DHCPv6: the stack's own.
            return Some(if protocol == ICMPV6 || protocol == UDP { SETTLES } else { Verdict::Deny });
        }
        if same_64(target, prefix) {
            if target != host && target != nameserver {
                return Some(Verdict::Deny);
            }
            if protocol == ICMPV6 {
                return Some(SETTLES);
            }
            if target == host && !self.loopback6 && self.reaches_loopback() && begins {
                return Some(Verdict::Deny);
            }
        } else {
            // Whatever is written in IPv6 but means an IPv4 address is judged as that.
            let meant = target.to_canonical();
            if target.is_multicast() || !local || (begins && !allows(&self.rules, meant)) {
                return Some(Verdict::Deny);
            }
        }
        let plain = matches!(protocol, TCP | UDP | ICMPV6);
        Some(transport(bytes, frame::HEADER_LEN + 40, protocol, !plain, IpAddr::V6(source)))
    }

    fn is_local(&self, address: Ipv4Addr) -> bool {
        address & self.mask == self.network
    }
}

/// Of the transport header at `at`; `fragment`: there may be none.
fn transport(bytes: &[u8], at: usize, protocol: u8, fragment: bool, source: IpAddr) -> Verdict {
    if fragment {
        return Verdict::Pass { opens: Opens::Always, settles: false };
    }
    match protocol {
        TCP => match bytes.get(at + 13) {
            None => Verdict::Deny,
            Some(flags) if flags & URG != 0 => Verdict::PassCalm { tcp: at },
            Some(flags) if begins_connection(*flags) => Verdict::Pass { opens: Opens::Always, settles: false },
            Some(_) => PASS,
        },
        UDP => word(bytes, at)
            .map_or(Verdict::Deny, |port| Verdict::Pass { opens: Opens::Flow((source, port)), settles: false }),
        ICMP | ICMPV6 => match bytes.get(at) {
            Some(&(ECHO_REQUEST | ECHO_REQUEST6)) => Verdict::Pass { opens: Opens::Always, settles: false },
            Some(_) => SETTLES,
            None => Verdict::Deny,
        },
        _ => Verdict::Deny,
    }
}

/// Whether the stack makes a connection of a TCP segment with these flags, whatever else is set.
fn begins_connection(flags: u8) -> bool {
    flags & (SYN | ACK | RST | FIN) == SYN
}

/// Take the urgent mark off a TCP header that [`Verdict::PassCalm`] names, and keep its checksum right.
///
/// The data are then ordinary ones: urgency is a hint, and what follows it has cost libslirp an underflow
/// (CVE-2026-9539).
pub(super) fn calm(bytes: &mut [u8], tcp: usize) {
    let Some(flags) = bytes.get(..tcp + 20).map(|bytes| bytes[tcp + 13]) else { return };
    segment::replace(bytes, tcp, tcp + 13, &[flags & !URG]);
    segment::replace(bytes, tcp, tcp + 18, &[0; 2]);
}

/// The most specific rule decides; without one, it is allowed. `rules` are sorted.
fn allows(rules: &[Rule], address: IpAddr) -> bool {
    rules.iter().find(|rule| rule.holds(address)).is_none_or(|rule| rule.allow)
}

fn same_64(one: Ipv6Addr, other: Ipv6Addr) -> bool {
    one.octets()[..8] == other.octets()[..8]
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|pair| u16::from_be_bytes(*pair))
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
