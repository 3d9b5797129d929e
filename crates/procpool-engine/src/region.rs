//! The one piece of shared memory of a pool, and typed views of its parts.
//!
//! All offsets are checked here: a view is a reference into the mapping or it does not exist (*I4*). No `&mut` to
//! shared memory is ever formed; words are atomics, and payload bytes are copied through raw pointers.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::slice;

use crate::arena::Zone;
use crate::ended::Ended;
use crate::layout::{Geometry, Header, INLINE, Layout, MAGIC, Seat, Slot, VERSION};
use crate::os::memory::{self, Mapping};
use crate::os::process;
use crate::queue::Queue;
#[cfg(feature = "faults")]
use crate::sync::AtomicU32;
use crate::sync::Ordering;
use crate::wake::{Idlers, SEATS};
use crate::wakeup::Cost;

/// How far a pool is in its life, as workers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Phase {
    /// Takes tasks.
    Running = 0,
    /// Takes no new tasks; a worker that finds none leaves.
    Closed = 1,
    /// Ends: a worker takes no task any more.
    Stopped = 2,
}

/// A mapped region.
pub(crate) struct Region {
    mapping: Mapping,
    layout: Layout,
    /// What the fork counter said when it was mapped.
    fork_generation: u64,
}

impl Region {
    /// Parent: makes a region, the largest that this process may have, and its descriptor.
    pub(crate) fn create(name: &str, mut geometry: Geometry) -> io::Result<(Self, OwnedFd)> {
        loop {
            match Self::try_create(name, geometry) {
                Ok(made) => return Ok(made),
                Err(error) => geometry = geometry.smaller().ok_or(error)?,
            }
        }
    }

    fn try_create(name: &str, geometry: Geometry) -> io::Result<(Self, OwnedFd)> {
        let layout = geometry.layout().expect("a geometry of `Geometry::largest` and below");
        let descriptor = memory::create(name, layout.length)?;
        let region = Self::map(&descriptor, layout)?;
        // Where address space is limited the program is left with as much as the pool takes: else its next thread, or
        // its next vector, would find no room.
        drop(Self::map(&descriptor, layout)?);
        region.label();
        Ok((region, descriptor))
    }

    /// Parent: writes what a worker must find to attach; again before each new worker (*I4*).
    pub(crate) fn label(&self) {
        let (header, geometry) = (self.header(), self.layout.geometry);
        let words = &header.geometry;
        words.slots.store(geometry.slots, Ordering::Relaxed);
        words.levels.store(geometry.levels, Ordering::Relaxed);
        words.small.store(geometry.small, Ordering::Relaxed);
        words.large.store(geometry.large, Ordering::Relaxed);
        header.version.store(VERSION, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
    }

    /// Worker: maps the region that the parent made.
    pub(crate) fn attach(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let length = usize::try_from(rustix::fs::fstat(descriptor)?.st_size).unwrap_or(0);
        if length < size_of::<Header>() {
            return Err(damaged("the descriptor is not a procpool region"));
        }
        let mapping = Mapping::new(descriptor, length)?;
        // SAFETY: the mapping is at least as long as the header, page-aligned, and any bytes are a valid `Header`.
        let header = unsafe { mapping.start().cast::<Header>().as_ref() };
        if header.magic.load(Ordering::Acquire) != MAGIC {
            return Err(damaged("the descriptor is not a procpool region"));
        }
        if header.version.load(Ordering::Relaxed) != VERSION {
            return Err(damaged("the region was made by another version of procpool"));
        }
        let words = &header.geometry;
        let geometry = Geometry {
            slots: words.slots.load(Ordering::Relaxed),
            levels: words.levels.load(Ordering::Relaxed),
            small: words.small.load(Ordering::Relaxed),
            large: words.large.load(Ordering::Relaxed),
        };
        let layout = geometry.layout().ok_or_else(|| damaged("the region's header is damaged"))?;
        if layout.length > length as u64 {
            return Err(damaged("the region is shorter than its header says"));
        }
        Ok(Self { mapping, layout, fork_generation: process::fork_generation() })
    }

    fn map(descriptor: &impl std::os::fd::AsFd, layout: Layout) -> io::Result<Self> {
        let length = usize::try_from(layout.length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mapping = Mapping::new(descriptor.as_fd(), length)?;
        Ok(Self { mapping, layout, fork_generation: process::fork_generation() })
    }

    /// Whether this process merely inherited the region from the one that mapped it, by a fork: then nothing in it is
    /// this process's to change.
    pub(crate) fn is_inherited(&self) -> bool {
        process::fork_generation() != self.fork_generation
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn header(&self) -> &Header {
        // SAFETY: see `view`.
        unsafe { self.view(0) }
    }

    /// Worker: the parent knows better (*I4*).
    pub(crate) fn phase(&self) -> Phase {
        match self.header().phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Closed,
            _ => Phase::Stopped,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.header().phase.store(phase as u32, Ordering::SeqCst);
    }

    pub(crate) fn wakeup(&self) -> &Cost {
        &self.header().wakeup
    }

    pub(crate) fn idlers(&self) -> &Idlers {
        &self.header().push.idlers
    }

    /// Parent: the word that says where workers and zygotes die.
    #[cfg(feature = "faults")]
    pub(crate) fn fault(&self) -> &AtomicU32 {
        &self.header().fault
    }

    /// Zygote, worker: the same, mapped for good and nothing else with it.
    #[cfg(feature = "faults")]
    pub(crate) fn map_fault(descriptor: BorrowedFd<'_>) -> io::Result<&'static AtomicU32> {
        let mapping = Box::leak(Box::new(Mapping::new(descriptor, size_of::<Header>())?));
        // SAFETY: as in `attach`; and it is never unmapped.
        Ok(&unsafe { mapping.start().cast::<Header>().as_ref() }.fault)
    }

    /// A seat; `None` beyond the last.
    pub(crate) fn seat(&self, seat: u32) -> Option<&Seat> {
        ((seat as usize) < SEATS)
            // SAFETY: see `view`; there are `SEATS` seats.
            .then(|| unsafe { self.view(self.layout.seats + u64::from(seat) * size_of::<Seat>() as u64) })
    }

    /// A slot; `None` beyond the last.
    pub(crate) fn slot(&self, slot: u32) -> Option<&Slot> {
        (u64::from(slot) < self.layout.geometry.slots)
            // SAFETY: see `view`; there are `geometry.slots` slots.
            .then(|| unsafe { self.view(self.layout.slots + u64::from(slot) * size_of::<Slot>() as u64) })
    }

    pub(crate) fn queue(&self) -> Queue<'_> {
        let header = self.header();
        // SAFETY: see `words`.
        let cells = unsafe {
            self.words(self.layout.cells, crate::queue::cells(self.layout.geometry.levels as usize))
        };
        Queue { head: &header.head, tail: &header.push.tail, levels: &header.levels, cells }
    }

    pub(crate) fn ended(&self) -> Ended<'_> {
        let slots = self.layout.geometry.slots;
        // SAFETY: see `words`.
        let (bits, summary) = unsafe {
            (
                self.words(self.layout.ended, slots.div_ceil(64)),
                self.words(self.layout.ended_summary, slots.div_ceil(4096)),
            )
        };
        Ended { slots: bits, summary, bed: &self.header().collector }
    }

    pub(crate) fn small(&self) -> Zone<'_> {
        // SAFETY: see `words`.
        let owners = unsafe { self.words(self.layout.small_owners, self.layout.geometry.small) };
        Zone { owners, high: &self.header().small_high }
    }

    pub(crate) fn large(&self) -> Zone<'_> {
        // SAFETY: see `words`.
        let owners = unsafe { self.words(self.layout.large_owners, self.layout.geometry.large) };
        Zone { owners, high: &self.header().large_high }
    }

    /// Copies `bytes` to `offset`. The caller owns the place: a block of its own.
    ///
    /// # Panics
    /// Where the bytes would not lie inside the region.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        let place = self.range(offset, bytes.len() as u64).expect("a place inside of the region");
        // SAFETY: the range lies in the mapping (checked above), and `bytes`, being a `&[u8]`, does not overlap what
        // this process owns in the region as a block not yet handed over.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// The bytes of a block that nobody writes any more.
    ///
    /// # Safety
    /// For as long as the slice lives, no process that keeps to the protocol writes there: the block is owned by
    /// this process, or by the parent for the task that this worker runs.
    pub(crate) unsafe fn bytes(&self, offset: u64, length: u64) -> Option<&[u8]> {
        let place = self.range(offset, length)?;
        // SAFETY: inside of the mapping by `range`, initialised since shared memory starts as zeroes; not written to
        // by the caller's promise.
        Some(unsafe { slice::from_raw_parts(place, length as usize) })
    }

    /// A copy of bytes that another process may write meanwhile, and which therefore mean nothing for sure.
    pub(crate) fn peek(&self, offset: u64, length: u64) -> Vec<u8> {
        let Some(place) = self.range(offset, length) else { return Vec::new() };
        // SAFETY: inside of the mapping by `range`, and any byte is a `u8`. A byte that another process writes at this
        // moment is read once, and as it happens to be: volatile.
        (0..length as usize).map(|index| unsafe { place.add(index).read_volatile() }).collect()
    }

    pub(crate) fn discard(&self, offset: u64, length: u64) {
        if self.range(offset, length).is_some() {
            self.mapping.discard(offset as usize, length as usize);
        }
    }

    fn range(&self, offset: u64, length: u64) -> Option<*mut u8> {
        let end = offset.checked_add(length)?;
        // SAFETY: `offset` is within the mapping, whose length is a `usize`.
        (end <= self.layout.length).then(|| unsafe { self.mapping.start().as_ptr().add(offset as usize) })
    }

    /// # Safety
    /// `offset` is one that the layout gives for a `T`, so that it lies in the mapping and is aligned; `T` is made of
    /// atomics and `UnsafeCell`s, for which all bytes are valid values.
    unsafe fn view<T>(&self, offset: u64) -> &T {
        debug_assert!(self.range(offset, size_of::<T>() as u64).is_some());
        // SAFETY: as above.
        unsafe { &*self.mapping.start().as_ptr().add(offset as usize).cast::<T>() }
    }

    /// # Safety
    /// As for `view`, for `count` words in a row.
    unsafe fn words<T>(&self, offset: u64, count: u64) -> &[T] {
        debug_assert!(self.range(offset, count * size_of::<T>() as u64).is_some());
        // SAFETY: as above.
        unsafe {
            slice::from_raw_parts(
                self.mapping.start().as_ptr().add(offset as usize).cast::<T>(),
                count as usize,
            )
        }
    }
}

impl Slot {
    /// Copies `bytes` into the slot. The slot is the caller's: unpublished, or claimed.
    pub(crate) fn write_inline(&self, bytes: &[u8]) {
        assert!(bytes.len() <= INLINE, "the caller chose a block for more");
        // SAFETY: within `inline` by the assertion; the caller owns the slot (*I1*).
        unsafe { self.inline.get().cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// A copy of the first bytes of the slot's payload, at most [`INLINE`]; as for [`Region::peek`].
    pub(crate) fn peek_inline(&self, length: usize) -> Vec<u8> {
        let place = self.inline.get().cast::<u8>();
        // SAFETY: within `inline`; otherwise as in `Region::peek`.
        (0..length.min(INLINE)).map(|index| unsafe { place.add(index).read_volatile() }).collect()
    }

    /// The first bytes of the slot's payload; none where there cannot be so many.
    ///
    /// # Safety
    /// For as long as the slice lives, no process that keeps to the protocol writes there: the worker has claimed the
    /// slot and not replied, or the task has ended and the parent has not freed the slot.
    pub(crate) unsafe fn inline_bytes(&self, length: usize) -> &[u8] {
        if length > INLINE {
            return &[];
        }
        // SAFETY: within `inline`; initialised, as shared memory is; not written to by the caller's promise.
        unsafe { slice::from_raw_parts(self.inline.get().cast::<u8>(), length) }
    }
}
