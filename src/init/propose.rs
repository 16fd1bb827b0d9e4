//! What the towers might see: a feature for each column of items and users, by type, cardinality and name.

use super::Table;
use super::made::epoch;
use super::names::{quoted, snake_case};
use crate::config::{ColumnType, Format};
use crate::warehouse::ColumnSeen;

/// A feature for a column.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Name of the feature, and of the column it is read from where that differs.
    pub name: String,
    pub output: String,
    /// The column of the file, the type to declare it with, and how the SQL makes the output of it.
    pub column: String,
    pub declared: ColumnType,
    pub expression: String,
    /// Its settings as the config writes them.
    pub settings: String,
    /// What they follow from, for people.
    pub why: String,
}

/// Columns of the sample tables that a user's or item's own column must not be taken for.
const MEANT: [&str; 8] =
    ["user_id", "item_id", "event_time", "sample_id", "weight", "history", "clicked", "features_time"];
/// Parts of names that stand for people rather than tastes.
const PERSONAL: [&str; 6] = ["email", "phone", "password", "address", "birthday", "ip_address"];
/// Up to so many values are few.
const FEW: usize = 20;
/// Below this the largest of a number's values is not far from the others.
const LARGE: f64 = 50.0;
/// A text with more values than this, nearly all of them different, is no category.
const MANY: usize = 1000;

/// Features for the columns of `table`, and the columns that are left out with the reason. `taken` are names of features so far.
pub fn propose(table: &Table, taken: &mut Vec<String>) -> (Vec<Proposal>, Vec<(String, String)>) {
    let (mut proposals, mut left_out): (Vec<Proposal>, Vec<(String, String)>) = (Vec::new(), Vec::new());
    let is_mapped = |column: &ColumnSeen| table.mapped.iter().any(|mapped| mapped.takes(&column.name));
    for (place, column) in table.seen.columns.iter().enumerate().filter(|(_, column)| !is_mapped(column)) {
        let (settings, expression, declared, why) = match settings(column, table.seen.format) {
            Ok(found) => found,
            Err(why) => {
                left_out.push((column.name.clone(), why));
                continue;
            }
        };
        let side = if table.name == "users" { "user" } else { "item" };
        // letters of any script make a name; a name without one is told by its place
        let plain = match snake_case(&column.name) {
            plain if plain.is_empty() => format!("column_{}", place + 1),
            plain if plain.starts_with(|c: char| c.is_ascii_digit()) => format!("{side}_{plain}"),
            plain => plain,
        };
        // `Price` and `PRICE` are two columns, and the SQL must not call both the same
        let is_output = |name: &str| proposals.iter().any(|known| known.output == name);
        let is_free = |name: &String| !MEANT.contains(&name.as_str()) && !is_output(name);
        let output = [plain.clone(), format!("{side}_{plain}")].into_iter().find(is_free);
        let name =
            output.clone().map(|output| if taken.contains(&output) { format!("{side}_{output}") } else { output });
        let (Some(output), Some(name)) = (output, name.filter(|name| !taken.contains(name))) else {
            left_out.push((column.name.clone(), format!("another column is `{plain}` already")));
            continue;
        };
        taken.push(name.clone());
        proposals.push(Proposal { name, output, column: column.name.clone(), declared, expression, settings, why });
    }
    (proposals, left_out)
}

type Found = (String, String, ColumnType, String);

/// Settings, expression, type to declare and reason; or why the column is left out.
fn settings(column: &ColumnSeen, format: Format) -> Result<Found, String> {
    use ColumnType::*;
    let name = column.name.to_lowercase();
    let kind = column.column_type.ok_or_else(|| format!("its type {} is not one of a table", column.type_name))?;
    let is_list = matches!(kind, BigintList | VarcharList | DoubleList);
    match column {
        _ if column.values == 0 => return Err("every value is null".into()),
        _ if column.distinct == 1 && !is_list => return Err(format!("one value only, {}", column.examples[0])),
        _ if PERSONAL.iter().any(|part| name.contains(part)) => {
            return Err("it looks personal; add it by hand if it is meant".into());
        }
        _ => {}
    }
    let plain = |settings: String, why: String| Ok((settings, quoted(&column.name), kind, why));
    let distinct = column.distinct;
    let dim = if distinct <= FEW {
        4
    } else if distinct <= 200 {
        8
    } else {
        16
    };
    match kind {
        Boolean => plain("{kind: boolean}".into(), "a flag".into()),
        Date | Timestamp => Err("a time: turn it into an age, in days for example, in the SQL".into()),
        BigintList | VarcharList => {
            let longest = column.lengths.map_or(1, |(_, longest)| longest).clamp(1, 50);
            let why = format!("lists of up to {} values", column.lengths.map_or(0, |(_, longest)| longest));
            plain(format!("{{kind: ids, dim: 16, max_length: {longest}}}"), why)
        }
        DoubleList if column.gaps > 0 => {
            let why = "lists hold a null or a number that is not finite, so they are no vectors";
            Err(format!("{} of {} {why}; mend them in the SQL", column.gaps, column.values))
        }
        DoubleList => match column.lengths {
            Some((shortest, longest)) if shortest == longest && longest > 1 => {
                plain("{kind: vector}".into(), format!("vectors of {longest} numbers"))
            }
            lengths => {
                let (shortest, longest) = lengths.unwrap_or_default();
                Err(format!("lists of {shortest} to {longest} numbers are no vectors"))
            }
        },
        Bigint if epoch(column).is_some() => Err("a time: turn it into an age, in days for example, in the SQL".into()),
        Bigint if is_id(&name) => plain("{kind: id, dim: 16, min_count: 2}".into(), format!("{distinct} ids")),
        Bigint if distinct <= FEW => plain(format!("{{kind: categorical, dim: {dim}}}"), format!("{distinct} values")),
        Bigint | Double if column.numbers == 0 => Err("none of its values is a finite number".into()),
        Bigint | Double => {
            let (min, max) = (column.min.unwrap_or(0.0), column.max.unwrap_or(0.0));
            let why = format!("{} to {}", short(min), short(max));
            if min >= 0.0 && max > (10.0 * column.mean).max(LARGE) {
                plain("{kind: numeric, transform: log1p}".into(), format!("{why}, few of them large"))
            } else if kind == Bigint && distinct <= 200 {
                plain("{kind: bucketized, buckets: 8, dim: 4}".into(), format!("{distinct} values, {why}"))
            } else {
                plain("{kind: numeric}".into(), why)
            }
        }
        Varchar if column.timed * 2 > column.values => {
            Err("a time: turn it into an age, in days for example, in the SQL".into())
        }
        Varchar if distinct <= FEW => plain(format!("{{kind: categorical, dim: {dim}}}"), format!("{distinct} values")),
        Varchar if column.barred * 3 > column.values => {
            let settings = "{kind: ids, dim: 16, max_length: 50}".to_string();
            let why = "texts with `|` between values".to_string();
            // a CSV source splits them itself
            if format == Format::Csv {
                return Ok((settings, quoted(&column.name), VarcharList, why));
            }
            Ok((settings, format!("string_to_array({}, '|')", quoted(&column.name)), kind, why))
        }
        Varchar if column.listed * 3 > column.values => {
            let expression = format!("string_to_array({}, ',')", quoted(&column.name));
            let why = "texts with `,` between values".to_string();
            Ok(("{kind: ids, dim: 16, max_length: 50}".into(), expression, kind, why))
        }
        Varchar if column.worded * 2 > column.values => {
            plain("{kind: text, dim: 16}".into(), "texts of several words".into())
        }
        Varchar if is_id(&name) => plain("{kind: id, dim: 16, min_count: 2}".into(), format!("{distinct} ids")),
        Varchar if distinct <= MANY.min(column.values / 2) || distinct * 10 <= column.values => {
            plain(format!("{{kind: categorical, dim: {dim}}}"), format!("{distinct} values"))
        }
        Varchar => Err(format!("{distinct} different values in {} rows: neither a category nor words", column.values)),
    }
}

fn is_id(name: &str) -> bool {
    name == "id" || name.ends_with("_id") || name.ends_with("id") && name.len() > 4 && !name.ends_with("paid")
}

fn short(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e15 { format!("{number}") } else { format!("{number:.3}") }
}
