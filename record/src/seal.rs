//! Sealing a record where it lies (RFC 8446 §5.2).

use crate::{HEADER, RecordError, TAG, cipher::Cipher, content};

/// Makes a record of `record`, whose text of `length` bytes begins after [`HEADER`] and is followed
/// by room for the inner type and the tag. Returns the record's length.
pub(crate) fn seal(
    cipher: &mut Cipher,
    record: &mut [u8],
    length: usize,
    kind: u8,
) -> Result<usize, RecordError> {
    let too_small = RecordError::Overflow(length);
    let inner = length + 1;
    let Ok(bytes) = u16::try_from(inner + TAG) else {
        return Err(too_small);
    };
    let Some((header, rest)) = record.split_first_chunk_mut::<HEADER>() else {
        return Err(too_small);
    };
    let Some((text, tail)) = rest.split_at_mut_checked(inner) else {
        return Err(too_small);
    };
    let (Some(last), Some(tag)) = (text.last_mut(), tail.first_chunk_mut::<TAG>()) else {
        return Err(too_small);
    };
    *last = kind;
    let [high, low] = bytes.to_be_bytes();
    *header = [content::APPLICATION_DATA, 3, 3, high, low];
    *tag = cipher.seal(*header, text)?;
    Ok(HEADER + inner + TAG)
}
