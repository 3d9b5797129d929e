//! Anonymous memory that processes share: a sealed `memfd`, mapped at any address.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};
use rustix::process::{Resource, getrlimit};

use super::process;

/// Creates `length` bytes of zeroed memory without a name, sealed so that nobody can shrink or grow it: a
/// mapping of it can never meet `SIGBUS` for lack of a file behind it.
///
/// # Errors
/// What memfd_create(2), ftruncate(2) and fcntl(2) report; `EFBIG` where `RLIMIT_FSIZE` is smaller.
pub fn create(name: &str, length: u64) -> io::Result<OwnedFd> {
    // Beyond the limit ftruncate would not only fail but raise SIGXFSZ, which kills.
    if getrlimit(Resource::Fsize).current.is_some_and(|limit| limit < length) {
        return Err(Errno::FBIG.into());
    }
    let memory = create_unsized(name)?;
    ftruncate(&memory, length)?;
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(memory)
}

/// Kernels from 6.3 want to be told that the memory is not for programs; older ones do not know the flag.
fn create_unsized(name: &str) -> io::Result<OwnedFd> {
    // The name is for people; the kernel takes up to 249 bytes of it, and no NUL.
    let name: String = name.chars().filter(|&letter| letter != '\0').take(60).collect();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match memfd_create(&*name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => Ok(memfd_create(&*name, flags)?),
        other => Ok(other?),
    }
}

/// Shared memory, mapped into this process for as long as the value lives.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping is an address range that belongs to the process, not to a thread; what is read and written
// through it is the business of those who turn the pointer into references.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes of `memory`, readable and writable, shared with all who map it.
    ///
    /// # Errors
    /// What mmap(2) reports: `ENOMEM` where `RLIMIT_AS` leaves no room.
    pub fn new(memory: BorrowedFd<'_>, length: usize) -> io::Result<Self> {
        // SAFETY: the kernel chooses the address, so no mapping that exists is replaced.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED | MapFlags::NORESERVE,
                memory.as_fd(),
                0,
            )?
        };
        let mapping = Self { start: NonNull::new(start.cast()).ok_or(Errno::NOMEM)?, length };
        #[cfg(shuttle)]
        crate::whole::memory::map(mapping.start, length);
        // A core dump is about the program; terabytes of address space do not belong in it.
        let _ = mapping.advise(0, length, Advice::LinuxDontDump);
        Ok(mapping)
    }

    /// The first byte. Valid for `length` bytes while the mapping lives.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many bytes are mapped.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Gives those pages back to the system which lie in a range as a whole; they read as zeroes afterwards, in every
    /// process. The kernel itself would round the range's end up, and take what lies beyond it.
    pub(crate) fn discard(&self, offset: usize, length: usize) {
        let page = process::page_size();
        let (first, end) = (offset.next_multiple_of(page), (offset + length) / page * page);
        if first < end {
            // Where the kernel refuses, the memory merely stays in use.
            let _ = self.advise(first, end - first, Advice::LinuxRemove);
        }
    }

    fn advise(&self, offset: usize, length: usize, advice: Advice) -> io::Result<()> {
        assert!(offset.checked_add(length).is_some_and(|end| end <= self.length), "a range of this mapping");
        // SAFETY: the range lies in this mapping. `LinuxRemove` zeroes memory that others may look at; its only
        // caller owns the extents of the range.
        unsafe { madvise(self.start.as_ptr().add(offset).cast(), length, advice)? };
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[cfg(shuttle)]
        crate::whole::memory::unmap(self.start);
        // SAFETY: the range was mapped in `new`, and all references into it borrow from this value.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore)]
    fn what_lies_beside_a_range_that_is_discarded_stays() {
        let page = process::page_size();
        let memory = create("discard", 4 * page as u64).unwrap();
        let mapping = Mapping::new(memory.as_fd(), 4 * page).unwrap();
        // SAFETY: the mapping is this long, and nobody else has it.
        let bytes = unsafe { std::slice::from_raw_parts_mut(mapping.start().as_ptr(), 4 * page) };
        for (first, end) in [(0, page + 1), (1, page + 1), (page - 1, 3 * page + 1), (page, 3 * page), (5, 6)]
        {
            bytes.fill(7);
            mapping.discard(first, end - first);
            let kept = |(place, &byte): (usize, &u8)| byte == 7 || (first..end).contains(&place);
            assert!(bytes.iter().enumerate().all(kept), "{first}..{end}");
            let whole = first.next_multiple_of(page)..end / page * page;
            assert!(bytes.get(whole).into_iter().flatten().all(|&byte| byte == 0), "{first}..{end}");
        }
    }
}
