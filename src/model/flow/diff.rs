//! What differs between the spec and Prefect.
