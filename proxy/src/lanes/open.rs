//! The first frame of a lane, at the side that was dialled.

use sekisho_lanes::{Frame, FrameError, StreamId, frame};
use tokio::io::AsyncReadExt as _;

use crate::wire::Wire;

/// What OPEN says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    pub(crate) stream: StreamId,
    pub(crate) purpose: frame::Purpose,
    pub(crate) lanes: u8,
    pub(crate) endpoint: String,
}

/// No lane begins so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the lane ended before OPEN: {0}")]
    Io(#[from] std::io::Error),
    #[error("sekisho/1: {0}")]
    Frame(#[from] FrameError),
    #[error("sekisho/1: a lane that begins with another frame than OPEN")]
    Other,
}

/// Reads it. Returns what came behind it, too.
///
/// # Errors
/// When something else comes.
pub(crate) async fn read(wire: &mut Wire) -> Result<(Opening, Vec<u8>), OpenError> {
    let (frame, rest) = first(wire, |frame| match frame {
        Frame::Open {
            stream,
            purpose,
            lanes,
            endpoint,
        } => Some(Opening {
            stream,
            purpose,
            lanes,
            endpoint: endpoint.to_owned(),
        }),
        _ => None,
    })
    .await?;
    Ok((frame, rest))
}

/// What a server answers to OPEN: how many lanes it lets a stream have, or why not.
///
/// # Errors
/// When something else comes.
pub(crate) async fn answer(wire: &mut Wire) -> Result<(Result<u8, String>, Vec<u8>), OpenError> {
    first(wire, |frame| match frame {
        Frame::Accept { lanes } => Some(Ok(lanes)),
        Frame::Deny { reason } => Some(Err(reason.to_owned())),
        _ => None,
    })
    .await
}

async fn first<T>(
    wire: &mut Wire,
    wanted: impl Fn(Frame<'_>) -> Option<T>,
) -> Result<(T, Vec<u8>), OpenError> {
    let mut bytes = Vec::new();
    let mut done = 0;
    loop {
        while let Some((frame, length)) = frame::decode(bytes.get(done..).unwrap_or_default())? {
            done += length;
            // One of a later version, that this one need not know.
            let Some(frame) = frame else {
                if done > frame::LONGEST {
                    return Err(OpenError::Other);
                }
                continue;
            };
            let found = wanted(frame).ok_or(OpenError::Other)?;
            bytes.drain(..done);
            // What was opened and not read: nobody reads the wire in this way from here on.
            bytes.extend(wire.opened.take());
            return Ok((found, bytes));
        }
        if wire.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
}
