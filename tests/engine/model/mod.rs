//! An engine beside a naive one that is written from the documentation: maps, lists and no short ways.
//!
//! Random changes and frames are given to both; verdicts, bytes, copies, events and counters must be the same. The
//! memory is such that nothing is evicted; who is evicted is the FDB's business and tested there.

mod given;
mod naive;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::*;
use overlane::engine::*;
use overlane::error::DropReason;
use overlane::table::Seed;
use overlane::table::fdb::groups_for;
use overlane::table::vtep::Origin;
use overlane::time::Instant;
use overlane::wire::vxlan::{GroupPolicy, VxlanPolicy};

use self::given::*;
use self::naive::*;
use crate::world::*;

const VNIS: usize = 3;
const VTEPS: usize = 5;
const PORTS: usize = 5;
const NODES: usize = 4;
type Tables = Inline<{ groups_for(400) }, 1024, 16, VNIS, VTEPS, PORTS, NODES, 1024>;

const NUMBERS: [u32; 4] = [0, 1, 42, 0xff_ffff];
/// Not a multiple of what the stamps count in, and far from any whole second.
const AGEING: core::time::Duration = core::time::Duration::from_millis(300_500);
/// What is a sixteenth of it or less old is not learned again.
const FRESH: u64 = 18;
const ROUTER: MacAddr = mac(0xa0);

/// An engine and its model.
struct Pair {
    engine: Engine<Tables>,
    model: Model,
    r: Random,
}

impl Pair {
    fn new(seed: u64) -> Pair {
        let group_policy = seed % 4 < 2;
        let config = EngineConfig {
            ageing: AGEING,
            local_v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xff)),
            vxlan: VxlanPolicy { group_policy, ..VxlanPolicy::default() },
            seed: Seed::fixed(seed),
            ..config(A)
        };
        let engine = Engine::new(config, Parts::default(), ContextParts::default()).unwrap();
        let model = Model {
            networks: BTreeMap::new(),
            peers: vec![None; VTEPS],
            locals: vec![None; PORTS],
            stations: BTreeMap::new(),
            totals: Totals::default(),
            events: vec![],
            now: 1_000_000,
            group_policy,
        };
        Pair { engine, model, r: Random { state: seed, limited: seed.is_multiple_of(2) } }
    }

    fn now(&self) -> Instant {
        Instant::from_secs(self.model.now)
    }

    fn command(&mut self) {
        let (command, before) = (command(&mut self.r), snapshot(&self.engine));
        let got = self.engine.apply(self.now(), &command);
        assert_eq!(got.ok(), self.model.apply(&command), "{command:?}: {got:?}");
        assert!(got.is_ok() || snapshot(&self.engine) == before, "{command:?} was refused");
    }

    fn replicas(&self, frame: &Frame<'_>) -> Vec<Sent> {
        let copies = self.engine.replicas(frame).map(|replica| match replica {
            Replica::Port(p) => Sent::Port(p),
            Replica::Underlay { vtep, header } => Sent::Vtep(vtep, header.to_vec()),
        });
        copies.collect()
    }

    fn encap(&mut self) {
        let port = PortId(self.r.below(PORTS) as u16);
        let count = self.r.of(&[0, 1, 2, 3, 31, 32, 33, 70]);
        let inners: Vec<_> = (0..count).map(|_| inner(&mut self.r)).collect();
        let headrooms: Vec<_> =
            (0..count).map(|_| if self.r.one_in(20) { self.r.below(9) } else { HEADROOM }).collect();
        let mut buffers: Vec<_> =
            inners.iter().zip(&headrooms).map(|(f, h)| [vec![0; *h], f.bytes()].concat()).collect();
        let ends: Vec<_> = buffers.iter().map(Vec::len).collect();
        let places = headrooms.iter().zip(ends).map(|(start, end)| *start..end);
        let mut frames: Vec<_> =
            buffers.iter_mut().zip(places).map(|(b, at)| Frame::new(b, at).unwrap()).collect();
        let now = self.now();
        if self.model.locals[usize::from(port.0)].is_none() {
            assert!(self.engine.encap(now, port, &mut frames).is_err());
            assert!(frames.iter().all(|f| f.verdict().is_none()));
            return;
        }
        let explained: Vec<_> =
            inners.iter().map(|f| self.engine.explain_encap(now, port, &f.bytes(), 0).unwrap()).collect();
        self.engine.encap(now, port, &mut frames).unwrap();
        for (n, (frames, inners)) in frames.chunks(BATCH).zip(inners.chunks(BATCH)).enumerate() {
            let mut lessons = vec![];
            for (at, (frame, inner)) in (n * BATCH..).zip(frames.iter().zip(inners)) {
                let expected = self.model.encap(port, inner, headrooms[at], &mut lessons);
                let got = (frame.verdict().unwrap(), frame.bytes().to_vec(), self.replicas(frame));
                assert_eq!(got, expected, "{inner:?}");
                let same =
                    got.0 == Verdict::Drop(DropReason::NoHeadroom) || explained[at].verdict() == Some(got.0);
                assert!(same || n > 0, "{inner:?}: {}", explained[at]);
            }
            self.model.learn(lessons);
        }
    }

    fn datagram(&mut self) -> Datagram {
        let r = &mut self.r;
        let strange = r.of(&[IpAddr::V4(Ipv4Addr::UNSPECIFIED), A, [224, 0, 0, 1].into()]);
        let source = match r.below(30) {
            0 => None,
            1 => Some(strange),
            _ => Some(addr(r.below(7))),
        };
        let group = r.one_in(6).then(|| GroupPolicy { id: 9, dont_learn: r.one_in(2), applied: false });
        let vni = Vni::truncate(r.of(&NUMBERS));
        Datagram { source, ecn: r.below(4) as u8, valid: !r.one_in(30), vni, group, inner: inner(r) }
    }

    fn decap(&mut self) {
        let count = self.r.of(&[0, 1, 2, 3, 31, 32, 33, 70]);
        let datagrams: Vec<_> = (0..count).map(|_| self.datagram()).collect();
        let mut buffers: Vec<_> = datagrams.iter().map(Datagram::bytes).collect();
        let explained: Vec<_> = datagrams
            .iter()
            .zip(&buffers)
            .map(|(d, b)| self.engine.explain_decap(self.now(), d.source, d.ecn, b).verdict())
            .collect();
        let mut frames: Vec<_> = buffers
            .iter_mut()
            .zip(&datagrams)
            .map(|(b, d)| {
                let end = b.len();
                let frame = Frame::new(b, 0..end).unwrap().with_ecn(d.ecn);
                d.source.into_iter().fold(frame, Frame::with_source)
            })
            .collect();
        self.engine.decap(self.now(), &mut frames);
        for (n, (frames, datagrams)) in frames.chunks(BATCH).zip(datagrams.chunks(BATCH)).enumerate() {
            let mut lessons = vec![];
            for (at, (frame, datagram)) in (n * BATCH..).zip(frames.iter().zip(datagrams)) {
                let expected = self.model.decap(datagram, &mut lessons);
                let got = (frame.verdict().unwrap(), frame.bytes().to_vec(), self.replicas(frame));
                assert_eq!(got, expected, "{datagram:?}");
                assert!(n > 0 || explained[at] == Some(got.0), "{datagram:?}");
            }
            self.model.learn(lessons);
        }
    }

    fn pass_time(&mut self) {
        if !self.r.limited && self.r.one_in(2) {
            self.model.now = self.model.now + self.r.below(20) as u64 - self.r.below(6) as u64;
            return;
        }
        let (budget, far) = (self.r.of(&[1, 3, 50, 10_000]), self.r.of(&[61, 100, 299, 301, 86_400 * 30]));
        // What was there when there was nothing to look at any more, a pass may begin with; the next one has all.
        for passed in [far, 31] {
            self.model.now += passed;
            let now = self.now();
            while self.engine.next_timeout().is_some_and(|due| due <= now) {
                self.engine.handle_timeout(now, budget);
            }
        }
        self.model.sweep();
        // A sweep goes by places.
        let mut told: Vec<_> =
            core::iter::from_fn(|| self.engine.poll_event()).map(|e| e.to_string()).collect();
        let mut expected: Vec<_> = self.model.events.drain(..).map(|e| e.to_string()).collect();
        told.sort();
        expected.sort();
        assert_eq!(told, expected);
    }

    /// All that can be seen of both is the same.
    fn compare(&mut self) {
        let told: Vec<_> = core::iter::from_fn(|| self.engine.poll_event()).collect();
        assert_eq!(told, core::mem::take(&mut self.model.events));
        let (m, t) = (&self.model, self.engine.tables());
        assert_eq!(t.vnis().len(), m.networks.len());
        for (vni, network) in &m.networks {
            let index = t.vnis().index_of(*vni).unwrap();
            assert_eq!(t.vnis().get(index).unwrap().config, network.config);
            assert!(t.floods().ports(index).eq(network.ports.iter().copied()), "{vni}");
            assert!(t.floods().vteps(index).eq(network.vteps.iter().copied()), "{vni}");
            let four =
                t.routes_v4().iter(index.0).map(|(a, len, hop)| (IpPrefix::new(a.into(), len).unwrap(), hop));
            let six =
                t.routes_v6().iter(index.0).map(|(a, len, hop)| (IpPrefix::new(a.into(), len).unwrap(), hop));
            assert_eq!(four.chain(six).collect::<BTreeMap<_, _>>(), network.routes);
            assert_eq!(
                ScopeCount::of(self.engine.vni_counters(*vni).unwrap()),
                network.counters,
                "VNI {vni}"
            );
        }
        assert_eq!(t.floods().free_nodes(), m.free_nodes());
        for (n, peer) in m.peers.iter().enumerate() {
            let id = VtepId(n as u16);
            let (got, counters) = (self.engine.vtep(id), self.engine.vtep_counters(id).map(ScopeCount::of));
            assert_eq!(
                got.map(|v| (v.config, v.origin == Origin::Learned)),
                peer.as_ref().map(|p| (p.config, p.learned))
            );
            assert_eq!(got.map_or(0, |v| v.routes as usize), m.routes_to(NextHop::Vtep(id)));
            assert_eq!(counters.as_ref(), peer.as_ref().map(|p| &p.counters), "{id}");
            assert_eq!(t.fdb().learned_by(Destination::Vtep(id)), m.held(Destination::Vtep(id)));
        }
        for (n, local) in m.locals.iter().enumerate() {
            let id = PortId(n as u16);
            let counters = self.engine.port_counters(id).map(ScopeCount::of);
            assert_eq!(t.ports().get(id).map(|p| p.config), local.as_ref().map(|p| p.config));
            assert_eq!(counters.as_ref(), local.as_ref().map(|p| &p.counters), "{id}");
        }
        let mut entries: Vec<_> = t.fdb().iter().collect();
        entries.sort_by_key(|e| (e.vni, e.mac));
        assert!(m.stations.iter().map(|((vni, mac), s)| Model::entry(*vni, *mac, s)).eq(entries));
        let c = self.engine.counters();
        let plain = [
            c.encap_frames,
            c.decap_frames,
            c.to_underlay,
            c.to_port,
            c.flooded,
            c.learned,
            c.moved,
            c.aged,
            c.not_learned,
        ];
        assert_eq!((plain, c.evicted, c.events_lost), (m.totals.plain, 0, 0));
        assert_eq!(c.drops.iter().collect::<BTreeMap<_, _>>(), m.totals.drops);
        assert_eq!(c.punts.iter().collect::<BTreeMap<_, _>>(), m.totals.punts);
    }
}

#[test]
fn an_engine_does_what_its_documentation_says() {
    for seed in 0..24 {
        let mut pair = Pair::new(seed);
        for step in 0..400 {
            let what = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                match pair.r.below(10) {
                    0..=4 => pair.command(),
                    5 | 6 => pair.encap(),
                    7 | 8 => pair.decap(),
                    _ => pair.pass_time(),
                }
                pair.compare();
            }));
            assert!(what.is_ok(), "seed {seed}, step {step}");
        }
    }
}
