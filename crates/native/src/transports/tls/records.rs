//! Where TLS records end in what was received.
//!
//! To read what isn't there yet makes OpenSSL's error queue, an exception and its traceback, for each message: more than
//! the rest of the reading of a small one. Every version of TLS tells the length of a record in its first five bytes,
//! which aren't encrypted, so it is known when there is nothing to be read.

/// The kind of content, two bytes of version, two of length.
const HEADER: usize = 5;

/// No record's content is longer, encrypted.
const MAX_LENGTH: usize = (1 << 14) + 2048;

/// Nor is a record.
pub const MAX_RECORD: usize = HEADER + MAX_LENGTH;

/// Every record is longer than what was encrypted in it, by at least so much in all ciphers that are usual. If one isn't,
/// it is read in two steps.
const OVERHEAD: usize = 15;

/// A hint, and never more than that: what OpenSSL makes of the bytes is for it to say.
pub struct Records {
    header: [u8; HEADER],
    /// So much of the header has come.
    known: usize,
    /// So much of the record itself is still to come, of so much.
    missing: usize,
    length: usize,
    /// Records that have come as a whole and weren't read, and their lengths together.
    whole: usize,
    size: usize,
    /// There may be something to read of which the rest here doesn't know.
    is_unsure: bool,
    /// This isn't TLS. OpenSSL will say so.
    is_strange: bool,
}

impl Records {
    pub const NONE: Self = Self {
        header: [0; HEADER],
        known: 0,
        missing: 0,
        length: 0,
        whole: 0,
        size: 0,
        is_unsure: true,
        is_strange: false,
    };

    /// These bytes follow.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_strange {
            if self.missing > 0 {
                let count = self.missing.min(bytes.len());
                self.missing -= count;
                bytes = &bytes[count..];
            } else {
                let count = (HEADER - self.known).min(bytes.len());
                self.header[self.known..][..count].copy_from_slice(&bytes[..count]);
                self.known += count;
                bytes = &bytes[count..];
                if self.known < HEADER {
                    return;
                }
                let [kind, major, _, high, low] = self.header;
                self.length = usize::from(u16::from_be_bytes([high, low]));
                self.missing = self.length;
                self.is_strange =
                    !(20..=24).contains(&kind) || major != 3 || self.length > MAX_LENGTH;
            }
            if self.missing == 0 {
                self.known = 0;
                self.whole += 1;
                self.size += self.length;
            }
        }
    }

    /// How much there may be to read. None: nothing. Some of 0: nobody knows.
    pub fn readable(&self) -> Option<usize> {
        if self.is_unsure || self.is_strange {
            return Some(0);
        }
        let size = self.size.saturating_sub(self.whole * OVERHEAD);
        (self.whole > 0).then_some(size.max(1))
    }

    /// One was read, or more than one, or part of one if it `filled` all the memory that was provided.
    pub fn was_read(&mut self, filled: bool) {
        if filled {
            self.is_unsure = true;
        } else if self.whole > 0 {
            self.whole -= 1;
            if self.whole == 0 {
                self.size = 0;
            }
        }
    }

    /// OpenSSL has read all that there is.
    pub fn were_all_read(&mut self) {
        self.is_unsure = false;
        self.whole = 0;
        self.size = 0;
    }

    /// What was read by somebody else is not known.
    pub fn are_unsure(&mut self) {
        self.is_unsure = true;
    }
}
