//! The Unix socket of administrators.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as StdStream,
    },
    path::Path,
};

use sekisho_spire_api::lenient::Lenient;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use super::door::{Known, not_accepted};
use crate::caller::Connection;

/// For the owner and the group: whoever can open it administers the authority.
const MODE: u32 = 0o770;

/// Listens at `path`. A socket that nobody listens at any more is put away.
///
/// # Errors
/// When something else stands there, or somebody listens.
pub(super) fn listen(path: &Path) -> io::Result<UnixListener> {
    let told = |kind, text: &str| io::Error::new(kind, format!("{}: {text}", path.display()));
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(told(error.kind(), &error.to_string())),
        Ok(there) if !there.file_type().is_socket() => {
            let text = "is there already, and is no socket";
            return Err(told(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) if StdStream::connect(path).is_ok() => {
            return Err(told(
                io::ErrorKind::AddrInUse,
                "another process listens there",
            ));
        }
        Ok(_) => fs::remove_file(path)?,
    }
    let listener =
        UnixListener::bind(path).map_err(|error| told(error.kind(), &error.to_string()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    Ok(listener)
}

/// Hands over connections until nobody takes them any more.
pub(super) async fn accept(
    listener: UnixListener,
    ready: mpsc::Sender<io::Result<Known<Lenient<UnixStream>>>>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        match accepted {
            Ok((stream, _)) => drop(ready.send(Ok(known(stream))).await),
            Err(error) => not_accepted(&error).await,
        }
    }
}

fn known(stream: UnixStream) -> Known<Lenient<UnixStream>> {
    let user = match stream.peer_cred() {
        Ok(peer) => format!("uid {}", peer.uid()),
        Err(_) => "unknown".into(),
    };
    Known {
        stream: Lenient::new(stream),
        connection: Connection::Local { user },
        _place: None,
    }
}
