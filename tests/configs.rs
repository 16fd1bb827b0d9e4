//! The configs of this repository are ones that the program takes, and what they point to is there.

use std::fs;
use std::path::{Path, PathBuf};

use twotower::config::{Config, Overrides};

fn configs() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = fs::read_dir(root.join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let folders = examples.chain([root.join("configs")]);
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    files.filter(|file| file.extension().is_some_and(|e| e == "yaml")).collect()
}

#[test]
fn every_config_is_read_and_its_sql_is_there() {
    let files = configs();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        let config = Config::load(&file, &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
        if let Some(sql) = &config.samples.sql {
            let folder = config.resolve(sql);
            let positives = Path::new(&folder).join("positives.sql");
            assert!(
                positives.exists(),
                "{}: samples.sql points to {folder}, which has no positives.sql",
                file.display()
            );
        }
    }
}

#[test]
fn the_demo_has_features_of_every_kind() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/demo.yaml");
    let config = Config::load(&file, &Overrides::default()).unwrap();
    let kinds: Vec<String> = config.all_features().map(|(_, _, feature)| format!("{:?}", feature.kind)).collect();
    for kind in ["Id", "Ids", "Categorical", "Numeric", "Bucketized", "Boolean"] {
        assert!(kinds.iter().any(|k| k == kind), "no feature of kind {kind} among {kinds:?}");
    }
}

#[test]
fn the_keys_that_the_scripts_set_are_keys_of_their_configs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (script, config) in [("kuairand", "configs/kuairand.yaml"), ("gowalla", "examples/gowalla/config.yaml")] {
        let text = fs::read_to_string(root.join("examples").join(script).join("run.sh")).unwrap();
        let words = text.split_whitespace().collect::<Vec<_>>();
        let set = words.windows(2).filter(|pair| pair[0] == "--set").map(|pair| pair[1].replace('"', "")).collect();
        let plain = Config::load(&root.join(config), &Overrides::default()).unwrap();
        let changed = Config::load(&root.join(config), &Overrides(set)).unwrap();
        for (name, source) in &changed.sources {
            assert_ne!(source.path, plain.sources[name].path, "{script}/run.sh leaves sources.{name}.path as it is");
        }
        assert_eq!(plain.sources.len(), changed.sources.len());
    }
}
