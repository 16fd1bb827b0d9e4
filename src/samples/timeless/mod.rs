//! Finds where SQL joins a source that holds a thing several times, once a day say, and asks for no time: each positive would then
//! meet its user's rows of every day, those from after the event too. Told from the parsed SQL alone, by `check`, as a warning.
//!
//! Here queries are walked with the sources that their rows come from; `select.rs` says what a SELECT asks for.

mod select;

use std::collections::{BTreeMap, BTreeSet};

use datafusion::sql::sqlparser::ast::{JoinOperator, Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins};

use self::select::{Names, is_list_of_ids};
use super::ast::{normal, place_of};
use super::files::Files;
use super::order::reads;
use super::place::Place;
use crate::config::{ColumnType, Config, Source};

/// The table whose rows must not know what came after them.
const POINT_IN_TIME: &str = "positives";

/// Warnings about the SQL of `positives` and of the tables that it is made from, in the order of tables.
pub fn timeless_joins(config: &Config, files: &Files, order: &[String]) -> Vec<String> {
    let mut wanted: BTreeSet<String> = BTreeSet::from([POINT_IN_TIME.into()]);
    for name in order.iter().rev().filter(|name| files.tables.contains_key(*name)) {
        if wanted.contains(name) {
            wanted.extend(reads(&files.tables[name]));
        }
    }
    let mut walk = Walk { config, tables: BTreeMap::new(), found: Vec::new() };
    let mut warnings = Vec::new();
    for name in order.iter().filter(|name| wanted.contains(*name)) {
        let file = &files.tables[name];
        let open = walk.query(&file.query, &BTreeMap::new());
        walk.tables.insert(name.clone(), open);
        for (source, place) in walk.found.drain(..) {
            let settings = &config.sources[source.as_str()];
            let times: Vec<String> = time_columns(settings).map(|column| format!("`{column}`")).collect();
            warnings.push(format!(
                "{}:{}:{}: source `{source}` has several rows for one thing ({}) and is joined without its time: a sample meets rows from after its event, too; hold {} against the time of the event, or read one partition (`snapshot: true`)",
                file.shown,
                place.line,
                place.column,
                versions(settings),
                times.join(" or ")
            ));
        }
    }
    warnings
}

fn versions(source: &Source) -> String {
    match &source.time {
        Some(time) => format!("by `{time}`"),
        None => format!("a window of days, `{}`", source.days),
    }
}

/// The columns that the config knows to say when.
fn time_columns(source: &Source) -> impl Iterator<Item = &str> {
    let declared = source.columns.iter().filter(|(_, found)| matches!(found, ColumnType::Timestamp | ColumnType::Date));
    let named = source.time.iter().chain(&source.partition).map(String::as_str);
    let mut seen = BTreeSet::new();
    named.chain(declared.map(|(name, _)| name.as_str())).filter(move |name| seen.insert(*name))
}

/// Whether a column says when: by the config, or by its name.
fn is_time(source: &Source, column: &str) -> bool {
    let by_name = ["time", "date", "_at", "_ts", "_ms", "day"].iter().any(|end| column.ends_with(end));
    by_name || column == "ts" || time_columns(source).any(|known| known == column)
}

/// Of the sources with several rows for one thing that a query's rows come from and whose time nobody has asked for yet: the columns
/// of the query's result that tell it.
type Open = BTreeMap<String, Times>;

#[derive(Debug, Clone, Default, PartialEq)]
struct Times {
    /// All columns of the source are there under their own names.
    all: bool,
    named: BTreeSet<String>,
}

impl Times {
    fn has(&self, source: &Source, column: &str) -> bool {
        self.named.contains(column) || (self.all && is_time(source, column))
    }
}

/// A part of FROM.
struct Relation {
    alias: String,
    place: Place,
    open: Open,
    /// Whether a join takes columns or rows of it into the result: a semi or anti join does not.
    brought_in: bool,
}

struct Walk<'a> {
    config: &'a Config,
    /// Of the tables that were looked at before.
    tables: BTreeMap<String, Open>,
    found: Vec<(String, Place)>,
}

impl Walk<'_> {
    fn query(&mut self, query: &Query, outer: &BTreeMap<String, Open>) -> Open {
        let mut scope = outer.clone();
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let open = self.query(&cte.query, &scope);
            scope.insert(normal(&cte.alias.name), open);
        }
        self.body(&query.body, &scope)
    }

    fn body(&mut self, body: &SetExpr, scope: &BTreeMap<String, Open>) -> Open {
        match body {
            SetExpr::Select(select) => self.select(select, scope),
            SetExpr::Query(query) => self.query(query, scope),
            SetExpr::SetOperation { left, right, .. } => {
                let mut open = self.body(left, scope);
                for (source, times) in self.body(right, scope) {
                    let known = open.entry(source).or_default();
                    known.all |= times.all;
                    known.named.extend(times.named);
                }
                open
            }
            _ => Open::new(),
        }
    }

    fn select(&mut self, select: &Select, scope: &BTreeMap<String, Open>) -> Open {
        let mut relations = Vec::new();
        for from in &select.from {
            self.relations(from, scope, &mut relations);
        }
        let joined = relations.len() > 1;
        let asked = Names::asked_in(select, joined);
        for at in 0..relations.len() {
            let closed = self.asked_for(&relations, at, &asked);
            relations[at].open.retain(|source, _| !closed.contains(source));
        }
        if joined {
            for relation in relations.iter().filter(|relation| relation.brought_in) {
                self.found.extend(relation.open.keys().map(|source| (source.clone(), relation.place)));
            }
            return Open::new();
        }
        // who there is, once each: nothing of that changes from day to day
        if is_list_of_ids(select) {
            return Open::new();
        }
        let Some(relation) = relations.pop() else { return Open::new() };
        let open = relation.open.into_iter();
        open.map(|(source, times)| {
            let through = self.projected(&select.projection, &source, &times);
            (source, through)
        })
        .collect()
    }

    /// The open sources of a relation whose time is named somewhere.
    fn asked_for(&self, relations: &[Relation], at: usize, asked: &Names) -> BTreeSet<String> {
        let relation = &relations[at];
        let named = |source: &str, times: &Times| {
            let settings = &self.config.sources[source];
            asked.0.iter().any(|(qualifier, column)| match qualifier {
                Some(qualifier) => *qualifier == relation.alias && times.has(settings, column),
                None if relations.len() == 1 => times.has(settings, column),
                // a plain name may be any relation's: it is this one's by the config's word, not by its sound
                None => {
                    times.named.contains(column) || times.all && time_columns(settings).any(|known| known == column)
                }
            })
        };
        relation.open.iter().filter(|(source, times)| named(source, times)).map(|(source, _)| source.clone()).collect()
    }

    fn projected(&self, projection: &[SelectItem], source: &str, times: &Times) -> Times {
        let settings = &self.config.sources[source];
        let mut through = Times::default();
        for item in projection {
            let (expr, alias) = match item {
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                    through.all |= times.all;
                    through.named.extend(times.named.iter().cloned());
                    continue;
                }
                SelectItem::UnnamedExpr(expr) => (expr, None),
                SelectItem::ExprWithAlias { expr, alias } => (expr, Some(normal(alias))),
                SelectItem::ExprWithAliases { .. } => continue,
            };
            if let Some((_, column)) = Names::within(expr).0.iter().find(|(_, column)| times.has(settings, column)) {
                through.named.insert(alias.unwrap_or_else(|| column.clone()));
            }
        }
        through
    }

    fn relations(&mut self, from: &TableWithJoins, scope: &BTreeMap<String, Open>, found: &mut Vec<Relation>) {
        let first = found.len();
        self.relation(&from.relation, scope, found);
        for join in &from.joins {
            let right = found.len();
            self.relation(&join.relation, scope, found);
            use JoinOperator::*;
            match &join.join_operator {
                Semi(_) | LeftSemi(_) | Anti(_) | LeftAnti(_) => {
                    found[right..].iter_mut().for_each(|relation| relation.brought_in = false)
                }
                RightSemi(_) | RightAnti(_) => {
                    found[first..right].iter_mut().for_each(|relation| relation.brought_in = false)
                }
                _ => {}
            }
        }
    }

    fn relation(&mut self, factor: &TableFactor, scope: &BTreeMap<String, Open>, found: &mut Vec<Relation>) {
        let (open, name, place) = match factor {
            TableFactor::Table { name, .. } => {
                let plain = name.0.last().and_then(|part| part.as_ident()).map(normal).unwrap_or_default();
                let versioned = self.config.sources.get(plain.as_str()).is_some_and(Source::has_versions);
                let itself = || Open::from([(plain.clone(), Times { all: true, named: BTreeSet::new() })]);
                let open = scope.get(&plain).or(self.tables.get(&plain)).cloned();
                (open.unwrap_or_else(|| if versioned { itself() } else { Open::new() }), plain, place_of(name))
            }
            TableFactor::Derived { subquery, .. } => (self.query(subquery, scope), String::new(), None),
            TableFactor::NestedJoin { table_with_joins, .. } => {
                return self.relations(table_with_joins, scope, found);
            }
            _ => (Open::new(), String::new(), None),
        };
        let alias = match factor {
            TableFactor::Table { alias, .. } | TableFactor::Derived { alias, .. } => alias.as_ref(),
            _ => None,
        };
        let alias = alias.map_or(name, |alias| normal(&alias.name));
        found.push(Relation { alias, place: place.unwrap_or_default(), open, brought_in: true });
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    /// Places of the warnings about `positives`, made by `sql`, over users of a week and a log of a week.
    fn found(sql: &str) -> Vec<String> {
        let text = "version: 1\nname: a\noutput: out\nsources:\n  users: {path: u, partition: dt, days: -6..0}\n  states: {path: s, time: valid_from}\n  log: {path: l, partition: dt, days: -6..0, columns: {event_time: timestamp}}\n  items: {path: i, partition: dt, snapshot: true}\nfeatures: {user: {u: {kind: id}}, item: {i: {kind: id}}}\n";
        let config = Config::parse(text, "job.yaml", &Default::default()).unwrap();
        let file = parse("positives", "positives.sql", sql.into(), false).unwrap();
        let tables = BTreeMap::from([("positives".to_string(), file)]);
        let files = Files { tables, wanted: vec!["positives".into()], audits: Vec::new() };
        let warnings = timeless_joins(&config, &files, &["positives".into()]);
        warnings.iter().map(|text| text.split(" has several").next().unwrap().replace("positives.sql:", "")).collect()
    }

    #[test]
    fn a_join_by_id_alone_is_found_wherever_the_source_was_renamed() {
        let log = "select l.user_id, l.event_time, u.* from log as l join";
        assert_eq!(found(&format!("{log} users as u on u.user_id = l.user_id")), ["1:56: source `users`"]);
        assert_eq!(found(&format!("{log} users as u using (user_id)")), ["1:56: source `users`"]);
        assert_eq!(found(&format!("{log} (select user_id, country from users) as u using (user_id)")).len(), 1);
        assert_eq!(
            found(&format!("{log} (select distinct user_id, country from users) as u using (user_id)")).len(),
            1
        );
        // a click would be taught once for each day that its user was there
        for often in ["select user_id from users", "select user_id from users group by user_id, country"] {
            assert_eq!(found(&format!("{log} ({often}) as u using (user_id)")).len(), 1, "{often}");
        }
        let named = "with u as (select user_id, country, dt from users), p as (select * from u)";
        assert_eq!(found(&format!("{named} {log} p as u on u.user_id = l.user_id where l.dt = $date")).len(), 1);
        assert_eq!(found(&format!("{log} states as u on u.user_id = l.user_id")), ["1:56: source `states`"]);
        assert_eq!(found("select l.event_time, u.* from users as u, log as l where u.user_id = l.user_id").len(), 1);
    }

    #[test]
    fn a_source_whose_time_is_asked_for_is_not() {
        let log = "select l.user_id, l.event_time, u.country from log as l join";
        for join in [
            "users as u on u.user_id = l.user_id and u.dt < l.event_time",
            "users as u on u.user_id = l.user_id where u.dt = $date",
            "users as u using (user_id, dt)",
            "(select * from users where dt = $date) as u using (user_id)",
            "(select user_id, country, row_number() over (partition by user_id order by dt) as n from users) as u using (user_id)",
            "(select user_id, last_value(country order by dt) as country from users group by user_id) as u using (user_id)",
            "states as u on u.user_id = l.user_id and u.valid_from <= l.event_time",
            "items as u on u.item_id = l.item_id",
            // who was there on any day: no column of it changes
            "(select distinct user_id from users) as u using (user_id)",
            "(select users.id as user_id from users group by 1) as u using (user_id)",
        ] {
            assert_eq!(found(&format!("{log} {join}")), [""; 0], "{join}");
        }
        // no columns come from the right
        assert_eq!(
            found("select l.event_time from log as l left anti join users as u on u.user_id = l.user_id"),
            [""; 0]
        );
    }
}
