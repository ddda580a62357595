//! Files that are replaced whole and survive a crash.

use std::{
    io::{self, Write as _},
    path::Path,
};

/// Replaces `path` by `contents`: written beside it with mode 0600 (or 0644 when `public`),
/// synchronised, renamed over it. Either the old or the new file is there, never half of one.
///
/// # Errors
/// What the system says; the old file is untouched then.
pub fn replace(path: &Path, contents: &[u8], public: bool) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(folder)?;
    file.write_all(contents)?;
    if public {
        let mode = std::fs::Permissions::from_mode(0o644);
        file.as_file().set_permissions(mode)?;
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}
