//! Names: those that columns of each role have, and how SQL writes a name.

use super::guess::Role;
use crate::warehouse::is_taken_for_a_column;

impl Role {
    /// Names that such columns have, the surest first.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Role::UserId => &[
                "user_id",
                "userid",
                "uid",
                "user",
                "member_id",
                "customer_id",
                "client_id",
                "visitor_id",
                "account_id",
                "viewer_id",
                "profile_id",
                "buyer_id",
                "reader_id",
                "listener_id",
                "person_id",
                "cookie_id",
                "device_id",
                "session_id",
            ],
            Role::ItemId => &[
                "item_id",
                "itemid",
                "iid",
                "item",
                "product_id",
                "sku",
                "video_id",
                "article_id",
                "content_id",
                "document_id",
                "doc_id",
                "movie_id",
                "song_id",
                "track_id",
                "news_id",
                "post_id",
                "listing_id",
                "photo_id",
                "note_id",
                "book_id",
                "game_id",
                "offer_id",
                "business_id",
                "asin",
                "ad_id",
                "creative_id",
                "object_id",
                "product",
                "id",
            ],
            Role::EventTime => &[
                "event_time",
                "event_timestamp",
                "event_ts",
                "timestamp",
                "ts",
                "time",
                "ts_ms",
                "time_ms",
                "timestamp_ms",
                "unix_time",
                "datetime",
                "impression_time",
                "shown_at",
                "served_at",
                "occurred_at",
                "logged_at",
                "created_at",
                "date",
            ],
            Role::Clicked => &[
                "clicked",
                "is_clicked",
                "is_click",
                "click",
                "clicks",
                "label",
                "target",
                "engaged",
                "liked",
                "is_like",
                "purchased",
                "bought",
                "interacted",
                "event",
                "event_type",
                "action",
                "rating",
            ],
            Role::Score => &[
                "score",
                "ranker_score",
                "rank_score",
                "prediction",
                "pred",
                "p_click",
                "pctr",
                "ctr",
                "probability",
                "logit",
            ],
        }
    }
}

/// Words that read badly as names, even where the parser takes them for one.
const RESERVED: [&str; 45] = [
    "all",
    "and",
    "as",
    "by",
    "case",
    "cast",
    "cross",
    "date",
    "desc",
    "distinct",
    "else",
    "end",
    "except",
    "false",
    "from",
    "full",
    "group",
    "having",
    "in",
    "inner",
    "interval",
    "is",
    "join",
    "left",
    "like",
    "limit",
    "not",
    "null",
    "on",
    "or",
    "order",
    "outer",
    "right",
    "select",
    "table",
    "then",
    "time",
    "timestamp",
    "true",
    "union",
    "user",
    "using",
    "when",
    "where",
    "with",
];

/// A name as SQL writes it.
pub fn quoted(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.contains(&name)
        && is_taken_for_a_column(name);
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

/// `userId` and `User ID` as `user_id`.
pub fn snake_case(name: &str) -> String {
    let mut plain = String::new();
    let mut before = ' ';
    for letter in name.chars() {
        if letter.is_uppercase() && before.is_lowercase() {
            plain.push('_');
        }
        if letter.is_alphanumeric() {
            plain.extend(letter.to_lowercase());
        } else if !plain.ends_with('_') && !plain.is_empty() {
            plain.push('_');
        }
        before = letter;
    }
    plain.trim_end_matches('_').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_plain_and_reserved_ones_are_quoted() {
        assert_eq!(["userId", "User ID", "a-b", "価格"].map(snake_case), ["user_id", "user_id", "a_b", "価格"]);
        assert_eq!(["plain_1", "Order", "order", "a b"].map(quoted), ["plain_1", "\"Order\"", "\"order\"", "\"a b\""]);
    }

    #[test]
    fn words_that_the_parser_reads_as_something_else_are_quoted_too() {
        for word in [
            "values",
            "lateral",
            "offset",
            "exists",
            "fetch",
            "struct",
            "top",
            "view",
            "sort",
            "cluster",
            "distribute",
            "returning",
            "into",
            "minus",
            "intersect",
            "trim",
            "analyze",
            "explain",
            "current_date",
            "current_time",
            "current_timestamp",
            "session_user",
            "interval",
        ] {
            assert_eq!(quoted(word), format!("\"{word}\""));
        }
        for word in ["event", "rating", "label", "status", "name", "category", "title", "language", "year"] {
            assert_eq!(quoted(word), word);
        }
    }
}
