//! Every object key below the output folder.

use super::RunDate;

pub const SAMPLES: &str = "samples";
pub const RUNS: &str = "runs";
pub const CHECKPOINTS: &str = "checkpoints";

/// `samples/dt=D/<start of digest>`: every attempt to build one set of sample tables, each in a folder of its own. The manifest
/// there has the whole digest.
pub fn samples(date: RunDate, digest: &str) -> String {
    format!("{SAMPLES}/dt={date}/{}", &digest[..digest.len().min(16)])
}

/// Folder of one sample table.
pub fn sample_table(samples: &str, table: &str) -> String {
    format!("{samples}/{table}")
}

/// `runs/dt=D`: every candidate of a date.
pub fn runs(date: RunDate) -> String {
    format!("{RUNS}/dt={date}")
}

/// One candidate.
pub fn run(date: RunDate, run_id: &str) -> String {
    format!("{RUNS}/dt={date}/{run_id}")
}

/// `checkpoints/dt=D/<digest>`: what a training that was ended early goes on from, by the digest of its inputs. Gone when the
/// training is done.
pub fn checkpoints(date: RunDate, digest: &str) -> String {
    format!("{CHECKPOINTS}/dt={date}/{digest}")
}

/// In one checkpoint: the negatives that were mined for its epoch, and the marker, written last.
pub const MINED: &str = "mined.safetensors";
pub const CHECKPOINT: &str = "checkpoint.json";

/// The manifest that a stage writes last, in its own folder.
pub const MANIFEST: &str = "manifest.json";

/// Folders of one candidate, by stage.
pub const MODEL: &str = "model";
pub const EMBEDDINGS: &str = "embeddings";
pub const INDEX: &str = "index";
pub const REPORT: &str = "report";

/// Files in `model/`.
pub const TOWERS: &str = "towers.safetensors";
pub const TABLES: &str = "tables.safetensors";
pub const OPTIMIZER: &str = "optimizer.safetensors";
pub const TRAINING_LOG: &str = "training.jsonl";
pub const VOCABULARY: &str = "vocabulary.parquet";
pub const FEATURE_SPEC: &str = "feature_spec.json";

/// Files in `index/`.
pub const FAISS: &str = "items.faiss";
pub const ITEM_IDS: &str = "item_ids.parquet";

/// In `report/`: the candidate's portrait, of the evaluation; and in a folder below it for each time that it was held against the
/// gates, the report.
pub const PORTRAIT: &str = "portrait.json";
pub const REPORT_HTML: &str = "report.html";
pub const REPORT_JSON: &str = "report.json";

pub const RELEASES: &str = "releases";
pub const LATEST: &str = "LATEST.json";

/// `releases/00000042.json`: the commit point.
pub fn release(number: u64) -> String {
    format!("{RELEASES}/{number:08}.json")
}

/// The number in a release's key.
pub fn release_number(key: &str) -> Option<u64> {
    numbered(key, ".json")
}

fn numbered(key: &str, suffix: &str) -> Option<u64> {
    let digits = key.strip_prefix(RELEASES)?.strip_prefix('/')?.strip_suffix(suffix)?;
    (digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// `releases/00000007.floor`: every number below it was deleted and never comes back.
pub fn floor(number: u64) -> String {
    format!("{RELEASES}/{number:08}.floor")
}

/// The number in a floor's key.
pub fn floor_number(key: &str) -> Option<u64> {
    numbered(key, ".floor")
}

/// Each writer's turn: `leases/00000012.json`.
pub const LEASES: &str = "leases";

/// What a publisher is about to refer to: `pins/<id>.json`.
pub const PINS: &str = "pins";

pub fn pin(id: &str) -> String {
    format!("{PINS}/{id}.json")
}

/// What `release gc` is about to remove: `removals/<id>.json`.
pub const REMOVALS: &str = "removals";

pub fn removal(id: &str) -> String {
    format!("{REMOVALS}/{id}.json")
}

/// Candidates that a gate refused: `rejected/dt=D/<run id>.json`.
pub const REJECTED: &str = "rejected";

pub fn rejected(date: RunDate, run_id: &str) -> String {
    format!("{REJECTED}/dt={date}/{run_id}.json")
}

/// The folder that stands or falls as a whole: one candidate, one attempt at sample tables, or what a training left to go on from. `None` for other keys.
pub fn unit(key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split('/').collect();
    let depth = match *parts.first()? {
        RUNS | CHECKPOINTS => 3,
        SAMPLES => 4,
        _ => return None,
    };
    (parts.len() >= depth).then(|| parts[..depth].join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_key_reads_back_and_others_do_not() {
        assert_eq!(release_number(&release(42)), Some(42));
        assert_eq!(release_number("releases/tmp.json"), None);
        assert_eq!(release_number("releases/42.json"), None);
        assert_eq!(release_number(&floor(42)), None);
        assert_eq!(floor_number(&floor(42)), Some(42));
    }

    #[test]
    fn what_is_removed_together_is_a_candidate_or_an_attempt() {
        assert_eq!(unit("runs/dt=2026-11-20/r1/model/tables.safetensors").as_deref(), Some("runs/dt=2026-11-20/r1"));
        assert_eq!(unit("samples/dt=2026-11-20/d/a/positives/x").as_deref(), Some("samples/dt=2026-11-20/d/a"));
        assert_eq!(unit("samples/dt=2026-11-20/d"), None);
        assert_eq!(unit("releases/00000001.json"), None);
    }
}
