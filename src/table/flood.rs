//! Head-end replication lists: who gets a copy of what a VNI floods (RFC 7348, section 4.2, done
//! by unicast copies as in RFC 8365, section 5.1.3).
//!
//! Each VNI has two lists, of local ports and of VTEPs. All lists share one arena of nodes; a node
//! is half a cache line and holds up to 14 members. Every node of a list but its last is full, so
//! [`flood_nodes_for`] is exact in the worst case, whatever was added and removed before.

use core::mem::replace;

use super::{Store, VniIndex};
use crate::addr::{Destination, PortId, VtepId};
use crate::error::{CapacityError, FloodError};

/// Members of one node: with the link they fill 32 octets.
const CHUNK: usize = 14;

/// No node.
const NONE: u32 = u32::MAX;

/// How many [`FloodNode`]s always suffice for `lists` lists with `members` members in all.
///
/// A VNI has two lists, one of ports and one of VTEPs; empty lists need not be counted.
///
/// ```
/// use overlane::table::flood_nodes_for;
/// // One VNI with its ports and 5000 VTEPs.
/// assert_eq!(flood_nodes_for(2, 5010), 359);
/// ```
pub const fn flood_nodes_for(lists: usize, members: usize) -> usize {
    // Each list may end in a node with a single member.
    let used = if lists < members { lists } else { members };
    used + (members - used) / CHUNK
}

/// One node of the arena: up to 14 members of one list.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub struct FloodNode {
    members: [u16; CHUNK],
    next: u32,
}

const _: () = assert!(size_of::<FloodNode>() == 32);

impl FloodNode {
    /// A node without members.
    pub const EMPTY: FloodNode = FloodNode { members: [0; CHUNK], next: NONE };
}

impl Default for FloodNode {
    fn default() -> FloodNode {
        FloodNode::EMPTY
    }
}

/// The start of one list. `len` alone says where it ends: links behind that many members may
/// lead anywhere.
#[derive(Debug, Clone, Copy)]
struct List {
    first: u32,
    len: u32,
}

impl List {
    const EMPTY: List = List { first: NONE, len: 0 };
}

/// The two lists of one VNI.
#[derive(Debug, Clone, Copy)]
pub struct FloodHead {
    ports: List,
    vteps: List,
}

impl FloodHead {
    /// Two empty lists.
    pub const EMPTY: FloodHead = FloodHead { ports: List::EMPTY, vteps: List::EMPTY };

    /// The list that `member` belongs on, and its number there.
    fn of(&mut self, member: Destination) -> (&mut List, u16) {
        match member {
            Destination::Port(PortId(n)) => (&mut self.ports, n),
            Destination::Vtep(VtepId(n)) => (&mut self.vteps, n),
        }
    }
}

impl Default for FloodHead {
    fn default() -> FloodHead {
        FloodHead::EMPTY
    }
}

/// The members of one list, in the order they were added. Ends after as many as the list has.
#[derive(Debug, Clone)]
struct Members<'a> {
    nodes: &'a [FloodNode],
    /// What is left of the current node's chunk.
    chunk: core::slice::Iter<'a, u16>,
    next: u32,
    left: u32,
}

impl<'a> Members<'a> {
    #[inline]
    fn new(nodes: &'a [FloodNode], list: List) -> Members<'a> {
        Members { nodes, chunk: [].iter(), next: list.first, left: list.len }
    }
}

impl Iterator for Members<'_> {
    type Item = u16;

    #[inline]
    fn next(&mut self) -> Option<u16> {
        self.left = self.left.checked_sub(1)?;
        if let Some(member) = self.chunk.next() {
            return Some(*member);
        }
        let node = self.nodes.get(self.next as usize)?;
        self.next = node.next;
        self.chunk = node.members.iter();
        self.chunk.next().copied()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

macro_rules! members {
    ($name:ident, $id:ident, $doc:literal) => {
        #[doc = $doc]
        ///
        /// In the order they were added. Cheap to clone: a clone goes on from the same place.
        #[derive(Debug, Clone)]
        pub struct $name<'a>(Members<'a>);

        impl Iterator for $name<'_> {
            type Item = $id;

            #[inline]
            fn next(&mut self) -> Option<$id> {
                self.0.next().map($id)
            }

            #[inline]
            fn size_hint(&self) -> (usize, Option<usize>) {
                self.0.size_hint()
            }
        }

        impl ExactSizeIterator for $name<'_> {}
        impl core::iter::FusedIterator for $name<'_> {}
    };
}

members!(FloodPorts, PortId, "The local ports on a VNI's flood list.");
members!(FloodVteps, VtepId, "The VTEPs on a VNI's flood list.");

/// The flood lists of all VNIs, over memory lent by two stores: one head per VNI, and the arena.
///
/// Reading a list takes one cache line and one more for every 28 members at best. Adding and
/// removing take O(length of the list); [`remove_everywhere`](Self::remove_everywhere) takes
/// O(heads + all members).
///
/// ```
/// use overlane::addr::{Destination, VtepId};
/// use overlane::table::{FloodHead, FloodNode, FloodTable, VniIndex};
/// let mut table = FloodTable::new([FloodHead::EMPTY; 4], [FloodNode::EMPTY; 8])?;
/// table.add(VniIndex(2), Destination::Vtep(VtepId(7)))?;
/// table.add(VniIndex(2), Destination::Vtep(VtepId(3)))?;
/// assert!(table.vteps(VniIndex(2)).eq([VtepId(7), VtepId(3)]));
/// assert_eq!(table.ports(VniIndex(2)).len(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct FloodTable<H, M> {
    heads: H,
    nodes: M,
    /// The first free node.
    free: u32,
    free_nodes: u32,
}

impl<H: Store<FloodHead>, M: Store<FloodNode>> FloodTable<H, M> {
    /// Empty lists for as many VNIs as there are `heads`; both stores are reset.
    ///
    /// Lend [`flood_nodes_for`] the expected lists and members many `nodes`.
    pub fn new(mut heads: H, mut nodes: M) -> Result<FloodTable<H, M>, CapacityError> {
        let max = NONE as usize;
        for (table, entries) in
            [("flood heads", heads.as_slice().len()), ("flood nodes", nodes.as_slice().len())]
        {
            if entries == 0 {
                return Err(CapacityError::Empty { table });
            }
            if entries > max {
                return Err(CapacityError::TooLarge { table, entries, max });
            }
        }
        heads.as_mut_slice().fill(FloodHead::EMPTY);
        let arena = nodes.as_mut_slice();
        let count = arena.len() as u32;
        for (node, next) in arena.iter_mut().zip(1..) {
            *node = FloodNode { next: if next < count { next } else { NONE }, ..FloodNode::EMPTY };
        }
        Ok(FloodTable { heads, nodes, free: 0, free_nodes: count })
    }

    /// Puts a member at the end of the VNI's list of its kind.
    ///
    /// Refused as `Exists`, or as `Full` (no node is free, or `vni` is not below the number of
    /// heads).
    pub fn add(&mut self, vni: VniIndex, member: Destination) -> Result<(), FloodError> {
        let FloodTable { heads, nodes, free, free_nodes } = self;
        let nodes = nodes.as_mut_slice();
        let head = heads.as_mut_slice().get_mut(vni.0 as usize).ok_or(FloodError::Full)?;
        let (list, number) = head.of(member);
        if Members::new(nodes, *list).any(|n| n == number) {
            return Err(FloodError::Exists(member));
        }
        let lane = list.len as usize % CHUNK;
        let last = last_node(nodes, *list);
        if lane > 0 {
            let place = nodes.get_mut(last as usize).and_then(|node| node.members.get_mut(lane));
            *place.ok_or(FloodError::Full)? = number;
        } else {
            let new = *free;
            let node = nodes.get_mut(new as usize).ok_or(FloodError::Full)?;
            *free = node.next;
            *free_nodes = free_nodes.saturating_sub(1);
            node.members[0] = number;
            match nodes.get_mut(last as usize) {
                Some(last) => last.next = new,
                None => list.first = new,
            }
        }
        list.len += 1;
        Ok(())
    }

    /// Takes a member off the VNI's list; the others keep their order. Refused as `Unknown`.
    pub fn remove(&mut self, vni: VniIndex, member: Destination) -> Result<(), FloodError> {
        if self.take(vni.0 as usize, member) { Ok(()) } else { Err(FloodError::Unknown(member)) }
    }

    /// Empties both lists of a VNI and tells how many members they had.
    pub fn clear(&mut self, vni: VniIndex) -> usize {
        let Some(head) = self.heads.as_mut_slice().get_mut(vni.0 as usize) else { return 0 };
        let head = core::mem::take(head);
        for list in [head.ports, head.vteps] {
            let last = last_node(self.nodes.as_slice(), list);
            if let Some(node) = self.nodes.as_mut_slice().get_mut(last as usize) {
                node.next = self.free;
                self.free = list.first;
                self.free_nodes += list.len.div_ceil(CHUNK as u32);
            }
        }
        head.ports.len as usize + head.vteps.len as usize
    }

    /// Takes a member off every list and tells off how many it was taken.
    pub fn remove_everywhere(&mut self, member: Destination) -> usize {
        let heads = self.heads.as_slice().len();
        (0..heads).filter(|head| self.take(*head, member)).count()
    }

    fn take(&mut self, head: usize, member: Destination) -> bool {
        let FloodTable { heads, nodes, free, free_nodes } = self;
        let nodes = nodes.as_mut_slice();
        let Some(head) = heads.as_mut_slice().get_mut(head) else { return false };
        let (list, number) = head.of(member);
        let Some(position) = Members::new(nodes, *list).position(|n| n == number) else { return false };
        let mut at = nth_node(nodes, *list, position / CHUNK);
        // The members behind close the gap, so that every node but the last stays full.
        let mut lane = position % CHUNK;
        for _ in position / CHUNK..(list.len as usize - 1) / CHUNK {
            let next = nodes.get(at as usize).map_or(NONE, |node| node.next);
            let carried = nodes.get(next as usize).map_or(0, |node| node.members[0]);
            close_gap(nodes, at, lane, carried);
            (at, lane) = (next, 0);
        }
        close_gap(nodes, at, lane, 0);
        list.len -= 1;
        if (list.len as usize).is_multiple_of(CHUNK)
            && let Some(last) = nodes.get_mut(at as usize)
        {
            last.next = *free;
            *free = at;
            *free_nodes += 1;
        }
        true
    }

    /// The local ports on the VNI's list; none where `vni` has no list.
    #[inline]
    pub fn ports(&self, vni: VniIndex) -> FloodPorts<'_> {
        FloodPorts(Members::new(self.nodes.as_slice(), self.head(vni).ports))
    }

    /// The VTEPs on the VNI's list; none where `vni` has no list.
    #[inline]
    pub fn vteps(&self, vni: VniIndex) -> FloodVteps<'_> {
        FloodVteps(Members::new(self.nodes.as_slice(), self.head(vni).vteps))
    }

    #[inline]
    fn head(&self, vni: VniIndex) -> FloodHead {
        self.heads.as_slice().get(vni.0 as usize).copied().unwrap_or_default()
    }

    /// Whether `member` is on the VNI's list; O(length of the list).
    pub fn contains(&self, vni: VniIndex, member: Destination) -> bool {
        let mut head = self.head(vni);
        let (list, number) = head.of(member);
        Members::new(self.nodes.as_slice(), *list).any(|n| n == number)
    }

    /// How many members the VNI's two lists have together.
    #[inline]
    pub fn len(&self, vni: VniIndex) -> usize {
        let head = self.head(vni);
        head.ports.len as usize + head.vteps.len as usize
    }

    /// Whether both lists of the VNI are empty.
    #[inline]
    pub fn is_empty(&self, vni: VniIndex) -> bool {
        self.len(vni) == 0
    }

    /// How many VNIs can have lists.
    pub fn heads(&self) -> usize {
        self.heads.as_slice().len()
    }

    /// How many nodes the arena has.
    pub fn nodes(&self) -> usize {
        self.nodes.as_slice().len()
    }

    /// How many nodes are on no list: each has room for 14 members of one list.
    pub fn free_nodes(&self) -> usize {
        self.free_nodes as usize
    }
}

/// Moves the members of a node behind `lane` down by one and puts `carried` in the last place.
fn close_gap(nodes: &mut [FloodNode], at: u32, lane: usize, carried: u16) {
    if let Some(members) = nodes.get_mut(at as usize).and_then(|node| node.members.get_mut(lane..)) {
        members.iter_mut().rev().fold(carried, |carried, member| replace(member, carried));
    }
}

/// The last node of a list.
fn last_node(nodes: &[FloodNode], list: List) -> u32 {
    match (list.len as usize).checked_sub(1) {
        Some(last) => nth_node(nodes, list, last / CHUNK),
        None => NONE,
    }
}

/// The node behind `n` others of a list.
fn nth_node(nodes: &[FloodNode], list: List, n: usize) -> u32 {
    (0..n).fold(list.first, |at, _| nodes.get(at as usize).map_or(NONE, |node| node.next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table<const N: usize>() -> FloodTable<[FloodHead; 2], [FloodNode; N]> {
        FloodTable::new([FloodHead::EMPTY; 2], [FloodNode::EMPTY; N]).unwrap()
    }

    fn vtep(n: u16) -> Destination {
        Destination::Vtep(VtepId(n))
    }

    const VNI: VniIndex = VniIndex(0);

    #[test]
    fn memory_is_needed() {
        let no_heads = FloodTable::new([FloodHead::EMPTY; 0], [FloodNode::EMPTY; 1]);
        assert_eq!(no_heads.unwrap_err(), CapacityError::Empty { table: "flood heads" });
        let no_nodes = FloodTable::new([FloodHead::EMPTY; 1], [FloodNode::EMPTY; 0]);
        assert_eq!(no_nodes.unwrap_err(), CapacityError::Empty { table: "flood nodes" });
    }

    #[test]
    fn a_port_and_a_vtep_of_one_number_are_two_members() {
        let mut table = table::<2>();
        table.add(VNI, vtep(3)).unwrap();
        table.add(VNI, Destination::Port(PortId(3))).unwrap();
        assert_eq!(table.add(VNI, vtep(3)), Err(FloodError::Exists(vtep(3))));
        table.remove(VNI, vtep(3)).unwrap();
        assert_eq!(table.remove(VNI, vtep(3)), Err(FloodError::Unknown(vtep(3))));
        assert!(table.ports(VNI).eq([PortId(3)]));
        assert_eq!(table.vteps(VNI).next(), None);
    }

    #[test]
    fn the_order_outlives_removals_at_the_ends_of_nodes() {
        let members = 3 * CHUNK as u16;
        for gone in 0..members {
            let mut table = table::<3>();
            for n in 0..members {
                table.add(VNI, vtep(n)).unwrap();
            }
            assert_eq!(table.add(VNI, vtep(members)), Err(FloodError::Full));
            table.remove(VNI, vtep(gone)).unwrap();
            table.add(VNI, vtep(members)).unwrap();
            assert!(table.vteps(VNI).eq((0..=members).filter(|n| *n != gone).map(VtepId)));
        }
    }

    #[test]
    fn the_last_member_of_a_node_gives_the_node_back() {
        let mut table = table::<2>();
        for n in 0..=CHUNK as u16 {
            table.add(VNI, vtep(n)).unwrap();
        }
        assert_eq!(table.free_nodes(), 0);
        assert_eq!(table.add(VniIndex(1), vtep(0)), Err(FloodError::Full));
        assert_eq!(table.remove_everywhere(vtep(0)), 1);
        assert_eq!(table.free_nodes(), 1);
        table.add(VniIndex(1), vtep(0)).unwrap();
        assert_eq!((table.clear(VNI), table.clear(VNI), table.clear(VniIndex(1))), (CHUNK, 0, 1));
        assert_eq!(table.free_nodes(), 2);
    }

    #[test]
    fn a_vni_without_a_head_has_empty_lists() {
        let mut table = table::<1>();
        let vni = VniIndex(2);
        assert_eq!(table.add(vni, vtep(0)), Err(FloodError::Full));
        assert_eq!(table.remove(vni, vtep(0)), Err(FloodError::Unknown(vtep(0))));
        assert_eq!((table.clear(vni), table.len(vni), table.ports(vni).len()), (0, 0, 0));
    }
}
