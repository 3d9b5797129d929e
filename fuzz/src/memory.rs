//! How much memory a piece of code takes at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, with an account for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes taken and not given back since [`most`] began; more may be given back than were taken.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is ending has no account any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get().wrapping_add(bytes));
        MOST.with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: the system's allocator does it all; only numbers are written beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(layout.size().cast_signed().wrapping_neg());
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it is moved there are both.
        count(size.cast_signed());
        count(layout.size().cast_signed().wrapping_neg());
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// What `action` gives, and the most bytes that this thread held meanwhile beyond what it held before.
pub(crate) fn most<R>(action: impl FnOnce() -> R) -> (R, usize) {
    HELD.set(0);
    MOST.set(0);
    let result = action();
    (result, MOST.get().cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::most;

    #[test]
    fn the_most_is_counted_and_not_the_sum() {
        let (_, bytes) = most(|| (0..10).for_each(|_| drop(std::hint::black_box(vec![1_u8; 5000]))));
        assert_eq!(bytes, 5000);
    }
}
