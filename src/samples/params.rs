//! `$params`: typed values, put into the parsed query in place of their names.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Array, DataType, Expr, Query, TypedString, UnaryOperator, Value, ValueWithSpan, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use serde::Serialize;
use serde_json::Value as Json;

use super::files::has_future;
use super::parse::SqlFile;
use super::place::error_at;
use crate::artifacts::RunDate;
use crate::config::{Config, HardOrder};
use crate::error::{Error, Result, did_you_mean};

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Param {
    Int(i64),
    Float(f64),
    Text(String),
    Bool(bool),
    /// No value: a limit that is not set.
    Null,
    Date(RunDate),
    List(Vec<Param>),
}

/// Every parameter by its name without the `$`.
pub type Params = BTreeMap<String, Param>;

/// The values for one run.
pub fn params(config: &Config, date: RunDate) -> Result<Params> {
    let samples = &config.samples;
    if samples.history_length == 0 {
        return Err(Error::config("samples.history_length: found 0, expected at least 1"));
    }
    let (random, hard) = (&samples.random_negatives, &samples.hard_negatives);
    let limit = |value: Option<f64>| value.map_or(Param::Null, Param::Float);
    let has_margin = hard.margin.is_some() || hard.relative_margin.is_some();
    let share = if has_future(config) { 0.0 } else { samples.holdout_share };
    let mut params: Params = [
        ("date", Param::Date(date)),
        // the engine has no unsigned BIGINT in SQL; the bits are what matters
        ("seed", Param::Int(samples.seed as i64)),
        ("history_length", Param::Int(samples.history_length.into())),
        ("holdout_share", Param::Float(share)),
        ("random_per_positive", Param::Int(random.per_positive.into())),
        ("random_power", Param::Float(random.power)),
        ("hard_rank_from", Param::Int(hard.rank_from.into())),
        ("hard_rank_to", Param::Int(hard.rank_to.into())),
        ("random_per_hard", Param::Int(hard.random_per_hard.into())),
        ("hard_per_positive", Param::Int(hard.per_positive.into())),
        ("hard_per_item", hard.per_item.map_or(Param::Null, |most| Param::Int(most.into()))),
        ("hard_min_score", limit(hard.min_score)),
        ("hard_max_score", limit(hard.max_score)),
        ("hard_has_margin", Param::Bool(has_margin)),
        ("hard_margin", limit(hard.margin)),
        ("hard_relative_margin", limit(hard.relative_margin)),
        ("hard_top", Param::Bool(hard.order == HardOrder::Top)),
        ("shown_per_positive", Param::Int(samples.shown_negatives.per_positive.into())),
        ("null_share", Param::Float(samples.audit_limits.null_share)),
        ("ratio_change", Param::Float(samples.audit_limits.ratio_change)),
        ("day_change", Param::Float(samples.audit_limits.day_change)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value))
    .collect();
    for (name, value) in &samples.params {
        let value = from_json(value).ok_or_else(|| {
            Error::config(format!(
                "samples.params.{name}: found {value}, expected a number, a text, true, false, or a list of these"
            ))
        })?;
        if params.insert(name.clone(), value).is_some() {
            return Err(Error::config(format!("samples.params.{name}: `${name}` is built in; choose another name")));
        }
    }
    Ok(params)
}

fn from_json(value: &Json) -> Option<Param> {
    match value {
        Json::Bool(value) => Some(Param::Bool(*value)),
        Json::Number(number) => number.as_i64().map(Param::Int).or_else(|| number.as_f64().map(Param::Float)),
        Json::String(text) => Some(Param::Text(text.clone())),
        Json::Array(items) => items.iter().map(from_json).collect::<Option<_>>().map(Param::List),
        Json::Null | Json::Object(_) => None,
    }
}

impl Param {
    /// The value as a parsed expression.
    fn expr(&self, span: Span) -> Expr {
        let plain = |value: Value| Expr::Value(ValueWithSpan { value, span });
        let signed = |text: String| match text.strip_prefix('-') {
            Some(digits) => {
                let number = Box::new(plain(Value::Number(digits.to_string(), false)));
                Expr::Nested(Box::new(Expr::UnaryOp { op: UnaryOperator::Minus, expr: number }))
            }
            None => plain(Value::Number(text, false)),
        };
        match self {
            Param::Int(number) => signed(number.to_string()),
            // written with its point, so that it stays a DOUBLE
            Param::Float(number) => signed(format!("{number:?}")),
            Param::Text(text) => plain(Value::SingleQuotedString(text.clone())),
            Param::Bool(value) => plain(Value::Boolean(*value)),
            Param::Null => plain(Value::Null),
            Param::Date(date) => Expr::TypedString(TypedString {
                data_type: DataType::Date,
                value: ValueWithSpan { value: Value::SingleQuotedString(date.to_string()), span },
                uses_odbc_syntax: false,
            }),
            Param::List(items) => {
                Expr::Array(Array { elem: items.iter().map(|item| item.expr(span)).collect(), named: false })
            }
        }
    }
}

/// The query of `file` with its parameters' values.
pub fn bind(file: &SqlFile, params: &Params) -> Result<Query> {
    for (name, place) in &file.references.params {
        let plain = name.trim_start_matches('$');
        if !params.contains_key(plain) || !name.starts_with('$') {
            let known: Vec<String> = params.keys().map(|name| format!("${name}")).collect();
            return Err(error_at(
                &file.shown,
                Some(*place),
                format!(
                    "unknown parameter `{name}`{}; there are {}, and what `samples.params` names",
                    did_you_mean(name, known.iter().map(String::as_str)),
                    known.join(", ")
                ),
            ));
        }
    }
    let mut query = file.query.clone();
    let _ = query.visit(&mut Binder(params));
    Ok(query)
}

struct Binder<'a>(&'a Params);

impl VisitorMut for Binder<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Value(ValueWithSpan { value: Value::Placeholder(name), span }) = expr
            && let Some(param) = self.0.get(name.trim_start_matches('$'))
        {
            *expr = param.expr(*span);
        }
        ControlFlow::Continue(())
    }
}
