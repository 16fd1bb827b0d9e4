//! What the engine makes of a name or an expression, for those who write SQL.

use std::ops::ControlFlow;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::ExprSchemable;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{Expr, visit_expressions};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::types::normalised;

/// The type of an expression over the columns of `schema`, as a table would have it, and the columns that it reads; or the engine's words.
pub fn type_of_expression(text: &str, schema: &SchemaRef) -> Result<(DataType, Vec<String>), String> {
    let typed = || -> Result<_, DataFusionError> {
        let schema = DFSchema::try_from(schema.clone())?;
        let expression = SessionContext::new().parse_sql_expr(text, &schema)?;
        let reads = expression.column_refs().into_iter().map(|column| column.name.clone()).collect();
        Ok((normalised(&expression.get_type(&schema)?), reads))
    };
    typed().map_err(|error| error.strip_backtrace())
}

/// Whether the parser takes the bare word for a column wherever a file writes one. Which words it does not is not in any one of
/// its lists: some end a list of columns, some begin a literal, some are functions without brackets.
pub fn is_taken_for_a_column(word: &str) -> bool {
    const WRITTEN: usize = 7;
    let text = format!(
        "select a, {word}, {word} = 'a', cast({word} as varchar), f({word}), {word} from t where {word} < a and a < {word}"
    );
    let Ok(statements) = Parser::parse_sql(&GenericDialect {}, &text) else { return false };
    let mut columns = 0;
    let _ = visit_expressions(&statements, |expr| {
        columns += usize::from(matches!(expr, Expr::Identifier(name) if name.value == word));
        ControlFlow::<()>::Continue(())
    });
    columns == WRITTEN
}
