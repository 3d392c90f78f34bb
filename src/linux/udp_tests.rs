use super::*;
use crate::linux::{BUFFER_LEN, Poll};
use crate::table::Seed;
use alloc::vec;
use core::time::Duration;
use std::os::fd::AsRawFd;

fn pair(addr: &str, config: &UnderlayConfig) -> (Underlay, Underlay) {
    let addr = addr.parse().unwrap();
    (Underlay::bind(addr, config).unwrap(), Underlay::bind(addr, config).unwrap())
}

fn receive(socket: &mut Underlay, buf: &mut [u8]) -> Option<Datagram> {
    Poll::default().wait([(socket.as_fd(), false)], Some(Duration::from_secs(5))).unwrap();
    socket.recv(buf).unwrap()
}

const LOCAL: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

#[test]
fn parts_arrive_as_one_datagram_with_the_ecn_field() {
    for local in LOCAL {
        let (mut a, mut b) = pair(local, &UnderlayConfig::default());
        let mut buf = vec![0; BUFFER_LEN];
        assert_eq!(b.recv(&mut buf).unwrap(), None, "nothing waits");
        for ecn in 0..4 {
            assert_eq!(
                a.send(&[b"VXLAN---", b"", b"frame"], b.local_addr(), Some(ecn)).unwrap(),
                Sent::Taken
            );
            let got = receive(&mut b, &mut buf).unwrap();
            assert_eq!(got, Datagram { len: 13, from: a.local_addr(), ecn }, "{local}");
            assert_eq!(&buf[..13], b"VXLAN---frame");
        }
        assert_eq!(a.send(&[b"x"], b.local_addr(), None).unwrap(), Sent::Taken);
        assert_eq!(receive(&mut b, &mut buf).unwrap().ecn, 0);
    }
}

#[test]
fn zero_checksums_and_fragmenting_are_accepted_options() {
    for local in LOCAL {
        let config = UnderlayConfig {
            dont_fragment: false,
            zero_checksum: true,
            accept_zero_checksum6: true,
            ..UnderlayConfig::default()
        };
        let (mut a, mut b) = pair(local, &config);
        assert_eq!(a.send(&[b"zero"], b.local_addr(), None).unwrap(), Sent::Taken);
        assert_eq!(receive(&mut b, &mut [0; 64]).unwrap().len, 4, "{local}");
    }
}

#[test]
fn too_long_for_the_buffer_is_counted_and_the_next_is_read() {
    let (mut a, mut b) = pair(LOCAL[0], &UnderlayConfig::default());
    for part in [&[1u8; 100][..], &[2; 10]] {
        assert_eq!(a.send(&[part], b.local_addr(), None).unwrap(), Sent::Taken);
    }
    let mut buf = [0; 50];
    assert_eq!(receive(&mut b, &mut buf).unwrap().len, 10);
    assert_eq!(buf[0], 2);
    assert_eq!(b.counters(), UnderlayCounters { truncated: 1, icmp_errors: 0 });
}

#[test]
fn too_long_for_udp_or_too_many_parts_is_refused() {
    let (mut a, b) = pair(LOCAL[0], &UnderlayConfig::default());
    let big = vec![0; 65_508];
    assert_eq!(a.send(&[&big], b.local_addr(), None).unwrap(), Sent::Refused(Refused::TooBig));
    assert_eq!(a.send(&[&b"x"[..]; 5], b.local_addr(), None).unwrap(), Sent::Refused(Refused::TooBig));
}

#[test]
fn a_closed_port_does_not_stop_the_socket() {
    let (mut a, mut b) = pair(LOCAL[0], &UnderlayConfig::default());
    let gone = Underlay::bind(LOCAL[0].parse().unwrap(), &UnderlayConfig::default()).unwrap().local_addr();
    for _ in 0..3 {
        let _ = a.send(&[b"x"], gone, None).unwrap();
    }
    assert_eq!(a.recv(&mut [0; 64]).unwrap(), None);
    assert_eq!(a.send(&[b"y"], b.local_addr(), None).unwrap(), Sent::Taken);
    assert_eq!(receive(&mut b, &mut [0; 64]).unwrap().len, 1);
}

/// TOS or traffic class, and TTL or hop limit, as the socket has them.
fn header_options(socket: &Underlay) -> (i32, i32) {
    let own = Options::of(socket.local_addr());
    let get = |option| sys::get_option(socket.as_fd(), option).unwrap();
    (get(own.class), get(own.hops))
}

#[test]
fn ttl_and_dscp_of_what_is_sent() {
    for local in LOCAL {
        let (mut a, mut b) = pair(local, &UnderlayConfig { ttl: 33, dscp: 46, ..UnderlayConfig::default() });
        assert_eq!(header_options(&a), (46 << 2, 33), "{local}");
        // A datagram's own traffic class replaces the socket's, and must say both.
        assert_eq!([0, 1, 2, 3].map(|ecn| a.tos(ecn)), [None, Some(0xb9), Some(0xba), Some(0xbb)]);
        for ecn in [0, 3] {
            assert_eq!(a.send(&[b"x"], b.local_addr(), Some(ecn)).unwrap(), Sent::Taken);
            assert_eq!(receive(&mut b, &mut [0; 64]).unwrap().ecn, ecn);
        }
    }
    let engine = EngineConfig {
        ttl: 1,
        dscp: 8,
        dont_fragment: false,
        ..EngineConfig::new([127, 0, 0, 1].into(), Seed::fixed(1))
    };
    let of = UnderlayConfig::of(&engine);
    assert_eq!(
        (of.ttl, of.dscp, of.dont_fragment, of.buffer),
        (1, 8, false, UnderlayConfig::default().buffer)
    );
    for (config, why) in [
        (UnderlayConfig { ttl: 0, ..of }, "a TTL of 0 reaches nobody: give 1 to 255"),
        (UnderlayConfig { dscp: 64, ..of }, "a DSCP has six bits: give 0 to 63"),
    ] {
        let error = Underlay::bind(LOCAL[0].parse().unwrap(), &config).unwrap_err();
        assert!(error.to_string().ends_with(why), "{error}");
    }
}

/// A socket that was bound outside, and that is connected: such a one is told of ICMP errors.
#[test]
fn the_error_of_one_datagram_costs_no_other() {
    for local in LOCAL {
        let (_, mut b) = pair(local, &UnderlayConfig::default());
        let gone = UdpSocket::bind(local).unwrap().local_addr().unwrap();
        let socket = UdpSocket::bind(local).unwrap();
        socket.connect(gone).unwrap();
        let mut a = Underlay::from_socket(socket, &UnderlayConfig::default()).unwrap();
        assert_eq!(a.send(&[b"to nobody"], gone, None).unwrap(), Sent::Taken);
        assert_eq!(a.send(&[b"to b"], b.local_addr(), None).unwrap(), Sent::Taken, "{local}");
        assert_eq!(receive(&mut b, &mut [0; 64]).unwrap().len, 4);
    }
}

/// What a socket from outside was told before would cut, hold back or report what is sent.
#[test]
fn options_of_a_socket_from_outside_are_turned_off() {
    for local in LOCAL {
        let own = Options::of(local.parse().unwrap());
        for (option, value) in [
            (own.error_queue, 1),
            IntOption::TRANSMIT_STAMPS,
            (IntOption::UDP_SEGMENT, 3),
            (IntOption::UDP_CORK, 1),
        ] {
            let (_, mut b) = pair(local, &UnderlayConfig::default());
            let socket = UdpSocket::bind(local).unwrap();
            sys::set_option(socket.as_fd(), option, value).unwrap();
            let gone = UdpSocket::bind(local).unwrap().local_addr().unwrap();
            if option != IntOption::UDP_CORK {
                let _ = socket.send_to(b"to nobody", gone);
            }
            let mut a = Underlay::from_socket(socket, &UnderlayConfig::default()).unwrap();
            assert_eq!(a.send(&[b"to b"], b.local_addr(), None).unwrap(), Sent::Taken);
            assert_eq!(receive(&mut b, &mut [0; 64]).unwrap().len, 4, "{local} {option:?}");
            assert_eq!(a.recv(&mut [0; 64]).unwrap(), None);
            let ready = Poll::default().wait([(a.as_fd(), false)], Some(Duration::ZERO)).unwrap();
            assert_eq!(ready, 0, "{local} {option:?}: an error that no call reports");
        }
    }
}

#[test]
fn an_address_that_is_taken_or_not_here() {
    let a = Underlay::bind(LOCAL[0].parse().unwrap(), &UnderlayConfig::default()).unwrap();
    let error = Underlay::bind(a.local_addr(), &UnderlayConfig::default()).unwrap_err();
    let want = alloc::format!("cannot bind UDP {}: EADDRINUSE; another program", a.local_addr());
    assert!(error.to_string().starts_with(&want), "{error}");
    let error = Underlay::bind("192.0.2.1:0".parse().unwrap(), &UnderlayConfig::default()).unwrap_err();
    assert_eq!(error.errno(), Some(errno::EADDRNOTAVAIL));
}

#[test]
fn a_group_shares_an_address_with_nobody_else() {
    const SOCKETS: usize = 3;
    let config = UnderlayConfig::default();
    for local in LOCAL {
        let mut group = Underlay::bind_group(local.parse().unwrap(), &config, SOCKETS).unwrap();
        let addr = group[0].local_addr();
        assert_ne!(addr.port(), 0);
        assert_eq!(group.iter().map(Underlay::local_addr).collect::<Vec<_>>(), [addr; SOCKETS]);
        // Each sender reaches one of them; that 1,000 leave one out does not happen.
        let mut got = [0; SOCKETS];
        for _ in 0..1000 {
            UdpSocket::bind(local).unwrap().send_to(b"x", addr).unwrap();
            Poll::default()
                .wait(group.iter().map(|s| (s.as_fd(), false)), Some(Duration::from_secs(60)))
                .unwrap();
            let all: usize = group.iter_mut().zip(&mut got).fold(0, |all, (socket, got)| {
                let here = usize::from(socket.recv(&mut [0; 64]).unwrap().is_some());
                *got += here;
                all + here
            });
            assert_eq!(all, 1, "{local}: each datagram arrives once");
            if !got.contains(&0) {
                break;
            }
        }
        assert!(!got.contains(&0), "{local}: {got:?}");

        let want = alloc::format!("cannot bind UDP {addr}: EADDRINUSE; another program");
        for sockets in [1, SOCKETS] {
            let error = Underlay::bind_group(addr, &config, sockets).unwrap_err();
            assert!(error.to_string().starts_with(&want), "{error}");
        }
        let error = Underlay::bind(addr, &config).unwrap_err();
        assert!(error.to_string().starts_with(&want), "{error}");
        // What the kernel chooses for another group is not the address of this one.
        let other = Underlay::bind_group(local.parse().unwrap(), &config, SOCKETS).unwrap();
        assert_ne!(other[0].local_addr(), addr);
    }
}

#[test]
fn a_socket_from_outside() {
    let socket = UdpSocket::bind(LOCAL[0]).unwrap();
    let mut a = Underlay::from_socket(socket, &UnderlayConfig::default()).unwrap();
    assert!(a.receive_buffer() > 0);
    assert_eq!(a.recv(&mut [0; 64]).unwrap(), None, "made non-blocking");
    let both = UdpSocket::bind("[::]:0").unwrap();
    let error = Underlay::from_socket(both, &UnderlayConfig::default()).unwrap_err();
    assert!(error.to_string().ends_with("it is not IPV6_V6ONLY"), "{error}");
}

#[test]
fn a_descriptor_that_is_no_udp_socket_is_refused() {
    let tcp = std::net::TcpListener::bind(LOCAL[0]).unwrap();
    let disguised = UdpSocket::from(OwnedFd::from(tcp));
    let error = Underlay::from_socket(disguised, &UnderlayConfig::default()).unwrap_err();
    assert!(error.to_string().ends_with("it is not a UDP socket"), "{error}");
    let file = std::fs::File::open("/dev/null").unwrap();
    let number = file.as_raw_fd();
    let error = Underlay::from_inherited(number, &UnderlayConfig::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        alloc::format!(
            "cannot read the address of descriptor {number}: ENOTSOCK; it must be a UDP socket that is bound"
        )
    );
}

#[test]
fn the_mtu_of_a_route_is_that_of_its_interface() {
    let ip = |text: &str| text.parse().unwrap();
    assert!(Underlay::route_mtu(ip("127.0.0.1"), ip("127.0.0.2")).unwrap() >= 1280);
    assert!(Underlay::route_mtu(ip("::1"), ip("::1")).unwrap() >= 1280);
    let error = Underlay::route_mtu(ip("127.0.0.1"), ip("240.0.0.1")).unwrap_err();
    assert!(error.to_string().starts_with("cannot find the MTU of the route to 240.0.0.1: "), "{error}");
}
