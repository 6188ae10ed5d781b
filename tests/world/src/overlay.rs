//! The overlay through which the demo applies `examples/`.

use std::path::Path;

use crate::layout;

/// Copies `tests/world/demo` into `directory`, which lies two levels below `.world`, with the two URLs filled in.
///
/// From there `../../../examples` is the checkout's `examples/`, as it is from the original: kustomize takes only relative
/// paths.
pub fn write(directory: &Path, prefect_api_url: &str, tableau_url: &str) -> std::io::Result<()> {
    let template = layout::package().join("demo");
    std::fs::create_dir_all(directory)?;
    for entry in std::fs::read_dir(template)? {
        let file = entry?;
        let text = std::fs::read_to_string(file.path())?
            .replace("PREFECT_API_URL", prefect_api_url)
            .replace("TABLEAU_URL", tableau_url);
        std::fs::write(directory.join(file.file_name()), text)?;
    }
    Ok(())
}
