//! What features and towers must hold that types alone cannot: rules of each kind, of shared tables, of towers.

use super::load::require;
use super::{Combine, Config, Feature, FeatureKind};
use crate::error::{Result, did_you_mean};

impl Config {
    pub(super) fn validate_features(&self) -> Result<()> {
        for (side, name, feature) in self.all_features() {
            self.validate_feature(&format!("features.{side}.{name}"), name, feature)?;
        }
        for (side, tower) in [("user", &self.model.user_tower), ("item", &self.model.item_tower)] {
            if tower.combine == Combine::Sum {
                for (_, name, feature) in self.all_features().filter(|(s, ..)| *s == side) {
                    let dim = self.table_dim(name, feature);
                    require(
                        dim.is_none_or(|dim| dim == self.model.dim) && feature.table(name).is_some(),
                        &format!("features.{side}.{name}"),
                        "not an embedding of dimension model.dim",
                        "that, because the tower's `combine` is `sum`",
                    )?;
                }
            }
        }
        Ok(())
    }

    fn validate_feature(&self, key: &str, name: &str, feature: &Feature) -> Result<()> {
        use FeatureKind::*;
        let kind = feature.kind;
        let allowed = |given: bool, what: &str, kinds: &[FeatureKind]| {
            let listed = kinds.iter().map(|k| format!("{k:?}").to_lowercase()).collect::<Vec<_>>().join(", ");
            require(
                !given || kinds.contains(&kind),
                &format!("{key}.{what}"),
                &format!("given for kind `{}`", format!("{kind:?}").to_lowercase()),
                &format!("it only for {listed}"),
            )
        };
        allowed(feature.table.is_some(), "table", &[Id, Ids, Categorical])?;
        allowed(feature.dim.is_some(), "dim", &[Id, Ids, Categorical, Bucketized])?;
        allowed(feature.min_count.is_some(), "min_count", &[Id, Ids, Categorical])?;
        allowed(feature.unknown_rows.is_some(), "unknown_rows", &[Id, Ids, Categorical])?;
        allowed(feature.hash_rows.is_some(), "hash_rows", &[Id, Ids, Categorical])?;
        allowed(feature.pooling.is_some(), "pooling", &[Ids])?;
        allowed(feature.max_length.is_some(), "max_length", &[Ids])?;
        allowed(feature.transform.is_some(), "transform", &[Numeric])?;
        allowed(feature.buckets.is_some(), "buckets", &[Bucketized])?;
        allowed(feature.boundaries.is_some(), "boundaries", &[Bucketized])?;
        require(feature.dim != Some(0), &format!("{key}.dim"), "0", "at least 1")?;
        require(feature.max_length != Some(0), &format!("{key}.max_length"), "0", "at least 1")?;
        require(feature.unknown_rows != Some(0), &format!("{key}.unknown_rows"), "0", "at least 1")?;
        if let Some(rows) = feature.hash_rows {
            let fits = (1..u32::MAX as usize).contains(&rows);
            require(fits, &format!("{key}.hash_rows"), &rows.to_string(), "at least 1 and below 2^32 - 1")?;
            require(
                feature.min_count.is_none() && feature.unknown_rows.is_none(),
                key,
                "`min_count` or `unknown_rows` beside `hash_rows`",
                "one or the other, because a hashed table has no vocabulary",
            )?;
        }
        require(feature.buckets.is_none_or(|n| n >= 2), &format!("{key}.buckets"), "fewer than 2", "at least 2")?;
        if let Some(boundaries) = &feature.boundaries {
            let sorted = boundaries.windows(2).all(|w| w[0] < w[1]) && boundaries.iter().all(|b| b.is_finite());
            require(
                sorted && !boundaries.is_empty(),
                &format!("{key}.boundaries"),
                &format!("{boundaries:?}"),
                "numbers that rise",
            )?;
        }
        if let Some(table) = feature.table.as_deref().filter(|table| *table != name) {
            let owners = || self.all_features().filter(|(_, n, f)| f.table(n) == Some(*n)).map(|(_, n, _)| n);
            require(
                owners().any(|owner| owner == table),
                &format!("{key}.table"),
                &format!("`{table}`"),
                &format!("the name of a feature that has a table of its own{}", did_you_mean(table, owners())),
            )?;
            require(
                feature.dim.is_none()
                    && feature.min_count.is_none()
                    && feature.unknown_rows.is_none()
                    && feature.hash_rows.is_none(),
                key,
                "`dim`, `min_count`, `unknown_rows` or `hash_rows` beside `table`",
                &format!("these at feature `{table}`, whose table it shares"),
            )?;
        }
        Ok(())
    }

    /// The feature whose settings a table has: the first of the table's own name.
    pub fn table_owner(&self, table: &str) -> Option<&Feature> {
        let mut owners =
            self.all_features().filter(|(_, name, feature)| *name == table && feature.table(name) == Some(table));
        owners.next().map(|(_, _, feature)| feature)
    }

    /// Dimension of a feature's embedding, where it has one.
    pub fn table_dim(&self, name: &str, feature: &Feature) -> Option<usize> {
        let table = feature.table(name)?;
        let owner = self.table_owner(table)?;
        let summed =
            [("user", &self.model.user_tower), ("item", &self.model.item_tower)].into_iter().any(|(side, tower)| {
                tower.combine == Combine::Sum
                    && self.all_features().any(|(s, n, f)| s == side && f.table(n) == Some(table))
            });
        let usual = match owner.kind {
            _ if summed => self.model.dim,
            FeatureKind::Id | FeatureKind::Ids => 64,
            _ => 8,
        };
        Some(owner.dim.unwrap_or(usual))
    }
}
