//! Each library is used in its own rooms only, and stages never import each other.

use std::path::{Path, PathBuf};

/// Library, and the rooms below `src/` that may name it.
const LIBRARIES: [(&str, &[&str]); 6] = [
    ("datafusion", &["warehouse", "samples"]),
    ("burn", &["model", "train", "embed"]),
    ("faiss", &["index"]),
    ("tract_onnx", &["rankers"]),
    ("object_store", &["storage", "warehouse"]),
    ("reqwest", &["telemetry"]),
];

/// Rooms that meet only in `artifacts`.
const STAGES: [&str; 6] = ["samples", "train", "embed", "index", "evaluate", "publish"];

/// What a stage may take from another's room: evaluation searches the index it measures, and faiss lives in one room only.
const ALLOWED: [(&str, &str); 2] = [
    ("evaluate", "index::SearchIndex"),
    // a helper of tests alone
    ("config", "storage::damage"),
];

/// The rooms below, which know nothing of those above.
const LOWER: [(&str, &[&str]); 4] = [
    ("error", &[]),
    ("config", &["error"]),
    // a crate of its own, which knows no room; for seeded tests
    ("storage", &["error", "kernels"]),
    ("artifacts", &["error", "config", "storage"]),
];

fn sources() -> Vec<(String, PathBuf)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    assert!(found.len() > 20, "the sources were not found below {}", root.display());
    found.sort();
    let room = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
        first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_string()
    };
    // tests may set a scene with what they like
    found.retain(|path| !path.components().any(|part| part.as_os_str() == "tests") && !path.ends_with("tests.rs"));
    found.into_iter().map(|path| (room(&path), path)).collect()
}

/// The lines of code, without comments and doc comments.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.split("//").next().unwrap().to_string()));
    lines.collect()
}

/// Whether `line` names the path `name::…` itself, not as a part of a longer name.
fn names(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

#[test]
fn libraries_stay_in_their_rooms() {
    let mut breaches = Vec::new();
    for (room, path) in sources() {
        for (number, line) in code(&path) {
            for (library, rooms) in LIBRARIES {
                if names(&line, library) && !rooms.contains(&room.as_str()) {
                    breaches.push(format!("{}:{number} names {library}, which only {rooms:?} may", path.display()));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn stages_do_not_import_each_other_and_lower_rooms_no_higher_one() {
    let mut breaches = Vec::new();
    for (room, path) in sources() {
        for (number, line) in code(&path) {
            let imported = line.split("crate::").skip(1).map(|rest| {
                rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_string()
            });
            if ALLOWED.iter().any(|(to, item)| *to == room && line.contains(item)) {
                continue;
            }
            for other in imported.filter(|other| *other != room && !other.is_empty()) {
                let between_stages = STAGES.contains(&room.as_str()) && STAGES.contains(&other.as_str());
                let upwards = LOWER.iter().any(|(low, below)| {
                    *low == room
                        && !below.contains(&other.as_str())
                        && other.chars().all(|c| c.is_lowercase() || c == '_')
                });
                if between_stages || upwards {
                    breaches.push(format!("{}:{number} imports {other} into {room}", path.display()));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn the_scan_sees_a_breach() {
    assert!(names("use burn::tensor;", "burn") && names("    faiss::index()", "faiss"));
    assert!(!names("use crate::burn_in::x;", "burn") && !names("my_faiss::x", "faiss"));
}
