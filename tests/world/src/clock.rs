//! The only reader of the clock in the world's own code.

/// The present moment.
pub fn now() -> jiff::Timestamp {
    #[allow(clippy::disallowed_methods, reason = "this is the world's clock")]
    jiff::Timestamp::now()
}
