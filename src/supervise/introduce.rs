//! The supervisor's end of the socket by which an agent asks to be let in.
//!
//! A token is made when an agent needs one, and not at each of its starts: with each comes an entry.

use std::{io, path::PathBuf, time::Duration};

use sekisho_certs::TrustDomain;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

use super::site;
use crate::{
    agent::introduced::{BUNDLE, GIVEN, MOST, REFUSED, TOKEN},
    config::Config,
};

/// How long the authority may take to answer.
const CALLS: Duration = Duration::from_secs(5);
/// The least time between two tokens, so that an agent gone wild does not fill the database.
const PAUSE: Duration = Duration::from_secs(1);

/// What the agent of a file may ask for.
#[derive(Debug)]
pub(super) struct Introduce {
    /// The socket of the authority's administrators.
    authority: PathBuf,
    site: TrustDomain,
    /// Whether it attests by our tokens.
    token: bool,
    /// Whether it has its first bundle from us.
    bundle: bool,
}

impl Introduce {
    /// `None`: the file says how it attests and whom it believes.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let (authority, agent) = (config.authority.as_ref()?, config.agent.as_ref()?);
        let (token, bundle) = (agent.wants_token(), agent.bootstrap.is_none());
        (token || bundle).then(|| Self {
            authority: authority.socket.clone(),
            site: config.site.clone(),
            token,
            bundle,
        })
    }

    /// Answers until the agent is gone.
    pub(super) async fn serve(self, mut agent: UnixStream) {
        // The agent tells of an end that it does not want.
        while let Ok(question) = agent.read_u8().await {
            let answered = timeout(CALLS, self.answer(question)).await;
            let answer = match answered {
                Ok(answer) => answer.map_err(|error| format!("{error:#}")),
                Err(_) => Err("the authority does not answer".into()),
            };
            if tell(&mut agent, answer).await.is_err() {
                return;
            }
            if question == TOKEN {
                sleep(PAUSE).await;
            }
        }
    }

    async fn answer(&self, question: u8) -> anyhow::Result<Zeroizing<Vec<u8>>> {
        match question {
            TOKEN if self.token => {
                let token = site::token(&self.authority, &self.site).await?;
                tracing::info!("a join token made for the agent");
                Ok(Zeroizing::new(token.as_bytes().to_vec()))
            }
            BUNDLE if self.bundle => {
                let bundle = site::bundle(&self.authority).await?;
                Ok(Zeroizing::new(bundle.into_bytes()))
            }
            _ => anyhow::bail!("the file does not have the agent ask for that"),
        }
    }
}

async fn tell(
    agent: &mut UnixStream,
    answer: Result<Zeroizing<Vec<u8>>, String>,
) -> io::Result<()> {
    let (kind, bytes) = match answer {
        Ok(bytes) => (GIVEN, bytes),
        Err(why) => (REFUSED, Zeroizing::new(why.into_bytes())),
    };
    if bytes.len() > MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    agent.write_u8(kind).await?;
    agent
        .write_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX))
        .await?;
    agent.write_all(&bytes).await
}

#[cfg(test)]
mod tests {
    use sekisho_agent::introducer::Introducer as _;
    use sekisho_certs::id::parse_trust_domain;

    use super::*;
    use crate::agent::introduced::Introduced;

    fn introduce(token: bool) -> Introduce {
        Introduce {
            authority: "/nowhere/authority.sock".into(),
            site: parse_trust_domain("a.example").unwrap(),
            token,
            bundle: true,
        }
    }

    #[tokio::test]
    async fn what_is_not_to_be_had_is_told() {
        let agent = |token| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            tokio::spawn(introduce(token).serve(ours));
            Introduced::by(theirs)
        };
        let refused = agent(false).token().await.unwrap_err();
        assert!(refused.contains("does not have the agent ask"), "{refused}");
        let away = agent(true).token().await.unwrap_err();
        assert!(away.contains("/nowhere/authority.sock"), "{away}");
        let away = agent(false).bundle().await.unwrap_err();
        assert!(away.contains("/nowhere/authority.sock"), "{away}");
    }

    #[tokio::test]
    async fn who_is_gone_is_said_to_be() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(ours);
        let gone = Introduced::by(theirs).token().await.unwrap_err();
        assert!(gone.contains("`sekisho run` does not answer"), "{gone}");
    }

    #[tokio::test]
    async fn an_answer_comes_whole() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let answers = tokio::spawn(async move {
            assert_eq!(ours.read_u8().await.unwrap(), TOKEN);
            let token = Zeroizing::new(b"0b3c".to_vec());
            tell(&mut ours, Ok(token)).await.unwrap();
        });
        let token = Introduced::by(theirs).token().await.unwrap();
        assert_eq!(token.as_str(), "0b3c");
        answers.await.unwrap();
    }
}
