//! What each stage cost.

use crate::report::charts::{Chart, Look, Rows};
use crate::report::html::{Table, bytes, count, seconds, text};
use crate::report::page::{Section, charts, paragraph};
use crate::report::{Report, StageCost};

pub fn section(report: &Report) -> Section {
    let stages = &report.stages;
    let rows =
        |id, title: &str, note: &str, name: &str, value: fn(&StageCost) -> f64, written: fn(&StageCost) -> String| {
            Rows {
                chart: Chart::new(id, title, note),
                name: name.into(),
                look: Look::Ours,
                rows: stages.iter().map(|stage| (stage.stage.clone(), value(stage), written(stage))).collect(),
            }
            .html()
        };
    const MIB: f64 = (1 << 20) as f64;
    let mut body = paragraph("A stage that was done before for the same inputs is told with what it cost then.");
    body += &charts([
        rows("time", "Time", "Seconds of each stage.", "time", |s| s.seconds, |s| seconds(s.seconds)),
        rows(
            "memory",
            "Memory",
            "Largest resident set, in MiB, of the process up to the stage's end.",
            "memory",
            |s| s.peak_memory as f64 / MIB,
            |s| bytes(s.peak_memory),
        ),
        rows(
            "bytes",
            "Bytes written",
            "Size of each stage's files, in MiB.",
            "size",
            |s| s.bytes as f64 / MIB,
            |s| bytes(s.bytes),
        ),
    ]);
    let mut table = Table::new(["stage", "time", "peak memory", "files", "size"]);
    for stage in stages {
        let cells = [seconds(stage.seconds), bytes(stage.peak_memory), count(stage.files), bytes(stage.bytes)];
        table.row(std::iter::once(text(&stage.stage)).chain(cells.map(|cell| text(&cell))));
    }
    let total = [
        seconds(stages.iter().map(|stage| stage.seconds).sum()),
        bytes(stages.iter().map(|stage| stage.peak_memory).max().unwrap_or(0)),
        count(stages.iter().map(|stage| stage.files).sum()),
        bytes(stages.iter().map(|stage| stage.bytes).sum()),
    ];
    table.marked(true, std::iter::once(text("all")).chain(total.map(|cell| text(&cell))));
    body += &table.html();
    Section { id: "cost", title: "Time, memory, bytes", body }
}
