//! What a sender leaves to hardware, done here instead, and what hardware would do for a receiver. Pure functions
//! over byte slices.
//!
//! | module | owns |
//! |---|---|
//! | [`checksum`] | the Internet checksum, and finishing one that was left unfinished |
//! | `layers` | where the headers of an IP packet are |
//! | [`segment`] | one super-frame to many frames (TSO for IPv4 and IPv6, USO) |
//! | [`adopt`] | the header of a frame from a peer that strips it, or never had one |
//! | [`coalesce`] | many TCP frames of a batch to one super-frame, or the named reason why not |
//!
//! Cutting what was joined gives the frames that were there before, and the other way round; what this does not
//! hold for is said at [`coalesce`].

pub mod adopt;
pub mod checksum;
pub mod coalesce;
pub(crate) mod layers;
pub mod segment;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

/// TCP's flag bits, in byte 13 of its header (RFC 9293, RFC 3168).
pub(crate) mod tcp_flags {
    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const SYN: u8 = 0x02;
    pub(crate) const RST: u8 = 0x04;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const ACK: u8 = 0x10;
    pub(crate) const URG: u8 = 0x20;
    pub(crate) const CWR: u8 = 0x80;
}
