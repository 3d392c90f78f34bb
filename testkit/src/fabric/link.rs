//! What the underlay does to a datagram between two nodes.

use core::time::Duration;
use std::collections::BTreeMap;

use super::NodeId;
use super::rng::Rng;

/// One direction of the way between two nodes. Chances are in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// How long a datagram takes at least.
    pub latency: Duration,
    /// How much longer it may take. Datagrams keep their order all the same.
    pub jitter: Duration,
    /// How many in a thousand are lost.
    pub loss: u32,
    /// How many in a thousand arrive twice.
    pub duplicate: u32,
    /// How many in a thousand are overtaken by those behind them.
    pub reorder: u32,
    /// The longest IP packet in octets; a longer one is lost.
    pub mtu: usize,
    /// Whether anything gets through.
    pub up: bool,
}

impl Link {
    /// A link that harms nothing: 100 µs, 1500 octets.
    pub const PERFECT: Link = Link {
        latency: Duration::from_micros(100),
        jitter: Duration::ZERO,
        loss: 0,
        duplicate: 0,
        reorder: 0,
        mtu: 1500,
        up: true,
    };

    /// A bad day: 1 ms and as much jitter, 2 % lost, 2 % twice, 5 % out of order.
    pub const BAD: Link = Link {
        latency: Duration::from_millis(1),
        jitter: Duration::from_millis(1),
        loss: 20,
        duplicate: 20,
        reorder: 50,
        mtu: 1500,
        up: true,
    };
}

/// What became of a datagram that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It arrives then; and once more then.
    Arrives(Duration, Option<Duration>),
    Lost,
    TooBig,
    Down,
}

/// All links: one setting for all, and those that differ.
#[derive(Debug)]
pub(super) struct Links {
    default: Link,
    own: BTreeMap<(NodeId, NodeId), Link>,
    /// When the last datagram that keeps its order arrives.
    last: BTreeMap<(NodeId, NodeId), Duration>,
}

impl Links {
    pub(super) fn new() -> Links {
        Links { default: Link::PERFECT, own: BTreeMap::new(), last: BTreeMap::new() }
    }

    pub(super) fn get(&self, from: NodeId, to: NodeId) -> Link {
        self.own.get(&(from, to)).copied().unwrap_or(self.default)
    }

    pub(super) fn set(&mut self, from: NodeId, to: NodeId, link: Link) {
        self.own.insert((from, to), link);
    }

    pub(super) fn set_all(&mut self, link: Link) {
        self.default = link;
        self.own.clear();
    }

    pub(super) fn fate(
        &mut self,
        rng: &mut Rng,
        now: Duration,
        from: NodeId,
        to: NodeId,
        len: usize,
    ) -> Fate {
        let link = self.get(from, to);
        if !link.up {
            return Fate::Down;
        }
        if len > link.mtu {
            return Fate::TooBig;
        }
        if rng.permille(link.loss) {
            return Fate::Lost;
        }
        let way = |rng: &mut Rng| {
            let jitter = rng.below(link.jitter.as_micros() as u64 + 1);
            now + link.latency + Duration::from_micros(jitter)
        };
        let at = if rng.permille(link.reorder) {
            way(rng) + (link.latency + link.jitter) * 3
        } else {
            let last = self.last.entry((from, to)).or_default();
            *last = way(rng).max(*last);
            *last
        };
        let again = rng.permille(link.duplicate).then(|| at.max(way(rng)) + link.latency);
        Fate::Arrives(at, again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(0);
    const B: NodeId = NodeId(1);

    fn fates(link: Link, n: usize) -> Vec<Fate> {
        let (mut links, mut rng) = (Links::new(), Rng::new(1));
        links.set(A, B, link);
        let sent = |i| Duration::from_micros(10) * i as u32;
        (0..n).map(|i| links.fate(&mut rng, sent(i), A, B, 1000)).collect()
    }

    fn arrivals(fates: &[Fate]) -> Vec<Duration> {
        let at = |f: &Fate| if let Fate::Arrives(at, _) = f { Some(*at) } else { None };
        fates.iter().filter_map(at).collect()
    }

    #[test]
    fn jitter_keeps_order_and_reordering_does_not() {
        let jitter = Link { jitter: Duration::from_millis(5), ..Link::PERFECT };
        assert!(arrivals(&fates(jitter, 1000)).is_sorted());
        let reorder = Link { reorder: 100, ..jitter };
        assert!(!arrivals(&fates(reorder, 1000)).is_sorted());
    }

    #[test]
    fn chances_are_thousandths() {
        let f = fates(Link { loss: 100, duplicate: 100, ..Link::PERFECT }, 10_000);
        let lost = f.iter().filter(|f| **f == Fate::Lost).count();
        let twice = f.iter().filter(|f| matches!(f, Fate::Arrives(_, Some(_)))).count();
        assert!((800..1200).contains(&lost) && (700..1100).contains(&twice), "{lost} {twice}");
        assert_eq!(fates(Link { mtu: 999, ..Link::PERFECT }, 1), [Fate::TooBig]);
        assert_eq!(fates(Link { up: false, ..Link::PERFECT }, 1), [Fate::Down]);
    }
}
