//! The date of a run.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

/// A date D; it names the data interval [D, D+1) in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunDate(pub NaiveDate);

impl RunDate {
    /// The date `days` later (earlier when negative).
    pub fn offset(self, days: i32) -> RunDate {
        let by = Days::new(days.unsigned_abs().into());
        let moved = if days < 0 { self.0.checked_sub_days(by) } else { self.0.checked_add_days(by) };
        RunDate(moved.unwrap_or(self.0))
    }

    pub fn days_since_epoch(self) -> i32 {
        (self.0 - NaiveDate::default()).num_days() as i32
    }

    /// The date `days` after 1970-01-01; `None` outside of the calendar.
    pub fn from_epoch(days: i64) -> Option<RunDate> {
        let by = chrono::TimeDelta::try_days(days)?;
        NaiveDate::default().checked_add_signed(by).map(RunDate)
    }

    /// Every date from `self` to `last`, both included.
    pub fn to(self, last: RunDate) -> impl Iterator<Item = RunDate> {
        (0..).map(move |n| self.offset(n)).take_while(move |date| *date <= last)
    }
}

impl fmt::Display for RunDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m-%d"))
    }
}

impl FromStr for RunDate {
    type Err = String;

    /// Takes `2026-11-20`, RFC 3339, and Argo's `2026-11-20 02:00:00 +0000 UTC`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Ok(RunDate(date));
        }
        let instant = DateTime::parse_from_rfc3339(text)
            .or_else(|_| DateTime::parse_from_str(text.trim_end_matches(" UTC"), "%Y-%m-%d %H:%M:%S %z"))
            .map_err(|_| format!("`{text}` is not a date; write it like 2026-11-20 or 2026-11-20T02:00:00Z"))?;
        Ok(RunDate(instant.with_timezone(&Utc).date_naive()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheduler_s_way_to_write_a_date_is_read() {
        let day: RunDate = "2026-11-20".parse().unwrap();
        for text in [
            "2026-11-20T02:00:00Z",
            "2026-11-20T23:30:00+00:00",
            "2026-11-20 02:00:00 +0000 UTC",
            "2026-11-21T01:00:00+02:00",
        ] {
            assert_eq!(text.parse(), Ok(day), "{text}");
        }
        assert!("yesterday".parse::<RunDate>().unwrap_err().contains("2026-11-20"));
        assert_eq!(day.offset(-6).to(day).count(), 7);
    }
}
