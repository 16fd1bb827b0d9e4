//! Which row a sample has.

use super::random::splitmix64;
use crate::spill::{Column, pieces};
use crate::warehouse::place_of_sample;

/// Rows by sample id.
#[derive(Debug, Default)]
pub enum RowIndex {
    /// The ids stand in the order of sample tables, each once: a row is searched for, and nothing has to be held.
    #[default]
    Ordered,
    /// 1 + row at the place that its id is hashed to, or the next free one; 0 for none. A third of them are free. The ids stand in a column
    /// already, so that this is all that each needs: 6 bytes, where a map of both takes 17 to 34.
    Slots(Vec<u32>),
}

impl RowIndex {
    /// # Errors
    /// An id that stands twice.
    pub fn new(ids: &Column<i64>) -> Result<Self, i64> {
        let ordered = pieces(ids.len(), || ids.release()).all(|piece| {
            // with the last of the piece before
            let places = piece.start.saturating_sub(1)..piece.end;
            ids[places].iter().map(|id| place(*id)).is_sorted_by(|one, next| one < next)
        });
        if ordered {
            return Ok(RowIndex::Ordered);
        }
        let mut slots = vec![0; ids.len() + ids.len() / 2 + 1];
        for (row, id) in ids.iter().enumerate() {
            match slot(&slots, ids, *id) {
                (_, Some(_)) => return Err(*id),
                (free, None) => slots[free] = row as u32 + 1,
            }
        }
        Ok(RowIndex::Slots(slots))
    }

    /// The row of `id` among the `ids` that the index was made of. `from` is the row found before, and becomes this one: rows of other tables come in
    /// the same order, so that the next is near.
    pub fn find(&self, ids: &[i64], id: i64, from: &mut usize) -> Option<u32> {
        let row = match self {
            RowIndex::Ordered => search(ids, id, *from)?,
            RowIndex::Slots(slots) => slot(slots, ids, id).1? as usize,
        };
        *from = row;
        Some(row as u32)
    }
}

/// What orders samples: the hash, and the id where two have the same.
fn place(id: i64) -> (i64, i64) {
    (place_of_sample(id), id)
}

/// The row of `id` in ordered `ids`, in about as many steps as the logarithm of how far it is from the row `from`.
fn search(ids: &[i64], id: i64, from: usize) -> Option<usize> {
    let wanted = place(id);
    let reaches = |row: usize| ids.get(row).is_some_and(|id| place(*id) <= wanted);
    let (mut low, mut high) = (0, ids.len());
    if reaches(from) {
        let mut step = 1;
        low = from;
        while reaches(low + step) {
            low += step;
            step *= 2;
        }
        high = high.min(low + step);
    }
    let row = low + ids[low..high].partition_point(|id| place(*id) < wanted);
    (ids.get(row) == Some(&id)).then_some(row)
}

/// Where the id stands, with its row, or where it would.
fn slot(slots: &[u32], ids: &[i64], id: i64) -> (usize, Option<u32>) {
    let mut at = ((u128::from(splitmix64(id as u64)) * slots.len() as u128) >> 64) as usize;
    loop {
        match slots[at].checked_sub(1) {
            None => return (at, None),
            Some(row) if ids[row as usize] == id => return (at, Some(row)),
            Some(_) => at = if at + 1 == slots.len() { 0 } else { at + 1 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spill::AT_ONCE;

    fn index(ids: &[i64]) -> Result<RowIndex, i64> {
        RowIndex::new(&ids.to_vec().into())
    }

    #[test]
    fn each_id_has_its_row_and_others_have_none_in_the_order_of_samples_and_in_any_other() {
        let mixed: Vec<i64> = (0..50_000).map(|at| (at * at * 7 - 3) * if at % 2 == 0 { 1 } else { -1 }).collect();
        let mut ordered = mixed.clone();
        ordered.sort_by_key(|id| place(*id));
        for ids in [mixed, ordered] {
            let index = index(&ids).unwrap();
            assert_eq!(matches!(index, RowIndex::Ordered), ids.is_sorted_by_key(|id| place(*id)));
            let mut from = 0;
            let rows = (0..50_000).chain((0..50_000).step_by(7)).chain((0..50_000).rev().step_by(13)).chain([5, 5]);
            for row in rows {
                assert_eq!(index.find(&ids, ids[row], &mut from), Some(row as u32));
                assert_eq!(index.find(&ids, row as i64 * 7 + 1, &mut from), None);
                assert_eq!(from, row);
            }
        }
    }

    #[test]
    fn an_id_that_stands_twice_is_told_wherever_it_stands() {
        let mut ordered: Vec<i64> = (0..100).collect();
        ordered.sort_by_key(|id| place(*id));
        ordered.insert(40, ordered[40]);
        assert_eq!(index(&ordered).unwrap_err(), ordered[40]);
        assert_eq!(index(&[4, i64::MIN, -4, 4]).unwrap_err(), 4);
        // and where one piece of a long column ends and the next begins
        let mut long: Vec<i64> = (0..AT_ONCE as i64 + 10).collect();
        long.sort_by_key(|id| place(*id));
        assert!(matches!(index(&long), Ok(RowIndex::Ordered)));
        long[AT_ONCE] = long[AT_ONCE - 1];
        assert_eq!(index(&long).unwrap_err(), long[AT_ONCE]);
    }

    #[test]
    fn no_ids_have_no_rows() {
        assert_eq!(index(&[]).unwrap().find(&[], 0, &mut 0), None);
        assert_eq!(RowIndex::default().find(&[], 0, &mut 7), None);
    }
}
