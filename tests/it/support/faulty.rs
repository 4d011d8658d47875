//! A store that counts its calls, holds or fails them on command, and runs a hook after a call.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use keymark::domain::changes::{Row, Write};
use keymark::store::intercepted::{Intercept, Intercepted};
use keymark::store::{Feed, Result, StoreError};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::within;

/// The cause of the injected failures. It may appear in the log, but in no response.
pub const CAUSE: &str = "connection to 10.1.2.3:27017 refused: driver-internal-detail";

/// A store that applies the faults of its [`Switch`].
pub type Faulty = Intercepted<Switch>;

/// Controls a [`Faulty`] store.
#[derive(Clone, Default)]
pub struct Switch(Arc<State>);

#[derive(Default)]
struct State {
    fails: AtomicBool,
    /// The calls of this name that are still to be held, and until when.
    held: Mutex<Option<(&'static str, usize, CancellationToken)>>,
    /// Runs once, after the next call of this name and before it returns.
    after: Mutex<Option<(&'static str, BoxFuture<'static, ()>)>>,
    /// The number of calls by name.
    calls: watch::Sender<HashMap<&'static str, u64>>,
    /// Ends the open feeds.
    feeds: Mutex<CancellationToken>,
    /// How often a feed delivers its next audited change; once unless set.
    deliveries: Mutex<Option<usize>>,
    skips_leases: AtomicBool,
}

impl Switch {
    pub fn fail(&self) {
        self.0.fails.store(true, Ordering::SeqCst);
    }

    pub fn work(&self) {
        self.0.fails.store(false, Ordering::SeqCst);
    }

    /// Holds the next `count` calls of this name until the guard is dropped. They are counted before.
    pub fn hold(&self, call: &'static str, count: usize) -> DropGuard {
        let released = CancellationToken::new();
        *self.0.held.lock().unwrap() = Some((call, count, released.clone()));
        released.drop_guard()
    }

    fn held(&self, call: &str) -> Option<CancellationToken> {
        let mut held = self.0.held.lock().unwrap();
        let (_, count, released) = held.as_mut().filter(|(name, count, _)| *name == call && *count > 0)?;
        *count -= 1;
        Some(released.clone())
    }

    /// Runs `hook` once, after the next call of this name has been carried out and before it returns.
    pub fn after(&self, call: &'static str, hook: impl Future<Output = ()> + Send + 'static) {
        *self.0.after.lock().unwrap() = Some((call, Box::pin(hook)));
    }

    /// The number of calls with one of these names so far.
    pub fn calls(&self, names: &[&str]) -> u64 {
        let calls = self.0.calls.borrow();
        names.iter().filter_map(|name| calls.get(name)).sum()
    }

    /// Waits until a call of this name was made `count` times.
    pub async fn wait_for_calls(&self, name: &str, count: u64) {
        let mut calls = self.0.calls.subscribe();
        let reached = calls.wait_for(|calls| calls.get(name).is_some_and(|made| *made >= count));
        within(reached).await.expect("the switch lives");
    }

    /// Ends the open feeds.
    pub fn break_feeds(&self) {
        std::mem::take(&mut *self.0.feeds.lock().unwrap()).cancel();
    }

    /// Lets a feed deliver its next audited change this many times: 0 skips it.
    pub fn deliver_next(&self, times: usize) {
        *self.0.deliveries.lock().unwrap() = Some(times);
    }

    /// Whether feeds skip the leases that are put.
    pub fn skip_leases(&self, skips: bool) {
        self.0.skips_leases.store(skips, Ordering::SeqCst);
    }

    fn hook(&self, call: &str) -> Option<BoxFuture<'static, ()>> {
        self.0.after.lock().unwrap().take_if(|(name, _)| *name == call).map(|(_, hook)| hook)
    }
}

impl Intercept for Switch {
    async fn call<T: Send>(&self, name: &'static str, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.0.calls.send_modify(|calls| *calls.entry(name).or_default() += 1);
        if self.0.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable(CAUSE.into()));
        }
        if let Some(released) = self.held(name) {
            released.cancelled().await;
        }
        let result = call.await;
        if let Some(hook) = self.hook(name) {
            hook.await;
        }
        result
    }

    fn feed(&self, feed: Feed) -> Feed {
        let broken = self.0.feeds.lock().unwrap().clone();
        let switch = self.clone();
        let delivered = feed.flat_map(move |item| match item {
            Ok(change) if change.entry.is_some() => {
                let times = switch.0.deliveries.lock().unwrap().take().unwrap_or(1);
                stream::iter(vec![change; times]).map(Ok).boxed()
            }
            Ok(change) if matches!(change.writes[..], [Write::Put(Row::Lease(_))]) => {
                let is_skipped = switch.0.skips_leases.load(Ordering::SeqCst);
                stream::iter((!is_skipped).then_some(Ok(change))).boxed()
            }
            other => stream::iter([other]).boxed(),
        });
        delivered.take_until(broken.cancelled_owned()).boxed()
    }
}
