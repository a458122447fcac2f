//! Long lists in several messages (KEP-5825): one alone may be longer than gRPC's clients take.

use std::pin::Pin;

use futures::{Stream, stream};
use tonic::{Response, Status};

/// Some kilobytes each: far below any limit.
const SIZE: usize = 100;

pub type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// None of an empty list.
pub fn parts<T, R>(
    all: Vec<T>,
    message: impl Fn(Vec<T>) -> R + Send + 'static,
) -> Response<Parts<R>>
where
    T: Send + 'static,
{
    let mut all = all.into_iter();
    let next = move || {
        let part: Vec<T> = all.by_ref().take(SIZE).collect();
        (!part.is_empty()).then(|| Ok(message(part)))
    };
    Response::new(Box::pin(stream::iter(std::iter::from_fn(next))))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn every_item_is_in_one_part() {
        for (count, sizes) in [
            (0, vec![]),
            (1, vec![1]),
            (SIZE, vec![SIZE]),
            (2 * SIZE + 1, vec![SIZE, SIZE, 1]),
        ] {
            let all: Vec<usize> = (0..count).collect();
            let got: Vec<Vec<usize>> = parts(all.clone(), |part| part)
                .into_inner()
                .map(Result::unwrap)
                .collect()
                .await;
            assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
            assert_eq!(got.concat(), all);
        }
    }
}
