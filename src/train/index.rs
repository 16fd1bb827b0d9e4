//! Which row a sample has.

use super::random::splitmix64;

/// Rows by sample id. The ids stand in a column already, so that a place in a table of row numbers is all that each needs: 6 bytes, where a
/// map of both takes 17 to 34.
#[derive(Debug, Default)]
pub struct RowIndex {
    /// 1 + row at the place that its id is hashed to, or the next free one; 0 for none. A third of them are free.
    slots: Vec<u32>,
}

impl RowIndex {
    /// # Errors
    /// An id that stands twice.
    pub fn new(ids: &[i64]) -> Result<Self, i64> {
        let mut index = RowIndex { slots: vec![0; ids.len() + ids.len() / 2 + 1] };
        for (row, id) in ids.iter().enumerate() {
            match index.slot(ids, *id) {
                (_, Some(_)) => return Err(*id),
                (free, None) => index.slots[free] = row as u32 + 1,
            }
        }
        Ok(index)
    }

    /// The row of `id` among the `ids` that the index was made of.
    pub fn find(&self, ids: &[i64], id: i64) -> Option<u32> {
        if self.slots.is_empty() { None } else { self.slot(ids, id).1 }
    }

    /// Where the id stands, with its row, or where it would.
    fn slot(&self, ids: &[i64], id: i64) -> (usize, Option<u32>) {
        let mut at = ((u128::from(splitmix64(id as u64)) * self.slots.len() as u128) >> 64) as usize;
        loop {
            match self.slots[at].checked_sub(1) {
                None => return (at, None),
                Some(row) if ids[row as usize] == id => return (at, Some(row)),
                Some(_) => at = if at + 1 == self.slots.len() { 0 } else { at + 1 },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_has_its_row_and_others_have_none() {
        let ids: Vec<i64> = (0..50_000).map(|at| (at * at * 7 - 3) * if at % 2 == 0 { 1 } else { -1 }).collect();
        let index = RowIndex::new(&ids).unwrap();
        assert!(ids.iter().enumerate().all(|(row, id)| index.find(&ids, *id) == Some(row as u32)));
        assert!((0..50_000).all(|at| index.find(&ids, at * 7 + 1).is_none()));
        assert_eq!(RowIndex::new(&[4, i64::MIN, -4, 4]).unwrap_err(), 4);
        assert_eq!(RowIndex::new(&[]).unwrap().find(&[], 0), None);
        assert_eq!(RowIndex::default().find(&[], 0), None);
    }
}
