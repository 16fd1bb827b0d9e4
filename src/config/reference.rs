//! The config's own documentation, made from its types: JSON Schema and `configs/reference.yaml`.

use std::fmt::Write;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::{Config, Feature, FeatureKind, Overrides};

/// JSON Schema of the config: what `twotower schema` prints.
pub fn json_schema() -> Value {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>().to_value();
    schema["title"] = "twotower config".into();
    schema
}

/// A config with every key, its default and its documentation: `configs/reference.yaml`.
pub fn reference_yaml() -> String {
    let text = "version: 1\nname: my_job\noutput: s3://my-bucket/two-tower\nsources:\n  impressions: {path: s3://my-bucket/logs/impressions, partition: dt, days: -6..0, columns: {user_id: bigint}}\nrankers:\n  my_ranker: {path: models/ranker.onnx, inputs: {float_input: {columns: [u.age, i.price]}}}\nfeatures:\n  user:\n    history: {kind: ids, table: item_id}\n  item:\n    item_id: {kind: id}\n";
    let mut config = Config::parse(text, "reference", &Overrides::default()).expect("the small config is valid");
    let mut id = Feature::new(FeatureKind::Id);
    (id.dim, id.min_count, id.unknown_rows) = (Some(64), Some(1), Some(1));
    config.features.item.insert("item_id".into(), id);
    let mut history = Feature::new(FeatureKind::Ids);
    (history.table, history.pooling, history.max_length) = (Some("item_id".into()), Some(Default::default()), Some(50));
    config.features.user.insert("history".into(), history);
    let mut hashed = Feature::new(FeatureKind::Id);
    (hashed.column, hashed.hash_rows) = (Some("user_id".into()), Some(1_000_000));
    config.features.user.insert("user".into(), hashed);
    let mut cross = Feature::new(FeatureKind::Crossed);
    (cross.of, cross.hash_rows) = (Some(vec!["country".into(), "device".into()]), Some(10_000));
    config.features.user.insert("country_device".into(), cross);
    config.features.item.insert("title".into(), Feature::new(FeatureKind::Text));
    config.features.item.insert("image".into(), Feature::new(FeatureKind::Vector));
    let schema = json_schema();
    let value = serde_json::to_value(&config).expect("a config is JSON");
    let mut out = String::from(
        "# Every key of a twotower config, with its default (or an example where it has none) and what it trades off.\n# Made from the program's own types: `twotower schema --reference` prints it, and a test keeps it equal.\n",
    );
    write_object(&mut out, &schema, &schema, value.as_object().expect("an object"), 0);
    out
}

fn write_object(out: &mut String, root: &Value, schema: &Value, object: &Map<String, Value>, depth: usize) {
    let schema = follow(root, schema);
    let indent = "  ".repeat(depth);
    for (key, value) in object {
        let property = schema.get("properties").and_then(|p| p.get(key)).or(schema.get("additionalProperties"));
        let property = property.cloned().unwrap_or(Value::Null);
        let documented = property.get("description").or(follow(root, &property).get("description"));
        if depth == 0 {
            out.push('\n');
        }
        if let Some(text) = documented.and_then(Value::as_str) {
            for line in wrap(&text.replace('\n', " "), 110 - indent.len()) {
                writeln!(out, "{indent}# {line}").expect("a string takes text");
            }
        }
        if let Some(choices) = choices(root, &property) {
            writeln!(out, "{indent}# one of: {choices}").expect("a string takes text");
        }
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                writeln!(out, "{indent}{key}:").expect("a string takes text");
                write_object(out, root, &property, inner, depth + 1);
            }
            plain => writeln!(out, "{indent}{key}: {plain}").expect("a string takes text"),
        }
    }
}

/// A schema behind `$ref`, `allOf` or `anyOf [x, null]`.
fn follow<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let name = name.rsplit('/').next().unwrap_or_default();
        return root.get("$defs").and_then(|defs| defs.get(name)).unwrap_or(schema);
    }
    for group in ["allOf", "anyOf"] {
        if let Some(first) = schema.get(group).and_then(|g| g.get(0)) {
            return follow(root, first);
        }
    }
    schema
}

fn choices(root: &Value, property: &Value) -> Option<String> {
    let schema = follow(root, property);
    let names: Vec<&str> = match (schema.get("enum"), schema.get("oneOf")) {
        (Some(list), _) => list.as_array()?.iter().filter_map(Value::as_str).collect(),
        (_, Some(list)) => list
            .as_array()?
            .iter()
            .flat_map(|one| match (one.get("const"), one.get("enum").and_then(Value::as_array)) {
                (Some(name), _) => name.as_str().into_iter().collect::<Vec<_>>(),
                (_, Some(names)) => names.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            })
            .collect(),
        _ => return None,
    };
    (!names.is_empty()).then(|| names.join(", "))
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is a line");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_string());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_file_equals_the_code_and_parses() {
        let text = reference_yaml();
        let parsed = Config::parse(&text, "reference.yaml", &Overrides::default()).unwrap();
        assert_eq!(parsed.training, super::super::Training::default());
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/reference.yaml");
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            text,
            "write it anew: twotower schema --reference > configs/reference.yaml"
        );
    }

    #[test]
    fn the_schema_file_equals_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/schema.json");
        let text = serde_json::to_string_pretty(&json_schema()).unwrap() + "\n";
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            text,
            "write it anew: twotower schema > configs/schema.json"
        );
    }
}
