//! One file, one SELECT: parsing, and the rules that need nothing but the text.

use datafusion::sql::sqlparser::ast::{Query, Statement};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::ast::{References, references};
use super::place::{Place, error_at};
use crate::error::Result;

/// A parsed SQL file.
#[derive(Debug, Clone)]
pub struct SqlFile {
    /// Name of its table or audit.
    pub name: String,
    /// The file as errors name it.
    pub shown: String,
    pub text: String,
    pub built_in: bool,
    pub query: Query,
    pub references: References,
    /// Where the statement begins, after comments.
    pub start: Place,
    /// The column with a history that an audit looks at.
    pub history: Option<String>,
}

/// Parses `text` and refuses everything that is not one SELECT over plain table names.
pub fn parse(name: &str, shown: &str, text: String, built_in: bool) -> Result<SqlFile> {
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, &text).tokenize_with_location().map_err(|error| {
        let (message, place) = Place::split_off(&error.to_string());
        error_at(shown, place.or(Place::of_tokenizer(error.location)), message)
    })?;
    let code: Vec<&TokenWithSpan> = tokens.iter().filter(|token| !is_blank(&token.token)).collect();
    let Some(first) = code.first() else {
        return Err(error_at(shown, None, "the file holds no statement; expected one SELECT"));
    };
    let start = Place::of(first.span).unwrap_or(Place { line: 1, column: 1 });
    let word = first.token.to_string().to_lowercase();
    if !matches!(word.as_str(), "select" | "with" | "(") {
        return Err(error_at(
            shown,
            Some(start),
            format!(
                "found `{word}`, expected one SELECT: a file may only read; the table it makes is written by the job"
            ),
        ));
    }
    if let Some(end) = code.iter().position(|token| token.token == Token::SemiColon)
        && let Some(more) = code.get(end + 1)
    {
        return Err(error_at(
            shown,
            Place::of(more.span),
            "a second statement begins here, expected one SELECT a file",
        ));
    }
    let mut statements = Parser::parse_sql(&dialect, &text).map_err(|error| {
        let message = error.to_string();
        let message = message.trim_start_matches("sql parser error: ");
        let (message, place) = Place::split_off(message);
        error_at(shown, place.or(code.last().and_then(|token| Place::of(token.span))), lower_first(&message))
    })?;
    let Some(Statement::Query(query)) = statements.pop() else {
        return Err(error_at(shown, Some(start), "expected one SELECT"));
    };
    let references = references(shown, &text, &query)?;
    Ok(SqlFile {
        name: name.into(),
        shown: shown.into(),
        text,
        built_in,
        query: *query,
        references,
        start,
        history: None,
    })
}

impl Place {
    fn of_tokenizer(location: datafusion::sql::sqlparser::tokenizer::Location) -> Option<Place> {
        (location.line > 0).then_some(Place { line: location.line, column: location.column })
    }
}

/// Comments, spaces and the end.
fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::EOF)
}

pub fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().collect::<String>() + letters.as_str())
}
