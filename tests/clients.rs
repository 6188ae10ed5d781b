//! The clients against small servers: what goes out, and what becomes of every answer.

// clippy.toml allows these in tests only inside test functions; all of this is test.
#![allow(clippy::unwrap_used)]

#[path = "clients/events.rs"]
mod events;
#[path = "clients/fakes.rs"]
mod fakes;
#[path = "clients/http.rs"]
mod http;
#[path = "clients/import.rs"]
mod import;
#[path = "clients/paging.rs"]
mod paging;
#[path = "clients/prefect.rs"]
mod prefect;
#[path = "clients/prefect_reached.rs"]
mod prefect_reached;
#[path = "clients/prefect_reports.rs"]
mod prefect_reports;
#[path = "clients/stub.rs"]
mod stub;
#[path = "clients/tableau.rs"]
mod tableau;
#[path = "clients/tableau_golden.rs"]
mod tableau_golden;
#[path = "clients/tableau_reached.rs"]
mod tableau_reached;
#[path = "clients/tableau_session.rs"]
mod tableau_session;
#[path = "clients/tableau_tasks.rs"]
mod tableau_tasks;
#[path = "clients/tableau_tokens.rs"]
mod tableau_tokens;
#[path = "clients/tableau_warnings.rs"]
mod tableau_warnings;
