//! What an object store's error means for the operator: whose fault, what to do, and what the service said, in a line.

use super::store::{beyond, expired, full, full_text};
use crate::error::Kind;

pub struct Blame {
    pub kind: Kind,
    /// What is the matter and what to do.
    pub advice: String,
    /// The service's or system's own words.
    pub said: String,
}

/// `doing` is what was tried: list, read, look at, write, create, delete.
pub fn blame(error: &object_store::Error, doing: &str) -> Blame {
    let text = full_text(error);
    let (kind, advice) = advice(error, &text, doing);
    Blame { kind, advice, said: said(error, &text) }
}

fn advice(error: &object_store::Error, text: &str, doing: &str) -> (Kind, String) {
    use object_store::Error::*;
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let config = |advice: String| (Kind::Config, advice);
    let (key, endpoint) = (variable("AWS_ACCESS_KEY_ID"), endpoint());
    match error {
        _ if expired(text) => (
            Kind::Transient,
            "the job's credentials have expired; run it again with new ones, what was finished is kept".into(),
        ),
        _ if beyond(text) => config("it is damaged: it tells of bytes beyond its end; write it anew".into()),
        _ if has(&["NoSuchUpload"]) => (Kind::Transient, "the store has lost the upload; try again".into()),
        _ if has(&["NoSuchBucket"]) => config(format!(
            "there is no such bucket at {endpoint}; look at the bucket in the config, and at AWS_ENDPOINT_URL if it is not with AWS"
        )),
        _ if has(&["RequestTimeTooSkewed", "RequestInTheFuture"]) => config(
            "this machine's clock differs from the store's by more than the store allows; set the clock (NTP) and run it again".into(),
        ),
        _ if has(&["InvalidAccessKeyId"]) => {
            config(format!("the store at {endpoint} does not know the access key {key}; look at AWS_ACCESS_KEY_ID or AWS_PROFILE"))
        }
        _ if has(&["SignatureDoesNotMatch"]) => config(format!(
            "the secret does not belong to the access key {key}; look at AWS_SECRET_ACCESS_KEY, also for a character that was lost"
        )),
        _ if has(&["PermanentRedirect", "AuthorizationHeaderMalformed", "incorrectly configured region"]) => {
            let found = tag(text, "Region").map(|region| format!(", {region}")).unwrap_or_default();
            let region = variable("AWS_REGION");
            config(format!("the bucket is in another region{found}; AWS_REGION is {region}: set it to the bucket's"))
        }
        _ if has(&["169.254.169.254", "169.254.170.2"]) => (
            Kind::Transient,
            "there are no credentials in the environment, and the machine has no role that gives some; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE".into(),
        ),
        _ if has(&["AccessDenied"]) => {
            config(format!("permission was denied; the credentials (access key: {key}) need {} for it", action(doing)))
        }
        NotFound { .. } => config(format!("it does not exist at {endpoint}; look at the path and bucket in the config")),
        PermissionDenied { .. } => config("permission was denied; the job's credentials must allow it".into()),
        Unauthenticated { .. } => config(
            "the store does not accept the credentials; look at AWS_ACCESS_KEY_ID, AWS_PROFILE or the role".into(),
        ),
        _ if full(text) => (
            Kind::Transient,
            "the disk is full, or a limit on the size of files is reached; make room and run it again, what was finished is kept".into(),
        ),
        _ if has(&["Permission denied", "Read-only file system"]) => {
            config("permission was denied; the job's user must be able to do that".into())
        }
        _ if has(&["Not a directory", "Is a directory"]) => {
            config("a file stands where a folder is needed, or the other way round".into())
        }
        _ if has(&["Connection refused", "dns error", "failed to lookup address"]) => (
            Kind::Transient,
            format!("nobody answers at {endpoint}; look at AWS_ENDPOINT_URL, or try again if it is right"),
        ),
        _ => (Kind::Transient, "the store did not answer as it should; try again".into()),
    }
}

/// `InvalidAccessKeyId: The key does not exist`, or the innermost cause.
fn said(error: &object_store::Error, text: &str) -> String {
    match (tag(text, "Code"), tag(text, "Message")) {
        (Some(code), Some(message)) => format!("the store says {code}: {message}"),
        (Some(code), None) => format!("the store says {code}"),
        _ => {
            let mut cause: &dyn std::error::Error = error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            let words = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            words.chars().take(300).collect()
        }
    }
}

/// What stands in an element of an answer in XML.
fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inside, _)| inside.trim()).filter(|inside| !inside.is_empty())
}

fn action(doing: &str) -> &'static str {
    match doing {
        "list" => "s3:ListBucket",
        "write" | "create" => "s3:PutObject",
        "delete" => "s3:DeleteObject",
        _ => "s3:GetObject",
    }
}

fn variable(name: &str) -> String {
    std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or("not set".into())
}

fn endpoint() -> String {
    let named = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"].iter().find_map(|name| std::env::var(name).ok());
    named.unwrap_or("the store".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_by_its_code_and_message_alone() {
        let body = "Client error with status 403 Forbidden: <?xml?><Error><Code>SignatureDoesNotMatch</Code><Message>It differs</Message><HostId>x</HostId></Error>";
        let error = object_store::Error::Generic { store: "S3", source: body.into() };
        let blame = blame(&error, "list");
        assert_eq!(blame.kind, Kind::Config);
        assert_eq!(blame.said, "the store says SignatureDoesNotMatch: It differs");
        assert!(blame.advice.contains("AWS_SECRET_ACCESS_KEY"), "{}", blame.advice);
    }
}
