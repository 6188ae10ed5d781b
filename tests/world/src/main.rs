//! `cargo world`: the world Feedwater is developed against, as one program.

mod commands;

use clap::Parser;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    commands::run(commands::Command::parse()).await
}
