//! Where log lines go: to standard error, above the bars, without the secrets of the environment.

use std::borrow::Cow;
use std::io::{self, Write};
use std::sync::Arc;

use tracing_subscriber::fmt::MakeWriter;
use url::Url;

use crate::progress::above_bars;

/// Variables whose values are nobody's business. No code of this program logs them; libraries change.
const SECRET: [&str; 4] =
    ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN", "OPENLINEAGE_API_KEY"];
/// Variables whose values are URLs that may hold a password.
const URLS: [&str; 4] = ["TWOTOWER_PUSHGATEWAY", "OPENLINEAGE_URL", "HTTP_PROXY", "HTTPS_PROXY"];
/// A shorter value stands in too many harmless places.
const SHORTEST: usize = 6;

#[derive(Clone)]
pub struct AboveBars(Arc<[String]>);

impl AboveBars {
    /// For an environment of these variables.
    pub fn new(environment: impl Iterator<Item = (String, String)>) -> Self {
        let secret = |(name, value): (String, String)| match name.to_ascii_uppercase() {
            name if SECRET.contains(&name.as_str()) => Some(value),
            name if URLS.contains(&name.as_str()) => Url::parse(&value).ok()?.password().map(str::to_string),
            _ => None,
        };
        AboveBars(environment.filter_map(secret).filter(|value| value.len() >= SHORTEST).collect())
    }

    pub fn without_secrets<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for secret in self.0.iter() {
            if text.contains(secret) {
                text = Cow::Owned(text.replace(secret, "[secret]"));
            }
        }
        text
    }
}

impl<'a> MakeWriter<'a> for AboveBars {
    type Writer = &'a AboveBars;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

/// Takes whole lines, as the formatter hands them over.
impl Write for &AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let text = self.without_secrets(&text);
        above_bars(|| io::stderr().lock().write_all(text.as_bytes()))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_the_environment_is_covered_and_a_short_value_is_none() {
        let environment = [
            ("AWS_SECRET_ACCESS_KEY", "s3cr3t/key"),
            ("AWS_SESSION_TOKEN", "a"),
            ("HOME", "/home/someone"),
            ("TWOTOWER_PUSHGATEWAY", "http://user:passw0rd@host"),
        ];
        let writer = AboveBars::new(environment.map(|(k, v)| (k.to_string(), v.to_string())).into_iter());
        let said = writer.without_secrets("with s3cr3t/key at /home/someone and passw0rd");
        assert_eq!(said, "with [secret] at /home/someone and [secret]");
    }
}
