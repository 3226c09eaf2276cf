//! Unpacks gzip on the way, or passes plain text through; the caller need not know which it is.

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::Error;

const MAGIC: [u8; 2] = [0x1f, 0x8b];
const WINDOW_BITS: u8 = 15;

/// Most bytes handed on at once. It bounds what one call can make of a few packed bytes.
pub const PIECE_BYTES: usize = 1 << 18;

/// Whether the receiver of unpacked bytes wants more of them now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    More,
    /// Stop behind this piece; what is left of the input comes again.
    Enough,
}

#[derive(Debug)]
enum State {
    /// Nothing is known yet; at most one byte is held.
    Start(Option<u8>),
    /// Text as it is.
    Plain,
    /// Inside a gzip member.
    Member,
    /// Behind a member: another one may follow, or zeros, or nothing.
    Between(Option<u8>),
}

/// One file, unpacked as it comes.
#[derive(Debug)]
pub struct Unpacker {
    state: State,
    inflate: Option<Decompress>,
    piece: Vec<u8>,
    full: bool,
    taken: u64,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self { state: State::Start(None), inflate: None, piece: Vec::new(), full: false, taken: 0 }
    }
}

impl Unpacker {
    /// Hands what `input` unpacks to on to `each`, at most [`PIECE_BYTES`] at a time, and returns how many bytes
    /// of `input` are used up: all of them, unless `each` had enough.
    ///
    /// # Errors
    ///
    /// Packed data that are damaged, and the errors of `each`.
    pub fn feed(
        &mut self,
        input: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Result<Flow, Error>,
    ) -> Result<usize, Error> {
        let mut used = 0;
        while used < input.len() || self.full {
            let (step, flow) = self.step(&input[used..], each)?;
            used += step;
            self.taken += step as u64;
            if flow == Flow::Enough {
                break;
            }
        }
        Ok(used)
    }

    fn step(
        &mut self,
        input: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Result<Flow, Error>,
    ) -> Result<(usize, Flow), Error> {
        if matches!(self.state, State::Member) {
            return self.inflate(input, each);
        }
        self.full = false;
        match self.state {
            State::Start(None) if input[0] == MAGIC[0] => {
                self.state = State::Start(Some(input[0]));
                Ok((1, Flow::More))
            }
            State::Start(None) => {
                self.state = State::Plain;
                Ok((0, Flow::More))
            }
            State::Start(Some(first)) if input[0] == MAGIC[1] => {
                self.open_member(first)?;
                Ok((0, Flow::More))
            }
            State::Start(Some(first)) => {
                self.state = State::Plain;
                Ok((0, each(&[first])?))
            }
            State::Plain => {
                let piece = &input[..input.len().min(PIECE_BYTES)];
                Ok((piece.len(), each(piece)?))
            }
            State::Between(None) if input[0] == MAGIC[0] => {
                self.state = State::Between(Some(input[0]));
                Ok((1, Flow::More))
            }
            State::Between(None) if input[0] == 0 => Ok((1, Flow::More)),
            State::Between(Some(first)) if input[0] == MAGIC[1] => {
                self.open_member(first)?;
                Ok((0, Flow::More))
            }
            State::Member | State::Between(_) => Err(trailing()),
        }
    }

    /// Begins a member of which the first byte is already used up.
    fn open_member(&mut self, first: u8) -> Result<(), Error> {
        let mut inflate = Decompress::new_gzip(WINDOW_BITS);
        self.piece.resize(PIECE_BYTES, 0);
        let taken = inflate.decompress(&[first], &mut self.piece, FlushDecompress::None);
        self.inflate = Some(inflate);
        self.state = State::Member;
        taken.map_err(|_| damaged("damaged gzip data")).map(|_| ())
    }

    fn inflate(
        &mut self,
        input: &[u8],
        each: &mut dyn FnMut(&[u8]) -> Result<Flow, Error>,
    ) -> Result<(usize, Flow), Error> {
        let Some(inflate) = self.inflate.as_mut() else { return Err(damaged("damaged gzip data")) };
        let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress(input, &mut self.piece, FlushDecompress::None);
        let used = usize::try_from(inflate.total_in() - before_in).unwrap_or(0);
        let made = usize::try_from(inflate.total_out() - before_out).unwrap_or(0);
        self.full = made == self.piece.len();
        match status {
            Ok(Status::StreamEnd) => {
                self.state = State::Between(None);
                self.full = false;
            }
            Ok(_) if used > 0 || made > 0 || input.is_empty() => {}
            _ => return Err(damaged("damaged gzip data")),
        }
        let flow = if made > 0 { each(&self.piece[..made])? } else { Flow::More };
        Ok((used, flow))
    }

    /// Ends the file and makes ready for the next one.
    ///
    /// # Errors
    ///
    /// Packed data that end too early, and the errors of `each`.
    pub fn finish(&mut self, each: &mut dyn FnMut(&[u8]) -> Result<Flow, Error>) -> Result<(), Error> {
        while self.full {
            self.inflate(&[], each)?; // a repeat that did not fit behind the last piece: some 200 bytes
        }
        let end = std::mem::take(self);
        match end.state {
            State::Member => Err(damaged(&format!("its end at byte {} inside gzip data", end.taken))),
            State::Between(Some(_)) => Err(trailing()),
            State::Start(Some(first)) => each(&[first]).map(|_| ()),
            State::Start(None) | State::Plain | State::Between(None) => Ok(()),
        }
    }
}

fn damaged(found: &str) -> Error {
    Error::Damaged { found: found.to_owned(), expected: "a whole gzip file".to_owned() }
}

fn trailing() -> Error {
    damaged("other bytes behind its gzip data")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(input: &[u8], step: usize) -> Result<Vec<u8>, Error> {
        let mut unpacker = Unpacker::default();
        let mut text = Vec::new();
        let mut keep = |piece: &[u8]| {
            text.extend_from_slice(piece);
            Ok(Flow::Enough)
        };
        for chunk in input.chunks(step) {
            let mut rest = chunk;
            while !rest.is_empty() {
                let used = unpacker.feed(rest, &mut keep)?;
                rest = &rest[used..];
            }
        }
        unpacker.finish(&mut keep)?;
        Ok(text)
    }

    #[test]
    fn text_is_the_same_packed_or_not_and_however_cut() {
        let text: Vec<u8> = (0..300_000u32).flat_map(|i| (i % 251).to_le_bytes()).collect();
        let mut members = packed(&text[..1000]);
        members.extend(packed(b""));
        members.extend(packed(&text[1000..]));
        members.extend([0; 9]);
        for step in [1, 2, 7, 4096, 1 << 22] {
            assert_eq!(unpacked(&members, step).as_deref(), Ok(&text[..]), "{step}");
        }
        for plain in [&b""[..], b"\x1f", b"\x1f\x1f\x8b", b"plain"] {
            assert_eq!(unpacked(plain, 1).as_deref(), Ok(plain));
        }
    }

    #[test]
    fn damage_is_named_wherever_it_is() {
        let whole = packed(b"some text that is long enough to be packed, packed, packed");
        for end in 2..whole.len() {
            assert!(unpacked(&whole[..end], 5).is_err(), "cut at {end}");
        }
        let mut flipped = whole.clone();
        flipped[20] ^= 0x55;
        assert!(unpacked(&flipped, 100).is_err());
        let mut followed = whole;
        followed.extend(b"x");
        assert!(unpacked(&followed, 100).is_err());
    }
}
