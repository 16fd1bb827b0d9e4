//! Places in a SQL file: every error about one begins with `file:line:column`.

use datafusion::common::Span as EngineSpan;
use datafusion::sql::sqlparser::tokenizer::Span;

use crate::error::Error;

/// A line and a column, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

impl Place {
    pub fn of(span: Span) -> Option<Place> {
        (span.start.line > 0).then_some(Place { line: span.start.line, column: span.start.column })
    }

    pub fn of_engine(span: Option<EngineSpan>) -> Option<Place> {
        span.filter(|span| span.start.line > 0).map(|span| Place { line: span.start.line, column: span.start.column })
    }

    /// The place at the end of a parser's message, and the message without it.
    pub fn split_off(message: &str) -> (String, Option<Place>) {
        let Some((text, at)) = message.rsplit_once(" at Line: ") else { return (message.to_string(), None) };
        let numbers = at.split_once(", Column: ").and_then(|(line, column)| {
            let digits = |s: &str| s.trim().chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok();
            Some(Place { line: digits(line)?, column: digits(column)? })
        });
        (text.to_string(), numbers)
    }
}

/// An error about a place in a SQL file.
pub fn error_at(file: &str, place: Option<Place>, message: impl AsRef<str>) -> Error {
    let place = place.unwrap_or(Place { line: 1, column: 1 });
    Error::config(format!("{file}:{}:{}: {}", place.line, place.column, message.as_ref()))
}
