//! Where things lie in the checkout and in a world's own directory.

use std::path::{Path, PathBuf};

use crate::{clock, ports};

/// The root of the checkout.
pub fn checkout() -> PathBuf {
    package().ancestors().nth(2).unwrap_or(package()).to_owned()
}

/// The folder of this package, `tests/world`.
pub fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python flows that the worker runs.
pub fn flows() -> PathBuf {
    package().join("flows")
}

/// The shipped manifests.
pub fn manifests() -> PathBuf {
    checkout().join("manifests")
}

/// The folder that holds the directories of all worlds of this checkout.
pub fn worlds() -> PathBuf {
    checkout().join(".world")
}

/// A directory name that no other world uses, sorted by age.
pub fn fresh_world() -> PathBuf {
    worlds().join(format!("{}-{:04x}", clock::now().strftime("%Y%m%d-%H%M%S"), ports::random() & 0xffff))
}
