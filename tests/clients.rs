//! The clients against small servers: what goes out, and what becomes of every answer.

#[path = "clients/events.rs"]
mod events;
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
