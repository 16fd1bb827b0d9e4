//! What a person says of a role: a column by its name, or an expression of SQL.

use super::guess::{Mapped, Role, flag, names};
use super::names::quoted;
use crate::config::ColumnType;
use crate::error::{Error, Result, did_you_mean};
use crate::warehouse::{Inspected, column_type, declared, sql_name, type_of_expression};

/// A column by its name, or an expression.
pub fn as_given(table: &str, role: Role, text: &str, seen: &Inspected) -> Result<Mapped> {
    if let Some(column) = seen.columns.iter().find(|column| column.name == text) {
        return role.made_of(column).map_err(|why| {
            Error::usage(format!(
                "{table}: `{text}` cannot be {}: {why}; an expression is taken too, like {}",
                role.name(),
                flag(table, role, &role.example(column))
            ))
        });
    }
    let is_name = text.chars().all(|c| c.is_alphanumeric() || c == '_') && text != "true";
    if is_name {
        let names = names(seen);
        let hint = did_you_mean(text, names.iter().copied());
        let example = match role {
            Role::Clicked => "event = 'click'",
            Role::EventTime => "to_timestamp_seconds(ts)",
            _ => "cast(id as bigint)",
        };
        return Err(Error::usage(format!(
            "{table}: {} has no column `{text}`{hint}; it has {}; an expression like \"{example}\" is taken too",
            seen.path,
            names.join(", ")
        )));
    }
    let made =
        |expression: String, becomes| Mapped { note: "as given".into(), ..Mapped::new(role, expression, becomes) };
    match role {
        Role::EventTime => Ok(made(text.into(), ColumnType::Timestamp)),
        Role::Clicked => Ok(made(text.into(), ColumnType::Boolean)),
        Role::Score => Ok(made(text.into(), ColumnType::Double)),
        // ids are compared between tables, so that their type has to be known
        Role::UserId | Role::ItemId => {
            let text = field_of(text, seen).unwrap_or_else(|| text.to_string());
            let (found, reads) = type_of_expression(&text, &seen.schema).map_err(|why| {
                let names = names(seen).join(", ");
                Error::usage(format!(
                    "{table}: `{text}` is neither a column of {} nor an expression over them; it has {names}",
                    seen.path
                ))
                .caused_by(why)
            })?;
            match column_type(&found) {
                Some(kind @ (ColumnType::Bigint | ColumnType::Varchar)) => Ok(Mapped { reads, ..made(text, kind) }),
                _ => Err(Error::usage(format!(
                    "{table}: `{text}` cannot be {}: it is {}, expected {}; cast it, like {}",
                    role.name(),
                    column_type(&found).map_or_else(|| sql_name(&found), |kind| sql_name(&declared(kind))),
                    role.expected(),
                    flag(table, role, &format!("cast({text} as bigint)"))
                ))),
            }
        }
    }
}

/// `user.id` as SQL writes a field of a column.
fn field_of(text: &str, seen: &Inspected) -> Option<String> {
    let mut parts = text.split('.');
    let column = seen.schema.field_with_name(parts.next()?).ok()?;
    let fields: Vec<&str> = parts.collect();
    let is_name = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    if fields.is_empty() || !fields.iter().all(is_name) || !column.data_type().is_nested() {
        return None;
    }
    Some(quoted(column.name()) + &fields.iter().map(|field| format!("['{field}']")).collect::<String>())
}
