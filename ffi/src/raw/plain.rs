//! Which structures any bytes may fill, and how they are laid out.

use crate::types::*;

/// A field of a structure of the ABI: its name, offset and size.
pub type Field = (&'static str, usize, usize);

/// A type for which every sequence of bytes is a value, and which has no byte without meaning.
///
/// # Safety
/// Integers, pointers, and `repr(C)` structures of such types without padding only.
pub(crate) unsafe trait Plain: Copy + 'static {}

/// The name and fields of a structure of the ABI.
pub(crate) trait Layout: Plain {
    const NAME: &'static str;
    const FIELDS: &'static [Field];
}

/// A structure that starts with its own size.
pub(crate) trait Versioned: Layout {
    /// The sizes that it had in earlier versions.
    const OLDER: &'static [usize] = &[];

    /// What the fields are that an older caller does not know.
    fn defaults() -> Self {
        zeroed()
    }
}

/// A value of zeros.
pub(crate) fn zeroed<T: Plain>() -> T {
    // SAFETY: for a `Plain` type every sequence of bytes is a value.
    unsafe { core::mem::zeroed() }
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        // SAFETY: an integer or a raw pointer; every sequence of bytes is a value.
        unsafe impl Plain for $t {}
    )*};
}

integers!(u8, u16, u32, u64, usize, *mut u8);

// SAFETY: an array has no padding between its elements.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

const fn size_of_field<T: Plain, F: Plain>(_: fn(&T) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! plain {
    ($($name:ident { $($field:ident),* $(,)? })*) => {
        $(
            // SAFETY: `repr(C)`; every field is `Plain` by the bound of `size_of_field`, and there is no
            // padding by the assertion.
            unsafe impl Plain for $name {}

            impl Layout for $name {
                const NAME: &'static str = stringify!($name);
                const FIELDS: &'static [Field] = &[$((
                    stringify!($field),
                    core::mem::offset_of!($name, $field),
                    size_of_field(|s: &$name| &s.$field),
                )),*];
            }

            const _: () = {
                let (fields, mut sum, mut i) = (<$name as Layout>::FIELDS, 0, 0);
                while i < fields.len() {
                    assert!(fields[i].1 == sum, "a field is left out, or there is padding");
                    sum += fields[i].2;
                    i += 1;
                }
                assert!(sum == size_of::<$name>(), "a field is left out, or there is padding");
            };
        )*

        /// Name, size, alignment and fields of every structure of the ABI.
        pub(crate) const LAYOUTS: &[(&str, usize, usize, &[Field])] =
            &[$((<$name as Layout>::NAME, size_of::<$name>(), align_of::<$name>(), <$name as Layout>::FIELDS)),*];
    };
}

plain! {
    overlane_addr { bytes, family, reserved }
    overlane_prefix { bytes, family, len, reserved }
    overlane_config {
        size, shape, ttl, dscp, dont_fragment, checksum_v4, checksum_v6, verify_checksum,
        allow_zero_checksum_v6, reserved_bits, group_policy, local_mac, port, source_port_first,
        source_port_last, reserved, local_v4, local_v6, seed, reserved_mask, ageing_ms,
    }
    overlane_capacity { size, macs, routes_v4, routes_v6, vnis, vteps, ports, flood_members, events }
    overlane_vni_config {
        size, mode, accept, learning, flood_unknown, notify_miss, has_group, group, router_mac, reserved,
    }
    overlane_vtep_config { size, port, mtu, learn_limit, addr, underlay_mac, inner_mac }
    overlane_port_config { size, vni, learn_limit, peer_mac, learning, reserved }
    overlane_desc { offset, len, vni, verdict, ecn, target }
    overlane_meta { source, group, group_flags, reserved, segment_len, flow_hash }
    overlane_buffer { data, capacity, offset, len, vni, verdict, ecn, target, meta }
    overlane_replica { kind, header_len, id, ecn, reserved, header }
    overlane_event { size, vni, kind, at_kind, at, from_kind, reserved, from, mac, reserved2, addr }
    overlane_mac_entry { size, vni, last_seen_ms, mac, kind, at_kind, at, reserved }
    overlane_vtep_info {
        size, id, origin, reserved, addr, port, mtu, learn_limit, learned, routes, epoch, underlay_mac, inner_mac,
    }
    overlane_port_info { size, vni, learn_limit, learned, routes, id, peer_mac, learning, reserved }
    overlane_route { size, prefix, at_kind, reserved, at }
    overlane_counters {
        size, reserved, encap_frames, decap_frames, to_underlay, to_port, flooded, punted, dropped, learned,
        moved, aged, evicted, not_learned, events_lost,
    }
    overlane_traffic { size, reserved, rx_frames, rx_octets, tx_frames, tx_octets, dropped }
}
