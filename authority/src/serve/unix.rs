//! The Unix socket of administrators.

use std::{io, path::Path};

use sekisho_certs::socket;
use sekisho_spire_api::lenient::Lenient;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use super::door::{Known, not_accepted};
use crate::caller::Connection;

/// For the owner and the group: whoever can open it administers the authority.
const MODE: u32 = 0o770;
/// For the owner.
const OWNER: u32 = 0o700;

/// Listens at `path`, for the owner alone or the group too. A socket that nobody listens at any more is put
/// away.
///
/// # Errors
/// When something else stands there, or somebody listens.
pub(super) fn listen(path: &Path, owner_only: bool) -> io::Result<UnixListener> {
    let mode = if owner_only { OWNER } else { MODE };
    let listener = socket::listen(path, mode).and_then(UnixListener::from_std);
    listener.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
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
