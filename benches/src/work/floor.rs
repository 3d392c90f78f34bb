//! What memory alone costs: independent random reads over as many octets as the tables have.

use overlane::engine::ScopeCounters;
use overlane::table::fdb::{SlotGroup, TagGroup, groups_for};
use overlane::table::{IndexSlot, VniSlot, index_slots_for};

use super::Scale;
use super::path::PORTED;
use crate::measure::{Random, Sample, passes};

/// A line of a cache, and how many octets of it are read.
const LINE: usize = 64;

/// Memory that one packet looks at in one place.
struct Region {
    lines: Vec<[u64; LINE / 8]>,
    /// Counters are written too.
    write: bool,
}

impl Region {
    fn new(bytes: usize, write: bool) -> Region {
        Region { lines: vec![[1; LINE / 8]; bytes.div_ceil(LINE).max(1)], write }
    }
}

/// `macs`: tags and slots of an FDB of `size` addresses. `vnis`: index, record and counters of `size`
/// VNIs, and the counters of their ports.
pub(super) fn run(what: &str, size: usize, scale: Scale) -> Sample {
    let n = scale.entries(size);
    let mut regions = match what {
        "macs" => {
            let groups = groups_for(n);
            vec![
                Region::new(groups * size_of::<TagGroup>(), false),
                Region::new(groups * size_of::<SlotGroup>(), false),
            ]
        }
        "vnis" => vec![
            Region::new(index_slots_for(n) * size_of::<IndexSlot>(), false),
            Region::new(n * size_of::<VniSlot>(), false),
            Region::new(n * size_of::<ScopeCounters>(), true),
            Region::new(n.min(PORTED) * size_of::<ScopeCounters>(), true),
        ],
        _ => panic!("no such floor: {what}"),
    };
    let mut random = Random(47);
    let queries: Vec<u64> = (0..scale.queries(1 << 20)).map(|_| random.next()).collect();
    let timed = passes(queries.len(), || {
        let mut sum = 0u64;
        for query in &queries {
            for (i, region) in regions.iter_mut().enumerate() {
                // Another place in each region, from other bits of the same number.
                let spread = query.rotate_left(16 * i as u32) as u32 as u64;
                let at = ((spread * region.lines.len() as u64) >> 32) as usize;
                let word = &mut region.lines[at][0];
                sum = sum.wrapping_add(*word);
                if region.write {
                    *word = word.wrapping_add(1);
                }
            }
        }
        sum
    });
    timed.sample(0)
}
