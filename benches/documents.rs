//! How long a hostile document takes until it is refused, and a costly one within the limits until it is answered. The
//! documents are the tests'.
//!
//! `cargo bench --bench documents` runs all; with a word, those whose description contains it.
#![expect(unreachable_pub, reason = "files are shared by path")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock and its own variables")]

#[path = "../tests/it/transport/documents.rs"]
mod documents;
#[path = "support/lines.rs"]
mod lines;
#[path = "support/millis.rs"]
mod millis;
#[path = "support/requested_part.rs"]
mod requested_part;

use std::hint::black_box;
use std::time::{Duration, Instant};

use async_graphql::{EmptyMutation, EmptySubscription, Enum, InputObject, Object, Request, Schema, Variables};
use futures::executor::block_on;
use keymark::graphql::limits::{DocumentError, Documents, Limits};
use lines::{Better, Goal, Measured, report};
use millis::millis;
use mimalloc::MiMalloc;
use requested_part::requested_part;
use zeroizing_alloc::ZeroAlloc;

/// The allocator of the program.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const ROUNDS: usize = 21;
const GOAL_MS: f64 = 10.0;

fn main() {
    let filter = requested_part().unwrap_or_default();
    let schema = Schema::new(Query, EmptyMutation, EmptySubscription);
    let refuse = |text: &str, _: &str| {
        let documents = Documents::new(Limits::default());
        let refused = documents.parse(text).and_then(|document| {
            let operation = document.operation(None)?;
            documents.check_cost(&document, &operation.node, &Variables::default())
        });
        assert!(matches!(refused, Err(DocumentError::TooComplex(_))), "{refused:?}");
    };
    let answer = |text: &str, what: &str| {
        let document = Documents::new(Limits::default()).parse(text).expect("within the limits");
        let mut request = Request::new(text);
        request.operation_name = documents::operation_name(what);
        request.set_parsed_query(document.parsed().clone());
        black_box(block_on(schema.execute(request)));
    };
    measure("until a hostile document is refused", documents::hostile(), &filter, refuse);
    measure("until a costly document is answered", documents::costly_to_validate(), &filter, answer);
}

/// Reports the times of each document, the slowest first.
fn measure(title: &str, documents: Vec<(&str, String)>, filter: &str, run: impl Fn(&str, &str)) {
    let times = |what: &str, text: &str| {
        let mut times = [Duration::ZERO; ROUNDS];
        for time in &mut times {
            let began = Instant::now();
            run(text, what);
            *time = began.elapsed();
        }
        times.sort_unstable();
        times
    };
    let wanted = documents.into_iter().filter(|(what, _)| what.contains(filter));
    let mut measured: Vec<_> = wanted.map(|(what, text)| (times(what, &text), what)).collect();
    measured.sort_unstable_by_key(|(times, _)| std::cmp::Reverse(times[ROUNDS / 2]));
    for (times, what) in measured {
        let times = Measured::Rounds(millis(&times));
        report(title, what, "ms", Better::Less, Some(Goal::Median(GOAL_MS)), times);
    }
}

#[derive(Enum, Clone, Copy, PartialEq, Eq)]
enum Colour {
    Red,
    Green,
}

#[derive(InputObject)]
struct Filter {
    colours: Option<Vec<Colour>>,
    name: Option<String>,
}

struct Items(Option<Filter>);

#[Object]
impl Items {
    async fn total_count(&self) -> usize {
        self.0.as_ref().map_or(0, |filter| filter.colours.iter().len() + filter.name.iter().len())
    }
}

struct Nested;

#[Object]
impl Nested {
    async fn nested(&self) -> Self {
        Self
    }

    async fn name(&self) -> &str {
        "nested"
    }
}

struct Query;

#[Object]
impl Query {
    async fn hello(&self) -> &str {
        "world"
    }

    async fn nested(&self) -> Nested {
        Nested
    }

    async fn items(&self, filter: Option<Filter>) -> Items {
        Items(filter)
    }
}
