//! Item vectors: their lengths, their likeness, and a picture.

use crate::artifacts::{Histogram, Projection, RefreshFacts};
use crate::report::Report;
use crate::report::charts::{Bars, Chart, Cloud, Look, Part, Series};
use crate::report::html::{count, number, percent, plural};
use crate::report::page::{Section, charts, paragraph};

pub fn section(report: &Report) -> Section {
    let (facts, portrait) = (&report.embeddings, &report.portrait);
    let mut body = paragraph(&format!(
        "{} of {} dimensions. {} zero, {} not finite, {} twice{}.",
        plural(facts.items, "vector", "vectors"),
        facts.dim,
        count(facts.zero),
        count(facts.non_finite),
        count(facts.duplicate_ids),
        facts
            .norm_error
            .map_or(String::new(), |error| format!("; the length of one differs from 1 by {} at most", number(error)))
    ));
    body += &refreshed(&facts.refresh);
    let picture = &portrait.projection;
    body += &charts([by_popularity(picture), by_group(picture, portrait.group.as_deref())]);
    body += &charts([
        histogram(
            "norms",
            "Lengths of item vectors",
            "All are one where vectors are normalised, so that inner products rank as cosines do.",
            "length",
            "items",
            &portrait.norms,
        ),
        histogram(
            "similarity",
            "Likeness of pairs of items",
            "Inner products of pairs drawn by hash. All near 1 means that the vectors have collapsed.",
            "inner product, from",
            "pairs",
            &portrait.similarity,
        ),
    ]);
    Section { id: "vectors", title: "Item vectors", body }
}

fn histogram(id: &'static str, title: &str, note: &str, x_name: &str, y_name: &str, of: &Histogram) -> String {
    // the digits that tell one edge from the next
    let width = of.edges.get(1).zip(of.edges.first()).map_or(1.0, |(next, first)| next - first);
    let decimals = (-(width.max(1e-9).log10() + 1e-6).floor()).clamp(0.0, 9.0) as usize;
    let labels = match of.counts.len() {
        1 => vec![number((of.edges[0] * 1e6).round() / 1e6)],
        _ => of.edges.iter().take(of.counts.len()).map(|edge| format!("{edge:.decimals$}")).collect(),
    };
    Bars {
        chart: Chart::new(id, title, note),
        x_name: x_name.into(),
        y_name: y_name.into(),
        labels,
        series: vec![Series::new(y_name, Look::Ours, of.counts.iter().map(|count| Some(*count as f64)))],
    }
    .html()
}

const BANDS: usize = 5;

fn by_popularity(picture: &Projection) -> String {
    // as many items in each band as ties allow, the most popular last, so that they lie on top
    let mut sorted = picture.positives.clone();
    sorted.sort_unstable();
    let mut bounds: Vec<u64> = (1..BANDS).filter_map(|at| sorted.get(sorted.len() * at / BANDS).copied()).collect();
    bounds.dedup();
    let bands = bounds.len() + 1;
    let band = |positives: u64| bounds.partition_point(|bound| *bound <= positives);
    let name = |at: usize| match (at.checked_sub(1).map(|below| bounds[below]), bounds.get(at)) {
        (None, None) => "all".to_string(),
        (None, Some(above)) => format!("below {above} positives"),
        (Some(from), Some(above)) if from + 1 == *above => format!("{from}"),
        (Some(from), Some(above)) => format!("{from} to {}", above - 1),
        (Some(from), None) => format!("{from} and more"),
    };
    let parts = (0..bands).map(|at| Part {
        name: name(at),
        look: Look::Band(at * (BANDS - 1) / (bands - 1).max(1)),
        points: points(picture, |item| band(picture.positives[item]) == at),
    });
    cloud(
        "picture-popularity",
        "Item vectors, by popularity",
        "Two axes of many: what lies apart is apart, what lies together need not be near.",
        picture,
        parts.filter(|part| !part.points.is_empty()).collect(),
    )
}

fn by_group(picture: &Projection, column: Option<&str>) -> String {
    let Some(column) = column.filter(|_| !picture.groups.is_empty()) else { return String::new() };
    let last = picture.groups.len() - 1;
    let part = |(at, name): (usize, &String)| Part {
        name: name.clone(),
        look: if name == "others" && at == last { Look::Rest } else { Look::Group(at) },
        points: points(picture, |item| picture.group[item] as usize == at),
    };
    let title = format!("Item vectors, by {column}");
    cloud(
        "picture-group",
        &title,
        "The same picture. Groups that lie together show that the model tells them apart.",
        picture,
        picture.groups.iter().enumerate().map(part).collect(),
    )
}

fn points(picture: &Projection, keep: impl Fn(usize) -> bool) -> Vec<(f64, f64)> {
    (0..picture.x.len()).filter(|at| keep(*at)).map(|at| (picture.x[at].into(), picture.y[at].into())).collect()
}

fn cloud(id: &'static str, title: &str, note: &str, picture: &Projection, parts: Vec<Part>) -> String {
    let [x, y] = picture.explained.map(percent);
    Cloud {
        chart: Chart::new(
            id,
            title,
            format!("{note} {} drawn by hash.", plural(picture.items.len() as u64, "item", "items")),
        ),
        x_name: format!("first principal axis, {x} of the variance"),
        y_name: format!("second, {y}"),
        parts,
    }
    .html()
}

/// Which vectors are the parent's, and what mixing them cost.
fn refreshed(refresh: &RefreshFacts) -> String {
    if refresh.fresh + refresh.kept == 0 {
        return String::new();
    }
    let made = count(refresh.fresh);
    let mut said = match refresh.kept {
        0 => format!("All {made} were made anew: {}.", refresh.why),
        kept => format!("{made} were made anew, {} are the parent's: {}.", count(kept), refresh.why),
    };
    if let Some(probe) = &refresh.probe {
        said += &format!(
            " On {} and {} a mix finds {} at {}, all fresh ones {}: a ratio of {}, and at least {} is wanted.",
            plural(probe.users, "user", "users"),
            plural(probe.items, "item", "items"),
            number(probe.mixed_recall),
            probe.k,
            number(probe.fresh_recall),
            number(probe.ratio),
            number(probe.threshold)
        );
    }
    paragraph(&said)
}
