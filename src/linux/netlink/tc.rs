//! Traffic control: a `clsact` queueing discipline, and `u32` filters on it whose `mirred` action
//! sends packets out of another interface.
//!
//! Numbers and layouts are those of `linux/rtnetlink.h`, `linux/pkt_sched.h`, `linux/pkt_cls.h` and
//! `linux/tc_act/tc_mirred.h`.

use alloc::format;
use alloc::vec::Vec;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};

use super::Route;
use super::request::{Request, nested};
use super::socket::{Reply, attributes};
use crate::linux::error::Error;
use crate::linux::link::by_index;
use crate::linux::sys::errno;

const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;

/// `struct tcmsg` before the attributes.
const TC_HEADER_LEN: usize = 20;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
/// The parent of filters on incoming packets.
const INGRESS: u32 = 0xffff_fff2;

const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TC_U32_TERMINAL: u8 = 1;
/// `struct tc_u32_sel` before its keys.
const SELECTOR_LEN: usize = 16;

const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: u32 = 1;
/// The interface in `struct tc_mirred`; 0 if it is gone.
const MIRRED_INDEX: usize = 24;
const TC_ACT_STOLEN: u32 = 4;

/// Four octets of a packet, from the start of its network header, of which the bits of `mask` must be
/// those of `value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::linux) struct Key {
    pub(in crate::linux) offset: u8,
    pub(in crate::linux) mask: u32,
    pub(in crate::linux) value: u32,
}

impl Key {
    /// What every packet has.
    pub(in crate::linux) const ANY: Key = Key { offset: 0, mask: 0, value: 0 };
}

/// A filter whose packets leave by another interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::linux) struct Redirect {
    /// Lower ones are asked first; all filters of one have one protocol.
    pub(in crate::linux) priority: u16,
    /// The ethertype, or [`EVERY_PROTOCOL`].
    pub(in crate::linux) protocol: u16,
    pub(in crate::linux) keys: Vec<Key>,
    /// The index of the other interface.
    pub(in crate::linux) to: u32,
}

/// `ETH_P_ALL`.
pub(in crate::linux) const EVERY_PROTOCOL: u16 = 3;

impl Route {
    /// Puts a `clsact` on the interface; false if it (or an `ingress`) is there.
    pub(in crate::linux) fn add_clsact(&mut self, index: u32) -> Result<bool, Error> {
        let request = Request::new(RTM_NEWQDISC, &header(index, CLSACT_HANDLE, TC_H_CLSACT, 0));
        let request = request.with(TCA_KIND, b"clsact\0");
        match self.socket.ask("add clsact to", &by_index(index), request, NLM_F_CREATE | NLM_F_EXCL) {
            Ok(_) => Ok(true),
            Err(e) if e.errno() == Some(errno::EEXIST) => Ok(false),
            Err(e) => Err(e.hint_if(errno::ENOENT, "this kernel has no clsact (CONFIG_NET_SCH_INGRESS)")),
        }
    }

    /// Adds a filter to the incoming packets of the interface.
    pub(in crate::linux) fn add_redirect(&mut self, index: u32, redirect: &Redirect) -> Result<(), Error> {
        let info = info(redirect.priority, redirect.protocol);
        let request = Request::new(RTM_NEWTFILTER, &header(index, 0, INGRESS, info))
            .with(TCA_KIND, b"u32\0")
            .with(TCA_OPTIONS, &options(redirect));
        let what = format!("{} to {}", by_index(index), by_index(redirect.to));
        let made = self.socket.ask("redirect", &what, request, NLM_F_CREATE | NLM_F_EXCL);
        made.map_err(|e| e.hint_if(errno::ENOENT, "this kernel has no u32 filter or no mirred action"))?;
        Ok(())
    }

    /// The index of the interface by which incoming packets of this one leave. None has the index 0: that of
    /// one that was removed, which is never anybody's again.
    pub(in crate::linux) fn redirected_to(&mut self, index: u32) -> Result<Option<u32>, Error> {
        let request = Request::new(RTM_GETTFILTER, &header(index, 0, INGRESS, 0));
        let replies = self.socket.dump("read the filters of", &by_index(index), request)?;
        Ok(replies.iter().find_map(target))
    }
}

/// Where a filter's packets leave, if it redirects them.
fn target(reply: &Reply) -> Option<u32> {
    let within = |bytes: &[u8], wanted: u16| {
        attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value.to_vec())
    };
    let options = within(reply.payload.get(TC_HEADER_LEN..)?, TCA_OPTIONS)?;
    let action = within(&within(&options, TCA_U32_ACT)?, 1)?;
    let parameters = within(&within(&action, TCA_ACT_OPTIONS)?, TCA_MIRRED_PARMS)?;
    parameters.get(MIRRED_INDEX..)?.first_chunk().map(|index| u32::from_ne_bytes(*index))
}

/// `struct tcmsg`.
fn header(index: u32, handle: u32, parent: u32, info: u32) -> [u8; TC_HEADER_LEN] {
    let mut out = [0; TC_HEADER_LEN];
    let words = [0, index, handle, parent, info];
    for (to, from) in out.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    out
}

/// Priority above, protocol in network byte order below.
fn info(priority: u16, protocol: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(protocol.to_be())
}

fn options(redirect: &Redirect) -> Vec<u8> {
    let count = u8::try_from(redirect.keys.len()).unwrap_or(u8::MAX);
    let mut selector = alloc::vec![TC_U32_TERMINAL, 0, count, 0];
    selector.resize(SELECTOR_LEN, 0);
    for key in redirect.keys.iter().take(usize::from(count)) {
        selector.extend(key.mask.to_be_bytes());
        selector.extend((key.value & key.mask).to_be_bytes());
        selector.extend(u32::from(key.offset).to_ne_bytes());
        selector.extend([0; 4]);
    }
    // struct tc_mirred: index, capabilities, action, two counts; what to do, the interface.
    let parameters = [0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, redirect.to];
    let parameters: Vec<u8> = parameters.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let action = nested(&[
        (TCA_ACT_KIND, b"mirred\0"),
        (TCA_ACT_OPTIONS, &nested(&[(TCA_MIRRED_PARMS, &parameters)])),
    ]);
    // Actions are numbered from 1.
    nested(&[(TCA_U32_SEL, &selector), (TCA_U32_ACT, &nested(&[(1, &action)]))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layout_is_that_of_the_kernel() {
        let redirect = Redirect { priority: 1, protocol: EVERY_PROTOCOL, keys: [Key::ANY].to_vec(), to: 5 };
        let octets = options(&redirect);
        // The selector: 4 octets of attribute header, 16 of its own, one key of 16.
        assert_eq!(octets[..8], [36, 0, 5, 0, 1, 0, 1, 0]);
        assert_eq!(octets.len(), 36 + 4 + 4 + 12 + 4 + 4 + 28);
        assert_eq!(octets[octets.len() - 4..], 5u32.to_ne_bytes());
    }
}
