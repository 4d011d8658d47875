//! Throttling: one quota per bucket, shared by all callers.

use std::time::Duration;

use keymark::domain::time::Timestamp;
use keymark::store::{Quota, Store};

use super::Factory;
use super::fixtures::*;

const QUOTA: Quota = Quota { burst: 3, interval: Duration::from_secs(10) };

pub async fn bucket_allows_its_burst_and_then_one_token_per_interval(factory: &dyn Factory) {
    let store = factory.open().await;
    assert_eq!(taken(&*store, "door", START).await, [Ok(()), Ok(()), Ok(()), Err(10 * SECOND)]);
    assert_eq!(
        taken(&*store, "door", START.plus(4 * SECOND)).await,
        [Err(6 * SECOND); 4],
        "a refused call takes no token"
    );
    assert_eq!(
        taken(&*store, "door", START.plus(Duration::from_millis(9_999))).await,
        [Err(Duration::from_millis(1)); 4]
    );
    let next = START.plus(10 * SECOND);
    assert_eq!(taken(&*store, "door", next).await, [Ok(()), Err(10 * SECOND), Err(10 * SECOND), Err(10 * SECOND)]);
    let much_later = START.plus(3600 * SECOND);
    assert_eq!(taken(&*store, "door", much_later).await, [Ok(()), Ok(()), Ok(()), Err(10 * SECOND)]);
}

pub async fn exactly_the_burst_of_50_concurrent_callers_passes(factory: &dyn Factory) {
    let instances = instances(factory).await;
    let quota = Quota { burst: 10, ..QUOTA };
    let take =
        move |store: std::sync::Arc<dyn Store>, now| async move { store.take_token("door", quota, now).await.unwrap() };

    let answers = concurrently(&instances, vec![START; 50], take).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    assert!(answers.into_iter().filter_map(Result::err).all(|wait| wait == 10 * SECOND));

    let answers = concurrently(&instances, vec![START.plus(20 * SECOND); 50], take).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2, "one token per interval");
}

pub async fn returned_token_can_be_taken_again(factory: &dyn Factory) {
    let store = factory.open().await;
    store.return_token("door", QUOTA).await.unwrap();
    assert_eq!(taken(&*store, "door", START).await, [Ok(()), Ok(()), Ok(()), Err(10 * SECOND)], "no token was taken");

    store.return_token("door", QUOTA).await.unwrap();
    assert_eq!(taken(&*store, "door", START).await, [Ok(()), Err(10 * SECOND), Err(10 * SECOND), Err(10 * SECOND)]);

    for _ in 0..3 {
        store.return_token("door", QUOTA).await.unwrap();
    }
    assert_eq!(taken(&*store, "door", START).await, [Ok(()), Ok(()), Ok(()), Err(10 * SECOND)]);
}

pub async fn arrival_of_a_bucket_can_be_read_and_raised(factory: &dyn Factory) {
    let store = factory.open().await;
    let names = ["none", "taken", "put"].map(str::to_owned);
    store.take_token("taken", QUOTA, START).await.unwrap().unwrap();
    store.put_arrival("put", START.plus(60 * SECOND)).await.unwrap();
    store.put_arrival("put", START).await.unwrap();
    let found = [Timestamp::default(), START.plus(QUOTA.interval), START.plus(60 * SECOND)];
    assert_eq!(store.find_arrivals(&names).await.unwrap(), found);
    assert_eq!(store.find_arrivals(&[]).await.unwrap(), []);

    store.purge(START.plus(59 * SECOND), START).await.unwrap();
    assert_eq!(store.find_arrivals(&names).await.unwrap(), [found[0], found[0], found[2]]);
    store.purge(START.plus(60 * SECOND), START).await.unwrap();
    assert_eq!(store.find_arrivals(&names).await.unwrap(), [found[0]; 3]);
}

pub async fn buckets_are_independent(factory: &dyn Factory) {
    let store = factory.open().await;
    let buckets = ["door", "door ", "Door", "door.a", "$door", "door/192.0.2.7", "door/2001:db8::/64", "dôor"];
    for bucket in buckets {
        assert_eq!(taken(&*store, bucket, START).await, [Ok(()), Ok(()), Ok(()), Err(10 * SECOND)], "{bucket}");
    }
    store.return_token("door", QUOTA).await.unwrap();
    for bucket in &buckets[1..] {
        assert_eq!(store.take_token(bucket, QUOTA, START).await.unwrap(), Err(10 * SECOND), "{bucket}");
    }
    assert_eq!(store.take_token("door", QUOTA, START).await.unwrap(), Ok(()));
}

pub async fn purge_removes_only_full_buckets(factory: &dyn Factory) {
    let store = factory.open().await;
    assert_eq!(store.take_token("full again", QUOTA, START).await.unwrap(), Ok(()));
    assert_eq!(taken(&*store, "still used", START).await, [Ok(()), Ok(()), Ok(()), Err(10 * SECOND)]);
    let later = START.plus(15 * SECOND);

    store.purge(later, START).await.unwrap();

    assert_eq!(taken(&*store, "full again", later).await, [Ok(()), Ok(()), Ok(()), Err(10 * SECOND)]);
    let wait = Duration::from_secs(5);
    assert_eq!(taken(&*store, "still used", later).await, [Ok(()), Err(wait), Err(wait), Err(wait)]);
}

/// Results of four consecutive calls at this time.
async fn taken(store: &dyn Store, bucket: &str, now: Timestamp) -> [Result<(), Duration>; 4] {
    let mut answers = [Ok(()); 4];
    for answer in &mut answers {
        *answer = store.take_token(bucket, QUOTA, now).await.unwrap();
    }
    answers
}
