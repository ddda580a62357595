//! Two institutions and their files.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use sekisho_testkit::{Issued, Site};
use tempfile::TempDir;

/// A folder with the bundles of two sites, `a.example` and `b.example`, as `<domain>.pem`.
#[derive(Debug)]
pub(crate) struct World {
    folder: TempDir,
    pub(crate) a: Site,
    pub(crate) b: Site,
}

impl World {
    /// Two sites with new CAs.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Some tests come as another user, who has to reach the sockets in here.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let world = Self {
            folder,
            a: Site::new("a.example"),
            b: Site::new("b.example"),
        };
        for site in [&world.a, &world.b] {
            let name = format!("{}.pem", site.domain());
            world.write(&name, &site.ca().pem());
        }
        world
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The same as text.
    pub(crate) fn name(&self, name: &str) -> String {
        self.file(name).to_str().unwrap().to_owned()
    }

    /// Writes a file, below folders that are made.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let file = self.file(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Issues `/<name>` of a site, as `<name>.pem` and `<name>.key`.
    pub(crate) fn issue(&self, site: &Site, name: &str) -> Issued {
        let issued = site.svid(&format!("/{name}"));
        issued.write(self.path(), name);
        issued
    }

    /// The value of `identity` for `/<name>` of a site, newly issued.
    pub(crate) fn identity(&self, site: &Site, name: &str) -> String {
        self.issue(site, name);
        identity(name)
    }
}

/// The value of `identity` for files that were, or will be, issued as `<name>.pem`.
pub(crate) fn identity(name: &str) -> String {
    format!(
        "{{cert: {name}.pem, key: {name}.key, \
         bundles: {{a.example: a.example.pem, b.example: b.example.pem}}}}"
    )
}
