//! One event, one line: JSON with date, run id, stage and elapsed seconds beside the event's own fields, or text for people.

use std::fmt::{self, Write};
use std::time::Instant;

use chrono::Utc;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The spans whose fields belong on every line within them: those of the pipeline. Libraries have spans of their own.
const SPANS: [&str; 2] = ["job", "stage"];

pub struct Lines {
    pub json: bool,
    pub colours: bool,
    /// When the process began to log.
    pub began: Instant,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut place = Map::new();
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            if !SPANS.contains(&span.name()) {
                continue;
            }
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>().map(|fields| fields.fields.as_str());
            if let Some(Ok(Value::Object(fields))) = fields.map(serde_json::from_str) {
                place.extend(fields);
            }
        }
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let message = match fields.0.shift_remove("message") {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        // what comes through the older `log` facade carries its own place in fields
        let target = match fields.0.shift_remove("log.target") {
            Some(Value::String(target)) => target,
            _ => event.metadata().target().to_string(),
        };
        fields.0.retain(|name, _| !name.starts_with("log."));
        let line = Line { level: *event.metadata().level(), place, message, fields: fields.0, target };
        let text = if self.json { self.json(line) } else { self.text(&line) };
        writeln!(out, "{text}")
    }
}

/// What one line says.
struct Line {
    level: Level,
    /// Date, run id and stage.
    place: Map<String, Value>,
    message: String,
    fields: Map<String, Value>,
    target: String,
}

impl Lines {
    fn json(&self, line: Line) -> String {
        let mut all = Map::new();
        all.insert("timestamp".into(), Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true).into());
        all.insert("level".into(), line.level.as_str().into());
        let known = ["date", "run_id", "stage"];
        let mut place = line.place;
        for name in known {
            if let Some(value) = place.shift_remove(name) {
                all.insert(name.into(), value);
            }
        }
        all.extend(place);
        all.insert("elapsed".into(), (self.began.elapsed().as_millis() as f64 / 1e3).into());
        all.insert("message".into(), line.message.into());
        all.extend(line.fields);
        all.insert("target".into(), line.target.into());
        Value::Object(all).to_string()
    }

    /// `12:00:01 INFO  samples: built sample table  table=positives rows=12`, further lines of a message below it.
    fn text(&self, line: &Line) -> String {
        let (paint, dim, plain) = match (self.colours, line.level) {
            (false, _) => ("", "", ""),
            (true, Level::ERROR) => ("\x1b[31m", "\x1b[2m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
            (true, Level::INFO) => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
            (true, _) => ("\x1b[2m", "\x1b[2m", "\x1b[0m"),
        };
        let plain_text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let place: Vec<String> =
            ["date", "stage"].iter().filter_map(|name| line.place.get(*name)).map(plain_text).collect();
        let place = if place.is_empty() { String::new() } else { format!("{}: ", place.join(" ")) };
        let foreign = if line.target.starts_with("twotower") { String::new() } else { format!("[{}] ", line.target) };
        let mut fields = String::new();
        for (name, value) in &line.fields {
            let _ = write!(fields, " {name}={}", plain_text(value));
        }
        let (first, rest) = line.message.split_once('\n').map_or((line.message.as_str(), None), |(a, b)| (a, Some(b)));
        let time = Utc::now().format("%H:%M:%S");
        let mut text =
            format!("{dim}{time}{plain} {paint}{:<5}{plain} {place}{foreign}{first}{dim}{fields}{plain}", line.level);
        for more in rest.into_iter().flat_map(str::lines) {
            let _ = write!(text, "\n               {more}");
        }
        text
    }
}

/// The fields of an event as JSON.
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().trim_start_matches("r#").to_string(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::{error_span, info, warn};
    use tracing_subscriber::fmt::format::JsonFields;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What `work` logs.
    fn logged(json: bool, work: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Lines { json, colours: false, began: Instant::now() })
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn in_a_stage(work: impl FnOnce()) {
        error_span!("job", date = "2026-11-20").in_scope(|| {
            error_span!("stage", run_id = "r1", stage = "train")
                .in_scope(|| error_span!("theirs", secret = 1).in_scope(work))
        });
    }

    #[test]
    fn a_line_of_json_says_where_it_belongs_and_a_message_of_many_lines_is_one() {
        let text = logged(true, || in_a_stage(|| warn!(rows = 3, "two\nlines")));
        assert_eq!(text.lines().count(), 1);
        let line: Value = serde_json::from_str(&text).unwrap();
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["timestamp", "level", "date", "run_id", "stage", "elapsed", "message", "rows", "target"]);
        assert_eq!((line["stage"].as_str(), line["run_id"].as_str()), (Some("train"), Some("r1")));
        assert_eq!((line["message"].as_str(), line["rows"].as_u64()), (Some("two\nlines"), Some(3)));
    }

    #[test]
    fn the_threads_of_a_pool_log_with_the_run_of_who_made_it() {
        let text = logged(true, || {
            let dispatch = tracing::dispatcher::get_default(Clone::clone);
            in_a_stage(|| {
                let pool = crate::job::thread_pool(2).unwrap();
                pool.broadcast(|_| tracing::dispatcher::with_default(&dispatch, || info!("from a thread")));
            });
        });
        assert_eq!(text.lines().filter(|line| line.contains("\"run_id\":\"r1\"")).count(), 2, "{text}");
    }

    #[test]
    fn text_puts_the_fields_behind_the_first_line() {
        let text = logged(false, || in_a_stage(|| warn!(rows = 3, "two\nlines")));
        let after_time = text.split_once(' ').unwrap().1;
        assert_eq!(after_time, "WARN  2026-11-20 train: two rows=3\n               lines\n");
    }
}
