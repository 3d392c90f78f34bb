//! The table of a document, between two markers.

use std::path::Path;

use crate::machine::Machine;
use crate::report::Line;

const BEGIN: &str = "<!-- results: written by `--results`; do not edit -->";
const END: &str = "<!-- end of results -->";

/// The table and what it was measured on.
fn table(lines: &[Line], machine: &Machine, samples: usize) -> String {
    let mut text = format!(
        "{}; {}; {}, compiled for {}. Medians of {samples} fresh processes for each figure.\n\n",
        machine.processor, machine.kernel, machine.compiler, machine.compiled_for
    );
    text += "| row | ours | peer | ratio | goal | |\n|---|---:|---:|---:|---|---|\n";
    for line in lines {
        let [row, ours, _, peer, ratio, goal, met] = line.cells();
        text += &format!("| {row} | {ours} | {peer} | {ratio} | {goal} | {met} |\n");
    }
    text
}

/// Writes the table into a document, in the place of the one that is there.
pub(crate) fn write(path: &Path, lines: &[Line], machine: &Machine, samples: usize) -> Result<(), String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let marks = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let Some((before, after)) = marks else {
        return Err(format!("{}: not between {BEGIN} and {END}", path.display()));
    };
    let table = table(lines, machine, samples);
    std::fs::write(path, format!("{before}{BEGIN}\n\n{table}\n{END}{after}")).map_err(failed)
}
