//! Every object key below the output folder.

use super::RunDate;

/// `samples/dt=D/<digest>`: one set of sample tables.
pub fn samples(date: RunDate, digest: &str) -> String {
    format!("samples/dt={date}/{digest}")
}

/// Folder of one sample table.
pub fn sample_table(samples: &str, table: &str) -> String {
    format!("{samples}/{table}")
}

/// `runs/dt=D`: every candidate of a date.
pub fn runs(date: RunDate) -> String {
    format!("runs/dt={date}")
}

/// One candidate.
pub fn run(date: RunDate, run_id: &str) -> String {
    format!("runs/dt={date}/{run_id}")
}

/// `checkpoints/dt=D/<digest>`: what a training that was ended early goes on from, by the digest of its inputs. Gone when the
/// training is done.
pub fn checkpoints(date: RunDate, digest: &str) -> String {
    format!("checkpoints/dt={date}/{digest}")
}

/// The marker of one checkpoint, written last.
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

/// Files in `report/`.
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
    let digits = key.strip_prefix(RELEASES)?.strip_prefix('/')?.strip_suffix(".json")?;
    (digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_key_reads_back_and_others_do_not() {
        assert_eq!(release_number(&release(42)), Some(42));
        assert_eq!(release_number("releases/tmp.json"), None);
        assert_eq!(release_number("releases/42.json"), None);
    }
}
