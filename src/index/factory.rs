//! Which kind of index, and which search parameters are tried.

use super::faiss::Faiss;
use crate::error::{Error, Result};

/// Up to here a full scan costs well under a millisecond a query, needs no tuning and finds everything.
const FLAT_ITEMS: u64 = 20_000;
/// Up to here a graph is built within a minute, on the one thread that builds every index.
const GRAPH_ITEMS: u64 = 100_000;
/// faiss warns below this many training vectors for each cluster (`ClusteringParameters::min_points_per_centroid`).
const VECTORS_PER_CLUSTER: u64 = 39;
/// From here on a graph over the clusters' centres finds the nearest ones faster than a scan of them.
const GRAPH_CLUSTERS: u64 = 16_384;

/// The `index_factory` text for `items` vectors when the config has none.
///
/// Follows faiss's "Guidelines to choose an index": exact search while it is cheap, then HNSW (fast and precise, 4 * dim + 256
/// bytes a vector), then inverted lists, with the power of two nearest below 8 * sqrt(items) as their number (4 to 16 times the
/// root is advised), as far as there are training vectors for so many. 8-bit scalars quarter the memory; what they lose in the
/// order of near ties is part of the measured recall.
pub fn default_factory(items: u64, training_vectors: u64) -> String {
    if items <= FLAT_ITEMS {
        return "Flat".into();
    }
    if items <= GRAPH_ITEMS {
        return "HNSW32".into();
    }
    let wanted = (8.0 * (items as f64).sqrt()) as u64;
    let clusters = wanted.min(items.min(training_vectors) / VECTORS_PER_CLUSTER).max(1);
    let clusters = 1 << clusters.ilog2();
    let graph = if clusters >= GRAPH_CLUSTERS { "_HNSW32" } else { "" };
    format!("IVF{clusters}{graph},SQ8")
}

/// An empty index; an error names `index.factory` and says what faiss says.
pub fn create(dim: usize, factory: &str) -> Result<Faiss> {
    refuse_absurd(factory)?;
    Faiss::new(dim, factory).map_err(|error| refused(factory, dim, "cannot make it").caused_by(error))
}

pub fn refused(factory: &str, dim: usize, what: &str) -> Error {
    Error::config(format!(
        "index.factory: faiss {what}: `{factory}` for vectors of dimension {dim}; take another one, or leave the key out to \
         have one chosen by the number of items"
    ))
}

/// faiss asserts, and so ends the process, on a few numbers that cannot mean anything.
fn refuse_absurd(factory: &str) -> Result<()> {
    let numbers = factory.split(|c: char| !c.is_ascii_digit()).filter(|digits| !digits.is_empty());
    for digits in numbers {
        if digits.parse::<u32>().ok().is_none_or(|number| number == 0 || number > 1 << 26) {
            return Err(Error::config(format!(
                "index.factory: `{digits}` in `{factory}` is not between 1 and {}",
                1 << 26
            )));
        }
    }
    if after(factory, "HNSW").is_some_and(|links| links < 2) {
        return Err(Error::config(format!("index.factory: `{factory}`: a graph needs at least 2 links, as in HNSW32")));
    }
    Ok(())
}

/// The number right after `name`.
fn after(factory: &str, name: &str) -> Option<u64> {
    let rest = &factory[factory.find(name)? + name.len()..];
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// Search parameters worth trying, the cheapest first. One empty text for an index that has none.
///
/// faiss's HNSW looks at no fewer than k candidates whatever `efSearch` says, so smaller values of it are left out.
pub fn search_parameters(factory: &str, k: usize) -> Vec<String> {
    let powers =
        |from: u64, to: u64| (0..32).map(|power| 1u64 << power).filter(move |value| (from..=to).contains(value));
    let refined = ["Refine", "RFlat"].iter().any(|name| factory.contains(name));
    let base: Vec<String> = if factory.contains("IVF") || factory.contains("IMI") {
        let lists = after(factory, "IVF").map_or(4096, |lists| lists * thousands(factory));
        let on_graph = factory.split_once("IVF").is_some_and(|(_, rest)| rest.contains("_HNSW"));
        let with_graph = |probes: u64| match on_graph {
            // a graph over the centres must look at more of them than it returns
            true => format!("nprobe={probes},quantizer_efSearch={}", (probes * 2).max(64)),
            false => format!("nprobe={probes}"),
        };
        powers(1, lists.min(4096)).map(with_graph).collect()
    } else if factory.contains("HNSW") {
        powers((k as u64).next_power_of_two().max(16), 4096.max(k as u64 * 2))
            .map(|ef| format!("efSearch={ef}"))
            .collect()
    } else {
        vec![String::new()]
    };
    if !refined {
        return base;
    }
    let join = |base: &str, factor: u64| {
        if base.is_empty() { format!("k_factor_rf={factor}") } else { format!("{base},k_factor_rf={factor}") }
    };
    base.iter().flat_map(|base| [1, 4, 16].map(|factor| join(base, factor))).collect()
}

/// faiss reads IVF64k as 65,536 lists and IVF1M as 2^20.
fn thousands(factory: &str) -> u64 {
    let rest = factory.split_once("IVF").map_or("", |(_, rest)| rest).trim_start_matches(|c: char| c.is_ascii_digit());
    match rest.bytes().next() {
        Some(b'k') => 1 << 10,
        Some(b'M') => 1 << 20,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_follows_the_number_of_items_and_of_training_vectors() {
        let chosen = |items, training| default_factory(items, training);
        assert_eq!(chosen(7_583, 500_000), "Flat");
        assert_eq!(chosen(20_001, 500_000), "HNSW32");
        assert_eq!(chosen(1_000_000, 500_000), "IVF4096,SQ8");
        assert_eq!(chosen(10_000_000, 5_000_000), "IVF16384_HNSW32,SQ8");
        assert_eq!(chosen(1_000_000, 1_000), "IVF16,SQ8");
        assert_eq!(chosen(1_000_000, 0), "IVF1,SQ8");
    }

    #[test]
    fn each_kind_of_index_is_tried_with_its_own_parameters() {
        assert_eq!(search_parameters("Flat", 100), [""]);
        assert_eq!(search_parameters("OPQ8,PQ8", 100), [""]);
        assert_eq!(search_parameters("IVF4,Flat", 100), ["nprobe=1", "nprobe=2", "nprobe=4"]);
        assert_eq!(search_parameters("HNSW32", 100)[..2], ["efSearch=128", "efSearch=256"]);
        let graph = search_parameters("OPQ16,IVF64k_HNSW32,PQ16", 100);
        assert_eq!((graph.len(), &graph[6][..]), (13, "nprobe=64,quantizer_efSearch=128"));
        assert_eq!(search_parameters("PQ8,RFlat", 10), ["k_factor_rf=1", "k_factor_rf=4", "k_factor_rf=16"]);
        assert_eq!(search_parameters("IVF2,PQ8,RFlat", 10)[4], "nprobe=2,k_factor_rf=4");
    }

    #[test]
    fn what_faiss_cannot_make_is_refused_by_key() {
        for (factory, said) in [
            ("Nonsense", "could not parse"),
            ("IVF0,Flat", "is not between"),
            ("IVF99999999999,Flat", "is not between"),
            ("HNSW1", "at least 2 links"),
            ("PQ7", "dimension 16"),
            ("", "index.factory"),
            ("Flat\0", "index.factory"),
        ] {
            let Err(error) = create(16, factory) else { panic!("{factory} was taken") };
            let text = error.to_string();
            assert!(text.contains("index.factory") && text.contains(said), "{factory}: {text}");
        }
    }
}
