//! Blocks: byte ranges of the arena, and who gives them back.

use std::sync::Arc;

use crate::arena::{Owner, Run, Search, Zone};
use crate::layout::{LARGE_EXTENT, SMALL_EXTENT};
use crate::region::Region;
use crate::shared::Shared;
use crate::sync::{AtomicBool, Ordering};

/// What must be aligned begins at a multiple of this, in bytes: a cache line.
pub const ALIGNMENT: u64 = 64;

/// Payloads up to this many bytes are cut from small extents.
const SMALL_LIMIT: u64 = 64 << 10;

/// A range of the region that begins with an extent. What it says was checked against the region's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl Block {
    /// Checks what was read from shared memory (*I4*): the start of an extent, and not beyond the zone's end.
    pub(crate) fn checked(region: &Region, offset: u64, length: u64) -> Option<Self> {
        let block = Self { offset, length };
        block.place(region)?;
        Some(block)
    }

    fn place<'r>(&self, region: &'r Region) -> Option<(Zone<'r>, Run)> {
        let layout = region.layout();
        let (zone, start, extent) = if self.offset >= layout.large {
            (region.large(), layout.large, LARGE_EXTENT)
        } else {
            (region.small(), layout.small, SMALL_EXTENT)
        };
        let into = self.offset.checked_sub(start)?;
        let first = usize::try_from(into / extent).ok()?;
        let count = usize::try_from(self.length.div_ceil(extent).max(1)).ok()?;
        let fits = first.checked_add(count)? <= zone.owners.len();
        (into % extent == 0 && fits).then_some((zone, Run { first, count }))
    }

    /// Gives the block back, as far as it is `owner`'s.
    pub(crate) fn release(&self, region: &Region, owner: Owner) {
        if let Some((zone, run)) = self.place(region) {
            zone.release(run, owner);
        }
    }

    /// Changes the owner of the whole block; false where part of it was not `from`'s.
    pub(crate) fn adopt(&self, region: &Region, from: Owner, to: Owner) -> bool {
        self.place(region).is_some_and(|(zone, run)| zone.adopt(run, from, to))
    }
}

/// One process's way to blocks.
#[derive(Debug)]
pub(crate) struct Allocator {
    owner: Owner,
    small: Search,
    large: Search,
}

/// Homes in a zone: the parent's and those that the workers share out among them.
const HOMES: usize = 16;

/// How far apart homes are at most, in bytes: far enough for what one process has in use at most times. Whoever needs
/// more goes on among the others' extents. Not farther, since all up to the last home is looked over after every death.
const SMALL_HOME: u64 = 4 << 20;
const LARGE_HOME: u64 = 64 << 20;

impl Allocator {
    pub(crate) fn parent(region: &Region) -> Self {
        Self::at_home(region, 0, Owner::PARENT)
    }

    pub(crate) fn worker(region: &Region, seat: u32) -> Self {
        Self::at_home(region, 1 + seat as usize % (HOMES - 1), Owner::worker(seat))
    }

    fn at_home(region: &Region, home: usize, owner: Owner) -> Self {
        let search =
            |zone: Zone<'_>, apart: u64| Search::new((zone.owners.len() / HOMES).min(apart as usize) * home);
        let small = search(region.small(), SMALL_HOME / SMALL_EXTENT);
        let large = search(region.large(), LARGE_HOME / LARGE_EXTENT);
        Self { owner, small, large }
    }

    pub(crate) fn owner(&self) -> Owner {
        self.owner
    }

    /// A block of `length` bytes; `None` while the arena has no such room.
    pub(crate) fn allocate(&mut self, region: &Region, length: u64) -> Option<Block> {
        let (small, large) = (region.layout().small, region.layout().large);
        let small = (length <= SMALL_LIMIT)
            .then(|| claim(region.small(), &mut self.small, small, SMALL_EXTENT, length, self.owner))
            .flatten();
        small.or_else(|| claim(region.large(), &mut self.large, large, LARGE_EXTENT, length, self.owner))
    }
}

fn claim(
    zone: Zone<'_>,
    search: &mut Search,
    start: u64,
    extent: u64,
    length: u64,
    owner: Owner,
) -> Option<Block> {
    let count = usize::try_from(length.div_ceil(extent).max(1)).ok()?;
    let run = zone.claim(search, count, owner)?;
    Some(Block { offset: start + run.first as u64 * extent, length })
}

/// A payload's block that is lent: readable for as long as the lease lives, then given back.
pub struct Lease {
    region: Arc<Region>,
    block: Block,
    owner: Owner,
    /// Whether the block is this process's to give back. An argument that a worker merely looks at is not.
    owned: AtomicBool,
    /// Bytes of the payload's head, which begins the block.
    head: u64,
    /// The parent's: an idle pool looks after memory that comes back to it.
    shared: Option<Arc<Shared>>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({} bytes)", self.block.length)
    }
}

impl Lease {
    /// A block that is the parent's own.
    pub(crate) fn owned(shared: Arc<Shared>, block: Block, head: u64) -> Self {
        Self {
            region: shared.region.clone(),
            block,
            owner: Owner::PARENT,
            owned: AtomicBool::new(true),
            head: head.min(block.length),
            shared: Some(shared),
        }
    }

    /// A block of the parent's that a worker reads while it runs the task.
    pub(crate) fn borrowed(region: Arc<Region>, block: Block, reader: Owner, head: u64) -> Self {
        let head = head.min(block.length);
        Self { region, block, owner: reader, owned: AtomicBool::new(false), head, shared: None }
    }

    /// Worker, before it finishes a task whose argument somebody still holds: from now on the block is its own,
    /// and is given back when the last holder lets go.
    pub(crate) fn keep(&self) {
        self.owned.store(true, Ordering::Release);
        self.block.adopt(&self.region, Owner::PARENT, self.owner);
    }

    /// The payload's head.
    pub fn head(&self) -> &[u8] {
        self.range(0, self.head)
    }

    /// The payload's buffers, one after the other; their start is a multiple of [`ALIGNMENT`].
    pub fn buffers(&self) -> &[u8] {
        let start = self.head.next_multiple_of(ALIGNMENT).min(self.block.length);
        self.range(start, self.block.length - start)
    }

    fn range(&self, start: u64, length: u64) -> &[u8] {
        // SAFETY: the block is this process's own, or the parent's for the task that this worker runs and, by `keep`,
        // for as long as anybody holds the lease.
        unsafe { self.region.bytes(self.block.offset + start, length) }.unwrap_or_default()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A forked child's copy gives nothing back.
        if self.owned.load(Ordering::Acquire) && !self.region.is_inherited() {
            self.block.release(&self.region, self.owner);
            self.shared.iter().for_each(|shared| shared.watch_again());
        }
    }
}
