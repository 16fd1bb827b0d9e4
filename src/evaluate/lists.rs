//! The lists that a block of users would be shown, by every way to rank.

use crate::error::Result;
use crate::index::SearchIndex;
use crate::retrieval::exact_top;

use super::sets::ItemSets;

/// Most items fetched from the index for one user beside the K wanted, to make up for those he has had. A user who has had more,
/// all of them near his taste, gets a shorter list, as he would from a service.
const MOST_EXTRA: usize = 4096;

/// Lists of item positions by user of a block, best first, without (`open`) and with the user's seen items left out.
pub struct Lists {
    pub open: Vec<Vec<u32>>,
    pub masked: Vec<Vec<u32>>,
}

/// By exact inner product of user vectors `[users, dim]` and item vectors `[items, dim]`.
pub fn exact(vectors: &[f32], items: &[f32], dim: usize, users: &[u32], seen: &ItemSets, k: usize) -> Lists {
    let keep: Vec<usize> = users.iter().map(|user| k + seen.of(*user).len()).collect();
    let found = exact_top(vectors, items, dim, &keep);
    let positions = |hits: &Vec<(f32, u32)>| hits.iter().map(|hit| hit.1).collect::<Vec<u32>>();
    let found: Vec<Vec<u32>> = found.iter().map(positions).collect();
    let masked = found.iter().zip(users).map(|(list, user)| without(list, seen.of(*user), k)).collect();
    let open = found.into_iter().map(|mut list| {
        list.truncate(k);
        list
    });
    Lists { open: open.collect(), masked }
}

/// By the index, with the search parameters it was loaded with.
pub fn indexed(index: &SearchIndex, vectors: &[f32], users: &[u32], seen: &ItemSets, k: usize) -> Result<Lists> {
    let (dim, items) = (index.dim(), index.item_ids().len());
    let fetch = |rows: &[usize], count: usize| -> Result<Vec<Vec<u32>>> {
        let queries: Vec<f32> = rows.iter().flat_map(|row| &vectors[row * dim..][..dim]).copied().collect();
        let (_, positions) = index.search(&queries, count)?;
        let list = |found: &[i64]| found.iter().filter_map(|at| u32::try_from(*at).ok()).collect();
        Ok(positions.chunks(count).map(list).collect())
    };
    let all: Vec<usize> = (0..users.len()).collect();
    let open = fetch(&all, k.min(items))?;
    // users who have had about as much are searched together
    let extra = |row: usize| match seen.of(users[row]).len() {
        0 => 0,
        had => had.next_power_of_two().min(MOST_EXTRA),
    };
    let mut masked = open.clone();
    let mut rest: Vec<usize> = all.into_iter().filter(|row| extra(*row) > 0).collect();
    rest.sort_by_key(|row| extra(*row));
    for rows in rest.chunk_by(|a, b| extra(*a) == extra(*b)) {
        for (row, list) in rows.iter().zip(fetch(rows, (k + extra(rows[0])).min(items))?) {
            masked[*row] = without(&list, seen.of(users[*row]), k);
        }
    }
    Ok(Lists { open, masked })
}

/// By popularity: `order` has all items, the most popular first.
pub fn popular(order: &[u32], users: &[u32], seen: &ItemSets, k: usize) -> Lists {
    let open = order[..k.min(order.len())].to_vec();
    Lists {
        open: vec![open; users.len()],
        masked: users.iter().map(|user| without(order, seen.of(*user), k)).collect(),
    }
}

/// The first `k` of `list` that are not in `seen` (ascending).
fn without(list: &[u32], seen: &[u32], k: usize) -> Vec<u32> {
    list.iter().copied().filter(|item| seen.binary_search(item).is_err()).take(k).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_list_is_filled_up_from_below_and_may_run_dry() {
        let seen = ItemSets::new(3, vec![(1, 0), (1, 2), (2, 0), (2, 1), (2, 2), (2, 3)]);
        let items = [0.9, 0.8, 0.7, 0.6];
        let lists = exact(&[1.0, 1.0, 1.0], &items, 1, &[0, 1, 2], &seen, 2);
        assert_eq!(lists.open, [[0, 1]; 3]);
        assert_eq!(lists.masked, [vec![0, 1], vec![1, 3], vec![]]);
        let lists = popular(&[3, 2, 1, 0], &[0, 1, 2], &seen, 2);
        assert_eq!(lists.open, [[3, 2]; 3]);
        assert_eq!(lists.masked, [vec![3, 2], vec![3, 1], vec![]]);
    }
}
