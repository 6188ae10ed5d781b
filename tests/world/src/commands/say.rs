//! What is written for people and for programs.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what a program's output is made of")]

/// One line on stdout.
pub fn line(text: &str) {
    println!("{text}");
}

/// A failure, on stderr.
pub fn error(text: &str) {
    eprintln!("error: {text}");
}
