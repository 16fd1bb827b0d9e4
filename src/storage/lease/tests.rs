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

/// A store whose clock can be set, and two who have clocks of their own.
fn with_clocks(name: &str) -> (Arc<crate::storage::simulated::World>, Holder, Arc<AtomicU64>) {
    let world = crate::storage::simulated::World::new(0, 0);
    world.now.store(1_000_000_000, Ordering::SeqCst);
    let here = Arc::new(AtomicU64::new(0));
    (world, Holder { clock: Clock::Simulated(here.clone()), ..holder(name, 1000) }, here)
}

#[tokio::test]
async fn a_clock_that_jumps_ahead_costs_the_lease_and_no_two_hold_it() {
    let (world, a, _) = with_clocks("a");
    let leases = world.plain();
    let first = taken(&leases, &a).await;
    world.now.fetch_add(86_400_000, Ordering::SeqCst);
    let (_, b, _) = with_clocks("b");
    let second = taken(&leases, &b).await;
    assert!(first.check().await.is_err());
    second.check().await.unwrap();
}

#[tokio::test]
async fn a_clock_that_was_set_back_keeps_nobody_waiting_for_one_who_is_gone() {
    let (world, a, _) = with_clocks("a");
    let leases = world.plain();
    drop(taken(&leases, &a).await);
    world.now.fetch_sub(86_400_000, Ordering::SeqCst);
    let (_, b, here) = with_clocks("b");
    let mut watched = None;
    for passed in [500, 500] {
        assert!(matches!(Lease::attempt_after(&leases, &b, &mut watched).await.unwrap(), Turn::Held(_)));
        here.fetch_add(passed, Ordering::SeqCst);
    }
    here.fetch_add(1001, Ordering::SeqCst);
    assert!(matches!(Lease::attempt_after(&leases, &b, &mut watched).await.unwrap(), Turn::Taken(_)));
}

#[tokio::test]
async fn a_clock_that_was_set_back_takes_nothing_from_one_who_is_alive() {
    let (world, a, of_a) = with_clocks("a");
    let leases = world.plain();
    let first = taken(&leases, &a).await;
    world.now.fetch_sub(86_400_000, Ordering::SeqCst);
    let (_, b, here) = with_clocks("b");
    let mut watched = None;
    for _ in 0..20 {
        for clock in [&of_a, &here, &world.now] {
            clock.fetch_add(333, Ordering::SeqCst);
        }
        first.renew().await.unwrap();
        assert!(matches!(Lease::attempt_after(&leases, &b, &mut watched).await.unwrap(), Turn::Held(_)));
    }
}

#[tokio::test]
async fn a_damaged_lease_is_told_or_waited_for() {
    let leases = open("memory://lease-damaged/leases").unwrap();
    let first = taken(&leases, &holder("a", 60_000)).await;
    let text = leases.get_existing(&key(first.number())).await.unwrap();
    crate::storage::damage::each("a lease", 500, &text, async |damaged| {
        leases.put(&key(1), damaged).await.unwrap();
        match Lease::attempt(&leases, &holder("b", 60_000)).await {
            Ok(Turn::Held(_)) => {}
            // the damage says that it was given back, or that its time is over
            Ok(Turn::Taken(second)) => leases.delete(&key(second.number())).await.unwrap(),
            Err(error) => assert!(error.message.contains("is not a lease"), "{error}"),
        }
    })
    .await;
}
