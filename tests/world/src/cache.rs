//! What is slow to make, made once and kept outside the checkout.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The cache itself failed; what is built in it has errors of its own.
#[derive(Debug, thiserror::Error)]
#[error("cache {}: {source}", path.display())]
pub struct CacheError {
    path: PathBuf,
    source: std::io::Error,
}

/// The directory of the cache: `$FEEDWATER_CACHE`, else `$XDG_CACHE_HOME/feedwater/world`, else `~/.cache/feedwater/world`.
pub fn directory() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("FEEDWATER_CACHE").unwrap_or_else(|| {
        variable("XDG_CACHE_HOME")
            .unwrap_or_else(|| std::env::home_dir().unwrap_or_else(std::env::temp_dir).join(".cache"))
            .join("feedwater/world")
    })
}

/// The directory `<name>-<first 12 hex digits of the SHA-256 of the defining files>` in the cache.
///
/// When it is not there, `build` fills an empty directory beside it, which is renamed when `build` has succeeded; so
/// a half-made entry is never seen. A second process that wants the same entry waits for the first.
pub async fn entry<E: From<CacheError>>(
    name: &str,
    definition: &[PathBuf],
    build: impl AsyncFnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let place = place(name, definition)?;
    if place.is_dir() {
        return Ok(place);
    }
    std::fs::create_dir_all(directory()).map_err(failed(&directory()))?;
    // Held until the end of this function; the kernel lets go of it when the process dies.
    let _lock = lock(place.with_extension("lock")).await?;
    if place.is_dir() {
        return Ok(place);
    }
    let fresh = tempfile::Builder::new()
        .prefix(&format!(".{name}-"))
        .tempdir_in(directory())
        .map_err(failed(&place))?;
    build(fresh.path()).await?;
    std::fs::rename(fresh.keep(), &place).map_err(failed(&place))?;
    Ok(place)
}

/// Whether the entry is made already.
pub fn has(name: &str, definition: &[PathBuf]) -> bool {
    place(name, definition).is_ok_and(|place| place.is_dir())
}

fn place(name: &str, definition: &[PathBuf]) -> Result<PathBuf, CacheError> {
    Ok(directory().join(format!("{name}-{}", digest(definition)?)))
}

fn digest(files: &[PathBuf]) -> Result<String, CacheError> {
    let mut hasher = Sha256::new();
    for file in files {
        hasher.update(std::fs::read(file).map_err(failed(file))?);
    }
    Ok(format!("{:x}", hasher.finalize())[..12].to_owned())
}

async fn lock(path: PathBuf) -> Result<File, CacheError> {
    let file = File::options().create(true).append(true).open(&path).map_err(failed(&path))?;
    // Asked again and again, not waited for: a waiting thread could not be given up on Ctrl-C.
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(std::time::Duration::from_millis(200)).await,
            Err(TryLockError::Error(source)) => return Err(failed(&path)(source)),
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> CacheError {
    let path = path.to_owned();
    |source| CacheError { path, source }
}
