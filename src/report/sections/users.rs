//! Ten users: what they had, what they were to find, what they get.

use std::collections::{HashMap, HashSet};

use crate::artifacts::{Id, ItemNote, UserExample};
use crate::report::Report;
use crate::report::html::{Mood, badge, escape, plural};
use crate::report::page::{Section, paragraph};

pub fn section(report: &Report) -> Section {
    let portrait = &report.portrait;
    let notes: HashMap<&Id, &ItemNote> = portrait.items.iter().map(|note| (&note.item, note)).collect();
    let before: HashMap<&Id, &Vec<Id>> = report.before.iter().map(|before| (&before.user, &before.gets)).collect();
    let mut body =
        paragraph("Chosen by hash, so that they are no one's favourites. What a user had is left out of what he gets.");
    if let (Some(past), false) = (&report.published, before.is_empty()) {
        let release = past.release;
        body += &paragraph(&format!("An item is new where release {release} did not have it in the user's list."));
    }
    if portrait.users.is_empty() {
        body += &paragraph("There are no users: user_features is empty.");
    }
    let cards: String = portrait.users.iter().map(|user| card(user, &notes, before.get(&user.user).copied())).collect();
    Section { id: "users", title: "Ten users", body: body + &format!("<div class=\"users\">{cards}</div>\n") }
}

fn card(user: &UserExample, notes: &HashMap<&Id, &ItemNote>, before: Option<&Vec<Id>>) -> String {
    let mut out = format!("<div class=\"card\"><h3>User {}</h3>", escape(&user.user.to_string()));
    let plain =
        |items: &[Id]| -> String { items.iter().map(|item| format!("<li>{}</li>", named(item, notes))).collect() };
    let mut part = |title: &str, items: &[Id], total: u64| {
        if total == 0 {
            return;
        }
        let more = total - items.len() as u64;
        let more = if more > 0 { format!("<li class=\"group\">and {more} more</li>") } else { String::new() };
        out += &format!("<h4>{}</h4><ul>{}{more}</ul>", escape(title), plain(items));
    };
    part(&format!("Had {}", plural(user.had_total, "item", "items")), &user.had, user.had_total);
    part(&format!("To find: {}", plural(user.wanted_total, "item", "items")), &user.wanted, user.wanted_total);
    let old: HashSet<&Id> = before.into_iter().flatten().collect();
    out += "<h4>Now gets</h4><ol>";
    for (at, item) in user.gets.iter().enumerate() {
        let mut marks = String::new();
        if user.hits.contains(&(at as u32)) {
            marks += &format!(" {}", badge(Mood::Good, "found").0);
        }
        if before.is_some() && !old.contains(item) {
            marks += " <span class=\"badge neutral\">new</span>";
        }
        out += &format!("<li>{}{marks}</li>", named(item, notes));
    }
    out + "</ol></div>\n"
}

/// An item with what the catalogue says of it.
fn named(item: &Id, notes: &HashMap<&Id, &ItemNote>) -> String {
    let mut out = escape(&item.to_string());
    let Some(note) = notes.get(item) else { return out };
    if let Some(title) = &note.title {
        out += &format!(" {}", escape(title));
    }
    if let Some(group) = &note.group {
        out += &format!(" <span class=\"group\">· {}</span>", escape(group));
    }
    out
}
