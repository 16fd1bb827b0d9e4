//! JSON texts that end with the SHA-256 of what goes before: a manifest says how the bytes of all other files must be, so
//! something has to say it of a manifest.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sha256_hex;

/// How a text ends without its seal, and what stands around the seal's hexadecimal digits.
const END: &str = "\n}\n";
const BEFORE: &str = ",\n  \"sha256\": \"";
const AFTER: &str = "\"\n}\n";

/// `value` as indented JSON with a last field `sha256`: that of the text without this field.
///
/// # Panics
/// If `value` is no struct or map with at least one field: it is one of the manifests' types.
pub fn seal(value: &impl Serialize) -> String {
    let plain = serde_json::to_string_pretty(value).expect("a manifest is JSON") + "\n";
    let body = plain.strip_suffix(END).expect("a manifest is an object with fields");
    format!("{body}{BEFORE}{}{AFTER}", sha256_hex(plain.as_bytes()))
}

/// Reads what [`seal`] wrote, or says in words why these bytes are something else.
pub fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let sealed = || {
        let text = std::str::from_utf8(bytes).ok()?;
        let (body, digits) = text.strip_suffix(AFTER)?.rsplit_once(BEFORE)?;
        Some((body, digits))
    };
    let (body, digits) = sealed().ok_or("it does not end with its own checksum, so it was cut short or changed")?;
    let found = sha256_hex(format!("{body}{END}").as_bytes());
    if found != digits {
        return Err(format!("its text has SHA-256 {found}, and {digits} stands at its end: it was changed"));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_sealed_text_reads_back_and_with_any_byte_changed_or_left_out_it_does_not() {
        let value = BTreeMap::from([("items", 12.5), ("parent", 0.1 + 0.2)]);
        let text = seal(&value);
        let plain: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&plain["items"], plain["sha256"].as_str().unwrap().len()), (&serde_json::json!(12.5), 64));
        assert_eq!(unseal::<serde_json::Value>(text.as_bytes()).unwrap()["items"], 12.5);
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            assert!(unseal::<serde_json::Value>(&changed).is_err(), "byte {at} changed");
            assert!(unseal::<serde_json::Value>(&text.as_bytes()[..at]).is_err(), "cut at {at}");
        }
    }
}
