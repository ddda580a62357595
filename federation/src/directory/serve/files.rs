//! The files of a directory that everybody may have: by name, below three folders, and nothing that is
//! anything else than a plain file there.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{self, HeaderValue},
};
use tokio::{
    fs::File,
    io::{AsyncRead as _, ReadBuf},
    task::spawn_blocking,
};

use super::{Answer, Answered, text};
use crate::directory::repository::Repository;

/// The folders that are served: not the drafts.
const FOLDERS: [&str; 3] = ["metadata", "targets", "continuity"];
/// Longest name of a file: a hash, a trust domain, and what is around them.
const LONGEST: usize = 400;
/// Largest file: nothing of a directory is as large.
const LARGEST: u64 = 16 * 1024 * 1024;
/// How much is read at a time.
const PIECE: u64 = 64 * 1024;

/// The folder and the file that a path means.
fn named(path: &str) -> Option<(&str, &str)> {
    let (folder, name) = path.strip_prefix('/')?.split_once('/')?;
    // Whatever could mean another file is none: no slash, no `%`, nothing hidden.
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let is_plain = name.len() <= LONGEST && name.bytes().all(plain) && !name.starts_with('.');
    let is_ours = name.ends_with(".json") || name.ends_with(".json.gz");
    (FOLDERS.contains(&folder) && is_plain && is_ours).then_some((folder, name))
}

/// The tag of a file: it is replaced whole, never written into.
fn tag(meta: &Metadata) -> String {
    format!(
        "\"{:x}-{:x}-{:x}-{:x}\"",
        meta.ino(),
        meta.len(),
        meta.mtime(),
        meta.mtime_nsec()
    )
}

/// Opens a plain file in a plain folder.
fn open(root: &Path, folder: &str, name: &str) -> io::Result<(fs::File, Metadata)> {
    let not_there = || io::Error::from(io::ErrorKind::NotFound);
    let folder = root.join(folder);
    if !folder.symlink_metadata()?.is_dir() {
        return Err(not_there());
    }
    let path = folder.join(name);
    let seen = path.symlink_metadata()?;
    if !seen.is_file() {
        return Err(not_there());
    }
    let file = fs::File::open(&path)?;
    let meta = file.metadata()?;
    // A link that has taken its place just now.
    if !meta.is_file() || (meta.dev(), meta.ino()) != (seen.dev(), seen.ino()) {
        return Err(not_there());
    }
    if meta.len() > LARGEST {
        return Err(io::Error::other("too large"));
    }
    Ok((file, meta))
}

/// The answer to a GET or HEAD.
pub(super) async fn answer<B>(repository: &Repository, request: Request<B>) -> Answer {
    let not_found = || text(StatusCode::NOT_FOUND, "not found\n");
    let Some((folder, name)) = named(request.uri().path()) else {
        return not_found();
    };
    let root = repository.folder().to_owned();
    let (folder, name) = (folder.to_owned(), name.to_owned());
    let (kind, caching) = (kind(&name), caching(&folder, &name));
    let opened = spawn_blocking(move || open(&root, &folder, &name)).await;
    let (file, meta) = match opened.map_err(io::Error::other).flatten() {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return not_found(),
        Err(error) => {
            tracing::warn!(path = request.uri().path(), %error, "a file cannot be read");
            return text(StatusCode::INTERNAL_SERVER_ERROR, "it cannot be read\n");
        }
    };
    let tag = tag(&meta);
    let known = request.headers().get_all(header::IF_NONE_MATCH);
    // RFC 9110 §13.1.2: compared weakly.
    let is_known = known.iter().filter_map(|one| one.to_str().ok()).any(|one| {
        let mut tags = one.split(',').map(str::trim);
        tags.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
    });
    let mut answer = if is_known {
        let mut answer = Response::new(Answered::Text(Default::default()));
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        answer
    } else {
        Response::new(Answered::File(FileBody {
            file: File::from_std(file),
            left: meta.len(),
            piece: Vec::new(),
        }))
    };
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let strict = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, strict);
    let caching = HeaderValue::from_static(caching);
    headers.insert(header::CACHE_CONTROL, caching);
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    answer
}

/// The small forms are files of their own, not an encoding of the large ones: they say what they are.
fn kind(name: &str) -> &'static str {
    if name.ends_with(".gz") {
        "application/gzip"
    } else {
        "application/json"
    }
}

/// What has a version or a hash in its name never changes.
fn caching(folder: &str, name: &str) -> &'static str {
    let changes = folder == "continuity" || name.starts_with("timestamp.");
    if changes {
        "no-cache"
    } else {
        "public, max-age=86400, immutable"
    }
}

/// A file on its way.
#[derive(Debug)]
pub(super) struct FileBody {
    file: File,
    left: u64,
    piece: Vec<u8>,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let own = self.get_mut();
        if own.left == 0 {
            return Poll::Ready(None);
        }
        let piece = usize::try_from(own.left.min(PIECE)).unwrap_or_default();
        own.piece.resize(piece, 0);
        let mut buffer = ReadBuf::new(&mut own.piece);
        let read = ready!(Pin::new(&mut own.file).poll_read(cx, &mut buffer));
        let count = buffer.filled().len();
        let read = read.and_then(|()| match count {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        });
        if let Err(error) = read {
            own.left = 0;
            return Poll::Ready(Some(Err(error)));
        }
        own.left = own
            .left
            .saturating_sub(u64::try_from(count).unwrap_or_default());
        own.piece.truncate(count);
        let piece = std::mem::take(&mut own.piece);
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_in_three_folders_mean_something() {
        for path in [
            "/metadata/1.root.json",
            "/metadata/timestamp.json",
            "/metadata/12.td-tokyo.example.json.gz",
            "/targets/00ff.td-tokyo.example.json",
            "/continuity/tokyo.example.json",
        ] {
            assert!(named(path).is_some(), "{path}");
        }
        for path in [
            "",
            "/",
            "/metadata",
            "/metadata/",
            "/metadata/.lock",
            "/metadata/.json",
            "/metadata/../drafts/root.json",
            "/metadata/..%2fdrafts/root.json",
            "/metadata/%2e%2e/drafts/root.json",
            "/metadata//1.root.json",
            "/metadata/a/1.root.json",
            "/metadata/1.ROOT.json",
            "/metadata/1.root.json\u{0}",
            "/metadata/1.root.json/",
            "/metadata\\1.root.json",
            "/drafts/root.json",
            "//metadata/1.root.json",
            "/metadata/host.key",
            "metadata/1.root.json",
        ] {
            assert_eq!(named(path), None, "{path}");
        }
        let long = format!("/metadata/{}.json", "a".repeat(LONGEST));
        assert_eq!(named(&long), None);
    }
}
