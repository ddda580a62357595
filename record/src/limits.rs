//! Bounds of a session.

/// How much one key protects, and how much of what carries nothing a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records after which a key is replaced: ours by our own KeyUpdate, the peer's by one that asks
    /// for it. Default: 2^21, which is 32 GiB of full records and far below what AES-GCM bears
    /// (2^24.5, RFC 8446 §5.5).
    pub rekey_after: u64,
    /// Records after which a key is not used any more, whatever the peer does. Default: 2^24.
    pub records_per_key: u64,
    /// Records in a row without application data, alerts or handshake bytes that are borne.
    /// Default: 32.
    pub empty_records: u32,
    /// KeyUpdates in a row, without application data between, that are borne, beside one for each
    /// data record that we have sent meanwhile. Default: 32.
    pub key_updates: u32,
    /// Tickets in a row, without application data between, that are borne. Default: 256.
    pub tickets: u32,
    /// Most bytes of one handshake message. Default: 128 KiB plus its header, which a ticket needs
    /// whose every field is as long as it may be (RFC 8446 §4.6.1).
    pub message: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rekey_after: 1 << 21,
            records_per_key: 1 << 24,
            empty_records: 32,
            key_updates: 32,
            tickets: 256,
            message: 128 * 1024 + 512,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_replaced_and_given_up_below_what_aes_gcm_bears() {
        let limits = Limits::default();
        // §5.5: "up to 2^24.5 full-size records".
        let bears = 2_f64.powf(24.5);
        assert!(f64::from(u32::try_from(limits.records_per_key).unwrap()) < bears);
        // The peer is asked an eighth above its time, and needs a while to answer.
        assert!(2 * limits.rekey_after < limits.records_per_key);
    }

    #[test]
    fn the_longest_ticket_fits_and_not_much_more() {
        // §4.6.1: the lifetime, `ticket_age_add`, and three fields behind their lengths.
        let longest = 4 + 4 + (1 + 0xff) + (2 + 0xffff) + (2 + 0xfffe);
        let most = Limits::default().message;
        assert!((longest..longest + 512).contains(&most), "{most}");
    }
}
