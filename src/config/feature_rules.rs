//! What features and towers must hold that types alone cannot: rules of each kind, of shared tables, of towers.

use super::load::{MOST_DIM, at_most, require};
use super::{Combine, Config, Feature, FeatureKind, Normalization, OwnInList, Pooling};
use crate::error::{Result, did_you_mean};

impl Config {
    pub(super) fn validate_features(&self) -> Result<()> {
        self.validate_audience()?;
        for (side, name, feature) in self.all_features() {
            let key = format!("features.{side}.{name}");
            self.validate_feature(&key, name, feature)?;
            self.validate_sharing(&key, name, feature)?;
        }
        for (side, tower) in [("user", &self.model.user_tower), ("item", &self.model.item_tower)] {
            let key = format!("model.{side}_tower");
            let (layers, shown) = (&tower.layers, format!("true beside layers {:?}", tower.layers));
            require(
                !tower.residual || layers.windows(2).any(|pair| pair[0] == pair[1]),
                &format!("{key}.residual"),
                &shown,
                "two layers of the same width, one after the other",
            )?;
            require(
                tower.normalization == Normalization::None || !layers.is_empty(),
                &format!("{key}.normalization"),
                "it without hidden layers",
                "`layers`, whose values it is for",
            )?;
            require(
                tower.normalization != Normalization::Batch || self.training.batch_size > 1,
                &format!("{key}.normalization"),
                "`batch` beside training.batch_size 1",
                "`layer` or `none`, or more rows in a batch: the mean of a single row is the row itself",
            )?;
            require(
                !tower.gating || tower.combine == Combine::Concat,
                &format!("{key}.gating"),
                "true beside `combine: sum`",
                "`combine: concat`, which keeps the features apart",
            )?;
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

    /// Users can be taken out of lists of items only where both are told by one table.
    fn validate_audience(&self) -> Result<()> {
        let ids = |(name, feature): &(&String, &Feature)| {
            feature.kind == FeatureKind::Id && feature.column(name) == "user_id"
        };
        let tables: Vec<_> = self.features.user.iter().filter(ids).map(|(name, feature)| feature.table(name)).collect();
        let audience = |(name, feature): (&String, &Feature)| {
            feature.kind == FeatureKind::Ids && tables.contains(&feature.table(name))
        };
        require(
            self.training.user_in_audience == OwnInList::Keep || self.features.item.iter().any(audience),
            "training.user_in_audience",
            "`drop`",
            "`keep`, or an item's feature of kind `ids` over the table of a user's feature of kind `id` with the column `user_id`",
        )
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
        allowed(feature.table.is_some(), "table", &[Id, Ids, Categorical, Text])?;
        allowed(feature.dim.is_some(), "dim", &[Id, Ids, Categorical, Bucketized, Text, Crossed])?;
        allowed(feature.min_count.is_some(), "min_count", &[Id, Ids, Categorical])?;
        allowed(feature.unknown_rows.is_some(), "unknown_rows", &[Id, Ids, Categorical])?;
        allowed(feature.hash_rows.is_some(), "hash_rows", &[Id, Ids, Categorical, Text, Crossed])?;
        allowed(feature.pooling.is_some(), "pooling", &[Ids, Text])?;
        allowed(feature.max_length.is_some(), "max_length", &[Ids, Text])?;
        allowed(feature.weights.is_some(), "weights", &[Ids])?;
        allowed(feature.of.is_some(), "of", &[Crossed])?;
        allowed(feature.normalize.is_some(), "normalize", &[Vector])?;
        allowed(feature.transform.is_some(), "transform", &[Numeric])?;
        allowed(feature.buckets.is_some(), "buckets", &[Bucketized])?;
        allowed(feature.boundaries.is_some(), "boundaries", &[Bucketized])?;
        require(feature.dim != Some(0), &format!("{key}.dim"), "0", "at least 1")?;
        at_most(&format!("{key}.dim"), feature.dim.unwrap_or_default(), MOST_DIM)?;
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
        let pooling = feature.pooling.unwrap_or_default();
        let weighable = matches!(pooling, Pooling::Mean | Pooling::Sum | Pooling::Sqrtn);
        require(
            weighable || (kind != Text && feature.weights.is_none()),
            &format!("{key}.pooling"),
            &format!("`{}`", format!("{pooling:?}").to_lowercase()),
            if kind == Text { "mean, sum or sqrtn for a text" } else { "mean, sum or sqrtn beside `weights`" },
        )?;
        require(
            pooling != Pooling::Attention || feature.max_length.is_some(),
            &format!("{key}.max_length"),
            "none",
            "a length, because attention learns a bias for each position",
        )?;
        if kind == Crossed {
            let of = feature.of.as_deref().unwrap_or_default();
            let distinct = of.iter().enumerate().all(|(at, column)| !of[..at].contains(column));
            require(
                of.len() >= 2 && distinct,
                &format!("{key}.of"),
                &format!("{of:?}"),
                "two or more different columns",
            )?;
            require(
                feature.column.is_none(),
                &format!("{key}.column"),
                "given for kind `crossed`",
                "its columns in `of`",
            )?;
            require(
                feature.hash_rows.is_some(),
                &format!("{key}.hash_rows"),
                "none",
                "the number of rows for the pairs",
            )?;
        }
        require(
            feature.buckets.is_none() || feature.boundaries.is_none(),
            key,
            "`buckets` beside `boundaries`",
            "one or the other, because boundaries say how many buckets there are",
        )?;
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

    /// Holds a feature against the one that its table has its settings from.
    fn validate_sharing(&self, key: &str, name: &str, feature: &Feature) -> Result<()> {
        use FeatureKind::*;
        let Some(table) = feature.table(name) else { return Ok(()) };
        let mut owners = self.all_features().filter(|(_, n, f)| *n == table && f.table(n) == Some(table));
        let Some((side, owner_name, owner)) = owners.next() else { return Ok(()) };
        let owner_key = format!("features.{side}.{owner_name}");
        if owner_key == key {
            return Ok(());
        }
        let class = |kind| match kind {
            Id | Ids | Categorical => Id,
            other => other,
        };
        let shown = |kind: FeatureKind| format!("{kind:?}").to_lowercase();
        require(
            class(feature.kind) == class(owner.kind),
            key,
            &format!(
                "kind `{}` on table `{table}`, which is that of {owner_key} of kind `{}`",
                shown(feature.kind),
                shown(owner.kind)
            ),
            "kinds that can share rows (id, ids and categorical; text with text), or names of their own with `column` for the column",
        )?;
        if name != table {
            return Ok(());
        }
        // two features of one name, in both towers
        let differ = |what: &str, found: Option<usize>, owned: Option<usize>| {
            let shown = |value: Option<usize>| value.map_or("none".to_string(), |value| value.to_string());
            require(
                found.is_none() || found == owned,
                &format!("{key}.{what}"),
                &shown(found),
                &format!(
                    "{} as {owner_key} has, whose table `{table}` it shares; give both the same, or one of them another name, with `column` for the column",
                    shown(owned)
                ),
            )
        };
        let counted = owner.hashed_rows().is_none();
        differ("dim", feature.dim, self.table_dim(owner_name, owner))?;
        differ("hash_rows", feature.hash_rows, owner.hashed_rows())?;
        differ(
            "min_count",
            feature.min_count.map(|n| n as usize),
            counted.then(|| owner.min_count.unwrap_or(1) as usize),
        )?;
        differ("unknown_rows", feature.unknown_rows, counted.then(|| owner.unknown_rows.unwrap_or(1)))?;
        require(
            feature.kind != Bucketized || (feature.boundaries.is_some() && feature.boundaries == owner.boundaries),
            key,
            &format!("buckets of its own on table `{table}`, which is that of {owner_key}"),
            "the same `boundaries` in both, or another name for one of them, with `column` for the column",
        )
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

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides};

    fn read(user: &str, item: &str) -> Result<Config, String> {
        let text = format!(
            "version: 1\nname: a\noutput: out\nsources: {{impressions: {{path: logs}}}}\nfeatures:\n  user: {{{user}}}\n  item: {{{item}}}\n"
        );
        Config::parse(&text, "job.yaml", &Overrides::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_shared_table_names_both_features_where_they_do_not_fit() {
        let cases = [
            ("country: {kind: categorical, dim: 4}", "country: {kind: categorical, dim: 8}"),
            ("country: {kind: categorical}", "country: {kind: id, dim: 64}"),
            ("query: {kind: text, hash_rows: 100}", "query: {kind: text, hash_rows: 200}"),
            ("seen: {kind: ids}", "seen: {kind: id, hash_rows: 200}"),
            ("brand: {kind: id, hash_rows: 9}", "brand: {kind: id, min_count: 2}"),
            ("brand: {kind: id}", "brand: {kind: id, unknown_rows: 3}"),
            ("age: {kind: bucketized}", "age: {kind: bucketized}"),
            ("age: {kind: bucketized, boundaries: [1]}", "age: {kind: bucketized, boundaries: [1, 2]}"),
            ("age: {kind: bucketized}", "age: {kind: id}"),
            ("seen: {kind: ids, table: title}", "title: {kind: text}"),
            ("query: {kind: text, table: item_id}", "item_id: {kind: id}"),
            ("both: {kind: crossed, of: [a, b], hash_rows: 9}", "both: {kind: categorical, hash_rows: 9}"),
        ];
        let texts = cases.map(|(user, item)| read(user, item).expect_err(user));
        for text in &texts {
            assert!(text.contains("features.item.") && text.contains("features.user."), "{text}");
        }
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn settings_of_a_feature_that_speak_against_each_other_or_know_no_bound_are_refused() {
        for (user, told) in [
            (
                "age: {kind: bucketized, buckets: 4, boundaries: [20, 40]}",
                "features.user.age: found `buckets` beside `boundaries`, expected one or the other",
            ),
            ("age: {kind: bucketized, dim: 65537}", "features.user.age.dim: found 65537, expected at most 65536"),
        ] {
            let text = read(user, "item_id: {kind: id}").expect_err(user);
            assert!(text.starts_with(&format!("job.yaml: {told}")), "{text}");
        }
    }

    #[test]
    fn the_mean_of_a_batch_needs_more_than_one_row() {
        let text = "version: 1\nname: a\noutput: out\nsources: {impressions: {path: logs}}\nfeatures: {user: {age: {kind: numeric}}, item: {item_id: {kind: id}}}\n";
        let read = |set: &[&str]| {
            let set = Overrides(set.iter().map(|set| set.to_string()).collect());
            Config::parse(text, "job.yaml", &set).map(drop).map_err(|error| error.to_string())
        };
        for side in ["user", "item"] {
            let batch = format!("model.{side}_tower.normalization=batch");
            let refused = read(&[&batch, "training.batch_size=1"]).unwrap_err();
            assert!(refused.contains(&format!("model.{side}_tower.normalization: found `batch` beside")), "{refused}");
            assert_eq!(read(&[&batch, "training.batch_size=2"]), Ok(()));
        }
        assert_eq!(read(&["model.user_tower.normalization=layer", "training.batch_size=1"]), Ok(()));
    }

    #[test]
    fn a_user_is_taken_out_of_lists_over_his_own_table_alone() {
        let read = |user: &str, item: &str| {
            let text = format!(
                "version: 1\nname: a\noutput: out\nsources: {{impressions: {{path: logs}}}}\nfeatures:\n  user: {{{user}}}\n  item: {{{item}}}\n"
            );
            let drop = Overrides(vec!["training.user_in_audience=drop".into()]);
            Config::parse(&text, "job.yaml", &drop).map_err(|error| error.to_string())
        };
        for (user, item) in [
            ("user_id: {kind: id}", "fans: {kind: ids, table: user_id}"),
            ("who: {kind: id, column: user_id}", "fans: {kind: ids, table: who}"),
            ("who: {kind: id, column: user_id, table: fans}", "fans: {kind: ids}"),
        ] {
            read(user, item).unwrap_or_else(|text| panic!("{text}"));
        }
        for (user, item) in [
            ("user_id: {kind: id}", "fans: {kind: ids}"),
            ("user_id: {kind: id}", "user_id: {kind: id}"),
            ("who: {kind: id}", "fans: {kind: ids, table: who}"),
        ] {
            let text = read(user, item).expect_err(user);
            assert!(text.contains("training.user_in_audience") && text.contains("`drop`"), "{text}");
        }
    }

    #[test]
    fn tables_are_shared_where_the_features_fit() {
        for (user, item) in [
            ("country: {kind: categorical, dim: 4}", "country: {kind: categorical}"),
            ("country: {kind: categorical, dim: 4, min_count: 1}", "country: {kind: id, dim: 4, min_count: 1}"),
            ("query: {kind: text, table: title}", "title: {kind: text, hash_rows: 100}"),
            ("age: {kind: bucketized, boundaries: [1]}", "age: {kind: bucketized, boundaries: [1]}"),
            ("price: {kind: numeric}", "price: {kind: bucketized}"),
            ("seen: {kind: ids, table: item_id}", "item_id: {kind: id, hash_rows: 9}"),
        ] {
            read(user, item).unwrap_or_else(|text| panic!("{text}"));
        }
    }
}
