//! Each function here is one call of the offloads, under a name that survives compilation.

use core::ops::Range;

use overlane::linux::offload::{
    Full, Gro, Group, Malformed, Merger, Oversize, Superframe, VirtioNetHeader, VirtioNetTunnelHeader,
};

macro_rules! hot {
    ($(fn $name:ident($($arg:ident: $t:ty),*) -> $r:ty $body:block)*) => {
        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub fn $name($($arg: $t),*) -> $r $body
        )*
    };
}

hot! {
    fn hot_parse(header: &VirtioNetHeader, frame: &[u8]) -> Result<Option<Superframe>, Malformed> {
        Superframe::parse(header, frame)
    }
    fn hot_write_header(s: &Superframe, index: usize, frame: &[u8], out: &mut [u8]) -> Option<usize> {
        s.write_header(index, frame, out)
    }
    fn hot_payload(s: &Superframe, index: usize) -> Range<usize> {
        s.payload(index)
    }
    fn hot_push(m: &mut Merger, index: u16, lane: u32, frame: &[u8]) -> Result<(), Full> {
        m.push(index, lane, frame)
    }
    fn hot_push_alone(m: &mut Merger, index: u16, lane: u32, frame: &[u8]) -> Result<(), Full> {
        m.push_alone(index, lane, frame)
    }
    fn hot_gro(octets: &[u8], segment: usize) -> Gro {
        Gro::of(octets, segment)
    }
    fn hot_groups(m: &Merger, each: fn(&Group)) -> () {
        m.groups().for_each(|group| each(&group));
    }
    fn hot_parts(m: &Merger, group: &Group, each: fn(u16, Range<usize>)) -> () {
        m.parts(group).for_each(|(frame, range)| each(frame, range));
    }
    fn hot_finish(m: &Merger, group: &Group, head: &mut [u8], mtu: u16) -> Result<VirtioNetHeader, Oversize> {
        m.finish(group, head, mtu)
    }
    fn hot_clear(m: &mut Merger) -> () {
        m.clear();
    }
    fn hot_plan(frame: &[u8], mtu: u16) -> Result<VirtioNetHeader, Oversize> {
        VirtioNetHeader::plan(frame, mtu)
    }
    fn hot_checksum(header: &VirtioNetHeader, frame: &[u8]) -> Option<(usize, [u8; 2])> {
        header.checksum(frame)
    }
    fn hot_tunnel_bytes(header: VirtioNetTunnelHeader) -> [u8; VirtioNetTunnelHeader::LEN] {
        header.to_bytes()
    }
}
