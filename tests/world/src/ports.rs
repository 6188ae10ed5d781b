//! Free TCP ports.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// Below the range from which systems take the ports of outgoing connections, so that nobody gets the port between
/// our look and the server's bind, except another world that rolls the same number.
const FIRST: u16 = 18_000;
const COUNT: u16 = 14_000;

/// A port on 127.0.0.1 that is free now.
pub fn free() -> u16 {
    loop {
        let offset = u16::try_from(random() % u64::from(COUNT)).unwrap_or(0);
        let port = FIRST + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A random number; the standard library seeds each hasher anew.
pub fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
