use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use overlane::wire::checksum::{Sum, pseudo_header_v4, pseudo_header_v6, udp_checksum, update16, verify_udp};
use proptest::prelude::*;

use crate::build::{self, naive_checksum};

#[test]
fn the_example_of_rfc_1071_section_3() {
    let sum = Sum::new().add_bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
    assert_eq!(sum.value(), 0xddf2);
    assert_eq!(sum.finish(), !0xddf2);
}

#[test]
fn the_example_of_rfc_1624_section_4() {
    // 0x5555 becomes 0x3285; the older equation 2 would give 0xffff.
    assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
}

#[test]
fn a_udp_checksum_that_comes_out_zero_is_sent_as_all_ones() {
    // RFC 768: zero says "none".
    let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
    let mut datagram = build::udp(1, 2, &[0, 0]);
    let check = udp_checksum(src.into(), dst.into(), &datagram);
    // What the checksum was, put into the payload, makes the sum all ones.
    datagram[8..].copy_from_slice(&check.to_be_bytes());
    assert_eq!(udp_checksum(src.into(), dst.into(), &datagram), 0xffff);
    datagram[6..8].copy_from_slice(&[0xff, 0xff]);
    assert!(verify_udp(src.into(), dst.into(), &datagram));
}

#[test]
fn short_datagrams_and_mixed_families_have_a_checksum_too() {
    let (v4, v6) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from(Ipv6Addr::LOCALHOST));
    for len in 0..9 {
        let bytes = vec![0x5a; len];
        let _ = udp_checksum(v4, v6, &bytes);
        let _ = verify_udp(v6, v4, &bytes);
    }
    let mapped = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
    assert_eq!(udp_checksum(v4, v6, b"12345678"), udp_checksum(mapped, v6, b"12345678"));
}

/// Words of all widths, their carries and the octets left over: every length from every alignment.
#[test]
fn every_length_at_every_alignment_is_the_naive_sum() {
    let patterns: [fn(usize) -> u8; 3] =
        [|_| 0xff, |n| (n * 151 + n / 7) as u8, |n| 0xff * (n % 9 == 0) as u8];
    for pattern in patterns {
        let bytes: Vec<u8> = (0..16 + 330).map(pattern).collect();
        for start in 0..16 {
            for len in 0..330 {
                let part = &bytes[start..start + len];
                assert_eq!(Sum::new().add_bytes(part).finish(), naive_checksum(part), "{start}, {len}");
                // From the middle of a word.
                let odd = Sum::new().add_bytes(&part[..len.min(1)]).add_bytes(&part[len.min(1)..]);
                assert_eq!(odd.finish(), naive_checksum(part), "{start}, {len}");
            }
        }
        let long: Vec<u8> = (0..200_001).map(pattern).collect();
        assert_eq!(Sum::new().add_bytes(&long).finish(), naive_checksum(&long));
    }
}

proptest! {
    #[test]
    fn a_sum_is_the_naive_one_however_the_bytes_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut at: Vec<usize> = cuts.iter().map(|i| i.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let sum = at.windows(2).fold(Sum::new(), |sum, w| sum.add_bytes(&bytes[w[0]..w[1]]));
        prop_assert_eq!(sum.finish(), naive_checksum(&bytes));
    }

    #[test]
    fn a_word_counts_as_its_two_octets(bytes in prop::collection::vec(any::<u8>(), 0..40), word: u16) {
        let even = &bytes[..bytes.len() / 2 * 2];
        let expected = naive_checksum(&[even, &word.to_be_bytes()].concat());
        prop_assert_eq!(Sum::new().add_bytes(even).add_u16(word).finish(), expected);
    }

    #[test]
    fn an_update_is_a_recomputation(
        mut words in prop::collection::vec(any::<u16>(), 1..30), at: prop::sample::Index, new: u16,
    ) {
        let bytes = |words: &[u16]| words.iter().flat_map(|w| w.to_be_bytes()).collect::<Vec<_>>();
        words.push(0x4500); // a header is never all zero
        let at = at.index(words.len() - 1);
        let before = naive_checksum(&bytes(&words));
        let old = core::mem::replace(&mut words[at], new);
        prop_assert_eq!(update16(before, old, new), naive_checksum(&bytes(&words)));
    }

    #[test]
    fn pseudo_headers_are_those_of_the_rfcs(s4: u32, d4: u32, s6: u128, d6: u128, protocol: u8, len: u16) {
        let (s4, d4) = (Ipv4Addr::from_bits(s4), Ipv4Addr::from_bits(d4));
        let naive = naive_checksum(&build::pseudo(&s4.octets(), &d4.octets(), protocol, len.into()));
        prop_assert_eq!(pseudo_header_v4(s4, d4, protocol, len).finish(), naive);
        let (s6, d6) = (Ipv6Addr::from_bits(s6), Ipv6Addr::from_bits(d6));
        let naive = naive_checksum(&build::pseudo(&s6.octets(), &d6.octets(), protocol, usize::from(len) * 7));
        prop_assert_eq!(pseudo_header_v6(s6, d6, protocol, u32::from(len) * 7).finish(), naive);
    }

    #[test]
    fn a_udp_checksum_is_the_naive_one_and_verifies(
        src: u128, dst: u128, v4: bool, payload in prop::collection::vec(any::<u8>(), 0..200), junk: u16,
        flip: prop::sample::Index,
    ) {
        let addr = |bits: u128| if v4 {
            IpAddr::V4(Ipv4Addr::from_bits(bits as u32))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        };
        let octets = |addr: IpAddr| match addr {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        let (src, dst) = (addr(src), addr(dst));
        let mut datagram = build::udp(50_000, 4789, &payload);
        let pseudo = build::pseudo(&octets(src), &octets(dst), 17, datagram.len());
        let naive = match naive_checksum(&[pseudo, datagram.clone()].concat()) {
            0 => 0xffff,
            check => check,
        };
        datagram[6..8].copy_from_slice(&junk.to_be_bytes()); // what the field holds does not matter
        prop_assert_eq!(udp_checksum(src, dst, &datagram), naive);
        datagram[6..8].copy_from_slice(&naive.to_be_bytes());
        prop_assert!(verify_udp(src, dst, &datagram));
        let flip = flip.index(datagram.len());
        datagram[flip] ^= 0x10;
        prop_assert!(!verify_udp(src, dst, &datagram));
    }
}
