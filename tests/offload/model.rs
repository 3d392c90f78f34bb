//! Cutting, the naive way: each segment is described and made as if it were alone.

use proptest::prelude::*;

use crate::make::*;

/// The segments of a superframe by the kernel's rules.
pub fn cut(whole: &Make, gso_size: usize) -> Vec<Make> {
    let mut payloads: Vec<_> = whole.payload.chunks(gso_size).collect();
    if payloads.is_empty() {
        payloads.push(&[]);
    }
    let last = payloads.len() - 1;
    let segment = |(n, payload): (usize, &&[u8])| {
        let mut flags = whole.flags;
        if n != 0 {
            flags &= !CWR;
        }
        if n != last {
            flags &= !(FIN | PSH);
        }
        Make {
            payload: payload.to_vec(),
            seq: whole.seq.wrapping_add((n * gso_size) as u32),
            id: whole.id.wrapping_add(n as u16),
            flags,
            check: Check::Right,
            ..whole.clone()
        }
    };
    payloads.iter().enumerate().map(segment).collect()
}

/// Any TCP segment or UDP datagram of any length that is no fragment.
pub fn any_make(payload: std::ops::Range<usize>) -> impl Strategy<Value = Make> {
    let outside = (any::<[bool; 2]>(), prop::collection::vec(any::<u16>(), 0..=2), 0..11usize);
    let extension = (prop::sample::select(vec![0u8, 43, 60]), (1..4usize).prop_map(|n| n * 8));
    let ip = (
        prop::collection::vec(extension, 0..3),
        any::<(u8, u16, u8, u8)>(),
        0..1u32 << 20,
        any::<bool>().prop_map(|df| if df { 0x4000 } else { 0 }),
    );
    let tcp = (any::<(u32, u32, u16, u16)>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..11));
    let rest = (any::<(u16, u16)>(), prop::collection::vec(any::<u8>(), payload));
    (outside, ip, tcp, rest).prop_map(|(outside, ip, tcp, rest)| {
        let ([is_tcp, v6], tags, ip_options) = outside;
        let (extensions, (tos, id, ttl, host), label, fragment) = ip;
        let ((seq, ack, window, urgent), flags, options) = tcp;
        Make {
            tcp: is_tcp,
            v6,
            tags,
            ip_options: vec![1; if v6 { 0 } else { ip_options * 4 }],
            extensions: if v6 { extensions } else { vec![] },
            tos,
            label,
            id,
            fragment,
            ttl,
            host,
            ports: rest.0,
            seq,
            ack,
            flags,
            window,
            urgent,
            options: if is_tcp { options.iter().flat_map(|o| [*o; 4]).collect() } else { vec![] },
            payload: rest.1,
            ..Make::tcp()
        }
    })
}
