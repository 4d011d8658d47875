//! Rows that are read ahead of whoever takes them.

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Result, StoreError};

/// Most chunks that are read and not taken.
pub(super) const CHUNKS_AHEAD: usize = 1;

/// The rows that `reading` sends, then its error if it ended with one. A reader that was cut short is an error too:
/// rows must not be missing unnoticed.
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
            Err(cut_short) => Some((Err(StoreError::Unavailable(cut_short.into())), None)),
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
    async fn a_reader_that_is_cut_short_does_not_pass_for_one_that_came_to_its_end() {
        let cut_short = tokio::spawn(std::future::pending());
        cut_short.abort();
        for (reading, ends_well) in [
            (tokio::spawn(async { Ok(()) }), true),
            (tokio::spawn(async { Err(StoreError::Unavailable("down".into())) }), false),
            (cut_short, false),
        ] {
            let (_, chunks) = mpsc::channel::<Vec<()>>(CHUNKS_AHEAD);
            assert_eq!(stream_of(chunks, reading).try_collect::<Vec<_>>().await.is_ok(), ends_well);
        }
    }
}
