//! Plain tables for standard output.

/// Columns padded to their widest cell; numbers, which start with a digit, to the right.
pub fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    let mut line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| {
                match cell.starts_with(|c: char| c.is_ascii_digit() || c == '-')
                    && cell.replace(',', "").parse::<f64>().is_ok()
                {
                    true => format!("{cell:>width$}"),
                    false => format!("{cell:<width$}"),
                }
            })
            .collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    };
    line(header.to_vec());
    for row in &rows {
        line(row.iter().map(String::as_str).collect());
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_line_up_and_numbers_stand_right() {
        let text =
            super::table(&["name", "items"], [vec!["a".into(), "5".into()], vec!["longer".into(), "12345".into()]]);
        assert_eq!(text, "name    items\na           5\nlonger  12345\n");
    }
}
