//! Helpers for all tests: apps and their clients, real processes, sockets and faults.

pub mod actors;
pub mod certificates;
pub mod faulty;
pub mod gateways;
pub mod mongod;
pub mod process;
pub mod root_fields;
pub mod sockets;

use std::time::Duration;

/// Awaits the future for 30 s at most, so that a test that hangs fails.
pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("not within the time limit")
}

/// Generates two tests for each case, one per store. A case is a function that takes an [`App`](actors::App).
macro_rules! on_both_stores {
    [$($case:ident),+ $(,)?] => {$(
        mod $case {
            use $crate::support::actors::App;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() {
                super::$case(App::embedded().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn mongodb() {
                super::$case(App::mongodb().await).await;
            }
        }
    )+};
}

/// The same for a case that takes the `Place` of its module, where real processes run.
macro_rules! at_both_places {
    [$($case:ident),+ $(,)?] => {$(
        mod $case {
            #[tokio::test]
            async fn embedded() {
                super::$case(super::Place::embedded()).await;
            }

            #[tokio::test]
            async fn mongodb() {
                super::$case(super::Place::mongodb().await).await;
            }
        }
    )+};
}

pub(crate) use {at_both_places, on_both_stores};
