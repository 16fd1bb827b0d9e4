//! Static keys from the AWS credentials file. Environment, web identity, container and instance roles are read by
//! object_store itself; profiles are the one part of the default chain that it leaves out.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::error::{Error, Result};

pub(super) struct Profile {
    pub access_key_id: String,
    pub secret_access_key: String,
    pub session_token: Option<String>,
    pub region: Option<String>,
}

/// The profile `AWS_PROFILE` (or `default`) of the shared credentials and config files, if it holds static keys.
pub(super) fn from_profile() -> Result<Option<Profile>> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let file = |variable: &str, name: &str| {
        let path = std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| home.join(".aws").join(name));
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let named = std::env::var("AWS_PROFILE").ok();
    let profile = named.clone().unwrap_or_else(|| "default".into());
    let mut keys = section(&file("AWS_CONFIG_FILE", "config"), &format!("profile {profile}"));
    keys.extend(section(&file("AWS_CONFIG_FILE", "config"), &profile));
    keys.extend(section(&file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), &profile));
    match (keys.remove("aws_access_key_id"), keys.remove("aws_secret_access_key")) {
        (Some(access_key_id), Some(secret_access_key)) => Ok(Some(Profile {
            access_key_id,
            secret_access_key,
            session_token: keys.remove("aws_session_token"),
            region: keys.remove("region"),
        })),
        _ if named.is_some() => Err(Error::config(format!(
            "AWS_PROFILE is `{profile}`, and ~/.aws/credentials holds no aws_access_key_id and aws_secret_access_key for it; log in and export the keys, or unset AWS_PROFILE"
        ))),
        _ => Ok(None),
    }
}

/// The `key = value` lines below `[name]`.
fn section(text: &str, name: &str) -> HashMap<String, String> {
    let mut inside = false;
    let mut found = HashMap::new();
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = header.trim() == name;
        } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
            found.insert(key.trim().to_string(), value.trim().to_string());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_holds_only_its_own_lines() {
        let text = "[default]\naws_access_key_id = a\n\n[other]\naws_access_key_id=b\n";
        assert_eq!(section(text, "default")["aws_access_key_id"], "a");
        assert_eq!(section(text, "other")["aws_access_key_id"], "b");
        assert!(section(text, "none").is_empty());
    }
}
