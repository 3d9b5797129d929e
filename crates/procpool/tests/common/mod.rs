//! What the tests of this folder stand on: stories under a watchdog, stories in a process of their own, and a look at
//! what a story left behind.
#![allow(dead_code, unused_imports, reason = "every file of tests uses its own part of this")]

mod alone;
mod errands;
mod gate;
mod inventory;
mod processes;
mod story;

pub(crate) use alone::{Program, alone, say, wait_to_be_killed};
pub(crate) use errands::{Errand, Errands, Record};
pub(crate) use gate::{Gate, wait_at};
pub(crate) use inventory::Inventory;
pub(crate) use processes::{children, is_alive, kill, name, parent, relatives, signal, state};
pub(crate) use story::{PATIENCE, Story, eventually, workers};
