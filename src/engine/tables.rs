//! The tables of an engine, joined; read through `&` on the data path.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::config::EngineConfig;
use super::context::{BATCH, Context, Seen};
use super::event::Event;
use super::storage::{Parts, Storage};
use crate::addr::{Destination, MacAddr, PortId, Vni, VtepId};
use crate::error::{CapacityError, ConfigError, VtepError};
use crate::table::Store;
use crate::table::fdb::{Fdb, FdbEntry, Learned, Sighting};
use crate::table::flood::FloodTable;
use crate::table::lpm::Lpm;
use crate::table::port::PortTable;
use crate::table::vni::VniTable;
use crate::table::vtep::{Origin, Vtep, VtepConfig, VtepTable};
use crate::time::Instant;
use crate::wire::outer::{OuterPolicy, PlainPolicy, Shape};
use crate::wire::template::{Template, TemplateConfig, TemplateError};

/// Who was seen where nobody was.
const NOBODY: Sighting =
    Sighting { vni: Vni::truncate(0), mac: MacAddr([0; 6]), from: Destination::Port(PortId(0)) };

pub(crate) type VniTableOf<S> = VniTable<<S as Storage>::VniIndexStore, <S as Storage>::VniStore>;
pub(crate) type VtepTableOf<S> = VtepTable<<S as Storage>::VtepIndexStore, <S as Storage>::VtepStore>;
pub(crate) type PortTableOf<S> = PortTable<<S as Storage>::PortStore>;
pub(crate) type FloodTableOf<S> = FloodTable<<S as Storage>::FloodHeadStore, <S as Storage>::FloodNodeStore>;
pub(crate) type FdbOf<S> = Fdb<
    <S as Storage>::TagStore,
    <S as Storage>::SlotStore,
    <S as Storage>::PortQuotaStore,
    <S as Storage>::VtepQuotaStore,
>;
pub(crate) type Lpm4Of<S> = Lpm<Ipv4Addr, <S as Storage>::CellV4Store, <S as Storage>::RootV4Store>;
pub(crate) type Lpm6Of<S> = Lpm<Ipv6Addr, <S as Storage>::CellV6Store, <S as Storage>::RootV6Store>;

/// With more VNIs, VTEPs and ports than this, what a packet reads of them is seldom near (1.5 MB of counters).
const FAR: usize = 1 << 12;

/// Every table of an engine.
///
/// The data path reads them and writes into a [`Context`]; changes come through
/// [`Engine::apply`](super::Engine::apply) and [`Engine::merge`](super::Engine::merge).
pub struct Tables<S: Storage> {
    pub(crate) config: EngineConfig,
    pub(crate) policy: OuterPolicy,
    pub(crate) plain: PlainPolicy,
    pub(crate) vnis: VniTableOf<S>,
    pub(crate) vteps: VtepTableOf<S>,
    pub(crate) templates: S::TemplateStore,
    pub(crate) ports: PortTableOf<S>,
    pub(crate) floods: FloodTableOf<S>,
    pub(crate) fdb: FdbOf<S>,
    pub(crate) routes_v4: Lpm4Of<S>,
    pub(crate) routes_v6: Lpm6Of<S>,
    /// Records and counters of all VNIs, VTEPs and ports take more room than the caches have.
    pub(crate) is_far: bool,
    /// How many VTEPs came by themselves.
    pub(crate) learned_vteps: usize,
    /// Raised whenever a VNI, port or VTEP goes, or is told to be another: whoever has its id later
    /// is not who was seen before, or may no longer teach.
    pub(crate) epoch: u32,
}

impl<S: Storage> Tables<S> {
    pub(crate) fn new(config: EngineConfig, mut parts: Parts<S>) -> Result<Self, ConfigError> {
        config.check()?;
        let (templates, vteps) = (parts.templates.as_slice().len(), parts.vteps.as_slice().len());
        if templates != vteps {
            return Err(CapacityError::Mismatch {
                table: "VTEPs and templates",
                first: vteps,
                second: templates,
            }
            .into());
        }
        parts.templates.as_mut_slice().fill(Template::EMPTY);
        let quotas = (parts.port_quotas.as_slice().len(), parts.vtep_quotas.as_slice().len());
        let ports = parts.ports.as_slice().len();
        if quotas.0 != ports {
            return Err(CapacityError::Mismatch {
                table: "ports and quotas",
                first: ports,
                second: quotas.0,
            }
            .into());
        }
        if quotas.1 != vteps {
            return Err(CapacityError::Mismatch {
                table: "VTEPs and quotas",
                first: vteps,
                second: quotas.1,
            }
            .into());
        }
        let vnis = parts.vnis.as_slice().len();
        for (table, n) in [
            ("VNIs and flood heads", parts.flood_heads.as_slice().len()),
            ("VNIs and IPv4 route roots", parts.roots_v4.as_slice().len()),
            ("VNIs and IPv6 route roots", parts.roots_v6.as_slice().len()),
        ] {
            if n != vnis {
                return Err(CapacityError::Mismatch { table, first: vnis, second: n }.into());
            }
        }
        let policy = OuterPolicy {
            ports: [config.port, 0, 0, 0],
            vxlan: config.vxlan,
            verify_udp_checksum: config.verify_checksum,
            allow_zero_udp6: config.allow_zero_checksum_v6,
            ..OuterPolicy::default()
        };
        Ok(Tables {
            plain: PlainPolicy::new(&policy),
            policy,
            vnis: VniTable::new(parts.vni_index, parts.vnis, config.seed)?,
            vteps: VtepTable::new(parts.vtep_index, parts.vteps, config.seed)?,
            templates: parts.templates,
            ports: PortTable::new(parts.ports)?,
            floods: FloodTable::new(parts.flood_heads, parts.flood_nodes)?,
            fdb: Fdb::new(
                parts.fdb_tags,
                parts.fdb_slots,
                parts.port_quotas,
                parts.vtep_quotas,
                config.seed,
                config.ageing,
            )?,
            routes_v4: Lpm::new(parts.cells_v4, parts.roots_v4)?,
            routes_v6: Lpm::new(parts.cells_v6, parts.roots_v6)?,
            is_far: vnis.saturating_add(vteps).saturating_add(ports) > FAR,
            learned_vteps: 0,
            epoch: 0,
            config,
        })
    }

    /// The settings that the engine was made with.
    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// The VNIs.
    pub fn vnis(&self) -> &VniTableOf<S> {
        &self.vnis
    }

    /// The VTEPs.
    pub fn vteps(&self) -> &VtepTableOf<S> {
        &self.vteps
    }

    /// The local ports.
    pub fn ports(&self) -> &PortTableOf<S> {
        &self.ports
    }

    /// The flood lists.
    pub fn floods(&self) -> &FloodTableOf<S> {
        &self.floods
    }

    /// The MAC addresses.
    pub fn fdb(&self) -> &FdbOf<S> {
        &self.fdb
    }

    /// The IPv4 routes; a VNI's table has the number of its [`VniIndex`](crate::table::vni::VniIndex).
    pub fn routes_v4(&self) -> &Lpm4Of<S> {
        &self.routes_v4
    }

    /// The IPv6 routes.
    pub fn routes_v6(&self) -> &Lpm6Of<S> {
        &self.routes_v6
    }

    #[inline]
    pub(crate) fn template(&self, vtep: VtepId) -> Option<&Template> {
        self.templates.as_slice().get(usize::from(vtep.0)).filter(|t| !t.is_empty())
    }

    /// Whether an address is one of this node's own underlay addresses.
    #[inline]
    pub(crate) fn is_local(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(a) => self.config.local_v4 == Some(a),
            IpAddr::V6(a) => self.config.local_v6 == Some(a),
        }
    }

    /// The prebuilt outer header for a VTEP.
    pub(crate) fn make_template(&self, vtep: &VtepConfig) -> Result<Template, VtepError> {
        // One station's packets are not sent to a group (RFC 1812, section 5.3.4).
        if self.config.shape == Shape::Ethernet && !vtep.underlay_mac.is_unicast() {
            return Err(VtepError::UnderlayMac(vtep.underlay_mac));
        }
        let (local, udp_checksum) = match vtep.addr.to_canonical() {
            IpAddr::V4(_) => (self.config.local_v4.map(IpAddr::V4), self.config.checksum_v4),
            IpAddr::V6(_) => (self.config.local_v6.map(IpAddr::V6), self.config.checksum_v6),
        };
        let local = local.ok_or(VtepError::Family(vtep.addr))?;
        Template::new(&TemplateConfig {
            shape: self.config.shape,
            local,
            remote: vtep.addr.to_canonical(),
            remote_port: vtep.port,
            local_mac: self.config.local_mac,
            remote_mac: vtep.underlay_mac,
            ttl: self.config.ttl,
            dscp: self.config.dscp,
            dont_fragment: self.config.dont_fragment,
            udp_checksum,
        })
        .map(|template| template.with_mtu(vtep.mtu))
        .map_err(|e| match e {
            TemplateError::Port => VtepError::Port,
            TemplateError::Mac(mac) => VtepError::UnderlayMac(mac),
            TemplateError::Address(addr) => VtepError::Address(addr),
            _ => VtepError::Family(vtep.addr),
        })
    }

    pub(crate) fn set_template(&mut self, vtep: VtepId, template: Template) {
        if let Some(slot) = self.templates.as_mut_slice().get_mut(usize::from(vtep.0)) {
            *slot = template;
        }
    }

    /// Adds a VTEP with its template and limits, and starts its counters at zero.
    pub(crate) fn add_vtep(
        &mut self,
        config: VtepConfig,
        origin: Origin,
        context: &mut Context<S>,
    ) -> Result<VtepId, VtepError> {
        if self.is_local(config.addr.to_canonical()) {
            return Err(VtepError::Address(config.addr));
        }
        let template = self.make_template(&config)?;
        let id = self.vteps.insert(config, origin)?;
        if origin == Origin::Learned {
            self.learned_vteps += 1;
        }
        self.vteps.set_since(id, self.epoch);
        self.set_template(id, template);
        let _ = self.fdb.set_limit(Destination::Vtep(id), config.learn_limit);
        context.forget_vtep(id);
        Ok(id)
    }

    /// Forgets a VTEP to which no route leads: its addresses, list memberships and template.
    pub(crate) fn remove_vtep(&mut self, id: VtepId) -> Result<(), VtepError> {
        self.release_vtep(id)?;
        self.floods.remove_everywhere(Destination::Vtep(id));
        self.fdb.flush(|e| e.destination != Destination::Vtep(id), |_| {});
        Ok(())
    }

    /// Frees the id of a VTEP that no list and no address knows.
    fn release_vtep(&mut self, id: VtepId) -> Result<(), VtepError> {
        let vtep = self.vteps.remove(id)?;
        self.epoch = self.epoch.wrapping_add(1);
        if vtep.origin == Origin::Learned {
            self.learned_vteps = self.learned_vteps.saturating_sub(1);
        }
        self.set_template(id, Template::EMPTY);
        Ok(())
    }

    /// Forgets a VTEP that came by itself and behind which nobody is left; takes constant time.
    ///
    /// Only the host puts a VTEP on a flood list, or a static address behind it, and whoever it does
    /// that to is [adopted](Self::adopt): such a VTEP is on no list.
    pub(crate) fn forget_if_stale(&mut self, id: VtepId) -> bool {
        self.vteps.get(id).is_some_and(|v| self.is_stale(id, v)) && self.release_vtep(id).is_ok()
    }

    /// A VTEP that came by itself, to give its place up to one that the host asks for: rather one behind which
    /// nobody is left.
    pub(crate) fn least_wanted(&self) -> Option<VtepId> {
        let mut learned = self.vteps.iter().filter(|(_, v)| v.origin == Origin::Learned && v.routes == 0);
        let stale = learned.clone().find(|(id, v)| self.is_stale(*id, v));
        stale.or_else(|| learned.next()).map(|(id, _)| id)
    }

    /// Makes a VTEP that came by itself one that the host has asked for: it stays.
    pub(crate) fn adopt(&mut self, id: VtepId) {
        if self.vteps.get(id).is_some_and(|v| v.origin == Origin::Learned)
            && self.vteps.set_origin(id, Origin::Configured).is_ok()
        {
            self.learned_vteps = self.learned_vteps.saturating_sub(1);
        }
    }

    /// Drops what a context has counted for VTEPs whose id somebody else may have by now.
    pub(crate) fn tell_apart(&self, context: &mut Context<S>) {
        let since = context.begin_anew(self.epoch);
        if since == self.epoch {
            return;
        }
        for id in (0..self.vteps.capacity()).map(|id| VtepId(id as u16)) {
            // The first holder of an id inherits from nobody.
            let first = self.vteps.get(id).is_some_and(|vtep| vtep.epoch == 1);
            let long = self.vteps.since(id).is_some_and(|came| came.wrapping_sub(since) as i32 <= 0);
            if !first && !long {
                context.forget_vtep(id);
            }
        }
    }

    /// Learns what a context has noted. Bounded by the size of its log. What was noted before a VNI,
    /// port or VTEP went is dropped: an id in it may be somebody else's by now, and the next frame
    /// brings the address again.
    pub(crate) fn merge(&mut self, now: Instant, context: &mut Context<S>) {
        let (notes, noted) = context.take_notes();
        let epoch = self.epoch;
        let mut sightings = [NOBODY; BATCH];
        let mut seen = 0;
        for note in notes.iter().take(noted).flatten().filter(|n| n.epoch == epoch) {
            let from = match note.seen {
                Seen::Port(p) => Destination::Port(p),
                Seen::Vtep(v) => Destination::Vtep(v),
                Seen::Source { addr, mac } => match self.learn_vtep(addr, mac, context) {
                    Some(v) => Destination::Vtep(v),
                    None => continue,
                },
            };
            if let (Some(mac), Some(sighting)) = (note.mac, sightings.get_mut(seen)) {
                *sighting = Sighting { vni: note.vni, mac, from };
                seen += 1;
            }
        }
        let ageing = self.fdb.lifetime();
        let sightings = sightings.get(..seen).unwrap_or(&sightings);
        self.fdb.learn_batch(now, sightings, |s, learned| {
            // Nearly always a refresh, of which nobody is told.
            if !matches!(learned, Learned::Refreshed) {
                context.taught(now, s, learned, ageing);
            }
        });
    }

    /// Counts and tells of an entry whose place was taken.
    pub(crate) fn gone(&self, now: Instant, entry: &FdbEntry, context: &mut Context<S>) {
        context.gone(now, entry, self.fdb.lifetime());
    }

    fn learn_vtep(&mut self, addr: IpAddr, mac: MacAddr, context: &mut Context<S>) -> Option<VtepId> {
        if let Some(known) = self.vteps.by_addr(addr) {
            self.follow(known, mac);
            return Some(known);
        }
        let config = VtepConfig { underlay_mac: mac, ..VtepConfig::new(addr, self.config.port) };
        match self.add_vtep(config, Origin::Learned, context) {
            Ok(vtep) => {
                context.event(Event::VtepLearned { vtep, addr });
                Some(vtep)
            }
            Err(VtepError::Full(_)) => {
                context.event(Event::VtepTableFull { addr });
                None
            }
            Err(_) => None,
        }
    }

    /// Sends what is for a VTEP that came by itself to the station that its packets come from now.
    fn follow(&mut self, id: VtepId, mac: MacAddr) {
        let Some(vtep) = self.vteps.get(id).filter(|v| v.origin == Origin::Learned) else { return };
        let config = VtepConfig { underlay_mac: mac, ..vtep.config };
        if self.config.shape == Shape::Ethernet
            && vtep.config.underlay_mac != mac
            && let Ok(template) = self.make_template(&config)
            && self.vteps.set(id, config).is_ok()
        {
            self.set_template(id, template);
        }
    }

    /// Whether a learned VTEP is of no use any more.
    fn is_stale(&self, id: VtepId, vtep: &Vtep) -> bool {
        vtep.origin == Origin::Learned && vtep.routes == 0 && self.fdb.learned_by(Destination::Vtep(id)) == 0
    }

    /// Whether a port exists and belongs to this VNI.
    pub(crate) fn port_in(&self, port: PortId, vni: Vni) -> Option<bool> {
        self.ports.get(port).map(|p| p.config.vni == vni)
    }
}

impl<S: Storage> fmt::Debug for Tables<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables")
            .field("vnis", &self.vnis.len())
            .field("vteps", &self.vteps.len())
            .field("ports", &self.ports.len())
            .field("macs", &self.fdb.len())
            .finish_non_exhaustive()
    }
}
