//! Finding a record and opening it where it lies (RFC 8446 §5.1, §5.2, §5.4).

use std::ops::Range;

use crate::{HEADER, MAX_CIPHERTEXT, MAX_PLAINTEXT, RecordError, TAG, cipher::Cipher, content};

/// The length of the record that `bytes` begins with, its header included; `None` while that is not
/// known, or not all of it has come.
///
/// What cannot become a record is refused as soon as it shows.
pub(crate) fn whole_record(bytes: &[u8]) -> Result<Option<usize>, RecordError> {
    match bytes.first() {
        None => return Ok(None),
        Some(&content::APPLICATION_DATA) => {}
        Some(_) => {
            return Err(RecordError::UnexpectedMessage(
                "a record that is not protected",
            ));
        }
    }
    // §5.2: the version says nothing; a changed one does not open, as it is authenticated.
    let Some(&[_, _, _, high, low]) = bytes.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > MAX_CIPHERTEXT {
        return Err(RecordError::Overflow(length));
    }
    if length < TAG {
        return Err(RecordError::BadRecordMac);
    }
    let whole = HEADER + length;
    Ok((bytes.len() >= whole).then_some(whole))
}

/// Opens a whole record. Returns the content's type and where in `record` it is.
pub(crate) fn open(
    cipher: &mut Cipher,
    record: &mut [u8],
) -> Result<(u8, Range<usize>), RecordError> {
    let Some((header, sealed)) = record.split_first_chunk_mut::<HEADER>() else {
        return Err(RecordError::BadRecordMac);
    };
    let length = cipher.open(*header, sealed)?;
    // §5.4: "the full encoded TLSInnerPlaintext MUST NOT exceed 2^14 + 1 octets".
    if length > MAX_PLAINTEXT + 1 {
        return Err(RecordError::Overflow(length));
    }
    let text = sealed.get(..length).unwrap_or_default();
    // Behind the content stands its type, and behind that zeros.
    let Some(at) = text.iter().rposition(|byte| *byte != 0) else {
        return Err(RecordError::UnexpectedMessage(
            "a record without a content type",
        ));
    };
    let kind = text.get(at).copied().unwrap_or_default();
    Ok((kind, HEADER..HEADER + at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAX_RECORD;

    #[test]
    fn a_record_is_whole_or_not_yet_or_never() {
        assert_eq!(whole_record(&[]), Ok(None));
        assert_eq!(whole_record(&[23, 3]), Ok(None));
        assert_eq!(whole_record(&[23, 3, 3, 0, 16]), Ok(None));
        let mut record = vec![23, 3, 3, 0, 16];
        record.resize(5 + 16, 0);
        assert_eq!(whole_record(&record), Ok(Some(21)));
        record.push(23);
        assert_eq!(
            whole_record(&record),
            Ok(Some(21)),
            "the next one has begun"
        );
        record.truncate(20);
        assert_eq!(whole_record(&record), Ok(None));
    }

    #[test]
    fn impossible_lengths_are_refused_by_the_header_alone() {
        assert_eq!(
            whole_record(&[23, 3, 3, 0, 15]),
            Err(RecordError::BadRecordMac)
        );
        assert_eq!(
            whole_record(&[23, 3, 3, 0x41, 0x00]),
            Ok(None),
            "2^14 + 256 may come"
        );
        let over = Err(RecordError::Overflow(MAX_CIPHERTEXT + 1));
        assert_eq!(whole_record(&[23, 3, 3, 0x41, 0x01]), over);
    }

    #[test]
    fn the_longest_record_needs_all_the_room_that_is_named_for_it() {
        let mut longest = vec![23, 3, 3, 0x41, 0x00];
        longest.resize(MAX_RECORD, 0);
        assert_eq!(whole_record(&longest), Ok(Some(MAX_RECORD)));
        longest.pop();
        assert_eq!(whole_record(&longest), Ok(None));
    }

    #[test]
    fn only_protected_records_come_after_a_handshake() {
        for kind in (0..=u8::MAX).filter(|kind| *kind != 23) {
            let refused = whole_record(&[kind]);
            assert!(
                matches!(refused, Err(RecordError::UnexpectedMessage(_))),
                "{kind}"
            );
        }
    }
}
