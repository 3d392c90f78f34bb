//! A chart of the rows that have a peer's time: a bar for each, its length the ratio.

use crate::machine::Machine;
use crate::report::Line;

const ROW: u32 = 26;
const TOP: u32 = 84;
/// Where bars begin, how long one is that stands for the peer's time, and the longest.
const LEFT: f64 = 420.0;
const UNIT: f64 = 220.0;
const LONGEST: f64 = 1.6;
const WIDTH: u32 = 1040;

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Whether the row belongs on the chart: measured on both sides, and of time.
fn shown(line: &&Line) -> bool {
    line.ratio.is_some_and(|ratio| ratio > 0.0) && line.peer_ns.is_some() && line.ours_ns.is_some()
}

/// The chart, as an SVG document that is read on light and dark pages.
pub(crate) fn svg(lines: &[Line], machine: &Machine) -> String {
    let rows: Vec<&Line> = lines.iter().filter(shown).collect();
    let height = TOP + ROW * rows.len() as u32 + 24;
    let mut out = String::new();
    let mut put = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    put(format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">"#
    ));
    put(format!(r##"<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>"##));
    put(r##"<g fill="#1b1f24">"##.into());
    put(r#"<text x="16" y="26" font-size="17" font-weight="bold">Time of overlane, in parts of the peer's (shorter is faster)</text>"#.into());
    put(format!(r#"<text x="16" y="46">{}; {}</text>"#, escape(&machine.processor), escape(&machine.kernel)));
    let compiled = format!("{}, compiled for {}", machine.compiler, machine.compiled_for);
    put(format!(r#"<text x="16" y="64">{}</text>"#, escape(&compiled)));
    for (i, line) in rows.iter().enumerate() {
        let y = TOP + ROW * i as u32;
        let ratio = line.ratio.unwrap_or(0.0);
        let length = ratio.min(LONGEST) * UNIT;
        let colour = match line.met {
            Some(true) => "#2e7d4f",
            Some(false) => "#b3541e",
            None => "#7a8794",
        };
        let (ours, peer) = line.figures();
        put(format!(
            r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
            LEFT - 8.0,
            y + 13,
            escape(&line.row)
        ));
        put(format!(r#"<rect x="{LEFT}" y="{y}" width="{length:.1}" height="17" fill="{colour}"/>"#));
        let peer_name = line.peer.as_deref().unwrap_or_default();
        let more = if ratio > LONGEST { "... " } else { "" };
        let text = format!("{more}{ratio:.2}  {ours} : {peer} {peer_name}");
        put(format!(r#"<text x="{:.1}" y="{}">{}</text>"#, LEFT + length + 6.0, y + 13, escape(&text)));
    }
    let x = LEFT + UNIT;
    put(format!(
        r##"<path d="M{x} {} V{}" stroke="#1b1f24" stroke-dasharray="3 3"/>"##,
        TOP - 6,
        height - 18
    ));
    put(format!(r#"<text x="16" y="{}">green: goal met; orange: missed; grey: no goal</text>"#, height - 8));
    put("</g>".into());
    put("</svg>".into());
    out
}
