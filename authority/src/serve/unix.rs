//! The Unix socket of administrators.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as StdStream,
    },
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
};
use tonic::transport::server::Connected;

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

/// A connection at the socket.
#[derive(Debug)]
pub(super) struct Local {
    stream: UnixStream,
    connection: Connection,
}

impl Local {
    pub(super) fn new(stream: UnixStream) -> Self {
        let user = match stream.peer_cred() {
            Ok(peer) => format!("uid {}", peer.uid()),
            Err(_) => "unknown".into(),
        };
        Self {
            stream,
            connection: Connection::Local { user },
        }
    }
}

impl Connected for Local {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Local {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Local {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
