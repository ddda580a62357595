//! Unix sockets that listen at a path, open to nobody but whom they are for from the first moment on.

use std::{
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::{
            fs::{FileTypeExt as _, PermissionsExt as _},
            net::UnixListener,
        },
    },
    path::Path,
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect,
            listen as listen_at, socket,
        },
        stat::{Mode, fchmod},
    },
};

/// Listens at `path` with the permissions `mode`, in place of a socket that nobody listens at any more.
/// The socket does not block.
///
/// Between bind and chmod the file would be open to whom the umask lets in: Linux makes it with the mode
/// of the socket itself, which is none of theirs.
///
/// # Errors
/// When somebody listens there, when something that is no socket is in the way (it is left alone), or
/// what the system says.
pub fn listen(path: &Path, mode: u32) -> io::Result<UnixListener> {
    clear_stale(path)?;
    let socket = open()?;
    fchmod(&socket, Mode::from_bits_truncate(mode) & Mode::S_IRWXU)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    // Who comes before this is refused, and not held up.
    listen_at(&socket, Backlog::MAXALLOWABLE)?;
    Ok(socket.into())
}

fn open() -> io::Result<std::os::fd::OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

/// Removes a socket that nobody listens at any more; anything else stays and is an error.
fn clear_stale(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there?,
    };
    if !there.file_type().is_socket() {
        let text = "is there already, and is no socket";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    // One whose queue is full would have a blocking call wait.
    match connect(open()?.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path),
        _ => {
            let text = "another process listens there";
            Err(io::Error::new(io::ErrorKind::AddrInUse, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::MetadataExt as _, net::UnixStream};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "data").unwrap();
        let refused = listen(&path, 0o600).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(UnixListener::bind(&path).unwrap());
        let _listener = listen(&path, 0o770).unwrap();
        assert_eq!(mode(&path), 0o770);
        let refused = listen(&path, 0o600).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_is_made_with_the_owners_permissions_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = open().unwrap();
        fchmod(&socket, Mode::S_IRWXU).unwrap();
        bind(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        assert_eq!(mode(&path) & 0o077, 0);
    }

    #[test]
    fn a_socket_with_a_full_queue_is_a_living_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = open().unwrap();
        bind(socket.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen_at(&socket, Backlog::new(0).unwrap()).unwrap();
        let _waits = UnixStream::connect(&path).unwrap();
        assert_eq!(
            clear_stale(&path).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }
}
