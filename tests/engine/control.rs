//! Commands: done whole, or refused with the state as it was.

use overlane::addr::*;
use overlane::engine::*;
use overlane::error::*;
use overlane::table::Seed;
use overlane::table::fdb::{EntryKind, groups_for};
use overlane::table::port::PortConfig;
use overlane::table::vni::{Accept, VniConfig};
use overlane::table::vtep::VtepConfig;
use overlane::wire::outer::Shape;

use crate::every_memory;
use crate::world::*;

const ROUTED: Vni = Vni::truncate(77);

/// A bridged VNI with a port and a VTEP, and a routed one with a port and routes.
fn furnished<M: Memory>() -> (Node<M>, PortId, VtepId) {
    let mut a = Node::<M>::new(A, &[B]);
    let config = VniConfig::routed(mac(0xa0));
    a.engine.apply(T0, &Command::AddVni { vni: ROUTED, config }).unwrap();
    let port = a.engine.apply(T0, &Command::AddPort(PortConfig::new(ROUTED))).unwrap().port().unwrap();
    let vtep = a.add_peer(VtepConfig { inner_mac: Some(mac(0xc0)), ..VtepConfig::new(C, 4789) }, false);
    for (prefix, next_hop) in [("10.1.0.0/16", NextHop::Port(port)), ("fd00::/64", NextHop::Vtep(vtep))] {
        let prefix = prefix.parse().unwrap();
        a.engine.apply(T0, &Command::AddRoute { vni: ROUTED, prefix, next_hop }).unwrap();
    }
    a.receive(T0, B, &vxlan(42, &ether(ALL, mac(2), b"")));
    (a, port, vtep)
}

every_memory! {
    fn a_refused_command_says_why_and_changes_nothing<M>() {
        let (mut a, port, vtep) = furnished::<M>();
        let (vni, none) = (VNI, Vni::truncate(5));
        let (no_port, no_vtep) = (PortId(7), VtepId(7));
        let b = a.vtep(B);
        let prefix: IpPrefix = "10.2.0.0/16".parse().unwrap();
        let entry = EntryKind::Static;
        let own = VtepConfig::new(A, 4789);
        let v6 = VtepConfig::new("2001:db8::1".parse().unwrap(), 4789);
        let table: Vec<(Command, ControlError)> = vec![
            (Command::AddVni { vni, config: VniConfig::default() }, VniError::Exists(vni).into()),
            (Command::AddVni { vni: none, config: VniConfig::routed(ALL) }, VniError::RouterMac(ALL).into()),
            (Command::SetVni { vni: none, config: VniConfig::default() }, VniError::Unknown(none).into()),
            (Command::SetVni { vni, config: VniConfig::routed(MacAddr::ZERO) }, VniError::RouterMac(MacAddr::ZERO).into()),
            (Command::RemoveVni { vni: none }, VniError::Unknown(none).into()),
            (Command::RemoveVni { vni }, VniError::InUse { vni, ports: 1 }.into()),
            (Command::AddVtep(VtepConfig::new(B, 4789)), VtepError::Exists(B).into()),
            (Command::AddVtep(own), VtepError::Address(A).into()),
            (Command::AddVtep(v6), VtepError::Family(v6.addr).into()),
            (Command::AddVtep(VtepConfig::new([224, 0, 0, 1].into(), 4789)), VtepError::Address([224, 0, 0, 1].into()).into()),
            (Command::AddVtep(VtepConfig::new([192, 0, 2, 9].into(), 0)), VtepError::Port.into()),
            (Command::AddVtep(VtepConfig { mtu: 127, ..VtepConfig::new([192, 0, 2, 9].into(), 4789) }), VtepError::Mtu(127).into()),
            (Command::AddVtep(VtepConfig { inner_mac: Some(ALL), ..VtepConfig::new([192, 0, 2, 9].into(), 4789) }), VtepError::InnerMac(ALL).into()),
            (Command::SetVtep { vtep: no_vtep, config: own }, VtepError::Unknown(no_vtep).into()),
            (Command::SetVtep { vtep: b, config: own }, VtepError::Address(A).into()),
            (Command::SetVtep { vtep: b, config: VtepConfig::new(C, 4789) }, VtepError::Exists(C).into()),
            (Command::SetVtep { vtep, config: VtepConfig::new(C, 4789) }, VtepError::InUse { vtep, routes: 1 }.into()),
            (Command::RemoveVtep { vtep: no_vtep }, VtepError::Unknown(no_vtep).into()),
            (Command::RemoveVtep { vtep }, VtepError::InUse { vtep, routes: 1 }.into()),
            (Command::AddPort(PortConfig::new(none)), PortError::NoVni(none).into()),
            (Command::AddPort(PortConfig { peer_mac: Some(ALL), ..PortConfig::new(vni) }), PortError::PeerMac(ALL).into()),
            (Command::SetPort { port: no_port, config: PortConfig::new(vni) }, PortError::Unknown(no_port).into()),
            (Command::SetPort { port, config: PortConfig::new(vni) }, PortError::OtherVni { port, vni: ROUTED }.into()),
            (Command::RemovePort { port: no_port }, PortError::Unknown(no_port).into()),
            (Command::RemovePort { port }, PortError::InUse { port, routes: 1 }.into()),
            (Command::AddFlood { vni: none, vtep }, VniError::Unknown(none).into()),
            (Command::AddFlood { vni, vtep: no_vtep }, VtepError::Unknown(no_vtep).into()),
            (Command::AddFlood { vni, vtep: b }, FloodError::Exists(Destination::Vtep(b)).into()),
            (Command::RemoveFlood { vni, vtep }, FloodError::Unknown(Destination::Vtep(vtep)).into()),
            (Command::AddMac { vni: none, mac: mac(9), at: Destination::Vtep(b), kind: entry }, VniError::Unknown(none).into()),
            (Command::AddMac { vni, mac: ALL, at: Destination::Vtep(b), kind: entry }, FdbError::NotUnicast(ALL).into()),
            (Command::AddMac { vni, mac: mac(9), at: Destination::Vtep(no_vtep), kind: entry }, FdbError::NoDestination(Destination::Vtep(no_vtep)).into()),
            (Command::AddMac { vni, mac: mac(9), at: Destination::Port(no_port), kind: entry }, FdbError::NoDestination(Destination::Port(no_port)).into()),
            (Command::AddMac { vni, mac: mac(9), at: Destination::Port(port), kind: entry }, FdbError::OtherVni { vni, port }.into()),
            (Command::RemoveMac { vni, mac: mac(9) }, FdbError::Unknown { vni, mac: mac(9) }.into()),
            (Command::AddRoute { vni, prefix, next_hop: NextHop::Blackhole }, RouteError::NotRouted(vni).into()),
            (Command::AddRoute { vni: none, prefix, next_hop: NextHop::Blackhole }, VniError::Unknown(none).into()),
            (Command::AddRoute { vni: ROUTED, prefix, next_hop: NextHop::Vtep(no_vtep) }, RouteError::NoNextHop(Destination::Vtep(no_vtep)).into()),
            (Command::AddRoute { vni: ROUTED, prefix, next_hop: NextHop::Port(no_port) }, RouteError::NoNextHop(Destination::Port(no_port)).into()),
            (Command::AddRoute { vni: ROUTED, prefix, next_hop: NextHop::Port(a.port) }, RouteError::OtherVni { vni: ROUTED, port: a.port }.into()),
            (Command::AddRoute { vni: ROUTED, prefix, next_hop: NextHop::Vtep(b) }, RouteError::NoVtepMac(b).into()),
            (Command::RemoveRoute { vni: ROUTED, prefix }, RouteError::Unknown { vni: ROUTED, prefix }.into()),
        ];
        let before = snapshot(&a.engine);
        for (command, error) in table {
            assert_eq!(a.engine.apply(T0, &command), Err(error), "{command:?}");
            assert_eq!(snapshot(&a.engine), before, "{command:?}");
            assert!(!error.to_string().is_empty());
        }
        let mut nothing = [];
        assert_eq!(a.engine.encap(T0, no_port, &mut nothing), Err(PortError::Unknown(no_port)));
    }

    fn what_was_removed_is_forgotten_everywhere<M>() {
        let (mut a, port, vtep) = furnished::<M>();
        let b = a.vtep(B);
        assert_eq!(a.engine.apply(T0, &Command::RemoveVtep { vtep: b }), Ok(Change::Done));
        let t = a.engine.tables();
        assert_eq!(t.fdb().len(), 0);
        assert_eq!(t.floods().vteps(t.vnis().index_of(VNI).unwrap()).count(), 0);
        assert_eq!(a.engine.vtep_counters(b), None);
        // Its id is given out anew, with counters at zero and a new epoch.
        let again = a.engine.apply(T0, &Command::AddVtep(VtepConfig::new(B, 4789))).unwrap().vtep().unwrap();
        assert_eq!(again, b);
        assert_eq!(a.engine.vtep_counters(b), Some(&ScopeCounters::default()));
        assert!(a.engine.vtep(b).unwrap().epoch > 0);

        // A VNI with its routes, once its port is gone.
        let prefix = "10.1.0.0/16".parse().unwrap();
        let removed = a.engine.apply(T0, &Command::RemoveRoute { vni: ROUTED, prefix });
        assert_eq!(removed, Ok(Change::Route(NextHop::Port(port))));
        a.engine.apply(T0, &Command::RemovePort { port }).unwrap();
        a.engine.apply(T0, &Command::RemoveVni { vni: ROUTED }).unwrap();
        assert_eq!(a.engine.vtep(vtep).unwrap().routes, 0);
        a.engine.apply(T0, &Command::RemoveVtep { vtep }).unwrap();
        assert_eq!(a.engine.vni_counters(ROUTED), None);
    }

    fn removing_and_adding_again_leaks_nothing<M>() {
        let empty = snapshot(&M::engine(config(A)));
        let mut a = M::engine(config(A));
        for round in 0..50 {
            let config = VniConfig::routed(mac(1));
            a.apply(T0, &Command::AddVni { vni: VNI, config }).unwrap();
            let vtep = VtepConfig { inner_mac: Some(mac(2)), ..VtepConfig::new(B, 4789) };
            let vtep = a.apply(T0, &Command::AddVtep(vtep)).unwrap().vtep().unwrap();
            let port = a.apply(T0, &Command::AddPort(PortConfig::new(VNI))).unwrap().port().unwrap();
            a.apply(T0, &Command::AddFlood { vni: VNI, vtep }).unwrap();
            for (i, hop) in [NextHop::Vtep(vtep), NextHop::Port(port), NextHop::Direct].into_iter().enumerate() {
                let prefix = Ipv4Prefix::new([10, round, i as u8, 0].into(), 24).unwrap().into();
                a.apply(T0, &Command::AddRoute { vni: VNI, prefix, next_hop: hop }).unwrap();
                let prefix = Ipv6Prefix::new([0xfd00, u16::from(round), i as u16, 0, 0, 0, 0, 0].into(), 64).unwrap().into();
                a.apply(T0, &Command::AddRoute { vni: VNI, prefix, next_hop: hop }).unwrap();
            }
            // A change of mode forgets routes and addresses.
            a.apply(T0, &Command::SetVni { vni: VNI, config: VniConfig::default() }).unwrap();
            let at = Destination::Port(port);
            a.apply(T0, &Command::AddMac { vni: VNI, mac: mac(3), at, kind: EntryKind::Static }).unwrap();
            a.apply(T0, &Command::RemovePort { port }).unwrap();
            a.apply(T0, &Command::RemoveVni { vni: VNI }).unwrap();
            a.apply(T0, &Command::RemoveVtep { vtep }).unwrap();
            assert_eq!(snapshot(&a), empty, "round {round}");
        }
    }

    fn what_goes_takes_its_own_addresses_and_no_others<M>() {
        let other = Vni::truncate(7);
        let prepared = || {
            let mut a = Node::<M>::new(A, &[B, C]);
            a.engine.apply(T0, &Command::AddVni { vni: other, config: VniConfig::default() }).unwrap();
            let ends = [Destination::Vtep(a.vtep(B)), Destination::Vtep(a.vtep(C)), Destination::Port(a.port)];
            for (n, at) in (1..).zip(ends) {
                for vni in [VNI, other] {
                    let command = Command::AddMac { vni, mac: mac(n), at, kind: EntryKind::Static };
                    let known = vni == VNI || !matches!(at, Destination::Port(_));
                    assert_eq!(a.engine.apply(T0, &command).is_ok(), known);
                }
            }
            a
        };
        let (b, port) = (prepared().vtep(B), prepared().port);
        for (command, stay) in [
            (Command::SetVni { vni: other, config: VniConfig::routed(mac(9)) }, vec![(VNI, 1), (VNI, 2), (VNI, 3)]),
            (Command::RemoveVni { vni: other }, vec![(VNI, 1), (VNI, 2), (VNI, 3)]),
            (Command::RemoveVtep { vtep: b }, vec![(other, 2), (VNI, 2), (VNI, 3)]),
            (Command::RemovePort { port }, vec![(other, 1), (other, 2), (VNI, 1), (VNI, 2)]),
        ] {
            let mut a = prepared();
            a.engine.apply(T0, &command).unwrap();
            let mut left: Vec<_> = a.engine.tables().fdb().iter().map(|e| (e.vni, e.mac)).collect();
            left.sort();
            let stay: Vec<_> = stay.into_iter().map(|(vni, n)| (vni, mac(n))).collect();
            assert_eq!(left, stay, "{command:?}");
        }
    }

    fn full_tables_refuse_and_go_on<M>() {
        let mut a = M::engine(config(A));
        let mut added = 0;
        let refused = (0..).find_map(|n| {
            let vni = Vni::truncate(n);
            match a.apply(T0, &Command::AddVni { vni, config: VniConfig::default() }) {
                Ok(_) => { added += 1; None }
                Err(e) => Some((vni, e)),
            }
        });
        let (vni, error) = refused.unwrap();
        assert_eq!((added, error), (8, VniError::Full(vni).into()));
        let port = |a: &mut Engine<M>| a.apply(T0, &Command::AddPort(PortConfig::new(Vni::truncate(0))));
        for _ in 0..8 {
            port(&mut a).unwrap();
        }
        assert_eq!(port(&mut a), Err(PortError::Full.into()));
        for n in 0..8 {
            a.apply(T0, &Command::AddVtep(VtepConfig::new([10, 0, 0, n + 1].into(), 4789))).unwrap();
        }
        let addr = [10, 0, 0, 99].into();
        assert_eq!(a.apply(T0, &Command::AddVtep(VtepConfig::new(addr, 4789))), Err(VtepError::Full(addr).into()));
    }

    fn flushing_takes_what_was_asked_for_and_never_static_entries<M>() {
        let mut a = Node::<M>::new(A, &[B, C]);
        for n in 1..=6 {
            a.receive(T0, if n % 2 == 0 { B } else { C }, &vxlan(42, &ether(ALL, mac(n), b"")));
        }
        let at = Destination::Vtep(a.vtep(B));
        a.engine.apply(T0, &Command::AddMac { vni: VNI, mac: mac(9), at, kind: EntryKind::Static }).unwrap();
        let flush = |vni, at| Command::FlushMacs { vni, at };
        assert_eq!(a.engine.apply(T0, &flush(Some(Vni::MAX), None)), Ok(Change::Flushed(0)));
        assert_eq!(a.engine.apply(T0, &flush(None, Some(at))), Ok(Change::Flushed(3)));
        assert_eq!(a.engine.apply(T0, &flush(Some(VNI), None)), Ok(Change::Flushed(3)));
        assert_eq!(a.engine.tables().fdb().len(), 1);
    }

    fn settings_that_make_no_sense_make_no_engine<M>() {
        let _ = M::engine(config(A));
        let c = config(A);
        let group = [239, 1, 1, 1].into();
        let mapped = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        for (config, error) in [
            (EngineConfig { local_v4: None, ..c }, ConfigError::NoLocalAddress),
            (EngineConfig { local_v4: Some(group), ..c }, ConfigError::LocalAddress(group.into())),
            (EngineConfig { local_v6: Some(mapped), ..c }, ConfigError::LocalAddress(mapped.into())),
            (EngineConfig { port: 0, ..c }, ConfigError::TunnelPort),
            (EngineConfig { source_ports: (0, 9), ..c }, ConfigError::SourcePorts { first: 0, last: 9 }),
            (EngineConfig { source_ports: (9, 8), ..c }, ConfigError::SourcePorts { first: 9, last: 8 }),
            (EngineConfig { shape: Shape::Ethernet, ..c }, ConfigError::LocalMac(MacAddr::ZERO)),
            (EngineConfig { ttl: 0, ..c }, ConfigError::Ttl),
            (EngineConfig { dscp: 64, ..c }, ConfigError::Dscp(64)),
            (EngineConfig { ageing: core::time::Duration::ZERO, ..c }, ConfigError::Ageing),
            (EngineConfig { ageing: core::time::Duration::MAX, ..c }, ConfigError::Ageing),
        ] {
            assert_eq!(Engine::<Heap>::with_capacity(config, &CAPACITY).err(), Some(error));
            assert!(!error.to_string().is_empty());
        }
        let empty = Capacity { vnis: 0, ..CAPACITY };
        assert!(matches!(Engine::<Heap>::with_capacity(c, &empty), Err(ConfigError::Capacity(_))));
        let huge = Capacity { events: usize::MAX, ..CAPACITY };
        let no_memory = CapacityError::NoMemory { table: "events", entries: usize::MAX };
        assert_eq!(Engine::<Heap>::with_capacity(c, &huge).err(), Some(no_memory.into()));
    }

    fn the_same_commands_give_the_same_ids<M>() {
        let (a, _, _) = furnished::<M>();
        let (b, _, _) = furnished::<M>();
        assert_eq!(snapshot(&a.engine), snapshot(&b.engine));
    }


    fn an_address_set_by_hand_that_takes_anothers_place_is_counted<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let (at, kind) = (Destination::Vtep(a.vtep(B)), EntryKind::Learned);
        let mut evicted = Vec::new();
        for n in 1..=400u16 {
            let [high, low] = n.to_be_bytes();
            let mac = MacAddr([2, 0, 0, 0, high, low]);
            // The second time it replaces itself, which evicts nobody.
            for _ in 0..2 {
                if let Change::Mac(e) = a.engine.apply(T0, &Command::AddMac { vni: VNI, mac, at, kind }).unwrap()
                    && e.mac != mac
                {
                    evicted.push(Event::Evicted { vni: VNI, mac: e.mac, at });
                }
            }
        }
        assert!(evicted.len() > 100);
        assert_eq!(a.engine.counters().evicted, evicted.len() as u64);
        let told = a.events();
        assert_eq!(told, evicted[..told.len()]);
    }
}

/// Nothing of a port or route remains where a list or table behind it is full.
#[test]
fn a_list_or_arena_that_is_full_refuses_and_leaves_no_trace() {
    let (one, two) = (Vni::truncate(1), Vni::truncate(2));
    let small = Capacity { flood_members: 1, routes_v4: 4, routes_v6: 4, ..CAPACITY };
    let mut a = Engine::<Heap>::with_capacity(config(A), &small).unwrap();
    for vni in [one, two] {
        a.apply(T0, &Command::AddVni { vni, config: VniConfig::routed(mac(1)) }).unwrap();
    }
    let vtep = VtepConfig { inner_mac: Some(mac(2)), ..VtepConfig::new(B, 4789) };
    let vtep = a.apply(T0, &Command::AddVtep(vtep)).unwrap().vtep().unwrap();
    a.apply(T0, &Command::AddPort(PortConfig::new(one))).unwrap();
    let before = snapshot(&a);
    for command in [Command::AddPort(PortConfig::new(two)), Command::AddFlood { vni: one, vtep }] {
        assert_eq!(a.apply(T0, &command), Err(FloodError::Full.into()));
        assert_eq!(snapshot(&a), before);
    }
    // Scattered, so that they share nothing.
    let prefixes = |n: u16| -> [IpPrefix; 2] {
        let n = n.wrapping_mul(40_503);
        let [high, low] = n.to_be_bytes();
        [
            Ipv4Prefix::new([high, low, high ^ low, low].into(), 32).unwrap().into(),
            Ipv6Prefix::new([n, !n, n, n, !n, n, 0, n].into(), 128).unwrap().into(),
        ]
    };
    for family in [0, 1] {
        let refused = (1..1_000).find_map(|n| {
            let prefix = prefixes(n)[family];
            let before = snapshot(&a);
            let error =
                a.apply(T0, &Command::AddRoute { vni: one, prefix, next_hop: NextHop::Vtep(vtep) }).err()?;
            Some((prefix, error, before))
        });
        let (prefix, error, before) = refused.unwrap();
        assert_eq!(error, RouteError::Full(prefix).into());
        assert_eq!(snapshot(&a), before, "and the VTEP counts no route that is not there");
    }
}

/// An index smaller than advised may have no place for an address even where a record is free.
#[test]
fn a_vtep_that_finds_no_place_in_the_index_takes_nobodys() {
    type Tight = Inline<{ groups_for(200) }, 64, 7, 4, 40, 4, 32, 64>;
    let open = VniConfig { accept: Accept::AnySource, ..VniConfig::default() };
    let mut refusals = 0;
    for seed in 0..32 {
        let config = EngineConfig { seed: Seed::fixed(seed), ..config(A) };
        let mut a = Node::<Tight>::with(config, A, open, &[]);
        for n in 1..=200u8 {
            a.receive(T0, [203, 0, 113, n].into(), &vxlan(42, &ether(ALL, mac(n), b"")));
        }
        let full = a.engine.tables().vteps().len() == a.engine.tables().vteps().capacity();
        for n in (1..=200u8).filter(|_| full) {
            let (before, config) = (snapshot(&a.engine), VtepConfig::new([10, 0, 0, n].into(), 4789));
            if let Err(error) = a.engine.apply(T0, &Command::AddVtep(config)) {
                assert_eq!(error, VtepError::Full(config.addr).into());
                assert_eq!(snapshot(&a.engine), before, "seed {seed}, {}", config.addr);
                refusals += usize::from(before.contains("Learned"));
            }
        }
    }
    assert!(refusals > 0);
}
