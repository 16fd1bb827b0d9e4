//! What a new row starts from.

use super::planted::Planted;
use crate::features::{EncodedColumn, Growth};
use crate::model::{Weights, device};
use crate::train::data::Data;
use crate::train::rows::fill_new_rows;

/// The item's row in `item_id`, and what stands for its kind.
fn of_items(data: &Data) -> Vec<(usize, u32)> {
    let [EncodedColumn::One(own), EncodedColumn::One(kind)] = &data.catalogue.columns[..] else {
        panic!("both features have one value")
    };
    own.iter().map(|row| *row as usize).zip(kind.iter().copied()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_row_starts_at_the_mean_of_its_kind_or_of_the_table() {
    for (name, change) in [("kind", "features.item.price={kind: categorical, dim: 4}"), ("table", "training.epochs=1")]
    {
        let planted = Planted::new(&format!("rows-{name}"), 3000, &[change]).await;
        let mut data = Data::load(&planted.job, &planted.samples, None).await.unwrap();
        let mut weights = Weights::new(&data.spec, 7, 0.1, &device("cpu").unwrap());
        let (unknown, rows) = (data.spec.tables["item_id"].unknown_rows, data.spec.tables["item_id"].rows);
        let (added, items) = (20, of_items(&data));
        data.growth.insert("item_id".into(), Growth { evicted: vec![], added });
        let before = weights.tables["item_id"].clone();
        fill_new_rows(&mut weights, &data, 7);
        let after = &weights.tables["item_id"];
        assert_eq!(after.rows[..(rows - added) * after.dim], before.rows[..(rows - added) * after.dim]);
        for (own, kind) in items.iter().filter(|(own, _)| *own >= rows - added) {
            let known = items.iter().filter(|(own, _)| (unknown..rows - added).contains(own));
            let like: Vec<usize> = known.filter(|(_, of)| of == kind).map(|(own, _)| *own).collect();
            // without another single value all rows of the table count, those of items that have left included
            let told = name == "kind" && *kind as usize >= data.spec.tables["price"].unknown_rows;
            let like = if told { like } else { (unknown..rows - added).collect() };
            for (at, value) in after.row(*own).iter().enumerate() {
                let mean = like.iter().map(|row| f64::from(before.row(*row)[at])).sum::<f64>() / like.len() as f64;
                assert!((f64::from(*value) - mean).abs() < 1e-6, "{name}: row {own}, value {at}: {value}, not {mean}");
            }
        }
    }
}
