//! Damaged manifests of releases, pins and removals.

use std::collections::BTreeSet;

use super::simulation::release;
use crate::artifacts::{Release, keys};
use crate::publish::commit::{Pin, Removal, all};
use crate::publish::{find, list, newest};
use crate::storage::{Store, damage, open, seal};

async fn store(name: &str) -> Store {
    open(&format!("memory://damaged-{name}")).unwrap()
}

#[tokio::test]
async fn a_damaged_release_is_never_read_as_one() {
    let store = store("release").await;
    let text = seal(&release(7, "run", Vec::new(), 3));
    store.put(&keys::release(6), seal(&release(6, "before", Vec::new(), 2))).await.unwrap();
    damage::each("a release", 1000, text.as_bytes(), async |damaged| {
        store.put(&keys::release(7), damaged).await.unwrap();
        for error in [newest(&store).await.err(), list(&store).await.err(), find(&store, 7).await.err()] {
            let told = error.expect("it is damaged").message;
            assert!(told.contains("00000007.json is not a readable release"), "{told}");
        }
    })
    .await;
    store.put(&keys::release(7), text).await.unwrap();
    let found: Release = newest(&store).await.unwrap().unwrap();
    assert_eq!((found.release, &found.run_id[..]), (7, "run"));
    // under another number it is another's
    store.put(&keys::release(8), seal(&release(7, "run", Vec::new(), 3))).await.unwrap();
    assert!(newest(&store).await.unwrap_err().message.contains("says that it is release 7"));
}

#[tokio::test]
async fn damaged_pins_and_removals_stop_whoever_would_go_by_them() {
    let store = store("pins").await;
    let units = BTreeSet::from(["runs/dt=2026-11-20/a".to_string()]);
    let pin = seal(&Pin { by: "someone".into(), release: 8, units: units.clone() });
    damage::each("a pin", 500, pin.as_bytes(), async |damaged| {
        store.put(&keys::pin("a"), damaged).await.unwrap();
        assert!(all::<Pin>(&store, keys::PINS).await.is_err());
    })
    .await;
    let removal = seal(&Removal { by: "someone".into(), units });
    damage::each("a removal", 500, removal.as_bytes(), async |damaged| {
        store.put(&keys::removal("a"), damaged).await.unwrap();
        assert!(all::<Removal>(&store, keys::REMOVALS).await.is_err());
    })
    .await;
}
