//! How many items of a `map` travel together, where nobody says.
//!
//! All items are handed over at once, before anything is known of what they cost. So they are cut by their number alone,
//! and in such a way that it matters little how unevenly they cost: the queue gives each chunk to whoever is free, and
//! what is cut off last is small. Since none is very small, there are about twenty chunks for each worker, however many
//! items there are. Python's `chunksize="auto"` cuts maps in the same way.

/// No chunk is more than an 8th of a worker's share in what is left.
const LARGEST: usize = 8;

/// No chunk is less than a 32nd of a worker's share in the whole.
const SMALLEST: usize = 32;

/// The sizes of chunks, one after the other: each twice the one before, as long as what is left allows it. They do not end
/// where the items do: there may be more of them than were promised.
#[derive(Debug)]
pub(crate) struct Guided {
    workers: usize,
    left: usize,
    least: usize,
    next: usize,
}

impl Guided {
    /// For so many items and workers.
    pub(crate) fn new(items: usize, workers: usize) -> Self {
        let least = items.div_ceil(SMALLEST * workers).max(1);
        Self { workers, left: items, least, next: least }
    }
}

impl Iterator for Guided {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let most = self.left.div_ceil(LARGEST * self.workers);
        let size = self.next.min(most).max(self.least);
        self.left = self.left.saturating_sub(size);
        self.next = 2 * size;
        Some(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chunks of so many items.
    fn cut(items: usize, workers: usize) -> Vec<usize> {
        let mut left = items;
        let sizes = Guided::new(items, workers).map_while(|size| {
            let taken = size.min(left);
            left -= taken;
            (taken > 0).then_some(taken)
        });
        sizes.collect()
    }

    #[test]
    fn every_item_is_in_one_chunk_whatever_their_number() {
        for workers in [1, 2, 3, 64] {
            for items in (0..300).chain([1_000, 4_095, 4_096, 1_000_003]) {
                assert_eq!(
                    cut(items, workers).iter().sum::<usize>(),
                    items,
                    "{items} items, {workers} workers"
                );
            }
        }
    }

    #[test]
    fn few_items_travel_alone() {
        assert_eq!(cut(16, 2), [1; 16]);
    }

    #[test]
    fn chunks_grow_at_first_and_shrink_at_the_end() {
        let sizes = cut(100_000, 2);
        let largest = sizes.iter().position(|size| Some(size) == sizes.iter().max()).unwrap();
        assert!(sizes[..=largest].is_sorted(), "{sizes:?}");
        assert!(sizes[largest..].is_sorted_by(|one, next| one >= next), "{sizes:?}");
        assert!(sizes[0] * 3 < sizes[largest] && *sizes.last().unwrap() * 3 < sizes[largest], "{sizes:?}");
    }

    #[test]
    fn no_chunk_is_more_than_an_eighth_of_a_workers_share_in_what_is_left() {
        let mut left = 100_000;
        for size in cut(left, 4) {
            assert!(size <= left.div_ceil(32).max(100_000_usize.div_ceil(128)), "{size} of {left}");
            left -= size;
        }
    }

    #[test]
    fn there_are_no_more_chunks_of_many_items_than_of_some() {
        for workers in [1, 2, 16] {
            for items in [1_000, 100_000, 10_000_000] {
                let chunks = cut(items, workers).len();
                assert!(chunks <= 21 * workers, "{chunks} chunks of {items} items for {workers} workers");
            }
        }
    }

    #[test]
    fn items_beyond_those_that_were_promised_are_cut_all_the_same() {
        assert_eq!(Guided::new(0, 2).take(3).collect::<Vec<_>>(), [1; 3]);
    }
}
