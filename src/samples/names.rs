//! Names in SQL that the config decides: which table `hard_scores` and `ranking_candidates` are, and which model `hard_ranker()` is.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, ObjectNamePart,
    Spanned, TableAlias, TableFactor, VisitMut, VisitorMut,
};

use super::ast::references;
use super::parse::SqlFile;
use crate::config::{Config, HardFrom};
use crate::error::Result;

/// The source whose presence brings in hard negatives, where nothing else is said.
pub const RANKER_SOURCE: &str = "ranker_scores";
/// The table that is filled from the last release.
pub const PREVIOUS_TABLE: &str = "previous_candidates";
/// A log of what was retrieved for each user, to be ranked.
const CANDIDATE_SOURCE: &str = "candidates";
const RANKED_TABLE: &str = "ranked_candidates";
const RANKER_FUNCTION: &str = "hard_ranker";
/// In an audit, the table of the negatives that its name begins with.
const THESE_NEGATIVES: &str = "these_negatives";
/// Audits of all kinds of negatives are one file each: how the audit's name begins for a kind, and the kind's table.
pub const NEGATIVES: [(&str, &str); 3] = [
    ("negatives_", "random_negatives"),
    ("hard_negatives_", "hard_negatives"),
    ("shown_negatives_", "shown_negatives"),
];

/// What the names stand for in one job.
pub struct Names {
    tables: BTreeMap<&'static str, &'static str>,
    /// The model's function and its arguments, where one is asked for.
    ranker: Option<(String, Vec<String>)>,
}

/// Whose scores make hard negatives; `None` for none.
pub fn hard_from(config: &Config) -> Option<HardFrom> {
    let logged = config.sources.contains_key(RANKER_SOURCE).then_some(HardFrom::RankerScores);
    config.samples.hard_negatives.from.or(logged)
}

impl Names {
    pub fn new(config: &Config) -> Result<Names> {
        let hard = match hard_from(config) {
            None | Some(HardFrom::RankerScores) => RANKER_SOURCE,
            Some(HardFrom::Previous) => PREVIOUS_TABLE,
            Some(HardFrom::Ranker) => RANKED_TABLE,
        };
        let logged = config.sources.contains_key(CANDIDATE_SOURCE);
        let candidates = if logged { CANDIDATE_SOURCE } else { PREVIOUS_TABLE };
        let ranker = if hard == RANKED_TABLE {
            let name = config.hard_ranker()?;
            Some((name.to_string(), config.rankers[name].arguments().into_iter().map(str::to_string).collect()))
        } else {
            None
        };
        Ok(Names { tables: [("hard_scores", hard), ("ranking_candidates", candidates)].into(), ranker })
    }

    /// For manifest and report: where hard negatives come from.
    pub fn in_words(&self) -> String {
        match (self.tables["hard_scores"], &self.ranker) {
            (_, Some((ranker, _))) => format!("ranker `{ranker}` over `{}`", self.tables["ranking_candidates"]),
            (table, None) => format!("`{table}`"),
        }
    }

    /// Puts what is meant into a file's query.
    pub fn resolve(&self, file: SqlFile) -> Result<SqlFile> {
        let mut tables = self.tables.clone();
        let kind = NEGATIVES.iter().find(|(begins, _)| file.name.starts_with(begins));
        tables.extend(kind.map(|(_, table)| (THESE_NEGATIVES, *table)));
        tables.retain(|name, _| file.references.tables.contains_key(*name));
        if tables.is_empty() && !file.references.functions.contains_key(RANKER_FUNCTION) {
            return Ok(file);
        }
        let mut query = file.query;
        let _ = query.visit(&mut Resolver { tables: &tables, ranker: self.ranker.as_ref() });
        let references = references(&file.shown, &file.text, &query)?;
        Ok(SqlFile { query, references, ..file })
    }
}

struct Resolver<'a> {
    /// What is meant by the names that the query reads: a CTE of the same name is not among them.
    tables: &'a BTreeMap<&'static str, &'static str>,
    ranker: Option<&'a (String, Vec<String>)>,
}

impl VisitorMut for Resolver<'_> {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        let TableFactor::Table { name, alias, .. } = factor else { return ControlFlow::Continue(()) };
        let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else { return ControlFlow::Continue(()) };
        let written = ident.value.to_lowercase();
        if let Some(meant) = self.tables.get(written.as_str()) {
            // columns may be qualified with the name as it is written
            if alias.is_none() {
                let name = Ident::with_span(ident.span, written);
                *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
            }
            *name = ObjectName::from(vec![Ident::with_span(ident.span, *meant)]);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        if let (RANKER_FUNCTION, Some((name, columns))) =
            (function.name.to_string().to_lowercase().as_str(), self.ranker)
        {
            let span = function.name.span();
            let argument = |column: &String| {
                let mut parts: Vec<Ident> =
                    column.split('.').map(|part| Ident { span, ..Ident::with_quote('"', part) }).collect();
                let expr = match parts.len() {
                    1 => Expr::Identifier(parts.remove(0)),
                    _ => Expr::CompoundIdentifier(parts),
                };
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
            };
            function.name = ObjectName::from(vec![Ident::with_span(span, name.as_str())]);
            function.args = FunctionArguments::List(FunctionArgumentList {
                duplicate_treatment: None,
                args: columns.iter().map(argument).collect(),
                clauses: Vec::new(),
            });
        }
        ControlFlow::Continue(())
    }
}
