//! What an engine is told when it is made.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use crate::addr::MacAddr;
use crate::error::ConfigError;
use crate::table::Seed;
use crate::wire::outer::Shape;
use crate::wire::template::UdpChecksum;
use crate::wire::vxlan::{self, VxlanPolicy};

/// Settings of the whole engine. What belongs to a VNI, a VTEP or a port is set with those.
#[derive(Debug, Clone, Copy)]
pub struct EngineConfig {
    /// Which headers the engine writes and reads; the rest is the backend's. Default: [`Shape::Udp`].
    pub shape: Shape,
    /// This node's IPv4 underlay address.
    pub local_v4: Option<Ipv4Addr>,
    /// This node's IPv6 underlay address.
    pub local_v6: Option<Ipv6Addr>,
    /// This node's underlay MAC address; needed for [`Shape::Ethernet`] only.
    pub local_mac: MacAddr,
    /// The UDP port on which this VTEP receives, not 0; default 4789 (RFC 7348, section 5).
    pub port: u16,
    /// First and last UDP source port, from 1; default 49152-65535 (RFC 7348, section 5).
    pub source_ports: (u16, u16),
    /// TTL or hop limit of the outer header, 1-255; default 64.
    pub ttl: u8,
    /// DSCP of the outer header, 0-63; default 0. ECN is copied from the inner header (RFC 6040).
    pub dscp: u8,
    /// Whether the outer IPv4 header forbids fragments; default yes (RFC 7348, section 4.3).
    pub dont_fragment: bool,
    /// The outer UDP checksum over IPv4; default zero (RFC 7348, section 5).
    pub checksum_v4: UdpChecksum,
    /// The outer UDP checksum over IPv6; default full (RFC 8200, section 8.1). Zero needs a
    /// receiver that allows it (RFC 6935).
    pub checksum_v6: UdpChecksum,
    /// Whether a received outer UDP checksum that is not zero must verify; default yes. Does not
    /// apply to [`Shape::Udp`], where the socket has done so.
    pub verify_checksum: bool,
    /// Whether a received zero UDP checksum over IPv6 is accepted; default no (RFC 6935, section 5).
    pub allow_zero_checksum_v6: bool,
    /// How the VXLAN header is read; by default reserved bits are ignored, and the group is not read.
    pub vxlan: VxlanPolicy,
    /// How long a learned MAC address lives unseen, up to 4 years; default 300 s (IEEE 802.1Q-2018,
    /// 8.8.3). Up to a sixteenth less: an address that was noted within a sixteenth of it is not noted again.
    pub ageing: Duration,
    /// The secret key of the hash tables: 16 random octets.
    pub seed: Seed,
}

impl EngineConfig {
    /// The defaults, for this underlay address and hash key.
    pub fn new(local: IpAddr, seed: Seed) -> EngineConfig {
        let (local_v4, local_v6) = match local.to_canonical() {
            IpAddr::V4(a) => (Some(a), None),
            IpAddr::V6(a) => (None, Some(a)),
        };
        EngineConfig {
            shape: Shape::Udp,
            local_v4,
            local_v6,
            local_mac: MacAddr::ZERO,
            port: vxlan::PORT,
            source_ports: (49152, 65535),
            ttl: 64,
            dscp: 0,
            dont_fragment: true,
            checksum_v4: UdpChecksum::Zero,
            checksum_v6: UdpChecksum::Full,
            verify_checksum: true,
            allow_zero_checksum_v6: false,
            vxlan: VxlanPolicy::default(),
            ageing: Duration::from_secs(300),
            seed,
        }
    }

    /// Checks what the types cannot.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let locals = [self.local_v4.map(IpAddr::V4), self.local_v6.map(IpAddr::V6)];
        if locals.iter().all(Option::is_none) {
            return Err(ConfigError::NoLocalAddress);
        }
        if let Some(bad) = locals.iter().flatten().find(|a| !is_host_address(**a)) {
            return Err(ConfigError::LocalAddress(*bad));
        }
        if self.port == 0 {
            return Err(ConfigError::TunnelPort);
        }
        let (first, last) = self.source_ports;
        if first == 0 || first > last {
            return Err(ConfigError::SourcePorts { first, last });
        }
        if self.shape == Shape::Ethernet && !self.local_mac.is_unicast() {
            return Err(ConfigError::LocalMac(self.local_mac));
        }
        if self.ttl == 0 {
            return Err(ConfigError::Ttl);
        }
        if self.dscp > 63 {
            return Err(ConfigError::Dscp(self.dscp));
        }
        const YEARS_4: Duration = Duration::from_secs(4 * 365 * 86_400);
        if self.ageing.is_zero() || self.ageing > YEARS_4 {
            return Err(ConfigError::Ageing);
        }
        Ok(())
    }
}

/// Whether one host may have this address: not unspecified, multicast or broadcast, and not an
/// IPv4-mapped one, which is never on a wire (RFC 4291, section 2.5.5.2, is about APIs).
pub(crate) fn is_host_address(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => !(a.is_unspecified() || a.is_multicast() || a.is_broadcast()),
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_multicast() || a.to_ipv4_mapped().is_some()),
    }
}
