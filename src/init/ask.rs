//! Questions on the terminal, and their defaults where nobody can be asked.

use std::io::{BufRead, Write};

use crate::error::{Error, Result};

/// Asks, or takes the default.
pub struct Asker {
    answers: Option<Box<dyn BufRead>>,
}

impl Asker {
    /// Asks whoever sits at `answers`.
    pub fn with(answers: impl BufRead + 'static) -> Self {
        Asker { answers: Some(Box::new(answers)) }
    }

    /// Asks nobody.
    pub fn silent() -> Self {
        Asker { answers: None }
    }

    pub fn is_on(&self) -> bool {
        self.answers.is_some()
    }

    /// The answer, or `default` for an empty one and where nobody is asked.
    pub fn ask(&mut self, question: &str, default: &str) -> Result<String> {
        let Some(answers) = &mut self.answers else { return Ok(default.to_string()) };
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        eprint!("{question}{shown}: ");
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        let read = answers.read_line(&mut line).map_err(|error| {
            Error::usage("the answer cannot be read; give flags instead, and --yes").caused_by(error)
        })?;
        if read == 0 {
            return Err(Error::usage("no more answers come in; give flags instead, and --yes"));
        }
        let answer = line.trim();
        Ok(if answer.is_empty() { default.to_string() } else { answer.to_string() })
    }

    /// An answer that may not be empty.
    pub fn need(&mut self, question: &str) -> Result<String> {
        loop {
            let answer = self.ask(question, "")?;
            if !answer.is_empty() {
                return Ok(answer);
            }
        }
    }
}
