//! The world.

pub mod python;
pub mod tableau;
