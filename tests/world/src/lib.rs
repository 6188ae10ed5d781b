//! The world.

pub mod python;
