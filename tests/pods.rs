//! Two pods in one process talk TCP through VXLAN: smoltcp on both ends, two engines between.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use overlane::engine::{Capacity, Command, Engine, EngineConfig, Frame, Heap, Replica, Verdict};
use overlane::smoltcp::PodDevice;
use overlane::table::Seed;
use overlane::table::port::PortConfig;
use overlane::table::vni::VniConfig;
use overlane::table::vtep::VtepConfig;
use overlane::time::Instant;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, IpCidr};

const VNI: Vni = Vni::truncate(42);
const MTU: u16 = 1430;

fn mac(n: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, n])
}

fn underlay(n: u8, v6: bool) -> IpAddr {
    match v6 {
        false => Ipv4Addr::new(192, 0, 2, n).into(),
        true => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()).into(),
    }
}

fn pod_addr(n: u8, v6: bool) -> IpAddr {
    match v6 {
        false => Ipv4Addr::new(10, 244, 0, n).into(),
        true => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into()).into(),
    }
}

/// A node with one pod: everything that a host which embeds the engine has.
struct Node {
    addr: IpAddr,
    engine: Engine<Heap>,
    port: PortId,
    peer: VtepId,
    device: PodDevice<Box<[u8]>>,
    interface: Interface,
    sockets: SocketSet<'static>,
}

impl Node {
    fn new(n: u8, peer: u8, underlay_v6: bool, frames: usize) -> Node {
        let (now, addr) = (Instant::ZERO, underlay(n, underlay_v6));
        let config = EngineConfig::new(addr, Seed::fixed(n.into()));
        let mut engine = Engine::with_capacity(config, &Capacity::default()).unwrap();
        engine.apply(now, &Command::AddVni { vni: VNI, config: VniConfig::default() }).unwrap();
        let port = engine.apply(now, &Command::AddPort(PortConfig::new(VNI))).unwrap().port().unwrap();
        let vtep = VtepConfig::new(underlay(peer, underlay_v6), 4789);
        let vtep = engine.apply(now, &Command::AddVtep(vtep)).unwrap().vtep().unwrap();
        engine.apply(now, &Command::AddFlood { vni: VNI, vtep }).unwrap();

        let mut device = PodDevice::with_capacity(MTU, frames);
        let mut config = Config::new(EthernetAddress(mac(n).0).into());
        config.random_seed = n.into();
        let mut interface = Interface::new(config, &mut device, smoltcp::time::Instant::ZERO);
        interface.update_ip_addrs(|addrs| {
            for (v6, prefix) in [(false, 24), (true, 64)] {
                addrs.push(IpCidr::new(pod_addr(n, v6).into(), prefix)).unwrap();
            }
        });
        Node { addr, engine, port, peer: vtep, device, interface, sockets: SocketSet::new(Vec::new()) }
    }

    fn socket(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 16_384]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    /// Lets the pod work, and carries what it sent to the other node.
    fn work(&mut self, now: Instant, other: &mut Node) {
        let stack_time = smoltcp::time::Instant::from_millis(now.as_millis() as i64);
        self.interface.poll(stack_time, &mut self.device, &mut self.sockets);
        while let Some(frame) = self.device.take() {
            let mut frames = [frame];
            self.engine.encap(now, self.port, &mut frames).unwrap();
            match frames[0].verdict() {
                Some(Verdict::ToUnderlay(vtep)) => {
                    assert_eq!(vtep, self.peer);
                    other.receive(now, self.addr, frames[0].bytes_mut());
                }
                Some(Verdict::Flood(_)) => {
                    for replica in self.engine.replicas(&frames[0]) {
                        let Replica::Underlay { header, .. } = replica else { panic!("{replica:?}") };
                        let mut datagram = [header.as_slice(), frames[0].bytes()].concat();
                        other.receive(now, self.addr, &mut datagram);
                    }
                }
                verdict => panic!("{verdict:?}"),
            }
        }
    }

    fn receive(&mut self, now: Instant, from: IpAddr, datagram: &mut [u8]) {
        let len = datagram.len();
        let mut frames = [Frame::new(datagram, 0..len).unwrap().with_source(from)];
        self.engine.decap(now, &mut frames);
        match frames[0].verdict() {
            Some(Verdict::ToPort(port)) => assert_eq!(port, self.port),
            Some(Verdict::Flood(_)) => {
                let replicas: Vec<Replica> = self.engine.replicas(&frames[0]).collect();
                assert_eq!(replicas, [Replica::Port(self.port)]);
            }
            verdict => panic!("{verdict:?}"),
        }
        if let Err(reason) = self.device.deliver(frames[0].bytes()) {
            self.engine.count_drop(reason, Some(VNI), None, Some(self.port));
        }
    }
}

/// Sends `data` from pod 1 to pod 2 and gives what arrived, and the two nodes.
fn transfer(data: &[u8], underlay_v6: bool, inner_v6: bool, frames: usize) -> (Vec<u8>, Node, Node) {
    let (mut a, mut b) = (Node::new(1, 2, underlay_v6, frames), Node::new(2, 1, underlay_v6, frames));
    let (client, server) = (a.socket(), b.socket());
    b.sockets.get_mut::<tcp::Socket>(server).listen(80).unwrap();
    let socket = a.sockets.get_mut::<tcp::Socket>(client);
    socket.connect(a.interface.context(), (pod_addr(2, inner_v6), 80), 40_000).unwrap();

    let (mut sent, mut received) = (0, Vec::new());
    for ms in 0..60_000 {
        let now = Instant::from_millis(ms);
        a.work(now, &mut b);
        b.work(now, &mut a);
        let socket = a.sockets.get_mut::<tcp::Socket>(client);
        if socket.can_send() && sent < data.len() {
            sent += socket.send_slice(&data[sent..]).unwrap();
            if sent == data.len() {
                socket.close();
            }
        }
        let socket = b.sockets.get_mut::<tcp::Socket>(server);
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), received.extend_from_slice(bytes))).unwrap();
        }
        if !socket.may_recv() && received.len() >= data.len() {
            break;
        }
    }
    (received, a, b)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8)) as u8).collect()
}

#[test]
fn tcp_crosses_the_tunnel_and_the_pods_resolve_each_other() {
    let data = pattern(200_000);
    for (underlay_v6, inner_v6) in [(false, false), (false, true), (true, false), (true, true)] {
        let (received, a, b) = transfer(&data, underlay_v6, inner_v6, 32);
        assert!(
            received == data,
            "underlay v6 {underlay_v6}, inner v6 {inner_v6}: {} octets",
            received.len()
        );
        for (node, other) in [(&a, 2), (&b, 1)] {
            let now = Instant::from_secs(60);
            let entry = node.engine.tables().fdb().entry(now, VNI, mac(other)).unwrap();
            assert_eq!(entry.destination, Destination::Vtep(node.peer));
            assert_eq!(node.engine.counters().drops.total(), 0);
            assert_eq!((node.device.counters().full, node.device.counters().too_long), (0, 0));
        }
        // The request for the address was flooded; all else went straight to its VTEP.
        assert!((1..=2).contains(&a.engine.counters().flooded), "{:?}", a.engine.counters());
    }
}

#[test]
fn tcp_gets_through_queues_of_one_frame() {
    let data = pattern(20_000);
    for inner_v6 in [false, true] {
        let (received, ..) = transfer(&data, false, inner_v6, 1);
        assert!(received == data, "inner v6 {inner_v6}: {} octets", received.len());
    }
}
