//! Holds a manifest against `objects.txt`: known keys, types, words, what must be there, what excludes each other.

use std::collections::BTreeMap;

use serde_yaml::Value;

/// Object name to what it may hold.
pub struct Objects(BTreeMap<&'static str, Object>);

#[derive(Default)]
struct Object {
    keys: BTreeMap<&'static str, Key>,
    one_of: Vec<Vec<&'static str>>,
    at_most_one: Vec<Vec<&'static str>>,
}

struct Key {
    of: &'static str,
    required: bool,
}

impl Objects {
    pub fn known() -> Objects {
        let mut objects: BTreeMap<&str, Object> = BTreeMap::new();
        let mut current = "";
        for line in include_str!("objects.txt").lines().filter(|line| !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match (line.starts_with(' '), words.as_slice()) {
                (_, []) => {}
                (false, [name]) => {
                    current = name;
                    assert!(objects.insert(name, Object::default()).is_none(), "{name} stands there twice");
                }
                (true, ["one-of", keys @ ..]) => objects.get_mut(current).unwrap().one_of.push(keys.to_vec()),
                (true, ["at-most-one", keys @ ..]) => objects.get_mut(current).unwrap().at_most_one.push(keys.to_vec()),
                (true, [name, of, rest @ ..]) => {
                    let key = Key { of, required: rest == ["!"] };
                    objects.get_mut(current).unwrap().keys.insert(name, key);
                }
                _ => panic!("objects.txt: `{line}`"),
            }
        }
        Objects(objects)
    }

    /// What is wrong with a document, each fault with its place.
    pub fn faults(&self, document: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        match document["kind"].as_str().filter(|kind| self.0.contains_key(kind)) {
            Some(kind) => self.object(kind, document, kind, &mut faults),
            None => faults.push(format!("kind: {:?} is not one that is known", document["kind"])),
        }
        faults
    }

    fn value(&self, of: &str, value: &Value, at: &str, faults: &mut Vec<String>) {
        let right = match of {
            "any" => true,
            "text" => value.is_string(),
            "number" => value.is_u64(),
            "flag" => value.is_bool(),
            "either" => value.is_string() || value.is_number(),
            list if list.starts_with('[') => match value.as_sequence() {
                Some(items) => {
                    for (n, item) in items.iter().enumerate() {
                        self.value(&list[1..list.len() - 1], item, &format!("{at}[{n}]"), faults);
                    }
                    !items.is_empty()
                }
                None => false,
            },
            map if map.starts_with('{') => match value.as_mapping() {
                Some(map_of) => {
                    for (key, item) in map_of {
                        let key = key.as_str().unwrap_or("?");
                        self.value(&map[1..map.len() - 1], item, &format!("{at}.{key}"), faults);
                    }
                    true
                }
                None => false,
            },
            words if words.starts_with('=') => {
                value.as_str().is_some_and(|value| words[1..].split('|').any(|word| word == value))
            }
            object => return self.object(object, value, at, faults),
        };
        if !right {
            faults.push(format!("{at}: {value:?} is not {of}"));
        }
    }

    fn object(&self, name: &str, value: &Value, at: &str, faults: &mut Vec<String>) {
        let object = &self.0[name];
        let Some(found) = value.as_mapping() else { return faults.push(format!("{at}: {value:?} is not {name}")) };
        for (key, value) in found {
            let key = key.as_str().unwrap_or("?");
            match object.keys.get(key) {
                Some(known) => self.value(known.of, value, &format!("{at}.{key}"), faults),
                None => faults.push(format!("{at}.{key}: {name} has no such key")),
            }
        }
        let has = |key: &&&str| found.contains_key(**key);
        for (key, _) in object.keys.iter().filter(|(_, key)| key.required) {
            if !has(&key) {
                faults.push(format!("{at}.{key}: is missing"));
            }
        }
        for keys in &object.one_of {
            if keys.iter().filter(has).count() != 1 {
                faults.push(format!("{at}: exactly one of {keys:?} must be there"));
            }
        }
        for keys in &object.at_most_one {
            if keys.iter().filter(has).count() > 1 {
                faults.push(format!("{at}: at most one of {keys:?} may be there"));
            }
        }
    }
}
