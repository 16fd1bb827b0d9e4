use super::*;
use crate::storage::open;

fn holder(name: &str, ttl: u64) -> Holder {
    Holder { nonce: name.into(), ..Holder::new(name, Duration::from_millis(ttl)) }
}

async fn taken(leases: &Store, holder: &Holder) -> Arc<Lease> {
    match Lease::attempt(leases, holder).await.unwrap() {
        Turn::Taken(lease) => lease,
        Turn::Held(by) => panic!("held by {by}"),
    }
}

#[tokio::test]
async fn a_second_one_waits_until_the_first_is_done() {
    let leases = open("memory://lease-wait/leases").unwrap();
    let first = taken(&leases, &holder("a", 60_000)).await;
    assert!(matches!(Lease::attempt(&leases, &holder("b", 60_000)).await.unwrap(), Turn::Held(by) if by.contains('a')));
    first.release().await;
    assert_eq!(taken(&leases, &holder("b", 60_000)).await.number(), 2);
}

#[tokio::test]
async fn who_is_not_heard_of_for_too_long_loses_it_and_learns_so() {
    let leases = open("memory://lease-lost/leases").unwrap();
    let first = taken(&leases, &holder("a", 500)).await;
    first.check().await.unwrap();
    tokio::time::sleep(Duration::from_millis(700)).await;
    let second = taken(&leases, &holder("b", 60_000)).await;
    assert!(first.check().await.unwrap_err().message.contains("lost the lease"));
    assert!(first.renew().await.is_err());
    first.release().await;
    second.check().await.unwrap();
    assert_eq!(numbers(&leases).await.unwrap().len(), 1, "old turns stay");
}

#[tokio::test]
async fn a_lease_that_is_renewed_is_kept_and_one_that_is_dropped_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let leases = open(folder.path().to_str().unwrap()).unwrap();
    let go = || Ok(());
    let first = Lease::take(&leases, &holder("a", 1500), Duration::ZERO, go).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2000)).await;
    first.check().await.unwrap();
    let refused = Lease::take(&leases, &holder("b", 1500), Duration::ZERO, go).await.err().unwrap();
    assert_eq!(refused.kind, crate::error::Kind::Transient);
    drop(first);
    Lease::take(&leases, &holder("b", 60_000), Duration::ZERO, go).await.unwrap();
}
