//! Where certificates, a key or a token are: in a file, which is read anew for each question since
//! they are renewed, or in memory.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
};

use zeroize::Zeroizing;

use crate::KubeError;

/// Longest file with certificates, key or token.
const MAX_FILE: u64 = 1024 * 1024;

/// Certificates or a key as PEM, or a token.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Material {
    /// In this file, at most 1 MiB.
    File(PathBuf),
    /// These bytes.
    Inline(Zeroizing<Vec<u8>>),
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.fmt(f),
            Self::Inline(_) => f.write_str("hidden"),
        }
    }
}

impl<P: Into<PathBuf>> From<P> for Material {
    fn from(path: P) -> Self {
        Self::File(path.into())
    }
}

impl Material {
    /// The bytes.
    pub(crate) fn read(&self) -> Result<Zeroizing<Vec<u8>>, KubeError> {
        let path = match self {
            Self::File(path) => path,
            Self::Inline(bytes) => return Ok(bytes.clone()),
        };
        let failed = |error| KubeError::File(path.clone(), error);
        let mut file = File::open(path).map_err(failed)?.take(MAX_FILE + 1);
        let mut content = Zeroizing::new(Vec::with_capacity(16 * 1024));
        file.read_to_end(&mut content).map_err(failed)?;
        if content.len() as u64 > MAX_FILE {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        Ok(content)
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Inline(_) => "what was given".into(),
        }
    }
}
