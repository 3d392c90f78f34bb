//! overlane nodes and the kernel's own VXLAN device on one underlay, in network namespaces.
//!
//! Each case runs in a process of its own and takes its namespaces with it. Where the machine has no
//! namespaces, no `/dev/net/tun` or no kernel vxlan, the cases are skipped and say so;
//! `OVERLANE_REQUIRE_NETNS=1` makes that a failure.

#[cfg(target_os = "linux")]
mod bridged;
#[cfg(target_os = "linux")]
#[path = "../offload/make.rs"]
#[allow(dead_code, reason = "what only the tests without a kernel use")]
mod make;
#[cfg(target_os = "linux")]
mod node;
#[cfg(target_os = "linux")]
mod offload;
#[cfg(target_os = "linux")]
mod rights;
#[cfg(target_os = "linux")]
mod routed;
#[cfg(target_os = "linux")]
mod tap;
#[cfg(target_os = "linux")]
mod tunnel;
#[cfg(target_os = "linux")]
mod vtep;
#[cfg(target_os = "linux")]
mod workers;

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
fn main() {
    use overlane_testkit::netns::Need;
    use overlane_testkit::suite::{self, Case};

    const ALL: &[Need] = &[Need::Tap, Need::Veth, Need::Bridge, Need::Vxlan];
    const CASES: &[Case] = &[
        Case::new("kernel_vxlan_over_ipv4_port_4789_vni_0", ALL, bridged::ipv4_port_4789_vni_0),
        Case::new("kernel_vxlan_over_ipv4_port_8472_vni_ffffff", ALL, bridged::ipv4_port_8472_vni_ffffff),
        Case::new("kernel_vxlan_over_ipv6_port_4789_vni_ffffff", ALL, bridged::ipv6_port_4789_vni_ffffff),
        Case::new("kernel_vxlan_over_ipv6_port_8472_vni_0", ALL, bridged::ipv6_port_8472_vni_0),
        Case::new("outer_udp_checksums_over_ipv4", ALL, bridged::udp_checksums_over_ipv4),
        Case::new("no_outer_udp_checksums_over_ipv6", ALL, bridged::no_udp_checksums_over_ipv6),
        Case::new("ttl_and_dscp", ALL, bridged::ttl_and_dscp),
        Case::new("group_policy", ALL, bridged::group_policy),
        Case::new("behind_a_bridge", ALL, bridged::behind_a_bridge),
        Case::new("several_vnis_with_the_same_addresses", ALL, bridged::several_vnis),
        Case::new("three_nodes_flood_over_both_families", ALL, bridged::three_nodes),
        Case::new("strangers_and_other_vnis_are_refused", ALL, bridged::strangers),
        Case::new("strangers_are_learned_where_allowed", ALL, bridged::strangers_learned),
        Case::new("both_sides_are_served_in_turn", ALL, bridged::fairness),
        Case::new("a_removed_tap_ends_the_loop", ALL, bridged::removed_tap),
        Case::new("a_tap_with_packet_information_is_refused", ALL, tap::packet_information),
        Case::new("a_tap_keeps_its_own_filter", ALL, tap::own_filter),
        Case::new("a_tap_that_outlives_its_driver", ALL, tap::given_back),
        Case::new("several_threads_share_a_node", ALL, workers::shared),
        Case::new("a_removed_tap_ends_all_threads", ALL, workers::removed_tap),
        Case::new("routed_between_overlane_nodes_and_flannel", ALL, routed::two_nodes_and_flannel),
        Case::new("routed_packets_too_big_are_answered", ALL, routed::too_big),
        Case::new("the_kernel_cuts_superframes_as_we_do", ALL, offload::cuts),
        Case::new("the_kernel_undoes_what_we_merge", ALL, offload::joins),
        Case::new("a_path_that_takes_nothing_does_not_end_segmenting", ALL, offload::blackhole),
        Case::new("tunnel_offload_over_ipv4", ALL, tunnel::between_nodes_over_ipv4),
        Case::new("tunnel_offload_over_ipv6", ALL, tunnel::between_nodes_over_ipv6),
        Case::new("tunnel_offload_cut_by_the_kernel_over_ipv4", ALL, tunnel::cut_by_the_kernel_over_ipv4),
        Case::new("tunnel_offload_cut_by_the_kernel_over_ipv6", ALL, tunnel::cut_by_the_kernel_over_ipv6),
        Case::new("tunnel_offload_ttl_and_dscp", ALL, tunnel::ttl_and_dscp),
        Case::new("tunnel_offload_of_several_flows", ALL, tunnel::several_flows),
        Case::new("tunnel_offload_with_other_nodes", ALL, tunnel::other_nodes),
        Case::new("tunnel_offload_with_a_kernel_peer_over_ipv4", ALL, tunnel::kernel_peer_over_ipv4),
        Case::new("tunnel_offload_with_a_kernel_peer_and_checksums", ALL, tunnel::kernel_peer_with_checksums),
        Case::new("tunnel_offload_with_a_kernel_peer_over_ipv6", ALL, tunnel::kernel_peer_over_ipv6),
        Case::new("tunnel_offload_comes_and_goes", ALL, tunnel::comes_and_goes),
        Case::new("tunnel_offload_heeds_changes", ALL, tunnel::heeds_changes),
        Case::new("tunnel_offload_goes_by_the_rules", ALL, tunnel::goes_by_the_rules),
        Case::new("tunnel_offload_from_an_address_that_goes", ALL, tunnel::address_that_goes),
        Case::new("tunnel_offload_falls_back", ALL, tunnel::falls_back),
        Case::new("tunnel_offload_device_that_comes_back", ALL, tunnel::device_that_comes_back),
        Case::new("tunnel_offload_over_devices_that_do_not_cut", ALL, tunnel::devices_that_do_not_cut),
        Case::new("tunnel_offload_says_what_it_lacks", ALL, tunnel::says_what_it_lacks),
        Case::new("vtep_example_bridged", ALL, vtep::bridged),
        Case::new("vtep_example_with_several_threads", ALL, vtep::several_threads),
        Case::new("vtep_example_with_several_source_ports", ALL, vtep::source_ports),
        Case::new("vtep_example_routed", ALL, vtep::routed),
        Case::new("vtep_example_routed_by_a_path_that_narrows", ALL, vtep::narrower_path),
        Case::new("vtep_example_whose_report_nobody_reads", ALL, vtep::unread_report),
        Case::new("vtep_example_with_a_kernel_peer_over_ipv6", ALL, vtep::kernel_peer),
        Case::new("vtep_example_on_an_open_descriptor", ALL, vtep::open_descriptor),
        Case::new("vtep_example_gives_up_its_rights", ALL, rights::dropped),
        Case::new("vtep_example_starts_without_rights", ALL, rights::none_to_begin_with),
        Case::new("vtep_example_on_a_prepared_device_without_rights", ALL, rights::prepared_device),
        Case::new("vtep_example_probes_the_kernel", ALL, rights::probe),
        Case::new("vtep_example_of_whose_devices_one_goes", ALL, vtep::one_device_of_several_goes),
        Case::new("vtep_example_says_what_does_not_fit", ALL, vtep::remarks),
        Case::new("vtep_example_says_what_is_wrong", ALL, vtep::refusals),
    ];
    if !suite::is_case() {
        // Once, and not in each case.
        vtep::program();
    }
    suite::main(CASES)
}
