//! One error type for the whole job. Its [`Kind`] says what the operator must do, and so decides the exit code.

use std::fmt;

/// What the operator must do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing to do: there is no data for this date and the policy is to skip it (exit 99, Airflow's skip).
    NoData,
    /// Call the program differently (exit 64).
    Usage,
    /// Look at the candidate: a gate refused to publish it (exit 65).
    GateRefused,
    /// A fault of this program: report it (exit 70).
    Internal,
    /// Try again later: the store or the network failed (exit 75).
    Transient,
    /// Change config, SQL or data: a retry cannot help (exit 78).
    Config,
    /// Nothing: the job was told to stop (exit 143).
    Terminated,
}

impl Kind {
    /// The process exit code, as the command-line contract lists it.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::NoData => 99,
            Kind::Usage => 64,
            Kind::GateRefused => 65,
            Kind::Internal => 70,
            Kind::Transient => 75,
            Kind::Config => 78,
            Kind::Terminated => 143,
        }
    }

    /// Whether the same command may end otherwise when it is run again.
    pub fn retry_can_help(self) -> bool {
        match self {
            Kind::Transient | Kind::Terminated => true,
            Kind::NoData | Kind::Usage | Kind::GateRefused | Kind::Internal | Kind::Config => false,
        }
    }

    /// The name used in logs and in the result summary.
    pub fn name(self) -> &'static str {
        match self {
            Kind::NoData => "no_data",
            Kind::Usage => "usage",
            Kind::GateRefused => "gate_refused",
            Kind::Internal => "internal",
            Kind::Transient => "transient",
            Kind::Config => "config",
            Kind::Terminated => "terminated",
        }
    }
}

/// An error with what was being done when it happened.
///
/// Messages are lower case and without a full stop. They name the file, key, table, column or partition,
/// what was found, what was expected, and what to do.
#[derive(Debug)]
pub struct Error {
    pub kind: Kind,
    pub message: String,
    /// What was being done, innermost first.
    pub context: Vec<String>,
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), context: Vec::new(), source: None }
    }

    pub fn config(message: impl Into<String>) -> Self {
        Self::new(Kind::Config, message)
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(Kind::Transient, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// Adds what was being done, for the line `while …`.
    pub fn context(mut self, doing: impl Into<String>) -> Self {
        self.context.push(doing.into());
        self
    }

    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for doing in &self.context {
            write!(f, "\n  while {doing}")?;
        }
        let mut cause = self.source.as_ref().map(|s| s.as_ref() as &dyn std::error::Error);
        let mut shown = self.message.clone();
        while let Some(error) = cause {
            let text = error.to_string();
            // libraries often repeat the cause in their own text: say it once
            if !shown.contains(&text) {
                write!(f, "\n  because {text}")?;
                shown.push_str(&text);
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| s.as_ref() as &(dyn std::error::Error + 'static))
    }
}

/// Adds context to a `Result` on its way up.
pub trait Context<T> {
    /// `doing` completes the sentence "while …".
    fn while_(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn while_(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.context(doing()))
    }
}

/// The name in `known` that is nearest to `found`, for "did you mean".
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min()
        .map(|(_, name)| name)
}

/// `, did you mean …?` or nothing.
pub fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(found, known).map(|name| format!(", did you mean `{name}`?")).unwrap_or_default()
}

/// Letters that are shown of a text that a library made of the data, which may be as long as a file.
pub const CAUSE_LETTERS: usize = 300;

/// The first `letters` of a text.
pub fn cut(text: &str, letters: usize) -> String {
    match text.char_indices().nth(letters) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once_and_context_reads_inside_out() {
        let error = Error::config("table `a` has no column `b`")
            .context("reading sql/a.sql")
            .caused_by(Error::config("table `a` has no column `b`"));
        assert_eq!(error.to_string(), "table `a` has no column `b`\n  while reading sql/a.sql");
    }

    #[test]
    fn the_nearest_name_is_offered_and_a_far_one_is_not() {
        assert_eq!(nearest("trainng", ["training", "index"]), Some("training"));
        assert_eq!(nearest("zzz", ["training", "index"]), None);
    }
}
