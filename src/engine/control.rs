//! Changes: one command at a time, refused whole or done whole.

use crate::addr::{Destination, IpPrefix, MacAddr, NextHop, PortId, Vni, VtepId};
use crate::error::{ControlError, FdbError, PortError, RouteError, VniError, VtepError};
use crate::table::fdb::{EntryKind, FdbEntry};
use crate::table::port::PortConfig;
use crate::table::vni::{Mode, VniConfig, VniIndex};
use crate::table::vtep::{Origin, VtepConfig};
use crate::time::Instant;

use super::Engine;
use super::storage::Storage;
use super::tables::{PortTableOf, Tables, VtepTableOf};

/// A change to an engine's tables. The same commands in the same order give the same ids, so a
/// replica for another worker is made by sending it the same stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Add a VNI.
    AddVni {
        /// The identifier.
        vni: Vni,
        /// Its settings.
        config: VniConfig,
    },
    /// Change a VNI's settings. A change of mode forgets its addresses and routes.
    SetVni {
        /// The identifier.
        vni: Vni,
        /// The new settings.
        config: VniConfig,
    },
    /// Remove a VNI without ports: its addresses, routes and flood list go too. With several workers,
    /// [merge](Engine::merge) them before.
    RemoveVni {
        /// The identifier.
        vni: Vni,
    },
    /// Add a VTEP. One that was learned by itself is taken over and keeps its id. In a full table one that was
    /// learned gives up its place, rather one behind which nobody is left; the addresses behind it go too.
    AddVtep(VtepConfig),
    /// Change a VTEP's settings. One that was learned by itself is taken over.
    SetVtep {
        /// The VTEP.
        vtep: VtepId,
        /// The new settings.
        config: VtepConfig,
    },
    /// Remove a VTEP to which no route leads: the addresses behind it and its places on flood lists go too.
    RemoveVtep {
        /// The VTEP.
        vtep: VtepId,
    },
    /// Add a local port; it joins its VNI's flood list.
    AddPort(PortConfig),
    /// Change a port's settings. Its VNI cannot change.
    SetPort {
        /// The port.
        port: PortId,
        /// The new settings.
        config: PortConfig,
    },
    /// Remove a port to which no route leads: the addresses behind it go too. With several workers,
    /// [merge](Engine::merge) them before.
    RemovePort {
        /// The port.
        port: PortId,
    },
    /// Add a VTEP to a VNI's flood list.
    AddFlood {
        /// The VNI.
        vni: Vni,
        /// The VTEP.
        vtep: VtepId,
    },
    /// Remove a VTEP from a VNI's flood list.
    RemoveFlood {
        /// The VNI.
        vni: Vni,
        /// The VTEP.
        vtep: VtepId,
    },
    /// Set where a MAC address lives, replacing what was known.
    AddMac {
        /// Its VNI.
        vni: Vni,
        /// The address.
        mac: MacAddr,
        /// Where it lives.
        at: Destination,
        /// Whether it ages and moves.
        kind: EntryKind,
    },
    /// Forget a MAC address.
    RemoveMac {
        /// Its VNI.
        vni: Vni,
        /// The address.
        mac: MacAddr,
    },
    /// Forget the learned and sticky addresses of a VNI, behind a port or VTEP, or all.
    FlushMacs {
        /// Only of this VNI.
        vni: Option<Vni>,
        /// Only behind this.
        at: Option<Destination>,
    },
    /// Add a route to a routed VNI, replacing one of the same prefix.
    AddRoute {
        /// The VNI.
        vni: Vni,
        /// The prefix.
        prefix: IpPrefix,
        /// Where it leads.
        next_hop: NextHop,
    },
    /// Remove a route.
    RemoveRoute {
        /// The VNI.
        vni: Vni,
        /// The prefix.
        prefix: IpPrefix,
    },
}

/// What a command did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It is done.
    Done,
    /// A VTEP has this id.
    Vtep(VtepId),
    /// A port has this id.
    Port(PortId),
    /// A MAC entry was removed, replaced, or evicted for another.
    Mac(FdbEntry),
    /// A route was removed or replaced; it led there.
    Route(NextHop),
    /// So many addresses were forgotten.
    Flushed(usize),
}

impl Change {
    /// The VTEP's id, where the command made one.
    pub fn vtep(self) -> Option<VtepId> {
        match self {
            Change::Vtep(id) => Some(id),
            _ => None,
        }
    }

    /// The port's id, where the command made one.
    pub fn port(self) -> Option<PortId> {
        match self {
            Change::Port(id) => Some(id),
            _ => None,
        }
    }
}

impl<S: Storage> Engine<S> {
    /// Carries out a command.
    ///
    /// Most take constant time. `SetVni` with a change of mode, `RemoveVni`, `RemoveVtep`,
    /// `RemovePort` and `FlushMacs` look at the whole FDB.
    ///
    /// # Errors
    /// What was refused, and why; nothing has changed then.
    pub fn apply(&mut self, now: Instant, command: &Command) -> Result<Change, ControlError> {
        match *command {
            Command::AddVni { vni, config } => Ok(self.add_vni(vni, config)?),
            Command::SetVni { vni, config } => Ok(self.set_vni(vni, config)?),
            Command::RemoveVni { vni } => Ok(self.remove_vni(vni)?),
            Command::AddVtep(config) => Ok(self.add_vtep(config)?),
            Command::SetVtep { vtep, config } => Ok(self.set_vtep(vtep, config)?),
            Command::RemoveVtep { vtep } => Ok(self.remove_vtep(vtep)?),
            Command::AddPort(config) => self.add_port(config),
            Command::SetPort { port, config } => Ok(self.set_port(port, config)?),
            Command::RemovePort { port } => Ok(self.remove_port(port)?),
            Command::AddFlood { vni, vtep } => self.tables.add_flood(vni, vtep),
            Command::RemoveFlood { vni, vtep } => self.tables.remove_flood(vni, vtep),
            Command::AddMac { vni, mac, at, kind } => {
                let change = self.tables.add_mac(now, vni, mac, at, kind)?;
                if let Change::Mac(entry) = &change
                    && (entry.vni, entry.mac) != (vni, mac)
                {
                    self.tables.gone(now, entry, &mut self.context);
                }
                Ok(change)
            }
            Command::RemoveMac { vni, mac } => self.tables.remove_mac(vni, mac),
            Command::FlushMacs { vni, at } => Ok(self.tables.flush_macs(vni, at)),
            Command::AddRoute { vni, prefix, next_hop } => self.tables.add_route(vni, prefix, next_hop),
            Command::RemoveRoute { vni, prefix } => self.tables.remove_route(vni, prefix),
        }
    }

    fn add_vni(&mut self, vni: Vni, config: VniConfig) -> Result<Change, VniError> {
        check_mode(&config)?;
        let index = self.tables.vnis.insert(vni, config)?;
        if let Some(counters) = self.context.vni_mut(index) {
            *counters = Default::default();
        }
        Ok(Change::Done)
    }

    fn set_vni(&mut self, vni: Vni, config: VniConfig) -> Result<Change, VniError> {
        check_mode(&config)?;
        let index = self.tables.vnis.index_of(vni).ok_or(VniError::Unknown(vni))?;
        let old = self.tables.vnis.set(vni, config)?;
        self.tables.epoch = self.tables.epoch.wrapping_add(1);
        if core::mem::discriminant(&old.mode) != core::mem::discriminant(&config.mode) {
            self.tables.clear_routes(index);
            self.tables.fdb.flush(|e| e.vni != vni, |_| {});
        }
        Ok(Change::Done)
    }

    fn remove_vni(&mut self, vni: Vni) -> Result<Change, VniError> {
        let index = self.tables.vnis.index_of(vni).ok_or(VniError::Unknown(vni))?;
        let ports = self.tables.floods.ports(index).count() as u32;
        if ports > 0 {
            return Err(VniError::InUse { vni, ports });
        }
        self.tables.vnis.remove(vni)?;
        self.tables.epoch = self.tables.epoch.wrapping_add(1);
        self.tables.clear_routes(index);
        self.tables.floods.clear(index);
        self.tables.fdb.flush(|e| e.vni != vni, |_| {});
        Ok(Change::Done)
    }

    fn add_vtep(&mut self, config: VtepConfig) -> Result<Change, VtepError> {
        if let Some(id) = self.tables.vteps.by_addr(config.addr.to_canonical())
            && self.tables.vteps.get(id).is_some_and(|v| v.origin == Origin::Learned)
        {
            self.set_vtep(id, config)?;
            return Ok(Change::Vtep(id));
        }
        let mut added = self.tables.add_vtep(config, Origin::Configured, &mut self.context);
        if let Err(VtepError::Full(_)) = added
            && self.tables.vteps.len() == self.tables.vteps.capacity()
            && let Some(id) = self.tables.least_wanted()
        {
            // Whoever sends packets can make one; they must not keep the host from its own. First the address, which
            // may find no place in the index even so: a refusal leaves all as it was.
            self.tables.vteps.set(id, config)?;
            self.remove_vtep(id)?;
            added = self.tables.add_vtep(config, Origin::Configured, &mut self.context);
        }
        added.map(Change::Vtep)
    }

    fn remove_vtep(&mut self, id: VtepId) -> Result<Change, VtepError> {
        self.tables.remove_vtep(id)?;
        self.context.forget_vtep(id);
        Ok(Change::Done)
    }

    fn set_vtep(&mut self, id: VtepId, config: VtepConfig) -> Result<Change, VtepError> {
        let old = *self.tables.vteps.get(id).ok_or(VtepError::Unknown(id))?;
        if config.inner_mac.is_none() && old.routes > 0 {
            return Err(VtepError::InUse { vtep: id, routes: old.routes });
        }
        if self.tables.is_local(config.addr.to_canonical()) {
            return Err(VtepError::Address(config.addr));
        }
        let template = self.tables.make_template(&config)?;
        let before = self.tables.vteps.set(id, config)?;
        if self.tables.vteps.get(id).is_some_and(|v| v.config.addr != before.addr) {
            self.tables.epoch = self.tables.epoch.wrapping_add(1);
        }
        self.tables.adopt(id);
        self.tables.set_template(id, template);
        let _ = self.tables.fdb.set_limit(Destination::Vtep(id), config.learn_limit);
        Ok(Change::Done)
    }

    fn add_port(&mut self, config: PortConfig) -> Result<Change, ControlError> {
        let index = self.tables.vnis.index_of(config.vni).ok_or(PortError::NoVni(config.vni))?;
        let id = self.tables.ports.insert(config, index)?;
        if let Err(full) = self.tables.floods.add(index, Destination::Port(id)) {
            self.tables.ports.remove(id)?;
            return Err(full.into());
        }
        let _ = self.tables.fdb.set_limit(Destination::Port(id), config.learn_limit);
        if let Some(counters) = self.context.port_mut(id) {
            *counters = Default::default();
        }
        Ok(Change::Port(id))
    }

    fn set_port(&mut self, id: PortId, config: PortConfig) -> Result<Change, PortError> {
        self.tables.ports.set(id, config)?;
        self.tables.epoch = self.tables.epoch.wrapping_add(1);
        let _ = self.tables.fdb.set_limit(Destination::Port(id), config.learn_limit);
        Ok(Change::Done)
    }

    fn remove_port(&mut self, id: PortId) -> Result<Change, PortError> {
        self.tables.ports.remove(id)?;
        self.tables.epoch = self.tables.epoch.wrapping_add(1);
        self.tables.floods.remove_everywhere(Destination::Port(id));
        self.tables.fdb.flush(|e| e.destination != Destination::Port(id), |_| {});
        Ok(Change::Done)
    }
}

impl<S: Storage> Tables<S> {
    fn add_flood(&mut self, vni: Vni, vtep: VtepId) -> Result<Change, ControlError> {
        let index = self.vnis.index_of(vni).ok_or(VniError::Unknown(vni))?;
        self.vteps.get(vtep).ok_or(VtepError::Unknown(vtep))?;
        self.floods.add(index, Destination::Vtep(vtep))?;
        self.adopt(vtep);
        Ok(Change::Done)
    }

    fn remove_flood(&mut self, vni: Vni, vtep: VtepId) -> Result<Change, ControlError> {
        let index = self.vnis.index_of(vni).ok_or(VniError::Unknown(vni))?;
        self.floods.remove(index, Destination::Vtep(vtep))?;
        Ok(Change::Done)
    }

    fn add_mac(
        &mut self,
        now: Instant,
        vni: Vni,
        mac: MacAddr,
        at: Destination,
        kind: EntryKind,
    ) -> Result<Change, ControlError> {
        self.vnis.index_of(vni).ok_or(VniError::Unknown(vni))?;
        match at {
            Destination::Port(p) => match self.port_in(p, vni) {
                Some(true) => {}
                Some(false) => return Err(FdbError::OtherVni { vni, port: p }.into()),
                None => return Err(FdbError::NoDestination(at).into()),
            },
            Destination::Vtep(v) => {
                self.vteps.get(v).ok_or(FdbError::NoDestination(at))?;
            }
        }
        let replaced = self.fdb.insert(now, vni, mac, at, kind)?;
        if let Destination::Vtep(v) = at {
            self.adopt(v);
        }
        Ok(replaced.map_or(Change::Done, Change::Mac))
    }

    fn remove_mac(&mut self, vni: Vni, mac: MacAddr) -> Result<Change, ControlError> {
        self.vnis.index_of(vni).ok_or(VniError::Unknown(vni))?;
        Ok(Change::Mac(self.fdb.remove(vni, mac).ok_or(FdbError::Unknown { vni, mac })?))
    }

    fn flush_macs(&mut self, vni: Option<Vni>, at: Option<Destination>) -> Change {
        let kept = |e: &FdbEntry| {
            e.kind == EntryKind::Static
                || vni.is_some_and(|v| v != e.vni)
                || at.is_some_and(|d| d != e.destination)
        };
        Change::Flushed(self.fdb.flush(kept, |_| {}))
    }

    /// The number of a routed VNI's tables.
    fn routed(&self, vni: Vni) -> Result<VniIndex, ControlError> {
        let index = self.vnis.index_of(vni).ok_or(VniError::Unknown(vni))?;
        match self.vnis.get(index).map(|e| e.config.mode) {
            Some(Mode::Routed { .. }) => Ok(index),
            _ => Err(RouteError::NotRouted(vni).into()),
        }
    }

    fn add_route(&mut self, vni: Vni, prefix: IpPrefix, hop: NextHop) -> Result<Change, ControlError> {
        let index = self.routed(vni)?;
        match hop {
            NextHop::Port(p) => match self.port_in(p, vni) {
                Some(true) => {}
                Some(false) => return Err(RouteError::OtherVni { vni, port: p }.into()),
                None => return Err(RouteError::NoNextHop(Destination::Port(p)).into()),
            },
            NextHop::Vtep(v) => {
                let vtep = self.vteps.get(v).ok_or(RouteError::NoNextHop(Destination::Vtep(v)))?;
                vtep.config.inner_mac.ok_or(RouteError::NoVtepMac(v))?;
            }
            NextHop::Direct | NextHop::Blackhole => {}
        }
        let replaced = match prefix {
            IpPrefix::V4(p) => self.routes_v4.insert(index.0, p.addr(), p.len(), hop),
            IpPrefix::V6(p) => self.routes_v6.insert(index.0, p.addr(), p.len(), hop),
        }
        .map_err(|_| RouteError::Full(prefix))?;
        hold::<S>(&mut self.vteps, &mut self.ports, hop, true);
        if let NextHop::Vtep(v) = hop {
            self.adopt(v);
        }
        Ok(match replaced {
            Some(old) => {
                hold::<S>(&mut self.vteps, &mut self.ports, old, false);
                Change::Route(old)
            }
            None => Change::Done,
        })
    }

    fn remove_route(&mut self, vni: Vni, prefix: IpPrefix) -> Result<Change, ControlError> {
        let index = self.routed(vni)?;
        let removed = match prefix {
            IpPrefix::V4(p) => self.routes_v4.remove(index.0, p.addr(), p.len()),
            IpPrefix::V6(p) => self.routes_v6.remove(index.0, p.addr(), p.len()),
        };
        let hop = removed.ok_or(RouteError::Unknown { vni, prefix })?;
        hold::<S>(&mut self.vteps, &mut self.ports, hop, false);
        Ok(Change::Route(hop))
    }

    fn clear_routes(&mut self, index: VniIndex) {
        for (_, _, hop) in self.routes_v4.iter(index.0) {
            hold::<S>(&mut self.vteps, &mut self.ports, hop, false);
        }
        for (_, _, hop) in self.routes_v6.iter(index.0) {
            hold::<S>(&mut self.vteps, &mut self.ports, hop, false);
        }
        self.routes_v4.clear(index.0);
        self.routes_v6.clear(index.0);
    }
}

/// Counts a route that leads to a VTEP or port, or that no longer does. The next hop was found to
/// exist when the route was made, and cannot go while it is counted.
fn hold<S: Storage>(vteps: &mut VtepTableOf<S>, ports: &mut PortTableOf<S>, hop: NextHop, add: bool) {
    let held = match (hop, add) {
        (NextHop::Vtep(v), true) => vteps.add_route(v).is_ok(),
        (NextHop::Vtep(v), false) => vteps.remove_route(v).is_ok(),
        (NextHop::Port(p), true) => ports.add_route(p).is_ok(),
        (NextHop::Port(p), false) => ports.remove_route(p).is_ok(),
        (NextHop::Direct | NextHop::Blackhole, _) => true,
    };
    debug_assert!(held, "a route led to {hop}, which is gone");
}

fn check_mode(config: &VniConfig) -> Result<(), VniError> {
    match config.mode {
        Mode::Routed { router_mac } if !router_mac.is_unicast() => Err(VniError::RouterMac(router_mac)),
        _ => Ok(()),
    }
}
