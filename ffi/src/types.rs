//! The numbers and structures of the ABI. Nothing here has padding, and every bit pattern of every
//! field is a value: what is wrong is refused with a status, never undefined.

#![allow(non_camel_case_types)]

/// Where an id, a VNI or a port is asked for and none is meant.
pub const OVERLANE_NONE: u32 = 0xffff_ffff;
/// A deadline that never comes.
pub const OVERLANE_NEVER: u64 = 0xffff_ffff_ffff_ffff_u64;
/// Octets of headroom that are enough for the outer headers of every shape.
pub const OVERLANE_HEADROOM: u32 = 72;

/// An address that is not stated.
pub const OVERLANE_FAMILY_NONE: u8 = 0;
/// An IPv4 address.
pub const OVERLANE_FAMILY_IPV4: u8 = 4;
/// An IPv6 address.
pub const OVERLANE_FAMILY_IPV6: u8 = 6;

/// Packets on the underlay side start with VXLAN, as a UDP socket gives and takes them.
pub const OVERLANE_SHAPE_UDP: u8 = 0;
/// They start with IPv4 or IPv6, as a raw socket or a TUN gives and takes them.
pub const OVERLANE_SHAPE_IP: u8 = 1;
/// They start with Ethernet, as a packet socket or AF_XDP gives and takes them.
pub const OVERLANE_SHAPE_ETHERNET: u8 = 2;

/// The outer UDP checksum is zero (RFC 7348, section 5).
pub const OVERLANE_CHECKSUM_ZERO: u8 = 0;
/// The outer UDP checksum is computed over the whole packet.
pub const OVERLANE_CHECKSUM_FULL: u8 = 1;

/// Reserved VXLAN bits are ignored on receipt (RFC 7348, section 5).
pub const OVERLANE_RESERVED_IGNORE: u8 = 0;
/// Every reserved VXLAN bit must be zero.
pub const OVERLANE_RESERVED_STRICT: u8 = 1;
/// No bit of `reserved_mask` may be set (Linux: IFLA_VXLAN_RESERVED_BITS).
pub const OVERLANE_RESERVED_MASK: u8 = 2;

/// Frames of the VNI find their way by destination MAC address (RFC 7348, section 4).
pub const OVERLANE_MODE_BRIDGED: u8 = 0;
/// Frames of the VNI find their way by the longest matching route to the destination IP address.
pub const OVERLANE_MODE_ROUTED: u8 = 1;

/// Packets are taken from addresses in the VTEP table.
pub const OVERLANE_ACCEPT_KNOWN: u8 = 0;
/// Packets are taken from anywhere; an unknown source becomes a learned VTEP.
pub const OVERLANE_ACCEPT_ANY: u8 = 1;

/// Neither a port nor a VTEP.
pub const OVERLANE_AT_NONE: u8 = 0;
/// A local port.
pub const OVERLANE_AT_PORT: u8 = 1;
/// A VTEP.
pub const OVERLANE_AT_VTEP: u8 = 2;
/// As a route's next hop: reached without the overlay, by the host's own stack.
pub const OVERLANE_AT_DIRECT: u8 = 3;
/// As a route's next hop: nowhere; the packet is dropped and counted.
pub const OVERLANE_AT_BLACKHOLE: u8 = 4;

/// Learned from traffic: it ages, and moves to where its address is seen next.
pub const OVERLANE_MAC_LEARNED: u8 = 0;
/// It ages; while it lives nothing that is learned moves it.
pub const OVERLANE_MAC_STICKY: u8 = 1;
/// It neither ages nor moves.
pub const OVERLANE_MAC_STATIC: u8 = 2;

/// The host asked for the VTEP.
pub const OVERLANE_ORIGIN_CONFIGURED: u8 = 0;
/// A packet came from the VTEP's address.
pub const OVERLANE_ORIGIN_LEARNED: u8 = 1;

/// Not decided yet.
pub const OVERLANE_VERDICT_NONE: u8 = 0;
/// Send the packet, headers written, to the VTEP `target`.
pub const OVERLANE_VERDICT_TO_UNDERLAY: u8 = 1;
/// Write the packet, now an inner frame, to the local port `target`.
pub const OVERLANE_VERDICT_TO_PORT: u8 = 2;
/// Send a copy to everyone that `overlane_replicas` names. The packet is the inner frame.
pub const OVERLANE_VERDICT_FLOOD: u8 = 3;
/// Hand the packet to the host's slow path; `target` is the punt reason.
pub const OVERLANE_VERDICT_PUNT: u8 = 4;
/// Forget it, it was counted; `target` is the drop reason.
pub const OVERLANE_VERDICT_DROP: u8 = 5;

/// The group of `overlane_meta` is present.
pub const OVERLANE_GROUP_PRESENT: u8 = 1;
/// Group Policy flag D: the egress VTEP must not learn the source address.
pub const OVERLANE_GROUP_DONT_LEARN: u8 = 2;
/// Group Policy flag A: the policy has been applied already.
pub const OVERLANE_GROUP_APPLIED: u8 = 4;

/// A new MAC address was learned: `vni`, `mac`, `at`.
pub const OVERLANE_EVENT_LEARNED: u8 = 1;
/// A learned MAC address now lives elsewhere: `vni`, `mac`, `from`, `at`.
pub const OVERLANE_EVENT_MOVED: u8 = 2;
/// A MAC address was not seen for the ageing time and forgotten: `vni`, `mac`, `at`.
pub const OVERLANE_EVENT_AGED: u8 = 3;
/// A MAC address was forgotten to make room for another: `vni`, `mac`, `at`.
pub const OVERLANE_EVENT_EVICTED: u8 = 4;
/// A MAC address was not learned, its port or VTEP being at its limit: `vni`, `mac`, `at`.
pub const OVERLANE_EVENT_QUOTA_HIT: u8 = 5;
/// A MAC address was not learned, its places being held by others: `vni`, `mac`.
pub const OVERLANE_EVENT_FDB_FULL: u8 = 6;
/// A frame to an unknown MAC address, on a VNI with `notify_miss`: `vni`, `mac`.
pub const OVERLANE_EVENT_UNKNOWN_MAC: u8 = 7;
/// A packet without a route, on a VNI with `notify_miss`: `vni`, `addr`.
pub const OVERLANE_EVENT_NO_ROUTE: u8 = 8;
/// A VTEP that nobody configured was accepted: `at`, `addr`.
pub const OVERLANE_EVENT_VTEP_LEARNED: u8 = 9;
/// A VTEP that would have been accepted found the table full: `addr`.
pub const OVERLANE_EVENT_VTEP_TABLE_FULL: u8 = 10;
/// Something that this version of the ABI has no number for.
pub const OVERLANE_EVENT_OTHER: u8 = 255;

/// Counters of the whole engine.
pub const OVERLANE_SCOPE_ENGINE: u8 = 0;
/// Counters of one VNI.
pub const OVERLANE_SCOPE_VNI: u8 = 1;
/// Counters of one VTEP.
pub const OVERLANE_SCOPE_VTEP: u8 = 2;
/// Counters of one local port.
pub const OVERLANE_SCOPE_PORT: u8 = 3;

/// An IP address.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_addr {
    /// Network byte order. An IPv4 address is the first four octets; the others are not read.
    pub bytes: [u8; 16],
    /// `OVERLANE_FAMILY_*`.
    pub family: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// An IP prefix, for routes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_prefix {
    /// As in `overlane_addr`; the bits behind the prefix must be zero.
    pub bytes: [u8; 16],
    /// `OVERLANE_FAMILY_IPV4` or `OVERLANE_FAMILY_IPV6`.
    pub family: u8,
    /// Length in bits, at most 32 or 128.
    pub len: u8,
    /// Zero.
    pub reserved: u16,
}

/// The settings of an engine. Fill with `overlane_config_init`, then set the local address and the seed.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_config {
    /// `sizeof(overlane_config)`.
    pub size: u32,
    /// `OVERLANE_SHAPE_*`: which headers the engine writes and reads.
    pub shape: u8,
    /// TTL or hop limit of the outer header, not 0; default 64.
    pub ttl: u8,
    /// DSCP of the outer header, 0 to 63; default 0.
    pub dscp: u8,
    /// 1 (default) where the outer IPv4 header forbids fragments, else 0.
    pub dont_fragment: u8,
    /// `OVERLANE_CHECKSUM_*` for the outer UDP header over IPv4; default zero.
    pub checksum_v4: u8,
    /// `OVERLANE_CHECKSUM_*` for the outer UDP header over IPv6; default full.
    pub checksum_v6: u8,
    /// 1 (default) where a received outer UDP checksum that is not zero must verify, else 0.
    pub verify_checksum: u8,
    /// 1 where a received zero UDP checksum over IPv6 is accepted; default 0 (RFC 6935, section 5).
    pub allow_zero_checksum_v6: u8,
    /// `OVERLANE_RESERVED_*`: how reserved VXLAN bits are read.
    pub reserved_bits: u8,
    /// 1 where the Group Policy extension is read; default 0.
    pub group_policy: u8,
    /// This node's underlay MAC address; needed for `OVERLANE_SHAPE_ETHERNET` only.
    pub local_mac: [u8; 6],
    /// The UDP port on which this VTEP receives, in host byte order; default 4789.
    pub port: u16,
    /// First UDP source port, in host byte order; default 49152.
    pub source_port_first: u16,
    /// Last UDP source port; default 65535.
    pub source_port_last: u16,
    /// Zero.
    pub reserved: u16,
    /// This node's IPv4 underlay address in network byte order; zeros for none.
    pub local_v4: [u8; 4],
    /// This node's IPv6 underlay address in network byte order; zeros for none.
    pub local_v6: [u8; 16],
    /// The secret key of the hash tables: 16 random octets. All zeros are refused.
    pub seed: [u8; 16],
    /// With `OVERLANE_RESERVED_MASK`: the bits of the header's 8 octets, as one big-endian number.
    pub reserved_mask: u64,
    /// How long a learned MAC address lives unseen, in milliseconds; default 300000.
    pub ageing_ms: u64,
}

/// How much an engine must hold. All memory is taken when it is made. Fill with `overlane_capacity_init`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_capacity {
    /// `sizeof(overlane_capacity)`.
    pub size: u32,
    /// MAC addresses in all VNIs together; default 16384.
    pub macs: u32,
    /// IPv4 routes in all VNIs together; default 1024.
    pub routes_v4: u32,
    /// IPv6 routes in all VNIs together; default 1024.
    pub routes_v6: u32,
    /// VNIs; default 256.
    pub vnis: u32,
    /// VTEPs, at most 65536; default 1024.
    pub vteps: u32,
    /// Local ports, at most 65536; default 256.
    pub ports: u32,
    /// Members of all flood lists together; default 4096.
    pub flood_members: u32,
    /// Events that may wait; default 1024.
    pub events: u32,
}

/// The settings of a VNI. Fill with `overlane_vni_config_init`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_vni_config {
    /// `sizeof(overlane_vni_config)`.
    pub size: u32,
    /// `OVERLANE_MODE_*`.
    pub mode: u8,
    /// `OVERLANE_ACCEPT_*`.
    pub accept: u8,
    /// 1 (default) where source MAC addresses are learned, else 0.
    pub learning: u8,
    /// 1 (default) where a frame for an unknown unicast MAC address is flooded; 0 where it is dropped.
    pub flood_unknown: u8,
    /// 1 where an event tells of addresses that no entry leads to; default 0.
    pub notify_miss: u8,
    /// 1 where `group` is written on what local ports send; default 0.
    pub has_group: u8,
    /// The group id of the Group Policy extension.
    pub group: u16,
    /// This node's MAC address in a routed VNI, unicast; zeros in a bridged one.
    pub router_mac: [u8; 6],
    /// Zero.
    pub reserved: u16,
}

/// What is known of a VTEP. Fill with `overlane_vtep_config_init`, then set `addr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_vtep_config {
    /// `sizeof(overlane_vtep_config)`.
    pub size: u32,
    /// Its UDP port, in host byte order, not 0; default 4789.
    pub port: u16,
    /// The largest outer IP packet in octets, at least 128; 0 (default) for no limit.
    pub mtu: u16,
    /// How many MAC addresses may be learned behind it; 0xffffffff (default) for no limit.
    pub learn_limit: u32,
    /// Its underlay address.
    pub addr: overlane_addr,
    /// The MAC address of the underlay's next hop, for `OVERLANE_SHAPE_ETHERNET`; zeros otherwise.
    pub underlay_mac: [u8; 6],
    /// The MAC address of that node's router, which routes to it need; zeros for none.
    pub inner_mac: [u8; 6],
}

/// The settings of a local port. Fill with `overlane_port_config_init`, then set `vni`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_port_config {
    /// `sizeof(overlane_port_config)`.
    pub size: u32,
    /// The VNI that the port is in.
    pub vni: u32,
    /// How many MAC addresses may be learned behind it; 0xffffffff (default) for no limit.
    pub learn_limit: u32,
    /// The MAC address of who is attached, which routes to the port need; zeros for none.
    pub peer_mac: [u8; 6],
    /// 1 (default) where source MAC addresses are learned on the port, else 0.
    pub learning: u8,
    /// Zero.
    pub reserved: u8,
}

/// One packet of an arena: 16 octets without a pointer.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_desc {
    /// In and out: octets from the arena's start to the packet's. `encap` moves it back over the
    /// headers that it writes, `decap` forward over those that it strips.
    pub offset: u32,
    /// In and out: the packet's length in octets; a superframe may be longer than 65535.
    pub len: u32,
    /// Out: the VNI, or `OVERLANE_NONE` where it did not become known.
    pub vni: u32,
    /// Out: `OVERLANE_VERDICT_*`.
    pub verdict: u8,
    /// The ECN field of the outer IP header (RFC 6040). For `decap` in: as the socket received it,
    /// with `OVERLANE_SHAPE_UDP`; the other shapes read the header. From `encap` out: to be sent.
    pub ecn: u8,
    /// Out: a VTEP, a port, a punt reason or a drop reason, as the verdict says; otherwise 0.
    pub target: u16,
}

/// What a descriptor has no room for. Zeros mean "nothing special".
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_meta {
    /// For `decap` in: the underlay address that the packet came from. With `OVERLANE_SHAPE_UDP`
    /// nothing else says it; the other shapes read the header.
    pub source: overlane_addr,
    /// The group of the Group Policy extension: for `encap` in, instead of the VNI's own; from
    /// `decap` out.
    pub group: u16,
    /// `OVERLANE_GROUP_*` bits; 0 for no group.
    pub group_flags: u8,
    /// Zero.
    pub reserved: u8,
    /// For `encap` in: the packet is a segmentation-offload superframe, and cutting it up makes
    /// inner frames of at most so many octets, headers included. 0 where it is sent as it is.
    pub segment_len: u32,
    /// From `encap` out: the hash of the inner flow, for choosing a socket or a queue.
    pub flow_hash: u32,
}

/// One packet in a buffer of its own.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_buffer {
    /// The buffer.
    pub data: *mut u8,
    /// Its size in octets.
    pub capacity: usize,
    /// In and out: octets from `data` to the packet; what lies before is headroom.
    pub offset: usize,
    /// In and out: the packet's length in octets.
    pub len: usize,
    /// As in `overlane_desc`.
    pub vni: u32,
    /// As in `overlane_desc`.
    pub verdict: u8,
    /// As in `overlane_desc`.
    pub ecn: u8,
    /// As in `overlane_desc`.
    pub target: u16,
    /// What is special about the packet.
    pub meta: overlane_meta,
}

/// One copy of a flooded frame.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_replica {
    /// `OVERLANE_AT_PORT`: write the frame's bytes to the port `id`. `OVERLANE_AT_VTEP`: send the
    /// header with the frame's bytes behind it to the VTEP `id`.
    pub kind: u8,
    /// Octets of `header`; 0 for a port.
    pub header_len: u8,
    /// A port or a VTEP.
    pub id: u16,
    /// The ECN field of the outer IP header, for a socket to set.
    pub ecn: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// The outer headers.
    pub header: [u8; 72],
}

/// Something that the engine noticed.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_event {
    /// `sizeof(overlane_event)`.
    pub size: u32,
    /// The VNI, or `OVERLANE_NONE`.
    pub vni: u32,
    /// `OVERLANE_EVENT_*`: what happened, and which of the fields below say more.
    pub kind: u8,
    /// `OVERLANE_AT_*`: where the address lives.
    pub at_kind: u8,
    /// A port or a VTEP.
    pub at: u16,
    /// `OVERLANE_AT_*`: where it lived before.
    pub from_kind: u8,
    /// Zero.
    pub reserved: u8,
    /// A port or a VTEP.
    pub from: u16,
    /// The MAC address.
    pub mac: [u8; 6],
    /// Zero.
    pub reserved2: u16,
    /// The IP address.
    pub addr: overlane_addr,
}

/// A MAC address and where it lives.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_mac_entry {
    /// `sizeof(overlane_mac_entry)`.
    pub size: u32,
    /// The VNI.
    pub vni: u32,
    /// When it was last seen, to 128 ms; for a static entry, when it was made.
    pub last_seen_ms: u64,
    /// The address.
    pub mac: [u8; 6],
    /// `OVERLANE_MAC_*`.
    pub kind: u8,
    /// `OVERLANE_AT_PORT` or `OVERLANE_AT_VTEP`.
    pub at_kind: u8,
    /// The port or VTEP.
    pub at: u16,
    /// Zero.
    pub reserved: [u8; 6],
}

/// A VTEP, as read out of the table.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_vtep_info {
    /// `sizeof(overlane_vtep_info)`.
    pub size: u32,
    /// Its id.
    pub id: u16,
    /// `OVERLANE_ORIGIN_*`.
    pub origin: u8,
    /// Zero.
    pub reserved: u8,
    /// Its underlay address.
    pub addr: overlane_addr,
    /// Its UDP port, in host byte order.
    pub port: u16,
    /// The largest outer IP packet in octets; 0 for no limit.
    pub mtu: u16,
    /// How many MAC addresses may be learned behind it.
    pub learn_limit: u32,
    /// How many are.
    pub learned: u32,
    /// How many routes lead to it.
    pub routes: u32,
    /// Which holder of the id it is; tells it from an earlier VTEP with the same id.
    pub epoch: u32,
    /// The MAC address of the underlay's next hop.
    pub underlay_mac: [u8; 6],
    /// The MAC address of its router; zeros for none.
    pub inner_mac: [u8; 6],
}

/// A local port, as read out of the table.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_port_info {
    /// `sizeof(overlane_port_info)`.
    pub size: u32,
    /// Its VNI.
    pub vni: u32,
    /// How many MAC addresses may be learned behind it.
    pub learn_limit: u32,
    /// How many are.
    pub learned: u32,
    /// How many routes lead to it.
    pub routes: u32,
    /// Its id.
    pub id: u16,
    /// The MAC address of who is attached; zeros for none.
    pub peer_mac: [u8; 6],
    /// 1 where source MAC addresses are learned on it.
    pub learning: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

/// A route, as read out of the table.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_route {
    /// `sizeof(overlane_route)`.
    pub size: u32,
    /// Its prefix.
    pub prefix: overlane_prefix,
    /// `OVERLANE_AT_PORT`, `_VTEP`, `_DIRECT` or `_BLACKHOLE`.
    pub at_kind: u8,
    /// Zero.
    pub reserved: u8,
    /// The port or VTEP; otherwise 0.
    pub at: u16,
}

/// What the whole engine did. All counters wrap.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_counters {
    /// `sizeof(overlane_counters)`.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Frames given to `encap`.
    pub encap_frames: u64,
    /// Packets given to `decap`.
    pub decap_frames: u64,
    /// Verdicts `TO_UNDERLAY`.
    pub to_underlay: u64,
    /// Verdicts `TO_PORT`.
    pub to_port: u64,
    /// Verdicts `FLOOD`.
    pub flooded: u64,
    /// Verdicts `PUNT`; by reason: `overlane_punts`.
    pub punted: u64,
    /// Verdicts `DROP`, copies that were not sent, and `overlane_count_drop`; by reason: `overlane_drops`.
    pub dropped: u64,
    /// MAC addresses learned.
    pub learned: u64,
    /// MAC addresses that moved.
    pub moved: u64,
    /// Learned entries that aged out.
    pub aged: u64,
    /// Entries evicted to make room for others.
    pub evicted: u64,
    /// Addresses that found no place, or their port or VTEP at its limit.
    pub not_learned: u64,
    /// Events lost because nobody read them in time.
    pub events_lost: u64,
}

/// What one VNI, VTEP or port carried. Octets are of inner frames. All counters wrap.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct overlane_traffic {
    /// `sizeof(overlane_traffic)`.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Frames that came from the underlay; for a port: from the port.
    pub rx_frames: u64,
    /// Their octets.
    pub rx_octets: u64,
    /// Frames that went to the underlay; for a port: to the port; for a VNI: flooded ones too, whoever is on
    /// the list.
    pub tx_frames: u64,
    /// Their octets.
    pub tx_octets: u64,
    /// Drops; by reason: `overlane_drops`.
    pub dropped: u64,
}
