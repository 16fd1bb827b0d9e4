//! What built-in SQL is told by the config beside values: the names of columns, and which of two files makes a table. Names are put
//! into the parsed query in place of a `$parameter`, never into its text.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, Value, ValueWithSpan, VisitMut, VisitorMut};

use super::parse::SqlFile;
use crate::config::{Config, FeatureKind};

/// The source with the features of users.
pub const USERS: &str = "users";

/// Columns of `positives` and `user_features` that hold items the user liked before: the lists that share the item's own
/// embedding table.
pub fn histories(config: &Config) -> Vec<String> {
    let items = config.features.item.iter().filter(|(name, feature)| feature.column(name) == "item_id");
    let tables: Vec<&str> = items.filter_map(|(name, feature)| feature.table(name)).collect();
    let lists = config.features.user.iter().filter(|(_, feature)| feature.kind == FeatureKind::Ids);
    let shared = lists.filter(|(name, feature)| feature.table(name).is_some_and(|table| tables.contains(&table)));
    let mut columns: Vec<String> = shared.map(|(name, feature)| feature.column(name).to_string()).collect();
    columns.sort();
    columns.dedup();
    columns
}

/// How the built-in SQL tells since when a row of `users` is known, where there may be several rows a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsersTime {
    pub column: String,
    /// Whether it is the day of a partition, whose rows are known at its end only.
    pub by_day: bool,
}

/// `None` where `users` is one row a user.
pub fn users_time(config: &Config) -> Option<UsersTime> {
    let users = config.sources.get(USERS)?;
    if let Some(column) = &users.time {
        return Some(UsersTime { column: column.clone(), by_day: false });
    }
    let partition = users.partition.as_ref().filter(|_| users.has_versions())?;
    Some(UsersTime { column: partition.clone(), by_day: true })
}

/// Puts the name of a column in place of `param`, which is written with its `$`.
pub fn name_column(file: &mut SqlFile, param: &str, column: &str) {
    put(file, param, &|span| Expr::Identifier(Ident { value: column.into(), quote_style: Some('"'), span }));
}

/// Puts `true` or `false` in place of `param`.
pub fn set_flag(file: &mut SqlFile, param: &str, flag: bool) {
    put(file, param, &|span| Expr::Value(ValueWithSpan { value: Value::Boolean(flag), span }));
}

type Make<'a> = &'a dyn Fn(datafusion::sql::sqlparser::tokenizer::Span) -> Expr;

fn put(file: &mut SqlFile, param: &str, make: Make<'_>) {
    struct Put<'a>(&'a str, Make<'a>);
    impl VisitorMut for Put<'_> {
        type Break = ();

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), span }) = expr
                && name == self.0
            {
                *expr = self.1(*span);
            }
            ControlFlow::Continue(())
        }
    }
    file.references.params.remove(param);
    let _ = VisitMut::visit(&mut file.query, &mut Put(param, make));
}
