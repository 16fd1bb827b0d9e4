//! What a parsed query reads and calls, and what it may not.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Function, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, Spanned, Statement,
    TableFactor, Value, Visit, Visitor,
};

use super::place::{Place, error_at};
use crate::error::{Error, Result};

/// The tables, functions and parameters of a query, each with the first place it is named at.
#[derive(Debug, Clone, Default)]
pub struct References {
    pub tables: BTreeMap<String, Place>,
    pub functions: BTreeMap<String, Place>,
    /// With the `$`.
    pub params: BTreeMap<String, Place>,
}

/// Functions whose result is another one on a retry.
const NOT_REPRODUCIBLE: [&str; 8] =
    ["random", "uuid", "now", "current_date", "current_timestamp", "current_time", "today", "localtimestamp"];
/// Functions in FROM that read nothing.
const TABLE_FUNCTIONS: [&str; 2] = ["generate_series", "range"];

/// Collects what `query` reads; refuses what a sample file may not do.
pub fn references(shown: &str, text: &str, query: &Query) -> Result<References> {
    let mut collector = Collector { shown, text, found: References::default(), ctes: Vec::new() };
    match query.visit(&mut collector) {
        ControlFlow::Continue(()) => Ok(collector.found),
        ControlFlow::Break(error) => Err(*error),
    }
}

struct Collector<'a> {
    shown: &'a str,
    text: &'a str,
    found: References,
    ctes: Vec<String>,
}

impl Collector<'_> {
    fn refuse(&self, place: Option<Place>, message: String) -> ControlFlow<Box<Error>> {
        ControlFlow::Break(Box::new(error_at(self.shown, place, message)))
    }

    fn function(&mut self, function: &Function) -> ControlFlow<Box<Error>> {
        let name = function.name.to_string().to_lowercase();
        let place = place_of(&function.name);
        if NOT_REPRODUCIBLE.contains(&name.as_str()) {
            return self.refuse(
                place,
                format!("`{name}()` gives other rows on a retry; use `stable_hash($seed, …)` for draws and `$date` for the day"),
            );
        }
        self.found.functions.entry(name).or_insert(place.unwrap_or_default());
        ControlFlow::Continue(())
    }
}

/// A name as the engine looks it up: unquoted ones in lower case.
pub fn normal(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The parser keeps no place of a name in single quotes.
fn place_in_text(text: &str, name: &str) -> Option<Place> {
    let before = text.get(..text.find(name)?)?;
    let line = before.rsplit('\n').next().unwrap_or_default();
    Some(Place { line: before.matches('\n').count() as u64 + 1, column: line.chars().count() as u64 })
}

pub fn place_of(name: &ObjectName) -> Option<Place> {
    name.0.iter().find_map(|part| match part {
        ObjectNamePart::Identifier(ident) => Place::of(ident.span),
        ObjectNamePart::Function(_) => None,
    })
}

impl Visitor for Collector<'_> {
    type Break = Box<Error>;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        if let Some(with) = &query.with {
            for cte in &with.cte_tables {
                // a name is not in scope in its own definition: `with items as (select * from items)` reads the source.
                // The visit comes again as part of the query; it finds nothing new
                if !with.recursive {
                    cte.visit(self)?;
                }
                self.ctes.push(normal(&cte.alias.name));
            }
        }
        if let SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) = query.body.as_ref() {
            return self.refuse(Place::of(query.body.span()), "a file may only read: expected a SELECT".into());
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        let defined = query.with.as_ref().map_or(0, |with| with.cte_tables.len());
        self.ctes.truncate(self.ctes.len() - defined);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        match &select.into {
            Some(into) => self.refuse(place_of(&into.name), "`into` writes: a file may only read".into()),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Self::Break> {
        match statement {
            Statement::Query(_) => ControlFlow::Continue(()),
            other => self.refuse(Place::of(other.span()), "a file may only read: expected a SELECT".into()),
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<Self::Break> {
        let (name, place) = match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                (name.to_string().to_lowercase(), place_of(name))
            }
            TableFactor::TableFunction { expr, .. } => (expr.to_string(), Place::of(expr.span())),
            _ => return ControlFlow::Continue(()),
        };
        if TABLE_FUNCTIONS.contains(&name.as_str()) {
            return ControlFlow::Continue(());
        }
        self.refuse(
            place,
            format!("`{name}(…)` reads outside the sources: SQL reads sources and tables by their plain names"),
        )
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<Self::Break> {
        let place = place_of(relation);
        let [ObjectNamePart::Identifier(ident)] = relation.0.as_slice() else {
            return self.refuse(
                place,
                format!("`{relation}` reads outside the sources: SQL reads sources and tables by their plain names"),
            );
        };
        let name = normal(ident);
        if TABLE_FUNCTIONS.contains(&name.as_str()) {
            return ControlFlow::Continue(());
        }
        if name.contains(['/', '.', '\\', ':']) {
            return self.refuse(
                place.or_else(|| place_in_text(self.text, &name)),
                format!(
                    "`{name}` is a file, which reads outside the sources: name its folder in `sources` and read that"
                ),
            );
        }
        if !self.ctes.contains(&name) {
            self.found.tables.entry(name).or_insert(place.unwrap_or_default());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Function(function) => self.function(function),
            Expr::Value(value) => match &value.value {
                Value::Placeholder(name) => {
                    let place = Place::of(value.span).unwrap_or_default();
                    self.found.params.entry(name.clone()).or_insert(place);
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Where a column of the result is made: its alias or last name in the outermost SELECT.
pub fn place_of_column(query: &Query, column: &str) -> Option<Place> {
    fn select(body: &SetExpr) -> Option<&Select> {
        match body {
            SetExpr::Select(select) => Some(select),
            SetExpr::Query(query) => select_of(query),
            SetExpr::SetOperation { left, .. } => select(left),
            _ => None,
        }
    }
    fn select_of(query: &Query) -> Option<&Select> {
        select(&query.body)
    }
    let select = select_of(query)?;
    let named = select.projection.iter().find_map(|item| match item {
        SelectItem::ExprWithAlias { expr, alias } if normal(alias) == column => {
            Place::of(expr.span()).or(Place::of(alias.span))
        }
        SelectItem::UnnamedExpr(expr @ Expr::Identifier(name)) if normal(name) == column => Place::of(expr.span()),
        SelectItem::UnnamedExpr(expr @ Expr::CompoundIdentifier(names))
            if names.last().is_some_and(|n| normal(n) == column) =>
        {
            Place::of(expr.span())
        }
        _ => None,
    });
    named.or_else(|| Place::of(select.select_token.0.span))
}

/// The first place where `name` is written as a column.
pub fn place_of_name(query: &Query, name: &str) -> Option<Place> {
    struct Finder<'a>(&'a str, Option<Place>);
    impl Visitor for Finder<'_> {
        type Break = ();

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let ident = match expr {
                Expr::Identifier(ident) => Some(ident),
                Expr::CompoundIdentifier(idents) => idents.last(),
                _ => None,
            };
            if let Some(ident) = ident.filter(|ident| normal(ident) == self.0) {
                self.1 = Place::of(ident.span);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }
    let mut finder = Finder(name, None);
    let _ = query.visit(&mut finder);
    finder.1
}
