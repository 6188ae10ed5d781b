//! The clients against small servers: what goes out, and what becomes of every answer.

// clippy.toml allows these in tests only inside test functions; all of this is test.
#![allow(clippy::unwrap_used)]

#[path = "clients/events.rs"]
mod events;
#[path = "clients/fakes.rs"]
mod fakes;
#[path = "clients/http.rs"]
mod http;
#[path = "clients/prefect.rs"]
mod prefect;
#[path = "clients/stub.rs"]
mod stub;
#[path = "clients/tableau.rs"]
mod tableau;
#[path = "clients/tableau_session.rs"]
mod tableau_session;
