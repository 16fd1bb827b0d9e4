//! Where in a file a planning error is: from the engine's own diagnostics, else by trying which expression is to blame.

use std::ops::ControlFlow;

use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::sql::sqlparser::ast::{Expr, Query, Spanned, Value, Visit, VisitMut, Visitor, VisitorMut};

use super::ast::place_of_name;
use super::parse::{SqlFile, lower_first};
use super::place::{Place, error_at};
use super::planner::to_plan;
use crate::error::{Error, did_you_mean};

/// Most expressions that are tried.
const MOST_TRIALS: usize = 400;

/// A planning error with file, line and column.
pub async fn explain_planning(state: &SessionState, file: &SqlFile, query: &Query, error: DataFusionError) -> Error {
    let place = error.diagnostic().and_then(|diagnostic| Place::of_engine(diagnostic.span));
    let (message, name) = words(&error);
    let place = match place.or_else(|| name.as_deref().and_then(|name| place_of_name(&file.query, name))) {
        Some(place) => Some(place),
        None => by_trial(state, query).await,
    };
    error_at(&file.shown, Some(place.unwrap_or(file.start)), message)
}

/// The error's words, and the column it is about.
fn words(error: &DataFusionError) -> (String, Option<String>) {
    match error.find_root() {
        DataFusionError::SchemaError(error, _) => match error.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let of =
                    field.relation.as_ref().map(|relation| format!(" in `{}`", relation.table())).unwrap_or_default();
                let near =
                    valid_fields.iter().filter(|valid| field.relation.is_none() || valid.relation == field.relation);
                let mut known: Vec<&str> = near.map(|column| column.name.as_str()).collect();
                known.sort_unstable();
                known.dedup();
                let listed = if known.is_empty() { String::new() } else { format!("; there are {}", known.join(", ")) };
                let hint = did_you_mean(&field.name, known.iter().copied());
                (format!("no column `{}`{of}{hint}{listed}", field.name), Some(field.name.clone()))
            }
            other => (lower_first(&other.to_string()), None),
        },
        root => {
            let text = root.strip_backtrace();
            let text = text.lines().collect::<Vec<_>>().join(" ");
            let text = text.split(": ").skip_while(|part| PREFIXES.contains(part)).collect::<Vec<_>>().join(": ");
            (lower_first(&text), None)
        }
    }
}

/// What the engine puts before its messages.
const PREFIXES: [&str; 5] =
    ["Error during planning", "type_coercion", "Execution error", "This feature is not implemented", "Schema error"];

/// Replaces one expression after another by null: the smallest without which the query can be planned is to blame.
async fn by_trial(state: &SessionState, query: &Query) -> Option<Place> {
    let mut counter = Expressions(Vec::new());
    let _ = query.visit(&mut counter);
    let mut candidates: Vec<(usize, usize, bool, Place)> = Vec::new();
    for (at, (size, leaf, place)) in counter.0.into_iter().enumerate() {
        candidates.extend(place.map(|place| (size, at, leaf, place)));
    }
    // whole operations before their operands: `a + 'x'` is wrong, `a` alone is not
    candidates.sort_by_key(|(size, at, leaf, _)| (*leaf, *size, *at));
    for (_, at, _, place) in candidates.into_iter().take(MOST_TRIALS) {
        let mut trial = query.clone();
        let _ = VisitMut::visit(&mut trial, &mut Remover { at, seen: 0 });
        if to_plan(state, trial).await.is_ok() {
            return Some(place);
        }
    }
    None
}

/// Size, leaf or not, and place of every expression, in the order of the visit.
struct Expressions(Vec<(usize, bool, Option<Place>)>);

impl Visitor for Expressions {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let leaf = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_));
        self.0.push((expr.to_string().len(), leaf, Place::of(expr.span())));
        ControlFlow::Continue(())
    }
}

struct Remover {
    at: usize,
    seen: usize,
}

impl VisitorMut for Remover {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.seen == self.at {
            *expr = Expr::Value(Value::Null.with_empty_span());
        }
        self.seen += 1;
        ControlFlow::Continue(())
    }
}
