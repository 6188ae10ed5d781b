//! Feedwater.
