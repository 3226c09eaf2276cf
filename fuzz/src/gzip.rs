//! Packed files: the same text however they are cut, in pieces of bounded size, or the same error.

use featureplane_core::error::Error;
use featureplane_core::normalize::inflate::{Flow, PIECE_BYTES, Unpacker};
use featureplane_core::normalize::lines::{Line, Lines};

use crate::choices::Choices;

/// Most text taken of one file: a fuzzer's time is for other things than unpacking zeros.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// Cuts, then the file.
pub fn any(data: &[u8]) {
    let mut choices = Choices::new(data);
    let line_bytes_max = usize::from(choices.byte());
    let cuts = choices.cuts(data.len());
    let file = choices.rest();
    let whole = unpacked(file, &[], line_bytes_max);
    let pieces = unpacked(file, &cuts, line_bytes_max);
    assert_eq!(whole.2, pieces.2);
    if whole.2.is_ok() {
        assert_eq!(whole, pieces);
    } else {
        // What a decoder gives out before it stumbles depends on how much it was given at once.
        assert!(whole.0.starts_with(&pieces.0) || pieces.0.starts_with(&whole.0));
    }
}

/// The text, its lines by number and length, and how the file ended.
type Unpacked = (Vec<u8>, Vec<(u64, Option<usize>)>, Result<(), Error>);

fn unpacked(file: &[u8], cuts: &[usize], line_bytes_max: usize) -> Unpacked {
    let (mut unpacker, mut lines) = (Unpacker::default(), Lines::new(line_bytes_max));
    let (mut text, mut seen, mut start) = (Vec::new(), Vec::new(), 0);
    let mut note = |number, line: Line<'_>| -> Result<(), Error> {
        seen.push(match line {
            Line::Whole(line) | Line::Tail(line) => {
                assert!(line.len() <= line_bytes_max);
                (number, Some(line.len()))
            }
            Line::Overlong => (number, None),
        });
        Ok(())
    };
    let mut run = || -> Result<(), Error> {
        let mut take = |piece: &[u8]| -> Result<Flow, Error> {
            assert!(piece.len() <= PIECE_BYTES);
            if text.len() < TEXT_BYTES_MAX {
                text.extend_from_slice(piece);
                lines.feed(piece, &mut note)?;
            }
            Ok(if cuts.len().is_multiple_of(2) { Flow::More } else { Flow::Enough })
        };
        for &cut in cuts.iter().chain([&file.len()]) {
            let end = cut.min(file.len());
            while start < end {
                start += unpacker.feed(&file[start..end], &mut take)?;
            }
        }
        unpacker.finish(&mut take)
    };
    let result = run();
    lines.finish(&mut note).ok();
    text.truncate(TEXT_BYTES_MAX);
    (text, seen, result)
}
