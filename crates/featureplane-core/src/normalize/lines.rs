//! Lines out of chunks that are cut anywhere.

use memchr::memchr;

/// Longest line that is read.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// One line of a text, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line that was ended.
    Whole(&'a [u8]),
    /// The last bytes of the text, not ended by a line feed.
    Tail(&'a [u8]),
    /// A line longer than the limit; its bytes are gone.
    Overlong,
}

/// Splits chunks into lines; holds at most one unfinished line.
#[derive(Debug)]
pub struct Lines {
    carry: Vec<u8>,
    number: u64,
    bytes_max: usize,
    overlong: bool,
}

impl Lines {
    /// Lines of at most `bytes_max` bytes.
    #[must_use]
    pub const fn new(bytes_max: usize) -> Self {
        Self { carry: Vec::new(), number: 0, bytes_max, overlong: false }
    }

    /// Gives every line that ends in `chunk` to `each`, with its number from 1.
    ///
    /// # Errors
    ///
    /// The first error of `each`; the rest of the chunk is then lost.
    pub fn feed<E>(
        &mut self,
        mut chunk: &[u8],
        mut each: impl FnMut(u64, Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(end) = memchr(b'\n', chunk) {
            let (text, rest) = (&chunk[..end], &chunk[end + 1..]);
            self.number += 1;
            chunk = rest;
            if self.overlong {
                self.overlong = false;
            } else if self.carry.len() + text.len() > self.bytes_max {
                self.carry.clear();
                each(self.number, Line::Overlong)?;
            } else if self.carry.is_empty() {
                each(self.number, Line::Whole(trimmed(text)))?;
            } else {
                self.carry.extend_from_slice(text);
                let carry = std::mem::take(&mut self.carry);
                each(self.number, Line::Whole(trimmed(&carry)))?;
                self.carry = carry;
                self.carry.clear();
            }
        }
        if self.overlong {
            return Ok(());
        }
        if self.carry.len() + chunk.len() > self.bytes_max {
            self.overlong = true;
            self.carry = Vec::new();
            return each(self.number + 1, Line::Overlong);
        }
        self.carry.extend_from_slice(chunk);
        Ok(())
    }

    /// Ends the text: gives what was left without a line feed, and counts from 1 again.
    ///
    /// # Errors
    ///
    /// The error of `each`.
    pub fn finish<E>(&mut self, mut each: impl FnMut(u64, Line<'_>) -> Result<(), E>) -> Result<(), E> {
        let carry = std::mem::take(&mut self.carry);
        let number = std::mem::take(&mut self.number) + 1;
        self.overlong = false;
        if carry.is_empty() { Ok(()) } else { each(number, Line::Tail(trimmed(&carry))) }
    }
}

/// A line without the carriage return before its end.
pub(super) fn trimmed(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(chunks: &[&[u8]], bytes_max: usize) -> Vec<(u64, String)> {
        let mut lines = Lines::new(bytes_max);
        let mut seen = Vec::new();
        let mut keep = |number, line: Line<'_>| {
            seen.push((
                number,
                match line {
                    Line::Whole(text) => String::from_utf8_lossy(text).into_owned(),
                    Line::Tail(text) => format!("tail:{}", String::from_utf8_lossy(text)),
                    Line::Overlong => "overlong".to_owned(),
                },
            ));
            Ok::<(), ()>(())
        };
        for chunk in chunks {
            lines.feed(chunk, &mut keep).unwrap();
        }
        lines.finish(&mut keep).unwrap();
        seen
    }

    #[test]
    fn cuts_anywhere_give_the_same_lines() {
        let text = b"one\r\ntwo\n\nthree";
        let whole = lines_of(&[text], 64);
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[3], (4, "tail:three".to_owned()));
        for cut in 0..text.len() {
            assert_eq!(lines_of(&[&text[..cut], &text[cut..]], 64), whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_line_beyond_the_limit_is_told_once_and_forgotten() {
        let expected = vec![(1, "ab".to_owned()), (2, "overlong".to_owned()), (3, "cd".to_owned())];
        assert_eq!(lines_of(&[b"ab\nabcdefgh\ncd\n"], 4), expected);
        assert_eq!(lines_of(&[b"ab\nabc", b"de", b"fgh", b"\ncd\n"], 4), expected);
    }
}
