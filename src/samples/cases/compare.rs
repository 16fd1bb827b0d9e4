//! Rows that were found against rows that were expected.

use serde::Deserialize;
use serde_json::Value;

use super::plain;
use crate::error::{Error, Result, did_you_mean};
use crate::samples::rows::Rows;

/// Rows that are shown of each kind.
const SHOWN: usize = 10;

/// What a table must hold, or an audit return.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The columns that are compared, all of them when not given.
    #[serde(default)]
    pub columns: Vec<String>,
    /// All rows, in any order.
    pub rows: Option<Vec<Vec<Value>>>,
    /// How many rows.
    pub count: Option<usize>,
    /// Rows that must not be there.
    #[serde(default)]
    pub never: Vec<Vec<Value>>,
    /// The only rows that may be there, any number of times.
    pub only: Option<Vec<Vec<Value>>>,
}

/// In words, how the rows of `what` are not as expected.
pub fn differences(what: &str, expected: &Expected, found: &Rows) -> Result<Vec<String>> {
    let columns = if expected.columns.is_empty() { &found.columns } else { &expected.columns };
    let mut places = Vec::new();
    for column in columns {
        places.push(found.columns.iter().position(|name| name == column).ok_or_else(|| {
            let known = found.columns.iter().map(String::as_str);
            Error::config(format!(
                "expect: `{what}` has no column `{column}`{}; it has {}",
                did_you_mean(column, known),
                found.columns.join(", ")
            ))
        })?);
    }
    let taken = |row: &Vec<Value>| places.iter().map(|at| plain(&row[*at])).collect::<Vec<Value>>();
    let rows: Vec<Vec<Value>> = found.rows.iter().map(taken).collect();
    let plain_rows = |rows: &[Vec<Value>]| -> Result<Vec<Vec<Value>>> {
        if let Some(wrong) = rows.iter().find(|row| row.len() != columns.len()) {
            return Err(Error::config(format!(
                "expect: `{what}`: row {} has {} values for {} columns ({})",
                line(wrong),
                wrong.len(),
                columns.len(),
                columns.join(", ")
            )));
        }
        Ok(rows.iter().map(|row| row.iter().map(plain).collect()).collect())
    };
    let mut report = Report { head: format!("`{what}` ({})", columns.join(", ")), lines: Vec::new() };
    if let Some(wanted) = &expected.rows {
        let wanted = plain_rows(wanted)?;
        report.list("missing", without(&wanted, &rows));
        report.list("unexpected", without(&rows, &wanted));
    }
    if let Some(count) = expected.count.filter(|count| *count != rows.len()) {
        report.lines.push(format!("{} rows, expected {count}", rows.len()));
        report.list("found", rows.clone());
    }
    let never = plain_rows(&expected.never)?;
    report.list("must never be there", rows.iter().filter(|row| never.contains(row)).cloned().collect());
    if let Some(only) = &expected.only {
        let only = plain_rows(only)?;
        report.list("not among those allowed", rows.iter().filter(|row| !only.contains(row)).cloned().collect());
    }
    Ok(report.finish())
}

/// The rows of `these` that are left when each of `those` has taken one like it.
fn without(these: &[Vec<Value>], those: &[Vec<Value>]) -> Vec<Vec<Value>> {
    let mut left = those.to_vec();
    let mut rest = Vec::new();
    for row in these {
        match left.iter().position(|other| other == row) {
            Some(at) => drop(left.swap_remove(at)),
            None => rest.push(row.clone()),
        }
    }
    rest
}

struct Report {
    head: String,
    lines: Vec<String>,
}

impl Report {
    fn list(&mut self, what: &str, mut rows: Vec<Vec<Value>>) {
        rows.sort_by_key(|row| line(row));
        let more = rows.len().saturating_sub(SHOWN);
        self.lines.extend(rows.iter().take(SHOWN).map(|row| format!("{what}: {}", line(row))));
        if more > 0 {
            self.lines.push(format!("{what}: and {more} more"));
        }
    }

    fn finish(self) -> Vec<String> {
        if self.lines.is_empty() {
            return Vec::new();
        }
        let lines: String = self.lines.iter().map(|line| format!("\n    {line}")).collect();
        vec![format!("{}{lines}", self.head)]
    }
}

fn line(row: &[Value]) -> String {
    let cells: Vec<String> = row.iter().map(Value::to_string).collect();
    format!("[{}]", cells.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(expected: &str) -> String {
        let rows = json!([[1, "2026-11-20T08:00:00", 2.0], [1, "2026-11-20T08:00:00", 2.0], [2, null, 0.1 + 0.2]]);
        let rows = serde_json::from_value(rows).unwrap();
        let table = Rows { columns: vec!["id".into(), "at".into(), "score".into()], rows };
        match differences("positives", &serde_yaml::from_str(expected).unwrap(), &table) {
            Ok(differences) => differences.join("\n"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn rows_are_compared_as_a_bag_whatever_way_they_are_written() {
        let all = "rows: [[2, null, 0.3], [1, \"2026-11-20 08:00:00\", 2], [1, \"2026-11-20T08:00:00\", 2.0]]";
        assert_eq!(found(all), "");
        assert_eq!(found("{columns: [id], rows: [[1], [1], [2]], count: 3, never: [[3]], only: [[1], [2]]}"), "");
    }

    #[test]
    fn what_differs_is_listed_by_row() {
        let text = found("{columns: [id], rows: [[1], [3]], count: 2, never: [[2]], only: [[1]]}");
        let lines = [
            "`positives` (id)",
            "missing: [3]",
            "unexpected: [1]",
            "unexpected: [2]",
            "3 rows, expected 2",
            "found: [1]",
            "found: [1]",
            "found: [2]",
            "must never be there: [2]",
            "not among those allowed: [2]",
        ];
        assert_eq!(text, lines.join("\n    "));
        assert_eq!(
            found("{columns: [ids]}"),
            "expect: `positives` has no column `ids`, did you mean `id`?; it has id, at, score"
        );
        assert_eq!(
            found("{columns: [id], rows: [[1, 2]]}"),
            "expect: `positives`: row [1, 2] has 2 values for 1 columns (id)"
        );
    }
}
