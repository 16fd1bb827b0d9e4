//! The parts of the page, in its order: what decides first, what it cost last.

mod checks;
mod cost;
mod index;
mod negatives;
mod recall;
mod samples;
mod training;
mod users;
mod vectors;

use super::Report;
use super::page::Section;

pub fn all(report: &Report) -> Vec<Section> {
    vec![
        checks::section(report),
        recall::section(report),
        users::section(report),
        training::section(report),
        samples::section(report),
        negatives::section(report),
        vectors::section(report),
        index::section(report),
        cost::section(report),
    ]
}
