//! Libraries that decode files panic on some damaged ones. Here that becomes an error like any other.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::{FutureExt, Stream, StreamExt};

/// What `decode` gives, or what it panicked with.
pub fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(decode)).map_err(in_words)
}

/// The same for a future.
pub async fn guarded_future<T>(decode: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(decode).catch_unwind().await.map_err(in_words)
}

/// The same for a stream, which ends there.
pub fn guarded_stream<S: Stream + Send>(decode: S) -> impl Stream<Item = Result<S::Item, String>> + Send {
    AssertUnwindSafe(decode).catch_unwind().map(|item| item.map_err(in_words))
}

fn in_words(panic: Box<dyn Any + Send>) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the decoder gave up: {}", text.unwrap_or_else(|| "it did not say why".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_with_its_words() {
        assert_eq!(guarded(|| 7), Ok(7));
        let told = guarded(|| -> u8 { panic!("index {} out of range", 9) }).unwrap_err();
        assert_eq!(told, "the decoder gave up: index 9 out of range");
        let stream = futures::stream::iter(0..3).map(|at| if at == 1 { panic!("no") } else { at });
        let all: Vec<_> = guarded_stream(stream).collect().await;
        assert_eq!(all, [Ok(0), Err("the decoder gave up: no".into())]);
        assert!(
            guarded_future(async {
                if true {
                    panic!("no")
                }
            })
            .await
            .is_err()
        );
    }
}
