//! A life as bytes, for fuzzing: every sixteen of them are a step, so that bytes which are inserted, removed or copied
//! by a fuzzer in its blind way still tell of a life.

use std::sync::atomic::Ordering;

use super::SEATS;
use super::house::{House, Step, limits};
use super::scribble::{Part, Scribble, Value};

const PARTS: [Part; 9] = [
    Part::Header,
    Part::Seats,
    Part::Ended,
    Part::Summary,
    Part::Cells,
    Part::SmallOwners,
    Part::LargeOwners,
    Part::Slots,
    Part::Payloads,
];

/// What makes a step: which one, three small numbers, a middling and a large one.
struct Record {
    which: u8,
    x: u8,
    y: u8,
    z: u8,
    count: u32,
    value: u64,
}

impl Record {
    fn read(&[which, x, y, z, a, b, c, d, ref value @ ..]: &[u8; 16]) -> Self {
        let (count, value) = (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(*value));
        Self { which, x, y, z, count, value }
    }

    fn step(&self) -> Step {
        let worker = usize::from(self.x) % SEATS as usize;
        let task = usize::from(self.x);
        match self.which % 18 {
            0..3 => Step::Scribble(self.scribble()),
            3 => Step::Submit {
                length: self.length(),
                buffer: usize::from(self.y) * 12,
                limits: limits(self.z & 1 == 1, u32::from(self.z >> 1 & 3)),
                // Seldom, as sleeps are: threads that wait for one another make lives slow.
                is_listened_to: self.z >= 0xf0,
            },
            4 => Step::Claim(worker),
            5 => Step::Finish(worker, self.length(), u32::from(self.y % 6)),
            6 => Step::Die(worker),
            7 => Step::Audit(u32::from(self.x) % (1 << SEATS)),
            8 => Step::Cancel(task),
            9 => Step::CancelRunning(task),
            10 if self.y >= 0xf0 => Step::Wait(task),
            10 => Step::Look(task),
            11 => Step::Take(task),
            12 => Step::Drop(task),
            13 => Step::Reclaim,
            14 => Step::Stats,
            15 => Step::WakeAll,
            16 => Step::Attach,
            _ if self.y & 1 == 1 => Step::Restate,
            _ => Step::Trim(usize::from(self.x)),
        }
    }

    /// Of a payload: for the slot, for small extents or for a large one.
    fn length(&self) -> usize {
        const LONGEST: u32 = 70_000;
        (self.count % (LONGEST + 1)) as usize
    }

    fn scribble(&self) -> Scribble {
        let [small, middle, large, ..] = self.value.to_le_bytes().map(u64::from);
        let value = match self.y % 6 {
            0 | 1 => Value::Any(self.value),
            2 => Value::Word(small % 16, middle % 8, large),
            3 => Value::Entry(small % 16, middle),
            4 => Value::Offset(small, middle),
            _ => Value::Copy(self.value as usize),
        };
        let part = PARTS[usize::from(self.x) % PARTS.len()];
        Scribble { part, place: self.count as usize, value }
    }
}

/// Lives through what `script` tells, in a pool without processes.
///
/// # Panics
/// Where the parent does what *I4* says that it never does; and where something is mended although nobody scribbled.
pub fn live(script: &[u8]) {
    let mut steps: Vec<Step> =
        script.as_chunks().0.iter().map(|record| Record::read(record).step()).collect();
    let is_honest = !steps.iter().any(|step| matches!(step, Step::Scribble(_)));
    let mut house = House::new();
    for step in &mut steps {
        if is_honest && let Step::Audit(alive) = step {
            // All workers live until they die.
            *alive = u32::MAX;
        }
        house.step(step);
    }
    let repairs = house.shared.counters.repairs.load(Ordering::Relaxed);
    assert!(!is_honest || repairs == 0, "something was mended that nobody broke");
    house.end();
}
