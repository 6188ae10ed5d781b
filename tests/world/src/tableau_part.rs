//! The Tableau simulator as a part of a world.

use crate::running::WorldError;

/// A running simulator; dropping it stops it.
#[derive(Debug)]
pub struct Tableau {
    url: String,
    admin_url: String,
}

impl Tableau {
    /// Where clients sign in.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Where it is scripted and its truth is read.
    pub fn admin_url(&self) -> String {
        self.admin_url.clone()
    }
}

/// Starts one where wanted.
pub async fn start(wanted: bool) -> Result<Option<Tableau>, WorldError> {
    std::future::ready(()).await;
    // The seam: the simulator comes with `world::tableau`.
    if wanted {
        return Err(WorldError::Tableau(std::io::Error::other("the simulator is not part of this build")));
    }
    Ok(None)
}
