//! How a column of the files becomes what the built-in SQL reads, or why it cannot.

use chrono::DateTime;

use super::guess::{Mapped, Role};
use super::names::quoted;
use crate::artifacts::RunDate;
use crate::config::ColumnType;
use crate::error::cut;
use crate::warehouse::{ColumnSeen, EPOCH_SECONDS, EPOCHS};

/// Texts that mean a click among others that do not, the surest first.
const LIKES: [&str; 8] = ["click", "clicked", "purchase", "buy", "like", "play", "true", "yes"];
/// Flags as texts: the one for a click, and the other.
const FLAGS: [(&str, &str); 6] = [("1", "0"), ("1", "-1"), ("y", "n"), ("yes", "no"), ("t", "f"), ("true", "false")];
/// Values that an error shows, and letters of each.
const SHOWN: usize = 5;
const SHOWN_LETTERS: usize = 30;

impl Role {
    /// How a column of the file becomes one of this role, or why it cannot.
    pub fn made_of(self, column: &ColumnSeen) -> Result<Mapped, String> {
        use ColumnType::*;
        let name = quoted(&column.name);
        let made = |expression: String, becomes, note: &str| Mapped {
            column: Some(column.name.clone()),
            note: note.to_string(),
            ..Mapped::new(self, expression, becomes)
        };
        match (self, column.column_type) {
            (Role::UserId | Role::ItemId, Some(kind @ (Bigint | Varchar))) => Ok(made(name, kind, "")),
            (Role::EventTime, Some(Timestamp)) => Ok(Mapped { newest: newest(column), ..made(name, Timestamp, "") }),
            (Role::EventTime, Some(Date)) => {
                let note = "a date alone, so all events of a day are at one moment";
                Ok(Mapped { newest: newest(column), ..made(format!("cast({name} as timestamp)"), Timestamp, note) })
            }
            (Role::EventTime, Some(Varchar)) if is_nearly_all(column.timed, column.values) => {
                let is_day = column.examples.iter().all(|text| text.len() == "2026-11-20".len());
                let note = match is_day {
                    true => "text, read as a date alone, so all events of a day are at one moment",
                    false => "text, read as a time",
                };
                let made =
                    Mapped { newest: newest(column), ..made(format!("cast({name} as timestamp)"), Timestamp, note) };
                Ok(match column.values - column.timed {
                    0 => made,
                    lost => {
                        let expression = format!("try_cast({name} as timestamp)");
                        let filter = Some(format!("{expression} is not null"));
                        Mapped { expression, filter, note: without_some(note, lost, column), ..made }
                    }
                })
            }
            (Role::EventTime, Some(Bigint | Double | Varchar)) => {
                let (expression, filter, note, newest) = since_1970(column)?;
                Ok(Mapped { filter, newest, ..made(expression, Timestamp, &note) })
            }
            (Role::Clicked, Some(Boolean)) => Ok(made(name, Boolean, "")),
            (Role::Clicked, Some(Bigint | Double)) => {
                if column.numbers == 0 && column.values > 0 {
                    return Err("none of its values is a number".into());
                }
                let (min, max) = (column.min.unwrap_or(0.0), column.max.unwrap_or(0.0));
                match (min >= 0.0, max) {
                    (true, 0.0..=1.0) => Ok(made(format!("{name} = 1"), Boolean, "1 is taken for a click")),
                    (true, max) if column.name.to_lowercase().contains("rating") => {
                        let least = (max * 0.8).ceil();
                        let note = format!("a rating of at least {least} is taken for a click");
                        Ok(made(format!("{name} >= {least}"), Boolean, &note))
                    }
                    (true, _) => Ok(made(format!("{name} > 0"), Boolean, "more than 0 is taken for a click")),
                    // 1 and -1, perhaps with a 0 for neither
                    (false, -1.0..=1.0) if min == -1.0 && column.distinct <= 3 => {
                        Ok(made(format!("{name} = 1"), Boolean, "1 is taken for a click"))
                    }
                    (false, _) => Err(format!("it has values below 0, like {}", shown(column))),
                }
            }
            (Role::Clicked, Some(Varchar)) => {
                let (expression, note) = clicks_of_texts(column)?;
                Ok(made(expression, Boolean, &note))
            }
            (Role::Score, Some(Bigint | Double)) => Ok(made(name, Double, "")),
            _ => Err(format!("it is {}, expected {}", column.type_name, self.expected())),
        }
    }

    /// Whether a column that nothing can be made of may still be what its name says. A name that is one of the role's own always
    /// does; one that only ends like it, such as `watch_time`, where its values look the part.
    pub fn may_be_meant(self, exact: bool, column: &ColumnSeen) -> bool {
        use ColumnType::*;
        let has_digits = |text: &String| text.bytes().any(|byte| byte.is_ascii_digit());
        let epochs = column.epochs.iter().map(|epoch| epoch.values).max().unwrap_or(0);
        match (self, column.column_type) {
            _ if exact => true,
            _ if column.values == 0 => false,
            (Role::EventTime, Some(Varchar)) => column.examples.iter().all(has_digits),
            (Role::EventTime, _) => epochs * 2 > column.values,
            (Role::Clicked, Some(Varchar)) => column.is_listed_whole(),
            (Role::Clicked, kind) => matches!(kind, Some(Bigint | Double)),
            _ => true,
        }
    }

    pub fn expected(self) -> &'static str {
        match self {
            Role::UserId | Role::ItemId => "bigint or varchar",
            Role::EventTime => "timestamp, or a number of seconds or milliseconds since 1970",
            Role::Clicked => "boolean, 0 and 1, or a text like `click`",
            Role::Score => "a number",
        }
    }

    /// An expression over `column` that may say what a guess cannot.
    pub fn example(self, column: &ColumnSeen) -> String {
        use ColumnType::*;
        let name = quoted(&column.name);
        match (self, column.column_type) {
            (Role::EventTime, Some(Varchar)) => format!("to_timestamp({name}, '%d/%m/%Y %H:%M:%S')"),
            (Role::EventTime, _) if is_days(column) => format!("to_timestamp(cast({name} as varchar), '%Y%m%d')"),
            (Role::EventTime, Some(Bigint | Double)) => format!("to_timestamp_seconds(cast({name} as bigint))"),
            (Role::EventTime, _) => format!("cast({name} as timestamp)"),
            (Role::Clicked, Some(Varchar)) => format!("{name} = 'VALUE'"),
            (Role::Clicked, Some(Bigint | Double)) => format!("{name} > 0"),
            (Role::Clicked, _) => format!("{name} is not null"),
            (_, None) if column.type_name.starts_with("Struct") => format!("{}.FIELD", column.name),
            (_, None) if column.type_name.contains("Binary") => format!("encode({name}, 'hex')"),
            (Role::UserId | Role::ItemId, _) if column.type_name.starts_with("Decimal") => {
                format!("cast({name} as bigint)")
            }
            // a NaN is no integer
            (Role::UserId | Role::ItemId, Some(Double)) => format!("try_cast({name} as bigint)"),
            (Role::UserId | Role::ItemId, _) => format!("cast({name} as varchar)"),
            (Role::Score, _) => format!("cast({name} as double)"),
        }
    }
}

/// The unit of a time since 1970, where nearly all of the numbers are of this century: its place in [`EPOCHS`].
pub fn epoch(column: &ColumnSeen) -> Option<usize> {
    column.epochs.iter().position(|epoch| is_nearly_all(epoch.values, column.values))
}

/// Some rows of a log are always odd, and they must not decide for the others.
fn is_nearly_all(these: usize, all: usize) -> bool {
    these > 0 && these * 20 >= all * 19
}

/// Days as integers, like 20261120.
fn is_days(column: &ColumnSeen) -> bool {
    let is_day = |number: f64| (19_700_101.0..=21_001_231.0).contains(&number);
    column.column_type == Some(ColumnType::Bigint) && column.min.is_some_and(is_day) && column.max.is_some_and(is_day)
}

type Time = (String, Option<String>, String, Option<RunDate>);

/// Expression, filter, note and newest day of a number since 1970, which a text may hold too.
fn since_1970(column: &ColumnSeen) -> Result<Time, String> {
    let at = epoch(column).ok_or_else(|| match column.column_type {
        Some(ColumnType::Varchar) => format!(
            "its texts are neither times like 2026-11-20T10:00:00 nor numbers of seconds since 1970; it has {}",
            shown(column)
        ),
        _ => format!("its values are no time since 1970; it has {}", shown(column)),
    })?;
    let ((unit, per_second), found) = (EPOCHS[at], column.epochs[at]);
    let name = quoted(&column.name);
    let is_text = column.column_type == Some(ColumnType::Varchar);
    let is_whole = column.column_type == Some(ColumnType::Bigint) || is_text && column.whole == column.numbers;
    let number = match (is_text, is_whole) {
        (false, _) => name,
        (true, whole) => {
            let cast = if column.numbers == column.values { "cast" } else { "try_cast" };
            format!("{cast}({name} as {})", if whole { "bigint" } else { "double" })
        }
    };
    let expression = match (is_whole, unit) {
        (true, _) => format!("to_timestamp_{unit}({number})"),
        // the parts of a second are kept
        (false, "seconds") => format!("to_timestamp_micros(cast({number} * 1000000 as bigint))"),
        (false, _) => format!("to_timestamp_{unit}(cast({number} as bigint))"),
    };
    let newest = DateTime::from_timestamp((found.latest / per_second) as i64, 0);
    let newest = newest.map(|time| RunDate(time.date_naive()));
    let note = format!("{}read as {unit} since 1970", if is_text { "text, " } else { "" });
    Ok(match column.values - found.values {
        0 => (expression, None, note, newest),
        lost => {
            let (first, last) = (EPOCH_SECONDS.start * per_second, EPOCH_SECONDS.end * per_second - 1.0);
            let filter = format!("{number} between {first:.0} and {last:.0}");
            (expression, Some(filter), without_some(&note, lost, column), newest)
        }
    })
}

fn without_some(note: &str, lost: usize, column: &ColumnSeen) -> String {
    format!("{note}; {lost} of {} values are no time, and rows like these are left out", column.values)
}

/// Expression and note of texts that say what was clicked.
fn clicks_of_texts(column: &ColumnSeen) -> Result<(String, String), String> {
    let name = quoted(&column.name);
    let small: Vec<String> = column.examples.iter().map(|text| text.to_lowercase()).collect();
    // a flag may be all that was seen of its pair
    let is_flag = |(yes, no): &&(&str, &str)| !small.is_empty() && small.iter().all(|text| text == yes || text == no);
    let flag = FLAGS.iter().find(is_flag).filter(|_| column.is_listed_whole()).map(|(yes, _)| *yes);
    let like = || LIKES.into_iter().find(|like| small.iter().any(|text| text == like));
    let word = flag.or_else(like).ok_or_else(|| {
        format!(
            "none of its values is `click`, `purchase` or `like`, nor are they 0 and 1 or no and yes; it has {}",
            shown(column)
        )
    })?;
    let mut spelled = column.examples.iter().filter(|text| text.to_lowercase() == word);
    let has_letters = word.bytes().any(|byte| byte.is_ascii_alphabetic());
    Ok(match (spelled.next(), spelled.next()) {
        (Some(one), None) => (format!("{name} = '{one}'"), format!("'{one}' is taken for a click")),
        _ if has_letters => (format!("lower({name}) = '{word}'"), format!("'{word}' is taken for a click")),
        _ => (format!("{name} = '{word}'"), format!("'{word}' is taken for a click")),
    })
}

/// Some of the values, for people.
fn shown(column: &ColumnSeen) -> String {
    let some = column.examples.iter().take(SHOWN).map(|text| format!("`{}`", cut(text, SHOWN_LETTERS)));
    let some: Vec<String> = some.collect();
    let more = match column.distinct - some.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    if some.is_empty() { "no value".into() } else { some.join(", ") + &more }
}

fn newest(column: &ColumnSeen) -> Option<RunDate> {
    column.last.as_ref()?.get(..10)?.parse().ok()
}
