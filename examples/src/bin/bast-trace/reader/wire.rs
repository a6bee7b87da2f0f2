//! Bytes to numbers and batches. Every step knows its offset in the file, so that a fault can name it.

use std::fmt;
use std::io::{self, Read};

/// "None" where a thread, a processor or a task could stand.
pub(crate) const NONE: u64 = u64::MAX;
const BATCH_MAX: u64 = 64 << 10;
const HEADER: usize = 16;

const EVENT_BATCH: u8 = 1;
const EXPERIMENTAL_BATCH: u8 = 49;
const END_OF_GENERATION: u8 = 52;

/// Why a trace cannot be read, and where.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The file could not be read.
    Io(io::Error),
    /// It was read and is not a trace that keeps the rules of the format.
    Format { offset: u64, message: String },
}

impl Fault {
    pub(crate) fn at(offset: u64, message: impl Into<String>) -> Fault {
        Fault::Format {
            offset,
            message: message.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Io(error) => write!(out, "cannot read: {error}"),
            Fault::Format { offset, message } => write!(out, "at byte {offset}: {message}"),
        }
    }
}

/// A place in the payload of a batch.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where `bytes` begins in the file.
    base: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) const fn new(bytes: &'a [u8], at: usize, base: u64) -> Cursor<'a> {
        Cursor { bytes, at, base }
    }

    pub(crate) const fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn byte(&mut self, expected: &str) -> Result<u8, Fault> {
        let Some(&byte) = self.bytes.get(self.at) else {
            return Err(Fault::at(
                self.offset(),
                format!("the batch ends where {expected} was expected"),
            ));
        };
        self.at += 1;
        Ok(byte)
    }

    /// Unsigned LEB128, at most ten bytes; padded encodings are legal.
    pub(crate) fn varint(&mut self, expected: &str) -> Result<u64, Fault> {
        let start = self.offset();
        let mut varint = Varint::default();
        loop {
            let byte = self.byte(expected)?;
            if let Some(value) = varint.push(byte).map_err(|()| too_long(start, expected))? {
                return Ok(value);
            }
        }
    }

    pub(crate) fn take(&mut self, length: usize, expected: &str) -> Result<&'a [u8], Fault> {
        let left = self.bytes.len() - self.at.min(self.bytes.len());
        if length > left {
            let message = format!("{expected} of {length} bytes was expected, the batch has {left} left");
            return Err(Fault::at(self.offset(), message));
        }
        let taken = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(taken)
    }
}

fn too_long(offset: u64, expected: &str) -> Fault {
    Fault::at(
        offset,
        format!("{expected} was expected, found a varint beyond 64 bits"),
    )
}

#[derive(Default)]
struct Varint {
    value: u64,
    bytes: u32,
}

impl Varint {
    fn push(&mut self, byte: u8) -> Result<Option<u64>, ()> {
        if self.bytes == 9 && byte > 1 {
            return Err(());
        }
        self.value |= u64::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        Ok((byte < 0x80).then_some(self.value))
    }
}

/// A batch, as it stood in the file.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) offset: u64,
    pub(crate) generation: u64,
    pub(crate) thread: u64,
    /// In units of the generation's clock.
    pub(crate) time: u64,
    pub(crate) experiment: Option<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) payload_offset: u64,
}

/// What stands next in a file.
#[derive(Debug)]
pub(crate) enum Piece {
    Batch(Batch),
    /// The byte that ends a generation, and its offset.
    EndOfGeneration(u64),
    EndOfFile(u64),
}

/// A file as a row of batches.
#[derive(Debug)]
pub(crate) struct Pieces<R> {
    input: R,
    offset: u64,
}

impl<R: Read> Pieces<R> {
    /// Reads the header. Returns the minor version too: 22, 23, 25 or 26.
    pub(crate) fn new(mut input: R) -> Result<(Pieces<R>, u8), Fault> {
        let mut header = Vec::with_capacity(HEADER);
        input
            .by_ref()
            .take(HEADER as u64)
            .read_to_end(&mut header)
            .map_err(Fault::Io)?;
        if header.is_empty() {
            return Err(Fault::at(
                0,
                "the file is empty, expected the header \"go 1.NN trace\"",
            ));
        }
        for minor in [22, 23, 25, 26] {
            if header == *format!("go 1.{minor} trace\0\0\0").as_bytes() {
                return Ok((
                    Pieces {
                        input,
                        offset: HEADER as u64,
                    },
                    minor,
                ));
            }
        }
        let text = header.escape_ascii();
        let message = if header.starts_with(b"go 1.") && header.len() == HEADER {
            format!(
                "unknown version: header \"{text}\", expected \"go 1.NN trace\\0\\0\\0\" with NN 22, 23, 25 or 26"
            )
        } else {
            format!("not an execution trace: begins with \"{text}\", expected \"go 1.NN trace\\0\\0\\0\"")
        };
        Err(Fault::at(0, message))
    }

    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    fn byte(&mut self) -> Result<Option<u8>, Fault> {
        let mut byte = [0];
        loop {
            match self.input.read(&mut byte) {
                Ok(0) => return Ok(None),
                Ok(_) => {
                    self.offset += 1;
                    return Ok(Some(byte[0]));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
    }

    fn some_byte(&mut self, expected: &str) -> Result<u8, Fault> {
        let offset = self.offset;
        self.byte()?.ok_or_else(|| {
            Fault::at(
                offset,
                format!("the file ends where {expected} was expected: truncated?"),
            )
        })
    }

    fn varint(&mut self, expected: &str) -> Result<u64, Fault> {
        let start = self.offset;
        let mut varint = Varint::default();
        loop {
            let byte = self.some_byte(expected)?;
            if let Some(value) = varint.push(byte).map_err(|()| too_long(start, expected))? {
                return Ok(value);
            }
        }
    }

    pub(crate) fn next(&mut self) -> Result<Piece, Fault> {
        let offset = self.offset;
        let experiment = match self.byte()? {
            None => return Ok(Piece::EndOfFile(offset)),
            Some(END_OF_GENERATION) => return Ok(Piece::EndOfGeneration(offset)),
            Some(EVENT_BATCH) => None,
            Some(EXPERIMENTAL_BATCH) => Some(self.some_byte("the number of an experiment")?),
            Some(other) => {
                let message = format!(
                    "expected a batch (byte 1, 49) or the end of a generation (52), found byte {other}"
                );
                return Err(Fault::at(offset, message));
            }
        };
        let generation = self.varint("the generation of a batch")?;
        let thread = self.varint("the thread of a batch")?;
        let time = self.varint("the time of a batch")?;
        let size_offset = self.offset;
        let size = self.varint("the size of a batch")?;
        if size > BATCH_MAX {
            let message = format!("a batch of {size} bytes, more than the largest of {BATCH_MAX}");
            return Err(Fault::at(size_offset, message));
        }
        let payload_offset = self.offset;
        let mut payload = Vec::new();
        self.input
            .by_ref()
            .take(size)
            .read_to_end(&mut payload)
            .map_err(Fault::Io)?;
        self.offset += payload.len() as u64;
        if (payload.len() as u64) < size {
            let message = format!(
                "the file ends {} bytes into a batch of {size} bytes: truncated?",
                payload.len()
            );
            return Err(Fault::at(self.offset, message));
        }
        Ok(Piece::Batch(Batch {
            offset,
            generation,
            thread,
            time,
            experiment,
            payload,
            payload_offset,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8]) -> Result<u64, Fault> {
        Cursor::new(bytes, 0, 100).varint("a number")
    }

    #[test]
    fn varints() {
        for (bytes, value) in [
            (&[0][..], 0),
            (&[0x7f], 127),
            (&[0x80, 1], 128),
            (&[0x85, 0x80, 0x80, 0], 5),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                u64::MAX,
            ),
        ] {
            assert_eq!(varint(bytes).unwrap(), value);
        }
        let cut = varint(&[0x80]).unwrap_err().to_string();
        assert_eq!(cut, "at byte 101: the batch ends where a number was expected");
        for long in [
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2][..],
            &[0x80; 11],
        ] {
            let fault = varint(long).unwrap_err().to_string();
            assert_eq!(
                fault,
                "at byte 100: a number was expected, found a varint beyond 64 bits"
            );
        }
    }

    fn header(bytes: &[u8]) -> Result<u8, String> {
        Pieces::new(bytes)
            .map(|(_, minor)| minor)
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn headers() {
        assert_eq!(header(b"go 1.22 trace\0\0\0"), Ok(22));
        assert_eq!(header(b"go 1.26 trace\0\0\0more"), Ok(26));
        assert!(header(b"").unwrap_err().contains("empty"));
        assert!(
            header(b"go 1.24 trace\0\0\0")
                .unwrap_err()
                .contains("unknown version")
        );
        assert!(
            header(b"go 1.26 tr")
                .unwrap_err()
                .contains("not an execution trace")
        );
        assert!(
            header(&[0xff; 40])
                .unwrap_err()
                .contains("not an execution trace")
        );
    }

    #[test]
    fn a_batch_larger_than_the_largest_is_refused_before_it_is_read() {
        let mut file = b"go 1.26 trace\0\0\0".to_vec();
        file.extend([1, 1, 1, 1, 0x81, 0x80, 0x04]);
        let (mut pieces, _) = Pieces::new(&file[..]).unwrap();
        let fault = pieces.next().unwrap_err().to_string();
        assert_eq!(
            fault,
            "at byte 20: a batch of 65537 bytes, more than the largest of 65536"
        );
    }
}
