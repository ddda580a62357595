//! The agent's end of the socket by which it asks the `sekisho run` that started it to let it in.
//!
//! A question is one byte. An answer is one byte, a length (32 bits, big-endian) and so many bytes.

use std::{io, os::fd::AsFd as _, os::unix::net::UnixStream as StdStream};

use anyhow::Context as _;
use sekisho_agent::introducer::{Answer, Introducer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::Mutex,
};
use zeroize::Zeroizing;

/// Asks for a join token.
pub(crate) const TOKEN: u8 = b't';
/// Asks for the site's bundle, PEM.
pub(crate) const BUNDLE: u8 = b'b';
/// Here is what was asked for.
pub(crate) const GIVEN: u8 = 0;
/// It is not to be had, for this reason (UTF-8).
pub(crate) const REFUSED: u8 = 1;
/// Most bytes of an answer.
pub(crate) const MOST: usize = 8 << 20;

/// The one who started this agent.
#[derive(Debug)]
pub(crate) struct Introduced(Mutex<UnixStream>);

impl Introduced {
    /// By the socket that is this process' standard input.
    ///
    /// # Errors
    /// When that is something else.
    pub(crate) fn inherited() -> anyhow::Result<Self> {
        let stream = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        // Only a socket has that.
        let checked = stream.local_addr().and_then(|_| {
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)
        });
        let stream = checked.context("--introduced is for `sekisho run`")?;
        Ok(Self::by(stream))
    }

    /// By this one.
    pub(crate) fn by(stream: UnixStream) -> Self {
        Self(Mutex::new(stream))
    }

    async fn ask(&self, question: u8) -> Result<Zeroizing<Vec<u8>>, String> {
        let mut stream = self.0.lock().await;
        let asked = async {
            stream.write_all(&[question]).await?;
            let given = stream.read_u8().await?;
            let length = stream.read_u32().await? as usize;
            if length > MOST {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut answer = Zeroizing::new(vec![0; length]);
            stream.read_exact(&mut answer).await?;
            io::Result::Ok((given, answer))
        };
        match asked.await {
            Ok((GIVEN, answer)) => Ok(answer),
            Ok((_, why)) => Err(String::from_utf8_lossy(&why).into_owned()),
            Err(error) => Err(format!("`sekisho run` does not answer: {error}")),
        }
    }
}

impl Introducer for Introduced {
    fn token(&self) -> Answer<'_, Zeroizing<String>> {
        Box::pin(async {
            let token = self.ask(TOKEN).await?;
            let token = std::str::from_utf8(&token).map_err(|error| error.to_string())?;
            Ok(Zeroizing::new(token.to_owned()))
        })
    }

    fn bundle(&self) -> Answer<'_, Vec<u8>> {
        Box::pin(async { Ok(self.ask(BUNDLE).await?.to_vec()) })
    }
}
