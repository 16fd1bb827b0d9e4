//! Which column is what, by name and type.

use super::ask::Asker;
use super::given::as_given;
use super::names::{quoted, snake_case};
use crate::artifacts::RunDate;
use crate::config::ColumnType;
use crate::error::{Error, Result};
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
    /// Further columns that the expression reads, where that is known.
    pub reads: Vec<String>,
    pub expression: String,
    /// The condition that a row must meet so that the expression can be made.
    pub filter: Option<String>,
    /// Type of the expression.
    pub becomes: ColumnType,
    /// What was assumed, for people.
    pub note: String,
    /// The newest day among the rows looked at, of a time.
    pub newest: Option<RunDate>,
}

impl Mapped {
    /// An expression of no one column.
    pub fn new(role: Role, expression: impl Into<String>, becomes: ColumnType) -> Self {
        Mapped {
            role,
            column: None,
            reads: Vec::new(),
            expression: expression.into(),
            filter: None,
            becomes,
            note: String::new(),
            newest: None,
        }
    }

    /// Whether `column` is made into this, and so is nothing else.
    pub fn takes(&self, column: &str) -> bool {
        self.column.as_deref() == Some(column) || self.reads.iter().any(|read| read == column)
    }
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
}

/// A column whose name says that it is what is looked for, and why nothing can be made of it.
struct Unread<'a> {
    column: &'a ColumnSeen,
    why: String,
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
        let (guessed, mut unread) = guess(*role, seen, &mapped);
        // nothing stands in for a column that is there: what it says would be lost without a word
        let guessed = match guessed {
            None if unread.is_empty() => without(table, *role, seen, &mut unread),
            guessed => guessed,
        };
        let chosen = match guessed {
            Some(guessed) if asker.is_on() && guessed.column.is_some() => {
                let name = guessed.column.clone().unwrap_or_default();
                let answer = asker.ask(&format!("{table}: {} is", role.name()), &name)?;
                if answer == name { guessed } else { as_given(table, *role, &answer, seen)? }
            }
            Some(guessed) => guessed,
            None if asker.is_on() => {
                let unread = unread.iter().map(|unread| format!("; `{}` is not: {}", unread.column.name, unread.why));
                let (columns, unread) = (names(seen).join(", "), unread.collect::<String>());
                let question = format!("{table}: which column is {} ({columns}{unread})", role.name());
                as_given(table, *role, &asker.need(&question)?, seen)?
            }
            None => return Err(not_found(table, *role, seen, &unread)),
        };
        mapped.push(chosen);
    }
    Ok(mapped)
}

/// The surest column for a role, and those that are it by their names but cannot be read. One that would have been surer is told of in the
/// note of the one that is taken.
fn guess<'a>(role: Role, seen: &'a Inspected, mapped: &[Mapped]) -> (Option<Mapped>, Vec<Unread<'a>>) {
    let (mut found, mut unread) = (Vec::new(), Vec::new());
    for column in seen.columns.iter().filter(|column| !mapped.iter().any(|mapped| mapped.takes(&column.name))) {
        let plain = snake_case(&column.name);
        let exact = role.names().iter().position(|name| *name == plain);
        let within = || {
            let part = role.names().iter().position(|name| name.len() > 3 && plain.ends_with(&format!("_{name}")));
            part.map(|at| at + 100)
        };
        let Some(order) = exact.or_else(within) else { continue };
        match role.made_of(column) {
            Ok(made) => found.push((order, made)),
            Err(why) if role.may_be_meant(exact.is_some(), column) => unread.push((order, Unread { column, why })),
            Err(_) => {}
        }
    }
    unread.sort_by_key(|(order, _)| *order);
    let best = found.into_iter().min_by_key(|(order, _)| *order).map(|(order, mut made)| {
        for (_, passed) in unread.iter().take_while(|(surer, _)| *surer < order) {
            let before = if made.note.is_empty() { "" } else { "; " };
            made.note += &format!("{before}`{}` is passed over: {}", passed.column.name, passed.why);
        }
        made
    });
    (best, unread.into_iter().map(|(_, unread)| unread).collect())
}

/// What stands in where a table has no column of a role.
fn without<'a>(table: &str, role: Role, seen: &'a Inspected, unread: &mut Vec<Unread<'a>>) -> Option<Mapped> {
    let made = |expression: String, becomes, note: &str| Mapped {
        note: note.into(),
        ..Mapped::new(role, expression, becomes)
    };
    match role {
        Role::EventTime => {
            let key = &seen.partitions.as_ref()?.key;
            let note = "no column of times: the day of the partition, so all events of a day are at one moment";
            // the files have it too, and as what they say: 20261120 is no time
            if let Some(column) = seen.columns.iter().find(|column| column.name == *key) {
                return match role.made_of(column) {
                    Ok(made) => Some(Mapped { note: note.into(), ..made }),
                    Err(why) => {
                        unread.push(Unread { column, why });
                        None
                    }
                };
            }
            Some(made(format!("cast({} as timestamp)", quoted(key)), ColumnType::Timestamp, note))
        }
        // a log of what was liked has no column that says so
        Role::Clicked if table == "impressions" => {
            Some(made("true".into(), ColumnType::Boolean, "no column says so: every row is taken for a click"))
        }
        _ => None,
    }
}

/// The key of `--map` for a role.
fn setting(table: &str, role: Role) -> String {
    if table == "impressions" { role.name().to_string() } else { format!("{table}.{}", role.name()) }
}

/// A `--map` with an expression, as a shell takes it.
pub fn flag(table: &str, role: Role, expression: &str) -> String {
    format!("--map \"{}={}\"", setting(table, role), expression.replace('"', "\\\""))
}

fn not_found(table: &str, role: Role, seen: &Inspected, unread: &[Unread]) -> Error {
    let (name, setting) = (role.name(), setting(table, role));
    if let Some(first) = unread.first() {
        let whys =
            unread.iter().map(|unread| format!("column `{}` is not understood: {}", unread.column.name, unread.why));
        let whole = match role {
            Role::Clicked => format!(", or --map {setting}=true where every row is a click"),
            _ => String::new(),
        };
        return Error::usage(format!(
            "{table}: {name} of {}: {}; say what it is with --map {setting}=…, a column or an expression like {}{whole}",
            seen.path,
            whys.collect::<Vec<_>>().join("; "),
            flag(table, role, &role.example(first.column))
        ));
    }
    let columns = seen.columns.iter().map(|column| format!("{} ({})", column.name, column.type_name));
    Error::usage(format!(
        "{table}: no column of {} looks like {name} ({}); say which with --map {setting}=COLUMN; it has {}",
        seen.path,
        role.expected(),
        columns.collect::<Vec<_>>().join(", ")
    ))
}

pub fn names(seen: &Inspected) -> Vec<&str> {
    seen.columns.iter().map(|column| column.name.as_str()).collect()
}
