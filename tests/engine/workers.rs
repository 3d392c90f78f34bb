//! Several workers over one set of tables.

use overlane::addr::Destination;
use overlane::engine::*;

use crate::world::*;

#[test]
fn workers_share_the_tables_and_one_writer_merges_what_they_learned() {
    let mut node = Node::<Heap>::new(A, &[B, C]);
    let mut workers: Vec<Context<Heap>> =
        (0..2).map(|_| Context::new(ContextParts::with_capacity(&CAPACITY)).unwrap()).collect();
    let tables = node.engine.tables();
    std::thread::scope(|scope| {
        for (n, (context, from)) in workers.iter_mut().zip([B, C]).enumerate() {
            scope.spawn(move || {
                for station in 0..10 {
                    let source = mac(1 + 10 * n as u8 + station);
                    let mut datagram = vxlan(42, &ether(ALL, source, b""));
                    let end = datagram.len();
                    let mut frames = [Frame::new(&mut datagram, 0..end).unwrap().with_source(from)];
                    tables.decap(T0, context, &mut frames);
                    assert_eq!(frames[0].verdict(), Some(Verdict::Flood(VNI)));
                }
            });
        }
    });
    assert_eq!(node.engine.tables().fdb().len(), 0);
    for context in &mut workers {
        node.engine.merge(T0, context);
        assert_eq!(*context.counters(), Counters::default());
    }
    assert_eq!(node.engine.tables().fdb().len(), 20);
    assert_eq!(node.engine.tables().fdb().learned_by(Destination::Vtep(node.vtep(B))), 10);
    assert_eq!(node.engine.counters().decap_frames, 20);
    assert_eq!(node.engine.vni_counters(VNI).unwrap().traffic.rx_frames, 20);
    assert_eq!(node.events().len(), 16, "the ring's size");
}
