//! What a network has to beat: closed forms without a network.
//!
//! Beside a recommender stand [`ItemKnn`], whose scores are similarities of items, and [`Ease`], a
//! linear map from what a user has to what it would take, in closed form. Both learn from the items
//! that a [`RecommendTask`](crate::task::RecommendTask) trains on, so that
//! [`RecommendTask::measure`] judges them as it does a network.
//!
//! [`RecommendTask::measure`]: crate::task::RecommendTask::measure

mod ease;
mod item_knn;

pub use ease::Ease;
pub use item_knn::ItemKnn;

use crate::kernels;

/// How often items are taken together, item by item: who has `i` and `j`. Row `i` is handed to `f`
/// with the number of its item, all rows in parallel; what `f` gives is in the order of the items.
fn together<R: Send>(
    items: usize,
    own: &[Vec<u32>],
    f: impl Fn(usize, &[u32]) -> R + Sync,
) -> Vec<R> {
    let mut users = vec![Vec::new(); items];
    for (user, own) in (0u32..).zip(own) {
        own.iter().for_each(|&item| users[item as usize].push(user));
    }
    kernels::run((0..items).collect(), usize::MAX, |item| {
        let mut counts = vec![0u32; items];
        for &user in &users[item] {
            own[user as usize].iter().for_each(|&other| counts[other as usize] += 1);
        }
        f(item, &counts)
    })
}
