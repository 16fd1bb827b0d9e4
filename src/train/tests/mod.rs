//! Whole trainings on generated rows.

mod gradient;
mod left_out;
mod losses;
mod mining;
mod objectives;
mod optimizers;
mod options;
mod planted;
mod rows;

use self::planted::{ITEMS, Planted, done, users};
use super::batches::Batches;
use super::data::Data;
use crate::artifacts::keys;

/// The part of the held-out rows whose item is among the ten most popular of training.
pub fn popularity_recall(data: &Data) -> f64 {
    let mut items: Vec<usize> = (0..data.log_share.len()).collect();
    items.sort_by(|a, b| data.log_share[*b].total_cmp(&data.log_share[*a]));
    let top = &items[..10];
    let hits = data.validation.iter().filter(|row| top.contains(&(data.item_of[**row as usize] as usize))).count();
    hits as f64 / data.validation.len() as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planted_taste_is_found_far_better_than_by_popularity() {
    let planted = Planted::new("taste", 6000, &[]).await;
    let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let trained = planted.train("model").await.unwrap();
    let (recall, popularity) = (trained.facts.best_recall.unwrap(), popularity_recall(&data));
    assert!(recall > 0.3 && recall > 3.0 * popularity, "recall@10 {recall:.3}, popularity {popularity:.3}");
    let first = trained.facts.epochs.first().unwrap();
    assert!(trained.facts.epochs.last().unwrap().loss < first.loss, "{:?}", trained.facts.epochs);
    assert_eq!(trained.facts.examples + trained.facts.validation_examples, 6000);
}

#[tokio::test(flavor = "multi_thread")]
async fn adam_on_the_tables_and_a_falling_rate_find_the_taste_too() {
    let rates = "training.learning_rate={dense: 0.005, tables: 0.01, warmup_steps: 5, schedule: cosine}";
    let planted = Planted::new("adam", 6000, &["training.table_optimizer=adam", rates]).await;
    let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let trained = planted.train("model").await.unwrap();
    let (recall, popularity) = (trained.facts.best_recall.unwrap(), popularity_recall(&data));
    assert!(recall > 0.3 && recall > 3.0 * popularity, "recall@10 {recall:.3}, popularity {popularity:.3}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_are_the_same_for_any_number_of_threads() {
    let mut written = Vec::new();
    for threads in ["1", "2", "5"] {
        let threads = format!("training.threads={threads}");
        let changes =
            [threads.as_str(), "training.epochs=2", "training.history_dropout=0.2", "model.user_tower.dropout=0.1"];
        let planted = Planted::new("threads", 2000, &changes).await;
        written.push(planted.train("model").await.unwrap().files);
    }
    assert_eq!(written[0].len(), 6);
    assert_eq!(written[0], written[1]);
    assert_eq!(written[0], written[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_that_lie_in_files_make_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let spill = format!("samples.spill={}", folder.path().display());
    let mut written = Vec::new();
    for memory in ["512MiB", "20KiB", "1B"] {
        let memory = format!("training.samples_memory={memory}");
        let changes = [memory.as_str(), &spill, "training.epochs=2", "training.history_dropout=0.2"];
        let planted = Planted::new("spilled", 2000, &changes).await;
        written.push(planted.train("model").await.unwrap().files);
    }
    assert_eq!(written[0], written[1]);
    assert_eq!(written[0], written[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_tells_its_losses_rates_and_recalls_step_by_step() {
    let folder = tempfile::tempdir().unwrap();
    let curves = format!("training.tensorboard={}", folder.path().display());
    let changes = ["training.epochs=3", "training.metrics_steps=4", "training.learning_rate.schedule=linear", &curves];
    let planted = Planted::new("metrics", 2000, &changes).await;
    let trained = planted.train("model").await.unwrap();
    let text = planted.job.output.get_existing("model/training.jsonl").await.unwrap();
    let text = std::str::from_utf8(&text).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (steps, epochs): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["event"] == "step");
    let total = 3 * trained.facts.examples.div_ceil(128);
    let at: Vec<u64> = steps.iter().map(|line| line["step"].as_u64().unwrap()).collect();
    assert_eq!(at, (1..=total / 4).map(|n| n * 4).collect::<Vec<u64>>());
    let last = steps[steps.len() - 1];
    let number = |line: &serde_json::Value, key: &str| line[key].as_f64().unwrap();
    assert!(number(last, "loss") < number(steps[0], "loss"), "{text}");
    assert!(number(last, "dense_rate") < 0.2 * number(steps[1], "dense_rate"), "{text}");
    assert!(steps.iter().all(|line| number(line, "gradient_norm") > 0.0), "{text}");
    assert_eq!(epochs.len(), 3);
    for (told, epoch) in epochs.iter().zip(&trained.facts.epochs) {
        // serde_json reads a number back to within its last bit
        assert!((number(told, "loss") - epoch.loss).abs() < 1e-12, "{text}");
        assert!((number(told, "recall") - epoch.recall.unwrap()).abs() < 1e-12, "{text}");
    }
    let run = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    assert!(run.file_name().unwrap().to_str().unwrap().starts_with("planted-dt=2026-11-20-"), "{}", run.display());
    let file = std::fs::read_dir(run).unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::metadata(file).unwrap().len() > lines.len() as u64 * 60, "a point for each line");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_written_model_gives_the_vectors_of_the_one_in_memory() {
    use crate::features::Side;
    use crate::model::Towers;
    let planted = Planted::new("reload", 2000, &["training.epochs=1", "training.validation.share=0"]).await;
    let trained = planted.train("model").await.unwrap();
    assert_eq!(trained.facts.best_recall, None);
    let mut model = done("model", trained.facts);
    model.record.files = trained.files;
    let towers = Towers::load(&planted.job.output, "model", &model.record.files).await.unwrap();
    let users = towers.users(&[users()]).unwrap();
    assert_eq!(users.len(), 50 * towers.dim());
    for user in users.chunks(towers.dim()) {
        let norm = user.iter().map(|value| value * value).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 1e-5, "norm {norm}");
    }
    assert_eq!(towers.feature_columns(Side::User), ["history", "age", "country"]);
    let embedded = crate::embed::run(
        &planted.job,
        &planted.samples,
        &model,
        &crate::artifacts::Start::cold("a test"),
        "embeddings",
    )
    .await
    .unwrap();
    assert_eq!((embedded.facts.items, embedded.facts.zero, embedded.facts.duplicate_ids), (ITEMS as u64, 0, 0));
    let keys: Vec<&str> = embedded.files.iter().map(|file| file.key.as_str()).collect();
    assert_eq!(keys[0], "embeddings/part-00000-of-00004.parquet");
    assert_eq!(embedded.files.iter().map(|file| file.rows.unwrap()).collect::<Vec<_>>(), [50; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_training_leaves_is_read_back_to_the_bit() {
    use crate::model::{Files, device, read_spec};
    use crate::train::trained::Trained;
    for optimizer in ["adagrad", "adam"] {
        let name = format!("trained-{optimizer}");
        let changes =
            [&format!("training.table_optimizer={optimizer}"), "training.epochs=2", "model.learn_temperature=true"];
        let planted = Planted::new(&name, 1000, &changes).await;
        let (store, training) = (&planted.job.output, &planted.job.config.training);
        let files = planted.train("model").await.unwrap().files;
        let (spec, _) = read_spec(store, "model", &files).await.unwrap();
        let cpu = device("cpu").unwrap();
        let read = Trained::read(store, "model", &files, &spec, training, &cpu).await.unwrap();
        assert!(read.optimizers.steps > 0);
        let mut again = Files::new(store, "again");
        again.weights(&read.weights).await.unwrap();
        read.optimizers.write(&read.weights, &mut again).await.unwrap();
        let again = again.finish();
        assert_eq!(again.len(), 3);
        for file in again {
            let first = files.iter().find(|first| first.key == file.key.replace("again", "model")).unwrap();
            assert_eq!((first.bytes, &first.sha256), (file.bytes, &file.sha256), "{}", file.key);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_one_flipped_bit_is_refused_whatever_the_file() {
    use crate::model::Towers;
    let planted = Planted::new("flipped", 300, &["training.epochs=1"]).await;
    let (store, files) = (planted.job.output.clone(), planted.train("model").await.unwrap().files);
    for name in [keys::TOWERS, keys::TABLES, keys::VOCABULARY, keys::FEATURE_SPEC] {
        let key = format!("model/{name}");
        let whole = store.get_existing(&key).await.unwrap();
        let mut flipped = whole.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        store.put(&key, flipped).await.unwrap();
        let error = Towers::load(&store, "model", &files).await.err().expect("the file is damaged");
        assert!(error.message.contains(name) && error.message.contains("is not the file that its"), "{error}");
        store.put(&key, whole).await.unwrap();
    }
    assert!(Towers::load(&store, "model", &files).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_of_a_model_are_refused_and_those_that_a_manifest_vouches_for_never_panic() {
    use crate::model::{Part, Towers, device, read_spec, read_weights};
    use crate::storage::{FileEntry, damage, sha256_hex};
    use crate::train::trained::Trained;
    // of every kind of table one, and small: what counts here is how many inputs a second
    let features = "features={user: {history: {kind: ids, table: item_id}, age: {kind: numeric}}, \
        item: {item_id: {kind: id, dim: 2}, price: {kind: bucketized, buckets: 2, dim: 2}}}";
    let small = ["model.dim=2", "model.user_tower={layers: [2]}", "model.item_tower={layers: [2]}", features];
    let changes = [&small[..], &["training.epochs=1", "training.table_optimizer=adam"]].concat();
    let planted = Planted::new("damaged", 60, &changes).await;
    let (store, training) = (planted.job.output.clone(), planted.job.config.training.clone());
    let files = planted.train("model").await.unwrap().files;
    let (spec, cpu) = (read_spec(&store, "model", &files).await.unwrap().0, device("cpu").unwrap());
    for name in [keys::TOWERS, keys::TABLES, keys::OPTIMIZER, keys::VOCABULARY, keys::FEATURE_SPEC] {
        let key = format!("model/{name}");
        let whole = store.get_existing(&key).await.unwrap();
        damage::each(&format!("{name} of a model"), 30, &whole, async |damaged| {
            // as damage on the way, and as a writer's fault that the manifest does not know of
            let (bytes, sha256) = (damaged.len() as u64, sha256_hex(&damaged));
            store.put(&key, damaged).await.unwrap();
            let vouched = |file: &FileEntry| match file.key == key {
                true => FileEntry { bytes, sha256: sha256.clone(), ..file.clone() },
                false => file.clone(),
            };
            let vouched: Vec<FileEntry> = files.iter().map(vouched).collect();
            let read = async |files: &[FileEntry]| match name {
                keys::TOWERS | keys::TABLES => {
                    read_weights(&store, "model", files, &spec, &cpu, Part::ToUse).await.map(drop)
                }
                keys::OPTIMIZER => Trained::read(&store, "model", files, &spec, &training, &cpu).await.map(drop),
                _ => Towers::load(&store, "model", files).await.map(drop),
            };
            assert!(read(&files).await.is_err());
            let _ = read(&vouched).await;
        })
        .await;
        store.put(&key, whole).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_row_to_learn_from_training_says_so() {
    let planted = Planted::new("held-out", 1, &["training.validation.share=0.999999"]).await;
    let error = planted.train("model").await.err().expect("no row is left");
    assert!(error.message.starts_with("training.validation.share: 0.999999 holds out all 1 positives"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_without_any_negative_says_so_and_one_with_some_goes_on() {
    let none = ["training.in_batch_negatives=false", "training.random_negatives=0", "training.epochs=1"];
    // SQL that could make some, and made none
    let alone = [&none[..], &["samples.sql=sql", "training.hard_per_positive=0"]].concat();
    let error = Planted::new("no-negative", 300, &alone).await.train("model").await.err().expect("nothing to learn");
    let told = "training: none of the 300 positives has a negative, so there is nothing to learn: found in_batch_negatives false with batch_size 128, self_mined.per_positive 0, 1200 rows in `random_negatives` beside training.random_negatives 0, 300 rows in `hard_negatives` beside training.hard_per_positive 0, 0 rows in `shown_negatives` beside training.shown_per_positive 2; set";
    assert!(error.message.starts_with(told), "{error}");
    for (name, more) in [
        ("hard", "samples.sql=sql"),
        ("random", "training.random_negatives=4"),
        ("mined", "training.self_mined={per_positive: 1, rank_from: 1, rank_to: 9, share: 0.01}"),
    ] {
        let more = [none[0], none[1], more, "training.epochs=2"];
        Planted::new(&format!("some-{name}"), 300, &more).await.train("model").await.unwrap();
    }
    let mut planted = Planted::new("no-rows", 300, &["training.in_batch_negatives=false"]).await;
    planted.samples.record.facts.tables.retain(|table, _| !table.ends_with("_negatives"));
    let error = planted.train("model").await.err().expect("no table has any");
    assert!(error.message.contains("0 rows in `random_negatives` beside training.random_negatives 64"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_leave_out_the_users_other_positives_and_nothing_else() {
    columns_are_masked("masks", &["training.batch_size=512"], |_, liked| liked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn accidental_hits_that_are_kept_are_masked_for_the_rows_own_item_alone() {
    let changes =
        ["training.batch_size=512", "training.accidental_hits=keep", "training.loss.kind=binary_cross_entropy"];
    columns_are_masked("accidental-hits", &changes, |own, _| vec![own]).await;
}

/// Trains nothing: looks at two batches. `wanted` says which items must be masked for a row, by its own item and all that its user likes.
async fn columns_are_masked(name: &str, changes: &[&str], wanted: impl Fn(u32, Vec<u32>) -> Vec<u32>) {
    let planted = Planted::new(name, 2000, changes).await;
    let data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
    let training = &planted.job.config.training;
    let mut batches = Batches::new(&data, training);
    batches.start_epoch(1);
    for step in 0..2 {
        let batch = batches.batch(step);
        let shared = batch.log_q.len();
        assert!(shared <= 512 + training.random_negatives);
        // which item a column holds, by its row of the table
        let crate::features::BatchColumn::Bag { ids, .. } = &batch.items.columns[0] else { panic!("item_id is a bag") };
        let crate::features::EncodedColumn::One(catalogue) = &data.catalogue.columns[0] else {
            panic!("item_id is an id")
        };
        for (at, row) in batch.rows.iter().enumerate() {
            let liked = data.liked.of(data.user_of[*row as usize] as usize);
            let liked: Vec<u32> = liked.iter().map(|item| catalogue[*item as usize]).collect();
            let own = batch.positives[at];
            assert_eq!(ids[own as usize], catalogue[data.item_of[*row as usize] as usize]);
            let wanted = wanted(ids[own as usize], liked.clone());
            let expected: Vec<u32> =
                (0..shared as u32).filter(|col| *col != own && wanted.contains(&ids[*col as usize])).collect();
            let mut found = batch.masked.1[batch.masked.0[at] as usize..batch.masked.0[at + 1] as usize].to_vec();
            found.sort_unstable();
            assert_eq!(found, expected, "row {at}");
            let hard = &batch.hard.1[batch.hard.0[at] as usize..batch.hard.0[at + 1] as usize];
            assert!(hard.iter().all(|col| *col as usize >= shared && !liked.contains(&ids[*col as usize])));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_named_with_table_column_and_feature() {
    let cases = [
        ("missing", vec!["features.user.age.column=years"]),
        (
            "type",
            vec![
                "features.user.history.kind=numeric",
                "features.user.history.table=null",
                "features.user.history.max_length=null",
            ],
        ),
        ("ids", vec!["features.user.country={kind: id, table: item_id}"]),
        ("device", vec!["training.device=cuda:0"]),
        ("objective", vec!["training.objectives={clickd: 1}"]),
        ("objective-type", vec!["training.objectives={clicked: 1, country: 2}"]),
        ("bias-type", vec!["model.item_bias={column: visitors, weight: 1}"]),
    ];
    let mut texts = Vec::new();
    for (name, changes) in cases {
        let planted = Planted::new(&format!("mistake-{name}"), 300, &changes).await;
        texts.push(planted.train("model").await.err().map(|error| error.to_string()).unwrap_or_default());
    }
    let nan = Planted::new(
        "mistake-nan",
        300,
        &["training.learning_rate.tables=1e38", "training.learning_rate.warmup_steps=0"],
    )
    .await;
    texts.push(nan.train("model").await.err().map(|error| error.to_string()).unwrap_or_default());
    let empty = Planted::new("mistake-empty", 0, &[]).await;
    texts.push(empty.train("model").await.err().map(|error| error.to_string()).unwrap_or_default());
    insta::assert_snapshot!(texts.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_or_a_loss_that_are_no_numbers_leave_the_last_checkpoint_and_the_log_and_say_where() {
    let marker = "checkpoints/model/00001-000000000/checkpoint.json";
    for (of, told) in [
        (
            "tables",
            "training: `country.rows` has a value that is not finite in row 0; embedding table `country`, row 0 has weights that are not finite: lower training.learning_rate.tables, now 1e38\n  while writing a checkpoint of epoch 1, step 1; the last",
        ),
        ("dense", "training: the loss is NaN in epoch 1, step 1"),
    ] {
        let (name, rate) = (format!("nan-{of}"), format!("training.learning_rate.{of}=1e38"));
        // the first is written before any step, the next ones after the loss is known to be a number
        let often = "training.checkpoint.minutes=0.0000001";
        let planted = Planted::new(&name, 300, &[&rate, "training.learning_rate.warmup_steps=0", often]).await;
        let text = planted.train("model").await.err().unwrap().to_string();
        assert!(text.starts_with(told) && text.contains("is good and is kept: memory://"), "{text}");
        assert!(planted.job.output.get(marker).await.unwrap().is_some());
        // what was learned since the last line of 100 steps is told all the same
        let log = planted.job.output.get_existing("model/training.jsonl").await.unwrap();
        let log = std::str::from_utf8(&log).unwrap();
        assert!(log.lines().count() == 1 && log.starts_with("{\"event\":\"step\",\"step\":1,\"epoch\":1,"), "{log}");
        // started again, it goes on from there and comes to the same end
        let again = planted.train("again/model").await.err().unwrap().to_string();
        assert!(again.starts_with(told), "{again}");
    }
}
