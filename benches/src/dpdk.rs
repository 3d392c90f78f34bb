//! Figures of DPDK, measured outside: five columns with tabs between.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::measure::median;
use crate::rows::Peer;

/// Kind, table, peer and measure, and all values that were given for them.
#[derive(Debug, Default)]
pub(crate) struct Dpdk(BTreeMap<[String; 4], Vec<f64>>);

impl Dpdk {
    /// Reads files; lines of another form, such as notes, are left out.
    pub(crate) fn read(files: &[PathBuf]) -> io::Result<Dpdk> {
        let mut all = Dpdk::default();
        for file in files {
            let path = crate::from_root(file);
            let text = std::fs::read_to_string(&path)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
            for line in text.lines() {
                let columns: Vec<&str> = line.split('\t').collect();
                if let [a, b, c, d, value] = columns[..]
                    && let Ok(value) = value.trim().parse()
                {
                    all.0.entry([a, b, c, d].map(str::to_owned)).or_default().push(value);
                }
            }
        }
        Ok(all)
    }

    fn get(&self, kind: &str, table: &str, peer: &str, measure: &str) -> Option<f64> {
        let key = [kind, table, peer, measure].map(str::to_owned);
        self.0.get(&key).map(|values| median(values.clone()))
    }

    /// Time in ns and memory in octets of a row's peer, where the files tell.
    pub(crate) fn figures(&self, peer: &Peer) -> (Option<f64>, Option<f64>) {
        let Peer::Dpdk { kind, table, peer, time } = peer else { return (None, None) };
        let memory = self.get(kind, table, peer, "mem MiB").map(|mib| mib * f64::from(1 << 20));
        (self.get(kind, table, peer, time), memory)
    }
}
