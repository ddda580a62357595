//! Reading what is sent: so much of it, in so long, and not drop by drop.

use std::{error::Error, pin::pin, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use tokio::time::{Instant, timeout, timeout_at};

use crate::directory::repository::MOST;

/// How long one may take to be sent.
const SENT: Duration = Duration::from_secs(30);
/// In each of these times so many bytes have to come: what a line of 16 kbit/s brings. Whoever sends less
/// keeps a place from others.
const WINDOW: Duration = Duration::from_secs(5);
const LEAST: usize = 8 * 1024;

/// Why it was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    /// It broke off.
    #[error("{0}")]
    Broken(Box<dyn Error + Send + Sync>),
    /// It took too long, or came too slowly.
    #[error("too slow: {} KiB have to come in {} s, and all of it in {} s", LEAST / 1024, WINDOW.as_secs(), SENT.as_secs())]
    Late,
    /// There is more of it than is taken.
    #[error("longer than {MOST} bytes")]
    TooLarge,
}

/// Reads a body.
pub(super) async fn read<B>(body: B) -> Result<Vec<u8>, Unread>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Error + Send + Sync + 'static,
{
    timeout(SENT, steadily(body))
        .await
        .unwrap_or(Err(Unread::Late))
}

async fn steadily<B>(body: B) -> Result<Vec<u8>, Unread>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Error + Send + Sync + 'static,
{
    let mut body = pin!(Limited::new(body, MOST));
    let mut bytes = Vec::new();
    let (mut end, mut before) = (Instant::now() + WINDOW, 0);
    loop {
        let Ok(frame) = timeout_at(end, body.frame()).await else {
            if bytes.len() - before < LEAST {
                return Err(Unread::Late);
            }
            (end, before) = (Instant::now() + WINDOW, bytes.len());
            continue;
        };
        match frame {
            None => return Ok(bytes),
            Some(Ok(frame)) => {
                // Trailers say nothing.
                if let Some(data) = frame.data_ref() {
                    bytes.extend_from_slice(data);
                }
            }
            Some(Err(error)) if error.is::<LengthLimitError>() => return Err(Unread::TooLarge),
            Some(Err(error)) => return Err(Unread::Broken(error)),
        }
    }
}
