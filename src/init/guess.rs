//! Which column is what, by name and type.

use chrono::DateTime;

use super::ask::Asker;
use crate::artifacts::RunDate;
use crate::config::ColumnType;
use crate::error::{Error, Result, did_you_mean};
use crate::warehouse::{ColumnSeen, Inspected};

/// What a column is to the built-in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    UserId,
    ItemId,
    EventTime,
    Clicked,
    Score,
}

/// A column that the built-in SQL reads, and how it is made.
#[derive(Debug, Clone)]
pub struct Mapped {
    pub role: Role,
    /// The column of the file; `None` where it is made of something else.
    pub column: Option<String>,
    pub expression: String,
    /// Type of the expression.
    pub becomes: ColumnType,
    /// What was assumed, for people.
    pub note: String,
    /// The newest day among the rows looked at, of a time.
    pub newest: Option<RunDate>,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::UserId => "user_id",
            Role::ItemId => "item_id",
            Role::EventTime => "event_time",
            Role::Clicked => "clicked",
            Role::Score => "score",
        }
    }

    /// Names that such columns have, the surest first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Role::UserId => &[
                "user_id",
                "userid",
                "uid",
                "user",
                "member_id",
                "customer_id",
                "client_id",
                "visitor_id",
                "account_id",
                "viewer_id",
                "profile_id",
                "buyer_id",
                "reader_id",
                "listener_id",
                "person_id",
                "cookie_id",
                "device_id",
                "session_id",
            ],
            Role::ItemId => &[
                "item_id",
                "itemid",
                "iid",
                "item",
                "product_id",
                "sku",
                "video_id",
                "article_id",
                "content_id",
                "document_id",
                "doc_id",
                "movie_id",
                "song_id",
                "track_id",
                "news_id",
                "post_id",
                "listing_id",
                "photo_id",
                "note_id",
                "book_id",
                "game_id",
                "offer_id",
                "business_id",
                "asin",
                "ad_id",
                "creative_id",
                "object_id",
                "product",
                "id",
            ],
            Role::EventTime => &[
                "event_time",
                "event_timestamp",
                "event_ts",
                "timestamp",
                "ts",
                "time",
                "ts_ms",
                "time_ms",
                "timestamp_ms",
                "unix_time",
                "datetime",
                "impression_time",
                "shown_at",
                "served_at",
                "occurred_at",
                "logged_at",
                "created_at",
                "date",
            ],
            Role::Clicked => &[
                "clicked",
                "is_clicked",
                "is_click",
                "click",
                "clicks",
                "label",
                "target",
                "engaged",
                "liked",
                "is_like",
                "purchased",
                "bought",
                "interacted",
                "event",
                "event_type",
                "action",
                "rating",
            ],
            Role::Score => &[
                "score",
                "ranker_score",
                "rank_score",
                "prediction",
                "pred",
                "p_click",
                "pctr",
                "ctr",
                "probability",
                "logit",
            ],
        }
    }

    /// How a column of the file becomes one of this role, or why it cannot.
    fn made_of(self, column: &ColumnSeen) -> Result<Mapped, String> {
        use ColumnType::*;
        let name = quoted(&column.name);
        let made = |expression: String, becomes, note: &str| Mapped {
            role: self,
            column: Some(column.name.clone()),
            expression,
            becomes,
            note: note.to_string(),
            newest: None,
        };
        match (self, column.column_type) {
            (Role::UserId | Role::ItemId, Some(kind @ (Bigint | Varchar))) => Ok(made(name, kind, "")),
            (Role::EventTime, Some(Timestamp)) => Ok(Mapped { newest: newest(column), ..made(name, Timestamp, "") }),
            (Role::EventTime, Some(Date)) => {
                let note = "a date alone, so all events of a day are at one moment";
                Ok(Mapped { newest: newest(column), ..made(format!("cast({name} as timestamp)"), Timestamp, note) })
            }
            (Role::EventTime, Some(Varchar)) if column.timed > 0 && column.timed * 2 > column.values => {
                let made = made(format!("cast({name} as timestamp)"), Timestamp, "text, read as a time");
                Ok(Mapped { newest: newest(column), ..made })
            }
            (Role::EventTime, Some(Bigint)) => {
                let (unit, per_second) = epoch(column).ok_or("its values are no time since 1970")?;
                let newest = column.max.and_then(|max| DateTime::from_timestamp((max / per_second) as i64, 0));
                let note = format!("read as {unit} since 1970");
                let made = made(format!("to_timestamp_{unit}({name})"), Timestamp, &note);
                Ok(Mapped { newest: newest.map(|time| RunDate(time.date_naive())), ..made })
            }
            (Role::Clicked, Some(Boolean)) => Ok(made(name, Boolean, "")),
            (Role::Clicked, Some(Bigint | Double)) => {
                let (min, max) = (column.min.unwrap_or(0.0), column.max.unwrap_or(0.0));
                match (min >= 0.0, max) {
                    (true, 0.0..=1.0) => Ok(made(format!("{name} = 1"), Boolean, "1 is taken for a click")),
                    (true, max) if column.name.to_lowercase().contains("rating") => {
                        let least = (max * 0.8).ceil();
                        let note = format!("a rating of at least {least} is taken for a click");
                        Ok(made(format!("{name} >= {least}"), Boolean, &note))
                    }
                    (true, _) => Ok(made(format!("{name} > 0"), Boolean, "more than 0 is taken for a click")),
                    (false, _) => Err("it has values below 0".into()),
                }
            }
            (Role::Clicked, Some(Varchar)) => {
                let likes = ["click", "clicked", "purchase", "buy", "like", "play", "true", "yes"];
                let value = likes.iter().find_map(|like| {
                    let examples = column.examples.iter();
                    let mut same = examples.filter(|value| value.to_lowercase() == *like);
                    same.next()
                });
                let value = value.ok_or("none of its values is `click`, `purchase` or `like`")?;
                let text = format!("'{}'", value.replace('\'', "''"));
                Ok(made(format!("{name} = {text}"), Boolean, &format!("{text} is taken for a click")))
            }
            (Role::Score, Some(Bigint | Double)) => Ok(made(name, Double, "")),
            _ => Err(format!("it is {}, expected {}", column.type_name, self.expected())),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Role::UserId | Role::ItemId => "bigint or varchar",
            Role::EventTime => "timestamp, or a number of seconds or milliseconds since 1970",
            Role::Clicked => "boolean, 0 and 1, or a text like `click`",
            Role::Score => "a number",
        }
    }
}

/// Finds the column of each role: as `given`, by name and type, or by asking.
pub fn map(
    table: &str,
    roles: &[Role],
    seen: &Inspected,
    given: Vec<(Role, String)>,
    asker: &mut Asker,
) -> Result<Vec<Mapped>> {
    let mut mapped: Vec<Mapped> = Vec::new();
    for role in roles {
        if let Some((_, text)) = given.iter().rev().find(|(wanted, _)| wanted == role) {
            mapped.push(as_given(table, *role, text, seen)?);
            continue;
        }
        let taken: Vec<&str> = mapped.iter().filter_map(|mapped| mapped.column.as_deref()).collect();
        let guessed = guess(*role, seen, &taken).or_else(|| without(table, *role, seen));
        let chosen = match guessed {
            Some(guessed) if asker.is_on() && guessed.column.is_some() => {
                let name = guessed.column.clone().unwrap_or_default();
                let answer = asker.ask(&format!("{table}: {} is", role.name()), &name)?;
                if answer == name { guessed } else { as_given(table, *role, &answer, seen)? }
            }
            Some(guessed) => guessed,
            None if asker.is_on() => {
                let columns = names(seen).join(", ");
                let question = format!("{table}: which column is {} ({columns})", role.name());
                as_given(table, *role, &asker.need(&question)?, seen)?
            }
            None => return Err(not_found(table, *role, seen)),
        };
        mapped.push(chosen);
    }
    Ok(mapped)
}

/// The surest column for a role.
fn guess(role: Role, seen: &Inspected, taken: &[&str]) -> Option<Mapped> {
    let mut found: Vec<(usize, &ColumnSeen, Mapped)> = Vec::new();
    for column in seen.columns.iter().filter(|column| !taken.contains(&column.name.as_str())) {
        let plain = snake_case(&column.name);
        let exact = role.names().iter().position(|name| *name == plain);
        let within = || {
            let part = role.names().iter().position(|name| name.len() > 3 && plain.ends_with(&format!("_{name}")));
            part.map(|at| at + 100)
        };
        if let (Some(order), Ok(made)) = (exact.or_else(within), role.made_of(column)) {
            found.push((order, column, made));
        }
    }
    found.into_iter().min_by_key(|(order, ..)| *order).map(|(.., made)| made)
}

/// What stands in where a table has no column of a role.
fn without(table: &str, role: Role, seen: &Inspected) -> Option<Mapped> {
    let made = |expression: String, becomes, note: &str| Mapped {
        role,
        column: None,
        expression,
        becomes,
        note: note.into(),
        newest: None,
    };
    match role {
        Role::EventTime => {
            let key = &seen.partitions.as_ref()?.key;
            let note = "no column of times: the day of the partition, so all events of a day are at one moment";
            Some(made(format!("cast({} as timestamp)", quoted(key)), ColumnType::Timestamp, note))
        }
        // a log of what was liked has no column that says so
        Role::Clicked if table == "impressions" => {
            Some(made("true".into(), ColumnType::Boolean, "no column says so: every row is taken for a click"))
        }
        _ => None,
    }
}

/// A column by its name, or an expression where one can be.
fn as_given(table: &str, role: Role, text: &str, seen: &Inspected) -> Result<Mapped> {
    if let Some(column) = seen.columns.iter().find(|column| column.name == text) {
        return role
            .made_of(column)
            .map_err(|why| Error::usage(format!("{table}: `{text}` cannot be {}: {why}", role.name())));
    }
    let becomes = match role {
        Role::EventTime => ColumnType::Timestamp,
        Role::Clicked => ColumnType::Boolean,
        _ => {
            let names = names(seen);
            let hint = did_you_mean(text, names.iter().copied());
            return Err(Error::usage(format!(
                "{table}: {} has no column `{text}`{hint}; it has {}",
                seen.path,
                names.join(", ")
            )));
        }
    };
    let is_name = text.chars().all(|c| c.is_alphanumeric() || c == '_') && text != "true";
    if is_name {
        let names = names(seen);
        let hint = did_you_mean(text, names.iter().copied());
        return Err(Error::usage(format!(
            "{table}: {} has no column `{text}`{hint}; it has {}; an expression like \"event = 'click'\" is taken too",
            seen.path,
            names.join(", ")
        )));
    }
    Ok(Mapped { role, column: None, expression: text.into(), becomes, note: "as given".into(), newest: None })
}

fn not_found(table: &str, role: Role, seen: &Inspected) -> Error {
    let columns = seen.columns.iter().map(|column| format!("{} ({})", column.name, column.type_name));
    let setting = if table == "impressions" { role.name().to_string() } else { format!("{table}.{}", role.name()) };
    Error::usage(format!(
        "{table}: no column of {} looks like {} ({}); say which with --map {setting}=COLUMN; it has {}",
        seen.path,
        role.name(),
        role.expected(),
        columns.collect::<Vec<_>>().join(", ")
    ))
}

fn names(seen: &Inspected) -> Vec<&str> {
    seen.columns.iter().map(|column| column.name.as_str()).collect()
}

/// The unit of a time since 1970, if the values are of this century.
pub fn epoch(column: &ColumnSeen) -> Option<(&'static str, f64)> {
    // 2001-09-09 to 2100 in seconds
    let fits = |per_second: f64| {
        let is_time = |value: f64| (1e9..4.2e9).contains(&(value / per_second));
        column.min.is_some_and(is_time) && column.max.is_some_and(is_time)
    };
    [("seconds", 1.0), ("millis", 1e3), ("micros", 1e6), ("nanos", 1e9)].into_iter().find(|(_, unit)| fits(*unit))
}

fn newest(column: &ColumnSeen) -> Option<RunDate> {
    column.last.as_ref()?.get(..10)?.parse().ok()
}

/// A name as SQL writes it.
pub fn quoted(name: &str) -> String {
    let reserved = [
        "all",
        "and",
        "as",
        "by",
        "case",
        "cast",
        "cross",
        "date",
        "desc",
        "distinct",
        "else",
        "end",
        "except",
        "false",
        "from",
        "full",
        "group",
        "having",
        "in",
        "inner",
        "interval",
        "is",
        "join",
        "left",
        "like",
        "limit",
        "not",
        "null",
        "on",
        "or",
        "order",
        "outer",
        "right",
        "select",
        "table",
        "then",
        "time",
        "timestamp",
        "true",
        "union",
        "user",
        "using",
        "when",
        "where",
        "with",
    ];
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !reserved.contains(&name);
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// `userId` and `User ID` as `user_id`.
pub fn snake_case(name: &str) -> String {
    let mut plain = String::new();
    let mut before = ' ';
    for letter in name.chars() {
        if letter.is_uppercase() && before.is_lowercase() {
            plain.push('_');
        }
        if letter.is_alphanumeric() {
            plain.extend(letter.to_lowercase());
        } else if !plain.ends_with('_') && !plain.is_empty() {
            plain.push('_');
        }
        before = letter;
    }
    plain.trim_end_matches('_').to_string()
}
