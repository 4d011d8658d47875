//! A stream of rows that a task reads ahead of its consumer.

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Result, StoreError};

/// Maximum number of chunks that are read but not consumed yet.
pub(super) const MAX_CHUNKS_AHEAD: usize = 1;

/// Streams the rows that `reading` sends, then its error if it ends with one. A task that is cancelled or panics is an
/// error too, so that an incomplete stream is never taken for a complete one.
pub(super) fn stream_of<T: Send + 'static>(
    chunks: mpsc::Receiver<Vec<T>>,
    reading: JoinHandle<Result<()>>,
) -> BoxStream<'static, Result<T>> {
    let chunks = stream::unfold(Some((chunks, reading)), |state| async {
        let (mut chunks, reading) = state?;
        if let Some(chunk) = chunks.recv().await {
            return Some((Ok(chunk), Some((chunks, reading))));
        }
        match reading.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some((Err(error), None)),
            Err(cancelled) => Some((Err(StoreError::Unavailable(cancelled.into())), None)),
        }
    });
    chunks
        .flat_map(|chunk| match chunk {
            Ok(rows) => stream::iter(rows).map(Ok).left_stream(),
            Err(error) => stream::iter([Err(error)]).right_stream(),
        })
        .boxed()
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    #[tokio::test]
    async fn cancelled_reader_ends_the_stream_with_an_error() {
        let cancelled = tokio::spawn(std::future::pending());
        cancelled.abort();
        for (reading, ends_well) in [
            (tokio::spawn(async { Ok(()) }), true),
            (tokio::spawn(async { Err(StoreError::Unavailable("down".into())) }), false),
            (cancelled, false),
        ] {
            let (_, chunks) = mpsc::channel::<Vec<()>>(MAX_CHUNKS_AHEAD);
            assert_eq!(stream_of(chunks, reading).try_collect::<Vec<_>>().await.is_ok(), ends_well);
        }
    }
}
