//! D-Bus messages: the few types that questions about units and their answers have.

use super::bus::Call;

/// Bytes before the header's fields.
pub(super) const START: usize = 16;
/// Longest header or body taken: names and paths are at most a few hundred bytes.
const MAX_PART: usize = 64 * 1024;

const METHOD_CALL: u8 = 1;
/// Nothing is started because we ask.
const NO_AUTO_START: u8 = 2;
const VERSION: u8 = 1;

/// Fields of a header.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// Not a message, or longer than any that is an answer to us.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// What a question says beside its name.
pub(super) enum Body<'a> {
    Empty,
    Number(u32),
    Texts(&'a str, &'a str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Return,
    Error,
    /// A question or a signal.
    Other,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) kind: Kind,
    pub(super) reply_to: Option<u32>,
    pub(super) error: Option<String>,
    signature: String,
    body: Vec<u8>,
    big: bool,
}

/// The bytes of a question, little endian.
pub(super) fn question(serial: u32, call: &Call<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    let signature = match call.body {
        Body::Empty => "",
        Body::Number(number) => {
            body.extend(number.to_le_bytes());
            "u"
        }
        Body::Texts(first, second) => {
            text(&mut body, first);
            text(&mut body, second);
            "ss"
        }
    };
    let mut fields = Vec::new();
    let mut field = |code: u8, kind: u8, value: &str| {
        align(&mut fields, 8);
        fields.extend([code, 1, kind, 0]);
        if kind == b'g' {
            fields.extend(
                u8::try_from(value.len())
                    .map(|length| [length])
                    .unwrap_or_default(),
            );
            fields.extend(value.as_bytes());
            fields.push(0);
        } else {
            text(&mut fields, value);
        }
    };
    field(PATH, b'o', call.path);
    field(INTERFACE, b's', call.interface);
    field(MEMBER, b's', call.member);
    field(DESTINATION, b's', call.destination);
    if !signature.is_empty() {
        field(SIGNATURE, b'g', signature);
    }
    let mut message = vec![b'l', METHOD_CALL, NO_AUTO_START, VERSION];
    message.extend(length(&body));
    message.extend(serial.to_le_bytes());
    message.extend(length(&fields));
    message.extend(fields);
    align(&mut message, 8);
    message.extend(body);
    message
}

/// How many bytes follow the start of a message.
pub(super) fn rest(start: &[u8; START]) -> Result<usize, Malformed> {
    let mut reader = Reader::new(start, is_big(start)?);
    reader.skip(3)?;
    if reader.byte()? != VERSION {
        return Err(Malformed);
    }
    let body = reader.length()?;
    reader.number()?;
    let fields = reader.length()?;
    Ok(fields.next_multiple_of(8) + body)
}

impl Answer {
    pub(super) fn parse(start: &[u8; START], rest: &[u8]) -> Result<Self, Malformed> {
        let big = is_big(start)?;
        let mut header = Reader::new(start, big);
        header.skip(1)?;
        let kind = match header.byte()? {
            2 => Kind::Return,
            3 => Kind::Error,
            _ => Kind::Other,
        };
        header.skip(2)?;
        let body = header.length()?;
        header.number()?;
        let fields = header.length()?;
        let begin = rest.len().checked_sub(body).ok_or(Malformed)?;
        let mut answer = Self {
            kind,
            reply_to: None,
            error: None,
            signature: String::new(),
            body: rest.get(begin..).ok_or(Malformed)?.to_vec(),
            big,
        };
        let mut reader = Reader::new(rest.get(..fields).ok_or(Malformed)?, big);
        while !reader.is_at_end() {
            reader.align(8)?;
            answer.field(&mut reader)?;
        }
        Ok(answer)
    }

    fn field(&mut self, reader: &mut Reader<'_>) -> Result<(), Malformed> {
        let code = reader.byte()?;
        let kind = reader.signature()?;
        match (code, kind) {
            (ERROR_NAME, "s") => self.error = Some(reader.text()?.to_owned()),
            (REPLY_SERIAL, "u") => self.reply_to = Some(reader.number()?),
            (SIGNATURE, "g") => self.signature = reader.signature()?.to_owned(),
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.number()?),
            _ => return Err(Malformed),
        }
        Ok(())
    }

    /// The path of an object, and nothing else.
    pub(super) fn into_path(self) -> Result<String, Malformed> {
        let mut reader = self.reader("o")?;
        let path = reader.text()?;
        if reader.is_at_end() && path.starts_with('/') {
            Ok(path.to_owned())
        } else {
            Err(Malformed)
        }
    }

    /// A text in a variant, and nothing else.
    pub(super) fn into_text_variant(self) -> Result<String, Malformed> {
        let mut reader = self.reader("v")?;
        if reader.signature()? != "s" {
            return Err(Malformed);
        }
        let text = reader.text()?;
        if reader.is_at_end() {
            Ok(text.to_owned())
        } else {
            Err(Malformed)
        }
    }

    fn reader(&self, signature: &str) -> Result<Reader<'_>, Malformed> {
        if self.signature == signature {
            Ok(Reader::new(&self.body, self.big))
        } else {
            Err(Malformed)
        }
    }
}

fn is_big(start: &[u8; START]) -> Result<bool, Malformed> {
    match start {
        [b'l', ..] => Ok(false),
        [b'B', ..] => Ok(true),
        _ => Err(Malformed),
    }
}

/// What we write is far shorter than four gigabytes.
fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

fn align(bytes: &mut Vec<u8>, to: usize) {
    bytes.resize(bytes.len().next_multiple_of(to), 0);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    align(bytes, 4);
    bytes.extend(length(text.as_bytes()));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// Reads aligned values.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8], big: bool) -> Self {
        Self { bytes, at: 0, big }
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(drop)
    }

    fn align(&mut self, to: usize) -> Result<(), Malformed> {
        self.skip(self.at.next_multiple_of(to) - self.at)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(Malformed)
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(if self.big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        let length = self.number()?.try_into().map_err(|_| Malformed)?;
        if length > MAX_PART {
            return Err(Malformed);
        }
        Ok(length)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.length()?;
        self.ended(length)
    }

    fn signature(&mut self) -> Result<&'a str, Malformed> {
        let length = self.byte()?;
        self.ended(length.into())
    }

    fn ended(&mut self, length: usize) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)?;
        if self.byte()? == 0 {
            Ok(text)
        } else {
            Err(Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Answer, Malformed> {
        let (start, rest) = bytes.split_first_chunk().ok_or(Malformed)?;
        let length = super::rest(start)?;
        Answer::parse(start, rest.get(..length).ok_or(Malformed)?)
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_change_to_an_answer_makes_it_panic(at in 0..64usize, to: u8) {
            // An error, to question 2, with a text.
            let mut bytes = b"l\x03\0\x01\x07\0\0\0\x09\0\0\0\x1f\0\0\0\
                \x05\x01u\0\x02\0\0\0\x04\x01s\0\x03\0\0\0a.b\0\0\0\0\0\x08\x01g\0\x01s\0\0\
                \x02\0\0\0no\0"
                .to_vec();
            let answer = read(&bytes).expect("an answer");
            prop_assert_eq!(answer.kind, Kind::Error);
            prop_assert_eq!(answer.reply_to, Some(2));
            prop_assert_eq!(answer.error.as_deref(), Some("a.b"));
            if let Some(byte) = bytes.get_mut(at) {
                *byte = to;
            }
            if let Ok(answer) = read(&bytes) {
                let _ = answer.into_text_variant();
            }
        }
    }

    #[test]
    fn a_big_endian_answer_is_read_too() {
        let bytes = b"B\x02\0\x01\0\0\0\x07\0\0\0\x09\0\0\0\x0f\
            \x05\x01u\0\0\0\0\x02\x08\x01g\0\x01o\0\0\0\0\0\x02/a\0";
        let answer = read(bytes).unwrap();
        assert_eq!((answer.kind, answer.reply_to), (Kind::Return, Some(2)));
        assert_eq!(answer.into_path().unwrap(), "/a");
    }
}
