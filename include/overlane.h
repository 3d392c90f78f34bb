/*
 * overlane: the overlay network engine that other programs embed. The C ABI.
 *
 * Made by cbindgen from the crate `overlane-ffi`; do not edit. ffi/README.md says how to link and
 * what the calls ask of their caller. In short:
 *
 * - Calls return OVERLANE_OK (0) or a negative status; overlane_strerror() says what it means, and
 *   overlane_engine_last_error() what exactly was refused. A refused call has changed nothing.
 * - An engine has one owner. It may go from thread to thread, but one call at a time: a second one
 *   gets OVERLANE_E_BUSY. Different engines know nothing of each other; there is no global state.
 * - The engine reads no clock: `now_ms` is the caller's monotonic clock in milliseconds.
 * - A structure that starts with `size` is filled by its _init function, or by setting `size`. A
 *   caller built against an older header has the shorter structure; what it does not know keeps its
 *   default.
 * - Numbers are in host byte order, MAC and IP addresses in network byte order.
 * - `reserved` fields are zero.
 */


#ifndef OVERLANE_H
#define OVERLANE_H

#include <stddef.h>
#include <stdint.h>

// The ABI that this header describes; the number in the shared library's SONAME. It rises when a
// program built against the old one would no longer work. Compare with `overlane_abi_version()`.
#define OVERLANE_ABI_VERSION 1

// Done.
#define OVERLANE_OK 0

// A pointer is NULL that must not be.
#define OVERLANE_E_NULL -1

// The `size` of a structure is none that this version knows.
#define OVERLANE_E_SIZE -2

// A reserved field, or what lies behind the fields that this version knows, is not zero.
#define OVERLANE_E_RESERVED -3

// A pointer is not aligned for its type.
#define OVERLANE_E_ALIGN -4

// A length or count that no memory can have.
#define OVERLANE_E_LENGTH -5

// A constant, flag or address family that means nothing.
#define OVERLANE_E_VALUE -6

// A packet, or the headroom before it, does not lie in its arena or buffer.
#define OVERLANE_E_RANGE -7

// A call on the engine failed by a bug before; it does nothing any more but be freed.
#define OVERLANE_E_POISONED -8

// Another call on this engine has not returned: one thread at a time.
#define OVERLANE_E_BUSY -9

// There is nothing more to read. Not a failure; sets no error text.
#define OVERLANE_E_END -10

// The memory is not to be had.
#define OVERLANE_E_MEMORY -11

// A bug in overlane. The engine is poisoned.
#define OVERLANE_E_INTERNAL -12

// Refused for a reason that this version of the ABI has no number for; see the error text.
#define OVERLANE_E_OTHER -13

// A capacity is 0 or exceeds what ids can name.
#define OVERLANE_E_CONFIG_CAPACITY -100

// Neither a local IPv4 nor IPv6 address.
#define OVERLANE_E_CONFIG_NO_LOCAL -101

// A local address that no host can have.
#define OVERLANE_E_CONFIG_LOCAL_ADDRESS -102

// The tunnel's UDP port is 0.
#define OVERLANE_E_CONFIG_PORT -103

// The range of source ports is empty or holds 0.
#define OVERLANE_E_CONFIG_SOURCE_PORTS -104

// The Ethernet shape needs a unicast local MAC address.
#define OVERLANE_E_CONFIG_LOCAL_MAC -105

// The ageing time is 0 or more than 4 years.
#define OVERLANE_E_CONFIG_AGEING -106

// The outer TTL is 0.
#define OVERLANE_E_CONFIG_TTL -107

// The DSCP exceeds 6 bits.
#define OVERLANE_E_CONFIG_DSCP -108

// The seed is all zeros.
#define OVERLANE_E_CONFIG_SEED -109

// The number exceeds 24 bits.
#define OVERLANE_E_VNI_RANGE -200

// The VNI exists already.
#define OVERLANE_E_VNI_EXISTS -201

// No such VNI.
#define OVERLANE_E_VNI_UNKNOWN -202

// The VNI table is full.
#define OVERLANE_E_VNI_FULL -203

// The VNI still has ports.
#define OVERLANE_E_VNI_IN_USE -204

// A router's MAC address must be unicast.
#define OVERLANE_E_VNI_ROUTER_MAC -205

// A VTEP at this address exists already.
#define OVERLANE_E_VTEP_EXISTS -300

// No such VTEP.
#define OVERLANE_E_VTEP_UNKNOWN -301

// The VTEP table is full.
#define OVERLANE_E_VTEP_FULL -302

// No VTEP can have this address: unspecified, multicast, broadcast, or this node's own.
#define OVERLANE_E_VTEP_ADDRESS -303

// This node has no underlay address of that family.
#define OVERLANE_E_VTEP_FAMILY -304

// The UDP port is 0.
#define OVERLANE_E_VTEP_PORT -305

// The Ethernet shape needs the next hop's unicast MAC address.
#define OVERLANE_E_VTEP_UNDERLAY_MAC -306

// The MAC address of a VTEP's router must be unicast.
#define OVERLANE_E_VTEP_INNER_MAC -307

// The MTU is neither 0 nor at least 128.
#define OVERLANE_E_VTEP_MTU -308

// Routes still lead to the VTEP.
#define OVERLANE_E_VTEP_IN_USE -309

// No such port.
#define OVERLANE_E_PORT_UNKNOWN -400

// The port table is full.
#define OVERLANE_E_PORT_FULL -401

// The port's VNI does not exist.
#define OVERLANE_E_PORT_NO_VNI -402

// A peer's MAC address must be unicast.
#define OVERLANE_E_PORT_PEER_MAC -403

// The port is in another VNI, which cannot change.
#define OVERLANE_E_PORT_OTHER_VNI -404

// Routes still lead to the port.
#define OVERLANE_E_PORT_IN_USE -405

// Only unicast addresses have entries.
#define OVERLANE_E_MAC_NOT_UNICAST -500

// No entry for this address.
#define OVERLANE_E_MAC_UNKNOWN -501

// Every place for this address is held by an entry that stays.
#define OVERLANE_E_MAC_FULL -502

// The port or VTEP does not exist.
#define OVERLANE_E_MAC_NO_DESTINATION -503

// The port is in another VNI.
#define OVERLANE_E_MAC_OTHER_VNI -504

// No such route.
#define OVERLANE_E_ROUTE_UNKNOWN -600

// The route table is full.
#define OVERLANE_E_ROUTE_FULL -601

// The VNI is bridged.
#define OVERLANE_E_ROUTE_NOT_ROUTED -602

// The next hop does not exist.
#define OVERLANE_E_ROUTE_NO_NEXT_HOP -603

// The next hop is in another VNI.
#define OVERLANE_E_ROUTE_OTHER_VNI -604

// The VTEP has no inner MAC address.
#define OVERLANE_E_ROUTE_NO_VTEP_MAC -605

// The length exceeds the address, or bits behind the prefix are set.
#define OVERLANE_E_ROUTE_PREFIX -606

// The VTEP is on the list already.
#define OVERLANE_E_FLOOD_EXISTS -700

// The VTEP is not on the list.
#define OVERLANE_E_FLOOD_UNKNOWN -701

// No room for another member of any list.
#define OVERLANE_E_FLOOD_FULL -702

// Where an id, a VNI or a port is asked for and none is meant.
#define OVERLANE_NONE 4294967295

// A deadline that never comes.
#define OVERLANE_NEVER 18446744073709551615ull

// Octets of headroom that are enough for the outer headers of every shape.
#define OVERLANE_HEADROOM 72

// An address that is not stated.
#define OVERLANE_FAMILY_NONE 0

// An IPv4 address.
#define OVERLANE_FAMILY_IPV4 4

// An IPv6 address.
#define OVERLANE_FAMILY_IPV6 6

// Packets on the underlay side start with VXLAN, as a UDP socket gives and takes them.
#define OVERLANE_SHAPE_UDP 0

// They start with IPv4 or IPv6, as a raw socket or a TUN gives and takes them.
#define OVERLANE_SHAPE_IP 1

// They start with Ethernet, as a packet socket or AF_XDP gives and takes them.
#define OVERLANE_SHAPE_ETHERNET 2

// The outer UDP checksum is zero (RFC 7348, section 5).
#define OVERLANE_CHECKSUM_ZERO 0

// The outer UDP checksum is computed over the whole packet.
#define OVERLANE_CHECKSUM_FULL 1

// Reserved VXLAN bits are ignored on receipt (RFC 7348, section 5).
#define OVERLANE_RESERVED_IGNORE 0

// Every reserved VXLAN bit must be zero.
#define OVERLANE_RESERVED_STRICT 1

// No bit of `reserved_mask` may be set (Linux: IFLA_VXLAN_RESERVED_BITS).
#define OVERLANE_RESERVED_MASK 2

// Frames of the VNI find their way by destination MAC address (RFC 7348, section 4).
#define OVERLANE_MODE_BRIDGED 0

// Frames of the VNI find their way by the longest matching route to the destination IP address.
#define OVERLANE_MODE_ROUTED 1

// Packets are taken from addresses in the VTEP table.
#define OVERLANE_ACCEPT_KNOWN 0

// Packets are taken from anywhere; an unknown source becomes a learned VTEP.
#define OVERLANE_ACCEPT_ANY 1

// Neither a port nor a VTEP.
#define OVERLANE_AT_NONE 0

// A local port.
#define OVERLANE_AT_PORT 1

// A VTEP.
#define OVERLANE_AT_VTEP 2

// As a route's next hop: reached without the overlay, by the host's own stack.
#define OVERLANE_AT_DIRECT 3

// As a route's next hop: nowhere; the packet is dropped and counted.
#define OVERLANE_AT_BLACKHOLE 4

// Learned from traffic: it ages, and moves to where its address is seen next.
#define OVERLANE_MAC_LEARNED 0

// It ages; while it lives nothing that is learned moves it.
#define OVERLANE_MAC_STICKY 1

// It neither ages nor moves.
#define OVERLANE_MAC_STATIC 2

// The host asked for the VTEP.
#define OVERLANE_ORIGIN_CONFIGURED 0

// A packet came from the VTEP's address.
#define OVERLANE_ORIGIN_LEARNED 1

// Not decided yet.
#define OVERLANE_VERDICT_NONE 0

// Send the packet, headers written, to the VTEP `target`.
#define OVERLANE_VERDICT_TO_UNDERLAY 1

// Write the packet, now an inner frame, to the local port `target`.
#define OVERLANE_VERDICT_TO_PORT 2

// Send a copy to everyone that `overlane_replicas` names. The packet is the inner frame.
#define OVERLANE_VERDICT_FLOOD 3

// Hand the packet to the host's slow path; `target` is the punt reason.
#define OVERLANE_VERDICT_PUNT 4

// Forget it, it was counted; `target` is the drop reason.
#define OVERLANE_VERDICT_DROP 5

// The group of `overlane_meta` is present.
#define OVERLANE_GROUP_PRESENT 1

// Group Policy flag D: the egress VTEP must not learn the source address.
#define OVERLANE_GROUP_DONT_LEARN 2

// Group Policy flag A: the policy has been applied already.
#define OVERLANE_GROUP_APPLIED 4

// A new MAC address was learned: `vni`, `mac`, `at`.
#define OVERLANE_EVENT_LEARNED 1

// A learned MAC address now lives elsewhere: `vni`, `mac`, `from`, `at`.
#define OVERLANE_EVENT_MOVED 2

// A MAC address was not seen for the ageing time and forgotten: `vni`, `mac`, `at`.
#define OVERLANE_EVENT_AGED 3

// A MAC address was forgotten to make room for another: `vni`, `mac`, `at`.
#define OVERLANE_EVENT_EVICTED 4

// A MAC address was not learned, its port or VTEP being at its limit: `vni`, `mac`, `at`.
#define OVERLANE_EVENT_QUOTA_HIT 5

// A MAC address was not learned, its places being held by others: `vni`, `mac`.
#define OVERLANE_EVENT_FDB_FULL 6

// A frame to an unknown MAC address, on a VNI with `notify_miss`: `vni`, `mac`.
#define OVERLANE_EVENT_UNKNOWN_MAC 7

// A packet without a route, on a VNI with `notify_miss`: `vni`, `addr`.
#define OVERLANE_EVENT_NO_ROUTE 8

// A VTEP that nobody configured was accepted: `at`, `addr`.
#define OVERLANE_EVENT_VTEP_LEARNED 9

// A VTEP that would have been accepted found the table full: `addr`.
#define OVERLANE_EVENT_VTEP_TABLE_FULL 10

// Something that this version of the ABI has no number for.
#define OVERLANE_EVENT_OTHER 255

// Counters of the whole engine.
#define OVERLANE_SCOPE_ENGINE 0

// Counters of one VNI.
#define OVERLANE_SCOPE_VNI 1

// Counters of one VTEP.
#define OVERLANE_SCOPE_VTEP 2

// Counters of one local port.
#define OVERLANE_SCOPE_PORT 3

// An engine and what belongs to it. Opaque; one owner; one call at a time.
typedef struct overlane_engine overlane_engine;

// The settings of an engine. Fill with `overlane_config_init`, then set the local address and the seed.
typedef struct overlane_config {
    // `sizeof(overlane_config)`.
    uint32_t size;
    // `OVERLANE_SHAPE_*`: which headers the engine writes and reads.
    uint8_t shape;
    // TTL or hop limit of the outer header, not 0; default 64.
    uint8_t ttl;
    // DSCP of the outer header, 0 to 63; default 0.
    uint8_t dscp;
    // 1 (default) where the outer IPv4 header forbids fragments, else 0.
    uint8_t dont_fragment;
    // `OVERLANE_CHECKSUM_*` for the outer UDP header over IPv4; default zero.
    uint8_t checksum_v4;
    // `OVERLANE_CHECKSUM_*` for the outer UDP header over IPv6; default full.
    uint8_t checksum_v6;
    // 1 (default) where a received outer UDP checksum that is not zero must verify, else 0.
    uint8_t verify_checksum;
    // 1 where a received zero UDP checksum over IPv6 is accepted; default 0 (RFC 6935, section 5).
    uint8_t allow_zero_checksum_v6;
    // `OVERLANE_RESERVED_*`: how reserved VXLAN bits are read.
    uint8_t reserved_bits;
    // 1 where the Group Policy extension is read; default 0.
    uint8_t group_policy;
    // This node's underlay MAC address; needed for `OVERLANE_SHAPE_ETHERNET` only.
    uint8_t local_mac[6];
    // The UDP port on which this VTEP receives, in host byte order; default 4789.
    uint16_t port;
    // First UDP source port, in host byte order; default 49152.
    uint16_t source_port_first;
    // Last UDP source port; default 65535.
    uint16_t source_port_last;
    // Zero.
    uint16_t reserved;
    // This node's IPv4 underlay address in network byte order; zeros for none.
    uint8_t local_v4[4];
    // This node's IPv6 underlay address in network byte order; zeros for none.
    uint8_t local_v6[16];
    // The secret key of the hash tables: 16 random octets. All zeros are refused.
    uint8_t seed[16];
    // With `OVERLANE_RESERVED_MASK`: the bits of the header's 8 octets, as one big-endian number.
    uint64_t reserved_mask;
    // How long a learned MAC address lives unseen, in milliseconds; default 300000.
    uint64_t ageing_ms;
} overlane_config;

// How much an engine must hold. All memory is taken when it is made. Fill with `overlane_capacity_init`.
typedef struct overlane_capacity {
    // `sizeof(overlane_capacity)`.
    uint32_t size;
    // MAC addresses in all VNIs together; default 16384.
    uint32_t macs;
    // IPv4 routes in all VNIs together; default 1024.
    uint32_t routes_v4;
    // IPv6 routes in all VNIs together; default 1024.
    uint32_t routes_v6;
    // VNIs; default 256.
    uint32_t vnis;
    // VTEPs, at most 65536; default 1024.
    uint32_t vteps;
    // Local ports, at most 65536; default 256.
    uint32_t ports;
    // Members of all flood lists together; default 4096.
    uint32_t flood_members;
    // Events that may wait; default 1024.
    uint32_t events;
} overlane_capacity;

// The settings of a VNI. Fill with `overlane_vni_config_init`.
typedef struct overlane_vni_config {
    // `sizeof(overlane_vni_config)`.
    uint32_t size;
    // `OVERLANE_MODE_*`.
    uint8_t mode;
    // `OVERLANE_ACCEPT_*`.
    uint8_t accept;
    // 1 (default) where source MAC addresses are learned, else 0.
    uint8_t learning;
    // 1 (default) where a frame for an unknown unicast MAC address is flooded; 0 where it is dropped.
    uint8_t flood_unknown;
    // 1 where an event tells of addresses that no entry leads to; default 0.
    uint8_t notify_miss;
    // 1 where `group` is written on what local ports send; default 0.
    uint8_t has_group;
    // The group id of the Group Policy extension.
    uint16_t group;
    // This node's MAC address in a routed VNI, unicast; zeros in a bridged one.
    uint8_t router_mac[6];
    // Zero.
    uint16_t reserved;
} overlane_vni_config;

// An IP address.
typedef struct overlane_addr {
    // Network byte order. An IPv4 address is the first four octets; the others are not read.
    uint8_t bytes[16];
    // `OVERLANE_FAMILY_*`.
    uint8_t family;
    // Zero.
    uint8_t reserved[3];
} overlane_addr;

// What is known of a VTEP. Fill with `overlane_vtep_config_init`, then set `addr`.
typedef struct overlane_vtep_config {
    // `sizeof(overlane_vtep_config)`.
    uint32_t size;
    // Its UDP port, in host byte order, not 0; default 4789.
    uint16_t port;
    // The largest outer IP packet in octets, at least 128; 0 (default) for no limit.
    uint16_t mtu;
    // How many MAC addresses may be learned behind it; 0xffffffff (default) for no limit.
    uint32_t learn_limit;
    // Its underlay address.
    struct overlane_addr addr;
    // The MAC address of the underlay's next hop, for `OVERLANE_SHAPE_ETHERNET`; zeros otherwise.
    uint8_t underlay_mac[6];
    // The MAC address of that node's router, which routes to it need; zeros for none.
    uint8_t inner_mac[6];
} overlane_vtep_config;

// The settings of a local port. Fill with `overlane_port_config_init`, then set `vni`.
typedef struct overlane_port_config {
    // `sizeof(overlane_port_config)`.
    uint32_t size;
    // The VNI that the port is in.
    uint32_t vni;
    // How many MAC addresses may be learned behind it; 0xffffffff (default) for no limit.
    uint32_t learn_limit;
    // The MAC address of who is attached, which routes to the port need; zeros for none.
    uint8_t peer_mac[6];
    // 1 (default) where source MAC addresses are learned on the port, else 0.
    uint8_t learning;
    // Zero.
    uint8_t reserved;
} overlane_port_config;

// An IP prefix, for routes.
typedef struct overlane_prefix {
    // As in `overlane_addr`; the bits behind the prefix must be zero.
    uint8_t bytes[16];
    // `OVERLANE_FAMILY_IPV4` or `OVERLANE_FAMILY_IPV6`.
    uint8_t family;
    // Length in bits, at most 32 or 128.
    uint8_t len;
    // Zero.
    uint16_t reserved;
} overlane_prefix;

// One packet of an arena: 16 octets without a pointer.
typedef struct overlane_desc {
    // In and out: octets from the arena's start to the packet's. `encap` moves it back over the
    // headers that it writes, `decap` forward over those that it strips.
    uint32_t offset;
    // In and out: the packet's length in octets; a superframe may be longer than 65535.
    uint32_t len;
    // Out: the VNI, or `OVERLANE_NONE` where it did not become known.
    uint32_t vni;
    // Out: `OVERLANE_VERDICT_*`.
    uint8_t verdict;
    // The ECN field of the outer IP header (RFC 6040). For `decap` in: as the socket received it,
    // with `OVERLANE_SHAPE_UDP`; the other shapes read the header. From `encap` out: to be sent.
    uint8_t ecn;
    // Out: a VTEP, a port, a punt reason or a drop reason, as the verdict says; otherwise 0.
    uint16_t target;
} overlane_desc;

// What a descriptor has no room for. Zeros mean "nothing special".
typedef struct overlane_meta {
    // For `decap` in: the underlay address that the packet came from. With `OVERLANE_SHAPE_UDP`
    // nothing else says it; the other shapes read the header.
    struct overlane_addr source;
    // The group of the Group Policy extension: for `encap` in, instead of the VNI's own; from
    // `decap` out.
    uint16_t group;
    // `OVERLANE_GROUP_*` bits; 0 for no group.
    uint8_t group_flags;
    // Zero.
    uint8_t reserved;
    // For `encap` in: the packet is a segmentation-offload superframe, and cutting it up makes
    // inner frames of at most so many octets, headers included. 0 where it is sent as it is.
    uint32_t segment_len;
    // From `encap` out: the hash of the inner flow, for choosing a socket or a queue.
    uint32_t flow_hash;
} overlane_meta;

// One packet in a buffer of its own.
typedef struct overlane_buffer {
    // The buffer.
    uint8_t *data;
    // Its size in octets.
    size_t capacity;
    // In and out: octets from `data` to the packet; what lies before is headroom.
    size_t offset;
    // In and out: the packet's length in octets.
    size_t len;
    // As in `overlane_desc`.
    uint32_t vni;
    // As in `overlane_desc`.
    uint8_t verdict;
    // As in `overlane_desc`.
    uint8_t ecn;
    // As in `overlane_desc`.
    uint16_t target;
    // What is special about the packet.
    struct overlane_meta meta;
} overlane_buffer;

// One copy of a flooded frame.
typedef struct overlane_replica {
    // `OVERLANE_AT_PORT`: write the frame's bytes to the port `id`. `OVERLANE_AT_VTEP`: send the
    // header with the frame's bytes behind it to the VTEP `id`.
    uint8_t kind;
    // Octets of `header`; 0 for a port.
    uint8_t header_len;
    // A port or a VTEP.
    uint16_t id;
    // The ECN field of the outer IP header, for a socket to set.
    uint8_t ecn;
    // Zero.
    uint8_t reserved[3];
    // The outer headers.
    uint8_t header[72];
} overlane_replica;

// Something that the engine noticed.
typedef struct overlane_event {
    // `sizeof(overlane_event)`.
    uint32_t size;
    // The VNI, or `OVERLANE_NONE`.
    uint32_t vni;
    // `OVERLANE_EVENT_*`: what happened, and which of the fields below say more.
    uint8_t kind;
    // `OVERLANE_AT_*`: where the address lives.
    uint8_t at_kind;
    // A port or a VTEP.
    uint16_t at;
    // `OVERLANE_AT_*`: where it lived before.
    uint8_t from_kind;
    // Zero.
    uint8_t reserved;
    // A port or a VTEP.
    uint16_t from;
    // The MAC address.
    uint8_t mac[6];
    // Zero.
    uint16_t reserved2;
    // The IP address.
    struct overlane_addr addr;
} overlane_event;

// What the whole engine did. All counters wrap.
typedef struct overlane_counters {
    // `sizeof(overlane_counters)`.
    uint32_t size;
    // Zero.
    uint32_t reserved;
    // Frames given to `encap`.
    uint64_t encap_frames;
    // Packets given to `decap`.
    uint64_t decap_frames;
    // Verdicts `TO_UNDERLAY`.
    uint64_t to_underlay;
    // Verdicts `TO_PORT`.
    uint64_t to_port;
    // Verdicts `FLOOD`.
    uint64_t flooded;
    // Verdicts `PUNT`; by reason: `overlane_punts`.
    uint64_t punted;
    // Verdicts `DROP`, copies that were not sent, and `overlane_count_drop`; by reason: `overlane_drops`.
    uint64_t dropped;
    // MAC addresses learned.
    uint64_t learned;
    // MAC addresses that moved.
    uint64_t moved;
    // Learned entries that aged out.
    uint64_t aged;
    // Entries evicted to make room for others.
    uint64_t evicted;
    // Addresses that found no place, or their port or VTEP at its limit.
    uint64_t not_learned;
    // Events lost because nobody read them in time.
    uint64_t events_lost;
} overlane_counters;

// What one VNI, VTEP or port carried. Octets are of inner frames. All counters wrap.
typedef struct overlane_traffic {
    // `sizeof(overlane_traffic)`.
    uint32_t size;
    // Zero.
    uint32_t reserved;
    // Frames that came from the underlay; for a port: from the port.
    uint64_t rx_frames;
    // Their octets.
    uint64_t rx_octets;
    // Frames that went to the underlay; for a port: to the port; for a VNI: flooded ones too, whoever is on
    // the list.
    uint64_t tx_frames;
    // Their octets.
    uint64_t tx_octets;
    // Drops; by reason: `overlane_drops`.
    uint64_t dropped;
} overlane_traffic;

// A VTEP, as read out of the table.
typedef struct overlane_vtep_info {
    // `sizeof(overlane_vtep_info)`.
    uint32_t size;
    // Its id.
    uint16_t id;
    // `OVERLANE_ORIGIN_*`.
    uint8_t origin;
    // Zero.
    uint8_t reserved;
    // Its underlay address.
    struct overlane_addr addr;
    // Its UDP port, in host byte order.
    uint16_t port;
    // The largest outer IP packet in octets; 0 for no limit.
    uint16_t mtu;
    // How many MAC addresses may be learned behind it.
    uint32_t learn_limit;
    // How many are.
    uint32_t learned;
    // How many routes lead to it.
    uint32_t routes;
    // Which holder of the id it is; tells it from an earlier VTEP with the same id.
    uint32_t epoch;
    // The MAC address of the underlay's next hop.
    uint8_t underlay_mac[6];
    // The MAC address of its router; zeros for none.
    uint8_t inner_mac[6];
} overlane_vtep_info;

// A local port, as read out of the table.
typedef struct overlane_port_info {
    // `sizeof(overlane_port_info)`.
    uint32_t size;
    // Its VNI.
    uint32_t vni;
    // How many MAC addresses may be learned behind it.
    uint32_t learn_limit;
    // How many are.
    uint32_t learned;
    // How many routes lead to it.
    uint32_t routes;
    // Its id.
    uint16_t id;
    // The MAC address of who is attached; zeros for none.
    uint8_t peer_mac[6];
    // 1 where source MAC addresses are learned on it.
    uint8_t learning;
    // Zero.
    uint8_t reserved[3];
} overlane_port_info;

// A MAC address and where it lives.
typedef struct overlane_mac_entry {
    // `sizeof(overlane_mac_entry)`.
    uint32_t size;
    // The VNI.
    uint32_t vni;
    // When it was last seen, to 128 ms; for a static entry, when it was made.
    uint64_t last_seen_ms;
    // The address.
    uint8_t mac[6];
    // `OVERLANE_MAC_*`.
    uint8_t kind;
    // `OVERLANE_AT_PORT` or `OVERLANE_AT_VTEP`.
    uint8_t at_kind;
    // The port or VTEP.
    uint16_t at;
    // Zero.
    uint8_t reserved[6];
} overlane_mac_entry;

// A route, as read out of the table.
typedef struct overlane_route {
    // `sizeof(overlane_route)`.
    uint32_t size;
    // Its prefix.
    struct overlane_prefix prefix;
    // `OVERLANE_AT_PORT`, `_VTEP`, `_DIRECT` or `_BLACKHOLE`.
    uint8_t at_kind;
    // Zero.
    uint8_t reserved;
    // The port or VTEP; otherwise 0.
    uint16_t at;
} overlane_route;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the ABI of the library that is linked; compare with `OVERLANE_ABI_VERSION`.
uint32_t overlane_abi_version(void);

// The version of the library that is linked, such as "0.1.0". Never NULL; not to be freed.
const char *overlane_version(void);

// The meaning of a status; of an unknown one too. Never NULL; not to be freed.
const char *overlane_strerror(int32_t status);

// The name of a drop reason, such as "unknown_vni"; "unknown" where there is none with this
// number. Reasons 1 to 31: the bytes are wrong; 32 to 47: the sender is not accepted; 48 to 79:
// there is nowhere to send it; 80 to 95: a backend could not carry it. Not to be freed.
const char *overlane_drop_name(uint8_t reason);

// The name of a punt reason, such as "arp"; "unknown" where there is none with this number. Not to
// be freed.
const char *overlane_punt_name(uint8_t reason);

// Fills in the defaults. `size` is `sizeof(*config)`.
int32_t overlane_config_init(struct overlane_config *config, uint32_t size);

// Fills in the defaults. `size` is `sizeof(*capacity)`.
int32_t overlane_capacity_init(struct overlane_capacity *capacity, uint32_t size);

// Fills in the defaults: a bridged VNI that learns and floods. `size` is `sizeof(*config)`.
int32_t overlane_vni_config_init(struct overlane_vni_config *config, uint32_t size);

// Fills in the defaults. `size` is `sizeof(*config)`.
int32_t overlane_vtep_config_init(struct overlane_vtep_config *config, uint32_t size);

// Fills in the defaults. `size` is `sizeof(*config)`.
int32_t overlane_port_config_init(struct overlane_port_config *config, uint32_t size);

// Makes an engine and stores it in `*engine`, or NULL there and a status.
//
// All memory is taken here. `capacity` may be NULL: the defaults, about 2 MiB. The caller owns the
// engine and frees it with `overlane_engine_free`.
//
// `error` and `error_len` lend memory for a text that says what was wrong; NULL and 0 for none.
int32_t overlane_engine_new(const struct overlane_config *config,
                            const struct overlane_capacity *capacity,
                            struct overlane_engine **engine,
                            char *error,
                            size_t error_len);

// Frees an engine. NULL is fine, a poisoned engine too. Refused with `OVERLANE_E_BUSY`, and
// nothing done, while another thread is in a call on it. The pointer must not be used afterwards.
int32_t overlane_engine_free(struct overlane_engine *engine);

// Writes what the latest call that was refused on this engine was refused for, cut to `len` octets
// with a NUL at the end, and returns the length of the whole text without the NUL, as snprintf
// does. Empty where none was refused, and while another thread is in a call on the engine; a call that
// succeeds leaves it, and so does one that got `OVERLANE_E_BUSY`. NULL engine: 0, nothing written.
size_t overlane_engine_last_error(const struct overlane_engine *engine, char *text, size_t len);

// Adds a VNI, 0 to 0xffffff. `config` may be NULL: the defaults, a bridged VNI that learns and floods.
int32_t overlane_vni_add(struct overlane_engine *engine,
                         uint32_t vni,
                         const struct overlane_vni_config *config);

// Changes a VNI's settings. A change of mode forgets its addresses and routes.
int32_t overlane_vni_set(struct overlane_engine *engine,
                         uint32_t vni,
                         const struct overlane_vni_config *config);

// Removes a VNI without ports, and its addresses, routes and flood list.
int32_t overlane_vni_remove(struct overlane_engine *engine, uint32_t vni);

// Adds a VTEP and stores its id in `*vtep`: the lowest that is free. One that was learned by
// itself is taken over and keeps its id. In a full table one that was learned gives up its place,
// rather one behind which nobody is left; the addresses behind it go too.
int32_t overlane_vtep_add(struct overlane_engine *engine,
                          const struct overlane_vtep_config *config,
                          uint16_t *vtep);

// Changes a VTEP's settings, its address included. One that was learned by itself is taken over.
int32_t overlane_vtep_set(struct overlane_engine *engine,
                          uint16_t vtep,
                          const struct overlane_vtep_config *config);

// Removes a VTEP to which no route leads, the addresses behind it and its places on flood lists.
int32_t overlane_vtep_remove(struct overlane_engine *engine, uint16_t vtep);

// Adds a local port, which joins its VNI's flood list, and stores its id in `*port`: the lowest
// that is free.
int32_t overlane_port_add(struct overlane_engine *engine,
                          const struct overlane_port_config *config,
                          uint16_t *port);

// Changes a port's settings. Its VNI cannot change.
int32_t overlane_port_set(struct overlane_engine *engine,
                          uint16_t port,
                          const struct overlane_port_config *config);

// Removes a port to which no route leads, and the addresses behind it.
int32_t overlane_port_remove(struct overlane_engine *engine, uint16_t port);

// Adds a VTEP to a VNI's flood list. Ports join by themselves.
int32_t overlane_flood_add(struct overlane_engine *engine, uint32_t vni, uint16_t vtep);

// Removes a VTEP from a VNI's flood list.
int32_t overlane_flood_remove(struct overlane_engine *engine, uint32_t vni, uint16_t vtep);

// Sets where a MAC address of a VNI lives, replacing what was known; a routed VNI does not ask. `mac` is six octets,
// `at_kind` `OVERLANE_AT_PORT` or `OVERLANE_AT_VTEP`, `kind` `OVERLANE_MAC_*`.
int32_t overlane_mac_add(struct overlane_engine *engine,
                         uint64_t now_ms,
                         uint32_t vni,
                         const uint8_t *mac,
                         uint8_t at_kind,
                         uint16_t at,
                         uint8_t kind);

// Forgets a MAC address of six octets.
int32_t overlane_mac_remove(struct overlane_engine *engine, uint32_t vni, const uint8_t *mac);

// Forgets the learned and sticky MAC addresses of a VNI (`OVERLANE_NONE`: of all) behind a port or
// VTEP (`OVERLANE_AT_NONE`: behind any). `flushed` may be NULL, or is told how many there were.
int32_t overlane_mac_flush(struct overlane_engine *engine,
                           uint32_t vni,
                           uint8_t at_kind,
                           uint16_t at,
                           uint64_t *flushed);

// Adds a route to a routed VNI, replacing one of the same prefix. `at_kind` is `OVERLANE_AT_PORT`,
// `_VTEP`, `_DIRECT` or `_BLACKHOLE`; `at` is read for the first two.
int32_t overlane_route_add(struct overlane_engine *engine,
                           uint32_t vni,
                           const struct overlane_prefix *prefix,
                           uint8_t at_kind,
                           uint16_t at);

// Removes a route.
int32_t overlane_route_remove(struct overlane_engine *engine,
                              uint32_t vni,
                              const struct overlane_prefix *prefix);

// Decides what becomes of `count` frames from a local port.
//
// Each descriptor names a frame in the `arena_len` octets at `arena`; the `headroom` octets before
// it belong to it too, and outer headers are written there (`OVERLANE_HEADROOM` is always enough).
// Afterwards each descriptor has a verdict and says where the packet now is. `metas` is NULL or has
// an element for each descriptor.
//
// Packets in ascending order of their offsets are worked on together, and others one by one, in
// the order of the descriptors. So packets that overlap destroy each other and nothing else.
//
// `OVERLANE_E_RANGE`, or a status for another field: no packet was looked at.
int32_t overlane_encap_arena(struct overlane_engine *engine,
                             uint64_t now_ms,
                             uint16_t port,
                             uint8_t *arena,
                             size_t arena_len,
                             uint32_t headroom,
                             struct overlane_desc *descs,
                             struct overlane_meta *metas,
                             size_t count);

// Decides what becomes of `count` packets from the underlay, as `overlane_encap_arena` does for
// frames; no headroom is needed.
//
// `source`, which may be NULL, is the underlay address of every packet whose element of `metas`
// states none.
int32_t overlane_decap_arena(struct overlane_engine *engine,
                             uint64_t now_ms,
                             uint8_t *arena,
                             size_t arena_len,
                             struct overlane_desc *descs,
                             struct overlane_meta *metas,
                             size_t count,
                             const struct overlane_addr *source);

// As `overlane_encap_arena`, for frames in buffers of their own. What lies before a frame in its
// buffer is its headroom.
int32_t overlane_encap_buffers(struct overlane_engine *engine,
                               uint64_t now_ms,
                               uint16_t port,
                               struct overlane_buffer *buffers,
                               size_t count);

// As `overlane_decap_arena`, for packets in buffers of their own, each of which states its source
// in `meta`.
int32_t overlane_decap_buffers(struct overlane_engine *engine,
                               uint64_t now_ms,
                               struct overlane_buffer *buffers,
                               size_t count);

// The copies of a frame whose verdict was `OVERLANE_VERDICT_FLOOD`: to every local port of its VNI
// but the one it came from, and, if it came from a port, to every VTEP on the VNI's flood list.
//
// `port` is the port it came from, `OVERLANE_NONE` the underlay. `frame` is the packet as its
// descriptor says, `meta` what was given with it, or NULL. Fills up to `capacity` elements of
// `replicas` and stores their number in `*count`; 0 is the end. `*cursor` is 0 at first and moves on.
// Changes to the engine between the calls of one walk may leave copies out or give them twice.
int32_t overlane_replicas(const struct overlane_engine *engine,
                          uint32_t vni,
                          uint32_t port,
                          uint8_t *frame,
                          size_t len,
                          const struct overlane_meta *meta,
                          uint32_t *cursor,
                          struct overlane_replica *replicas,
                          size_t capacity,
                          size_t *count);

// Stores in `*deadline_ms` when `overlane_handle_timeout` wants to be called; `OVERLANE_NEVER`
// while no address is known, and no VTEP that came by itself. A time in the past means at once.
int32_t overlane_next_timeout(const struct overlane_engine *engine, uint64_t *deadline_ms);

// Lets addresses age, and forgets VTEPs that came by themselves and behind which nobody is left: looks
// at no more than `budget` places of the one table or the other. `aged` may be NULL, or is told how many
// addresses were forgotten. What is past its age is not found, whether or not this was called.
int32_t overlane_handle_timeout(struct overlane_engine *engine,
                                uint64_t now_ms,
                                uint32_t budget,
                                uint64_t *aged);

// Takes the oldest event that was not read yet; `OVERLANE_E_END` where there is none. `event->size`
// must be filled in.
int32_t overlane_event_poll(struct overlane_engine *engine, struct overlane_event *event);

// Counts a packet that the host could not carry: `reason` is a drop reason, usually 80 to 95; each
// of VNI, VTEP and port may be `OVERLANE_NONE`, and is left out where it does not exist.
int32_t overlane_count_drop(struct overlane_engine *engine,
                            uint8_t reason,
                            uint32_t vni,
                            uint32_t vtep,
                            uint32_t port);

// Writes the steps that a frame from a local port would take, a line for each, cut to `text_len`
// octets with a NUL at the end. Changes and counts nothing. `needed` may be NULL, or is told the
// length of the whole text without the NUL. The frame is taken for one that is no superframe.
int32_t overlane_explain_encap(const struct overlane_engine *engine,
                               uint64_t now_ms,
                               uint16_t port,
                               const uint8_t *frame,
                               size_t len,
                               char *text,
                               size_t text_len,
                               size_t *needed);

// The same for a packet from the underlay; `source` may be NULL. With `OVERLANE_SHAPE_UDP` it is taken for one
// that came without a congestion mark.
int32_t overlane_explain_decap(const struct overlane_engine *engine,
                               uint64_t now_ms,
                               const struct overlane_addr *source,
                               const uint8_t *packet,
                               size_t len,
                               char *text,
                               size_t text_len,
                               size_t *needed);

// Reads the counters of the whole engine. `counters->size` must be filled in.
int32_t overlane_counters_get(const struct overlane_engine *engine, struct overlane_counters *counters);

// Reads the counters of one VNI, VTEP or port. `scope` is `OVERLANE_SCOPE_VNI`, `_VTEP` or `_PORT`,
// `id` its number. `traffic->size` must be filled in.
int32_t overlane_traffic_get(const struct overlane_engine *engine,
                             uint8_t scope,
                             uint32_t id,
                             struct overlane_traffic *traffic);

// Fills `counts[r]` with how many were dropped for reason `r`, for every `r` below `len`; 256 is
// enough for all. `scope` is `OVERLANE_SCOPE_*`, `id` the VNI, VTEP or port, not read for the engine.
int32_t overlane_drops(const struct overlane_engine *engine,
                       uint8_t scope,
                       uint32_t id,
                       uint64_t *counts,
                       size_t len);

// Fills `counts[r]` with how many frames were punted for reason `r`, for every `r` below `len`.
int32_t overlane_punts(const struct overlane_engine *engine, uint64_t *counts, size_t len);

// Reads a VNI's settings. `config->size` must be filled in.
int32_t overlane_vni_get(const struct overlane_engine *engine,
                         uint32_t vni,
                         struct overlane_vni_config *config);

// Walks the VNIs: stores the next one in `*vni`, or gives `OVERLANE_E_END`. `*cursor` is 0 at first
// and moves on; changes between the calls are seen or not, and nothing else goes wrong.
int32_t overlane_vni_next(const struct overlane_engine *engine, uint32_t *cursor, uint32_t *vni);

// Reads what is known of a VTEP: the address and port to send to. `info->size` must be filled in.
int32_t overlane_vtep_get(const struct overlane_engine *engine,
                          uint16_t vtep,
                          struct overlane_vtep_info *info);

// Finds the VTEP at an underlay address.
int32_t overlane_vtep_find(const struct overlane_engine *engine,
                           const struct overlane_addr *addr,
                           uint16_t *vtep);

// Walks the VTEPs, as `overlane_vni_next` the VNIs. `info->size` must be filled in.
int32_t overlane_vtep_next(const struct overlane_engine *engine,
                           uint32_t *cursor,
                           struct overlane_vtep_info *info);

// Reads what is known of a port. `info->size` must be filled in.
int32_t overlane_port_get(const struct overlane_engine *engine,
                          uint16_t port,
                          struct overlane_port_info *info);

// Walks the ports, as `overlane_vni_next` the VNIs. `info->size` must be filled in.
int32_t overlane_port_next(const struct overlane_engine *engine,
                           uint32_t *cursor,
                           struct overlane_port_info *info);

// Walks the VTEPs of a VNI's flood list, as `overlane_vni_next` the VNIs. Each call takes time that
// grows with its place on the list.
int32_t overlane_flood_next(const struct overlane_engine *engine,
                            uint32_t vni,
                            uint32_t *cursor,
                            uint16_t *vtep);

// Looks a MAC address up; one past its age is not found. `entry->size` must be filled in.
int32_t overlane_mac_get(const struct overlane_engine *engine,
                         uint64_t now_ms,
                         uint32_t vni,
                         const uint8_t *mac,
                         struct overlane_mac_entry *entry);

// Walks the MAC addresses of all VNIs, in no order that means anything, those included that are past
// their age and not yet swept; otherwise as `overlane_vni_next`. An entry that moves within the
// table between the calls may be met twice or not at all. `entry->size` must be filled in.
int32_t overlane_mac_next(const struct overlane_engine *engine,
                          uint64_t *cursor,
                          struct overlane_mac_entry *entry);

// Reads the route of exactly this prefix. `route->size` must be filled in.
int32_t overlane_route_get(const struct overlane_engine *engine,
                           uint32_t vni,
                           const struct overlane_prefix *prefix,
                           struct overlane_route *route);

// Finds the longest matching route to an address; `OVERLANE_E_END` where none matches.
// `route->size` must be filled in.
int32_t overlane_route_lookup(const struct overlane_engine *engine,
                              uint32_t vni,
                              const struct overlane_addr *addr,
                              struct overlane_route *route);

// Walks the routes of a routed VNI, IPv4 before IPv6, as `overlane_vni_next` the VNIs. Each call
// takes time that grows with its place in the walk; changes between the calls may leave routes out
// or give them twice. `route->size` must be filled in.
int32_t overlane_route_next(const struct overlane_engine *engine,
                            uint32_t vni,
                            uint32_t *cursor,
                            struct overlane_route *route);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* OVERLANE_H */
