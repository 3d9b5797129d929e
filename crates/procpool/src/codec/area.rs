//! A buffers' area outside of shared memory, for tests and fuzzing.

use std::sync::Arc;

use super::{BUFFER_ALIGNMENT, Encoded, Lease};

/// A buffers' area as the engine lends it, or, with `shift`, as it never should.
pub(crate) struct Area {
    memory: Vec<u8>,
    start: usize,
}

impl Area {
    pub(crate) fn shifted(content: &[u8], shift: usize) -> Arc<Area> {
        let mut memory = vec![0; content.len() + 2 * BUFFER_ALIGNMENT];
        let start = memory.as_ptr().align_offset(BUFFER_ALIGNMENT) + shift;
        memory[start..start + content.len()].copy_from_slice(content);
        memory.truncate(start + content.len());
        Arc::new(Area { memory, start })
    }
}

impl Lease for Area {
    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..]
    }
}

/// Copies the buffers as the engine does.
pub(crate) fn area_of(encoded: &Encoded) -> Vec<u8> {
    let mut area = vec![0; encoded.area_length()];
    for buffer in &encoded.buffers {
        area[buffer.offset..][..buffer.bytes().len()].copy_from_slice(buffer.bytes());
    }
    area
}
