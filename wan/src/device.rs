//! TUN devices, opened here and moved elsewhere: the only place that knows `tun-rs`.
//!
//! With `IFF_VNET_HDR` a device gives and takes up to 64 KiB of one flow at once, behind a header that
//! says how it is to be cut. Offload of the device itself is passed on, never done here: checksums
//! that are still to be filled in stay so.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use tun_rs::{DeviceBuilder, SyncDevice};
pub(crate) use tun_rs::{
    VIRTIO_NET_HDR_GSO_TCPV4 as GSO_TCP4, VIRTIO_NET_HDR_GSO_TCPV6 as GSO_TCP6,
    VIRTIO_NET_HDR_GSO_UDP_L4 as GSO_UDP, VIRTIO_NET_HDR_LEN as HEADER, VirtioNetHdr as Header,
};

/// One packet, as it is (linux/virtio_net.h).
pub(crate) const GSO_NONE: u8 = 0;
/// Beside the kind: the first segment alone has CWR.
pub(crate) const GSO_ECN: u8 = 0x80;
/// The checksum is still to be filled in.
pub(crate) const NEEDS_CHECKSUM: u8 = 1;

/// The most that one read gives.
pub(crate) const LARGEST: usize = HEADER + 65_535;

/// An open device. It is gone when this is dropped, wherever it was moved.
pub(crate) struct Device {
    device: SyncDevice,
    name: String,
}

/// What a read or a write came to, where nothing was read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nothing {
    /// Nothing to read.
    Now,
    /// The device does not take it.
    Refused,
    /// The device is gone, with its namespace or by command.
    Gone,
}

impl Device {
    /// Opens a device of this name, down and without addresses.
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let device = DeviceBuilder::new()
            .name(name)
            .offload(true)
            .enable(false)
            .build_sync()?;
        device.set_nonblocking(true)?;
        Ok(Self {
            device,
            name: name.to_owned(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Reads a header and what follows it.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Result<usize, Nothing> {
        self.device.recv(buffer).map_err(|error| why(&error))
    }

    /// Writes a header and what follows it.
    pub(crate) fn write(&self, frame: &[u8]) -> Result<(), Nothing> {
        match self.device.send(frame) {
            Ok(_) => Ok(()),
            Err(error) => Err(why(&error)),
        }
    }
}

fn why(error: &io::Error) -> Nothing {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EAGAIN | Errno::EINTR) => Nothing::Now,
        // "File descriptor in bad state": there is no device behind it any more.
        Some(Errno::EBADFD | Errno::EBADF | Errno::ENODEV | Errno::ENXIO) => Nothing::Gone,
        _ => Nothing::Refused,
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Device").field(&self.name).finish()
    }
}
