//! From whom a datagram is accepted, and what is learned from it.

use std::net::IpAddr;

use overlane::addr::{Destination, Vni};
use overlane::engine::*;
use overlane::error::{DropReason, VtepError};
use overlane::table::fdb::EntryKind;
use overlane::table::vni::{Accept, VniConfig};
use overlane::table::vtep::{Origin, VtepConfig};
use overlane::wire::vxlan::{ReservedBits, VxlanPolicy};

use crate::every_memory;
use crate::world::*;

every_memory! {
    fn only_known_vteps_are_heard_by_default<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let hello = vxlan(42, &ether(ALL, mac(3), b""));
        assert_eq!(a.receive(T0, C, &hello), (Verdict::Drop(DropReason::UnknownSource), hello.clone()));
        // Without a source the datagram is nobody's.
        let mut buffer = hello.clone();
        let end = buffer.len();
        let mut frames = [Frame::new(&mut buffer, 0..end).unwrap()];
        a.engine.decap(T0, &mut frames);
        assert_eq!(frames[0].verdict(), Some(Verdict::Drop(DropReason::UnknownSource)));
        assert_eq!((a.engine.tables().fdb().len(), a.engine.tables().vteps().len()), (0, 1));
        assert_eq!(a.engine.vni_counters(VNI).unwrap().drops.get(DropReason::UnknownSource), 2);
        assert!(a.events().is_empty());
    }

    fn an_open_vni_learns_vteps_and_forgets_them_when_nobody_is_left<M>() {
        let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
        let mut a = Node::<M>::with(config(A), A, open, &[]);
        assert_eq!(a.receive(T0, C, &vxlan(42, &ether(ALL, mac(3), b""))).0, Verdict::Flood(VNI));
        let vtep = a.engine.tables().vteps().by_addr(C).unwrap();
        assert_eq!(a.engine.vtep(vtep).unwrap().origin, Origin::Learned);
        let at = Destination::Vtep(vtep);
        assert_eq!(a.events(), [Event::VtepLearned { vtep, addr: C }, Event::Learned { vni: VNI, mac: mac(3), at }]);
        assert_eq!(a.send(T0, &ether(mac(3), mac(1), b"")).0, Verdict::ToUnderlay(vtep));

        let later = T0 + core::time::Duration::from_secs(400);
        while a.engine.next_timeout().is_some_and(|due| due <= later) {
            a.engine.handle_timeout(later, 64);
        }
        assert_eq!(a.engine.tables().vteps().len(), 0);
        assert!(a.engine.next_timeout().is_none_or(|due| due > later));
    }

    fn a_learned_vtep_that_is_configured_later_keeps_its_id<M>() {
        let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
        let mut a = Node::<M>::with(config(A), A, open, &[]);
        a.receive(T0, C, &vxlan(42, &ether(ALL, mac(3), b"")));
        let learned = a.engine.tables().vteps().by_addr(C).unwrap();
        let id = a.add_peer(VtepConfig { mtu: 1500, ..VtepConfig::new(C, 8472) }, true);
        assert_eq!(id, learned);
        let vtep = a.engine.vtep(id).unwrap();
        assert_eq!((vtep.origin, vtep.config.port, vtep.config.mtu), (Origin::Configured, 8472, 1500));
    }

    fn a_full_vtep_table_refuses_the_newcomer_and_carries_the_frame<M>() {
        let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
        let mut a = Node::<M>::with(config(A), A, open, &[]);
        for n in 10..30u8 {
            let from = [192, 0, 2, n].into();
            assert_eq!(a.receive(T0, from, &vxlan(42, &ether(ALL, mac(n), b""))).0, Verdict::Flood(VNI));
        }
        let vteps = a.engine.tables().vteps().len();
        assert_eq!(vteps, a.engine.tables().vteps().capacity());
        assert_eq!(a.engine.tables().fdb().len(), vteps);
    }

    // Whoever sends packets fills the table; the host's own VTEPs are not kept out by them.
    fn learned_vteps_make_room_for_configured_ones<M>() {
        let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
        let mut a = Node::<M>::with(config(A), A, open, &[B]);
        let stranger = |n: u8| IpAddr::from([203, 0, 113, n]);
        for n in 1..=7u8 {
            // The fifth and the sixth end up with nobody behind them.
            let station = mac(n.min(5));
            a.receive(T0, stranger(n), &vxlan(42, &ether(ALL, station, b"")));
        }
        let known = |a: &Node<M>, addr: IpAddr| a.engine.tables().vteps().by_addr(addr).is_some();
        let add = |a: &mut Node<M>, n: u8| a.engine.apply(T0, &Command::AddVtep(VtepConfig::new([10, 0, 0, n].into(), 4789)));
        assert_eq!(a.engine.tables().vteps().len(), a.engine.tables().vteps().capacity());
        let bad = VtepConfig { mtu: 1, ..VtepConfig::new([10, 0, 0, 1].into(), 4789) };
        assert!(a.engine.apply(T0, &Command::AddVtep(bad)).is_err());
        assert!((1..=7).all(|n| known(&a, stranger(n))), "a refused one takes nobody's place");
        for (n, went) in [(1, 5), (2, 6)] {
            add(&mut a, n).unwrap();
            assert!(!known(&a, stranger(went)), "{went}");
            assert_eq!(a.engine.tables().fdb().len(), 5, "nobody is behind those that went");
        }
        assert!([1, 2, 3, 4, 7].iter().all(|n| known(&a, stranger(*n))));
        for n in 3..=7u8 {
            add(&mut a, n).unwrap();
            assert_eq!(a.engine.tables().fdb().len(), 7 - usize::from(n), "{n}");
        }
        let eighth: IpAddr = [10, 0, 0, 8].into();
        assert_eq!(add(&mut a, 8), Err(VtepError::Full(eighth).into()));
        assert!(known(&a, B) && (1..=7).all(|n| known(&a, [10, 0, 0, n].into())));
    }

    fn an_address_of_a_family_that_the_node_has_not_is_not_a_full_table<M>() {
        let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
        let mut a = Node::<M>::with(config(A), A, open, &[]);
        let (verdict, _) = a.receive(T0, "2001:db8::9".parse().unwrap(), &vxlan(42, &ether(ALL, mac(3), b"")));
        assert_eq!((verdict, a.events()), (Verdict::Flood(VNI), vec![]));
        assert_eq!((a.engine.tables().vteps().len(), a.engine.tables().fdb().len()), (0, 0));
    }

    fn addresses_that_no_vtep_has_are_refused<M>() {
        let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
        let mut a = Node::<M>::with(config(A), A, open, &[]);
        for bad in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1", "::", "ff02::1", "::ffff:192.0.2.1"] {
            let (verdict, _) = a.receive(T0, bad.parse().unwrap(), &vxlan(42, &ether(ALL, mac(3), b"")));
            assert_eq!(verdict, Verdict::Drop(DropReason::InvalidOuterSource), "{bad}");
        }
        assert_eq!(a.engine.tables().vteps().len(), 0);
    }

    fn a_vtep_heard_through_a_mapped_address_is_the_same_vtep<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let (verdict, _) = a.receive(T0, "::ffff:192.0.2.2".parse().unwrap(), &vxlan(42, &ether(ALL, mac(2), b"")));
        assert_eq!(verdict, Verdict::Flood(VNI));
    }

    // RFC 7348, section 5: I must be 1; the rest of the flags and the last octet are ignored on receipt.
    fn the_vxlan_header_is_read_by_the_policy<M>() {
        let inner = ether(ALL, mac(2), b"");
        let with = |first: [u8; 4], last: u8| {
            let mut d = vxlan(42, &inner);
            d[..4].copy_from_slice(&first);
            d[7] = last;
            d
        };
        let strict = VxlanPolicy { reserved: ReservedBits::Strict, ..Default::default() };
        // Linux IFLA_VXLAN_RESERVED_BITS: only these must be zero.
        let mask = VxlanPolicy { reserved: ReservedBits::Mask(0xff), ..Default::default() };
        let (ok, reserved) = (Verdict::Flood(VNI), Verdict::Drop(DropReason::ReservedBits));
        let no_flag = Verdict::Drop(DropReason::NoVniFlag);
        for (header, ignore, under_strict, under_mask) in [
            (with([8, 0, 0, 0], 0), ok, ok, ok),
            (with([0x0c, 1, 2, 3], 9), ok, reserved, reserved),
            (with([0x0c, 1, 2, 3], 0), ok, reserved, ok),
            (with([8, 0, 0, 0], 1), ok, reserved, reserved),
            (with([0, 0, 0, 0], 0), no_flag, no_flag, no_flag),
        ] {
            for (policy, expected) in [(VxlanPolicy::default(), ignore), (strict, under_strict), (mask, under_mask)] {
                let mut a = Node::<M>::with(EngineConfig { vxlan: policy, ..config(A) }, A, VniConfig::default(), &[B]);
                assert_eq!(a.receive(T0, B, &header).0, expected, "{policy:?} {:?}", &header[..8]);
            }
        }
    }

    fn every_vni_number_works_and_others_are_unknown<M>() {
        for vni in [0, 1, 0xff_ffff] {
            let mut a = Node::<M>::new(A, &[B]);
            let added = a.engine.apply(T0, &Command::AddVni { vni: Vni::truncate(vni), config: VniConfig::default() });
            added.unwrap();
            let (verdict, _) = a.receive(T0, B, &vxlan(vni, &ether(ALL, mac(2), b"")));
            assert_eq!(verdict, Verdict::Drop(DropReason::NoFloodTarget), "known, though without ports");
            let (verdict, _) = a.receive(T0, B, &vxlan(vni ^ 0x80_0000, &ether(ALL, mac(2), b"")));
            assert_eq!(verdict, Verdict::Drop(DropReason::UnknownVni));
        }
    }

    // draft-smith-vxlan-group-policy: the group travels; D forbids learning.
    fn the_group_policy_extension_is_written_and_read<M>() {
        let gbp = EngineConfig { vxlan: VxlanPolicy { group_policy: true, ..Default::default() }, ..config(A) };
        let tagged = VniConfig { group_policy: Some(0x1234), ..VniConfig::default() };
        let mut a = Node::<M>::with(gbp, A, tagged, &[B]);
        let (_, copies) = a.flood(T0, a.port, &ether(ALL, mac(1), b""));
        assert_eq!(copies[0].1[..8], [0x88, 0, 0x12, 0x34, 0, 0, 42, 0]);

        let mut datagram = vxlan(42, &ether(ALL, mac(2), b""));
        datagram[..4].copy_from_slice(&[0x88, 0x40, 0x56, 0x78]);
        let end = datagram.len();
        let mut frames = [Frame::new(&mut datagram, 0..end).unwrap().with_source(B)];
        a.engine.decap(T0, &mut frames);
        let group = frames[0].group().unwrap();
        assert_eq!((group.id, group.dont_learn, group.applied), (0x5678, true, false));
        assert_eq!(frames[0].verdict(), Some(Verdict::Flood(VNI)));
        assert_eq!(a.engine.tables().fdb().entry(T0, VNI, mac(2)), None);
    }

    fn nothing_is_learned_from_what_is_dropped<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let good = vxlan(42, &ether(ALL, mac(2), b""));
        for cut in 0..8 + 14 {
            let (verdict, bytes) = a.receive(T0, B, &good[..cut]);
            assert_eq!(verdict, Verdict::Drop(DropReason::Truncated), "{cut} octets");
            assert_eq!(bytes, &good[..cut]);
        }
        a.receive(T0, B, &vxlan(43, &ether(ALL, mac(2), b"")));
        a.receive(T0, C, &good);
        assert_eq!(a.engine.tables().fdb().len(), 0);
        assert!(a.events().is_empty());
        assert_eq!(a.engine.counters().drops.total(), 22 + 2);
    }


    // A burst of forged sources may fill the table; nobody answers to them, and one pass later there is room again.
    fn one_pass_forgets_every_learned_vtep_that_nobody_is_behind<M>() {
        let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
        let mut a = Node::<M>::with(config(A), A, open, &[]);
        let mut now = T0;
        for round in 0..3u8 {
            for n in 1..=8u8 {
                a.receive(now, [198, 51, round, n].into(), &vxlan(42, &ether(ALL, mac(n), b"")));
            }
            assert_eq!(a.engine.tables().vteps().len(), 8, "round {round}");
            now = now + core::time::Duration::from_secs(400);
            let mut calls = 0;
            while a.engine.next_timeout().is_some_and(|due| due <= now) {
                a.engine.handle_timeout(now, 1 + usize::from(round) * 30);
                calls += 1;
            }
            assert!(calls < 1_000, "{calls} calls");
            assert_eq!(a.engine.tables().vteps().len(), 0, "round {round}");
            assert_eq!(a.engine.next_timeout(), None);
        }
    }

    fn a_learned_vtep_stays_when_the_host_sets_it<M>() {
        let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
        let mut a = Node::<M>::with(config(A), A, open, &[]);
        a.receive(T0, C, &vxlan(42, &ether(ALL, mac(3), b"")));
        let vtep = a.engine.tables().vteps().by_addr(C).unwrap();
        let config = VtepConfig { mtu: 1400, ..VtepConfig::new(C, 8472) };
        a.engine.apply(T0, &Command::SetVtep { vtep, config }).unwrap();
        let later = T0 + core::time::Duration::from_secs(400);
        while a.engine.next_timeout().is_some_and(|due| due <= later) {
            a.engine.handle_timeout(later, 64);
        }
        let kept = a.engine.vtep(vtep).unwrap();
        assert_eq!((kept.origin, kept.config), (Origin::Configured, config));
    }

    // Whoever speaks without a source is nobody that an address is pinned to.
    fn an_unstated_source_is_not_the_first_port<M>() {
        let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
        let mut a = Node::<M>::with(config(A), A, open, &[]);
        let (at, kind) = (Destination::Port(a.port), EntryKind::Static);
        a.engine.apply(T0, &Command::AddMac { vni: VNI, mac: mac(1), at, kind }).unwrap();
        let mut datagram = vxlan(42, &ether(ALL, mac(1), b""));
        let end = datagram.len();
        let mut frames = [Frame::new(&mut datagram, 0..end).unwrap()];
        a.engine.decap(T0, &mut frames);
        assert_eq!(frames[0].verdict(), Some(Verdict::Drop(DropReason::MacPinned)));
    }
}
