//! By a token that an administrator of the authority has made (SPIRE's `join_token`).

use std::{fs, io::Read as _};

use zeroize::Zeroizing;

use super::{AttestError, Token};

/// Its name in the protocol.
pub const TYPE: &str = "join_token";
/// Longest token that a file may have.
const MOST: u64 = 4096;

/// The token itself: it is used up by this.
///
/// # Errors
/// When its file cannot be read, or is empty, or whoever has it does not give it now.
pub async fn payload(token: &Token) -> Result<Vec<u8>, AttestError> {
    Ok(read(token).await?.trim().as_bytes().to_vec())
}

/// The token, wherever it is.
///
/// # Errors
/// As [`payload`].
pub async fn read(token: &Token) -> Result<Zeroizing<String>, AttestError> {
    let path = match token {
        Token::Value(value) => return Ok(value.clone()),
        Token::Asked(introducer) => {
            let kind = TYPE;
            let given = introducer.token().await;
            return given.map_err(|problem| AttestError::Own { kind, problem });
        }
        Token::File(path) => path,
    };
    let wrong = |problem: String| AttestError::Own {
        kind: TYPE,
        problem: format!("{}: {problem}", path.display()),
    };
    let mut text = Zeroizing::new(String::with_capacity(256));
    let read = fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text));
    read.map_err(|error| wrong(error.to_string()))?;
    if text.trim().is_empty() {
        return Err(wrong("is empty, a token is expected".into()));
    }
    Ok(text)
}
