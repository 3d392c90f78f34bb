//! The explanation is the decision, told.

use overlane::addr::PortId;
use overlane::engine::*;
use overlane::error::PortError;

use crate::every_memory;
use crate::world::*;

every_memory! {
    fn it_tells_the_steps_and_changes_nothing<M>() {
        let mut a = Node::<M>::new(A, &[B]);
        let hello = vxlan(42, &ether(ALL, mac(2), b""));
        let (tables, counters) = (snapshot(&a.engine), *a.engine.counters());
        let told = a.engine.explain_decap(T0, Some(B), 0, &hello);
        assert_eq!(
            told.to_string(),
            "from 192.0.2.2 (vtep 0), VNI 42\n\
             ethernet 02:00:00:00:00:02 -> ff:ff:ff:ff:ff:ff, type 0x88b5\n\
             learn 02:00:00:00:00:02\n\
             group address ff:ff:ff:ff:ff:ff\n\
             => flood VNI 42"
        );
        assert_eq!((snapshot(&a.engine), *a.engine.counters()), (tables, counters));

        assert_eq!(a.receive(T0, B, &hello).0, told.verdict().unwrap());
        let frame = ether(mac(2), mac(1), b"");
        let told = a.engine.explain_encap(T0, a.port, &frame, 0).unwrap();
        assert_eq!(
            told.to_string(),
            "from port 0, VNI 42\n\
             ethernet 02:00:00:00:00:01 -> 02:00:00:00:00:02, type 0x88b5\n\
             learn 02:00:00:00:00:01\n\
             fdb 02:00:00:00:00:02 is at vtep 0\n\
             tunnel to vtep 0 at 192.0.2.2, UDP port 4789\n\
             => send to vtep 0"
        );
        assert_eq!(a.send(T0, &frame).0, told.verdict().unwrap());
        let told = a.engine.explain_decap(T0, Some(B), 0, &hello[..10]);
        assert_eq!(
            told.to_string(),
            "from 192.0.2.2 (vtep 0), VNI 42\nunreadable: truncated at inner_ethernet, offset 8\n=> drop: truncated"
        );
        let none = PortId(9);
        assert_eq!(a.engine.explain_encap(T0, none, &frame, 0), Err(PortError::Unknown(none)));
    }
}
