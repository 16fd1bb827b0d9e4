//! A file that Prometheus' node exporter picks up: replaced in one step, with the lines of other jobs kept.

use std::path::Path;

use indexmap::IndexMap;

use super::metrics::{Family, head, lines, whose};

/// Writes `families` to `file`. What stands there of other jobs and commands stays. A run that is not `whole` leaves also what it
/// did not measure as it was: the time of the last success above all.
pub fn write(file: &Path, families: &[Family], name: &str, command: &str, whole: bool) -> Result<(), String> {
    let before = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.to_string()),
    };
    let text = merged(&before, families, &whose(name, command), whole);
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let replaced = || {
        // a name that the node exporter does not read
        let mut new = tempfile::Builder::new().prefix(".twotower-").suffix(".tmp").tempfile_in(folder)?;
        std::io::Write::write_all(&mut new, text.as_bytes())?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        new.as_file().set_permissions(readable)?;
        new.persist(file).map_err(|error| error.error).map(drop)
    };
    replaced().map_err(|error: std::io::Error| error.to_string())
}

/// The lines of `before` that stay, and those of `families`, family by family as the format demands.
fn merged(before: &str, families: &[Family], whose: &str, whole: bool) -> String {
    // name to head and series, in the order met
    let mut all: IndexMap<String, (String, Vec<String>)> = IndexMap::new();
    for family in families {
        let mut text = String::new();
        head(&mut text, family);
        all.insert(family.name.to_string(), (text, lines(family).collect()));
    }
    for line in before.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let comment = line.strip_prefix("# HELP ").or(line.strip_prefix("# TYPE "));
        let family = comment.unwrap_or(line).split([' ', '{']).next().unwrap_or_default();
        let known = families.iter().any(|new| new.name == family);
        let (head, series) = all.entry(family.to_string()).or_default();
        if comment.is_some() {
            if !known {
                head.push_str(line);
                head.push('\n');
            }
            continue;
        }
        let after = line.split_once('{').map_or("", |(_, labels)| labels);
        let ours = after.strip_prefix(whose).is_some_and(|rest| rest.starts_with(['}', ',']));
        if !ours || (!whole && !known) {
            series.push(line.to_string());
        }
    }
    let kept = all.into_values().filter(|(_, series)| !series.is_empty());
    kept.map(|(head, series)| head + &series.join("\n") + "\n").collect()
}
