//! The strings, stacks and samples of a generation. Identifiers start over in each.

use std::collections::HashMap;
use std::rc::Rc;

use super::wire::{Batch, Cursor, Fault, NONE};

const STRING_MAX: u64 = 1 << 10;
const FRAMES_MAX: u64 = 128;

const STACK: u8 = 3;
const STRING: u8 = 5;
const CPU_SAMPLE: u8 = 7;

/// One call of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) pc: u64,
    function: u64,
    file: u64,
    pub(crate) line: u64,
}

#[derive(Debug)]
struct Stack {
    offset: u64,
    /// The called first, the root last.
    pcs: Vec<u64>,
}

/// A sample of the CPU profile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) offset: u64,
    /// In units of the clock.
    pub(crate) time: u64,
    pub(crate) thread: u64,
    pub(crate) processor: u64,
    pub(crate) task: u64,
    pub(crate) stack: u64,
}

/// The tables of one generation.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    strings: HashMap<u64, Rc<str>>,
    stacks: HashMap<u64, Stack>,
    /// The first frame seen for a pc stands for all, as in Go's reader.
    frames: HashMap<u64, Frame>,
    pub(crate) samples: Vec<Sample>,
}

impl Tables {
    pub(crate) fn string(&self, id: u64) -> Option<Rc<str>> {
        if id == 0 {
            return Some(Rc::from(""));
        }
        self.strings.get(&id).cloned()
    }

    pub(crate) fn has_string(&self, id: u64) -> bool {
        id == 0 || self.strings.contains_key(&id)
    }

    pub(crate) fn has_stack(&self, id: u64) -> bool {
        id == 0 || self.stacks.contains_key(&id)
    }

    fn function_of(&self, pc: u64) -> Option<Rc<str>> {
        self.frames.get(&pc).and_then(|frame| self.string(frame.function))
    }

    /// The function at the root of a stack: the entry of the task.
    pub(crate) fn root(&self, stack: u64) -> Option<Rc<str>> {
        self.function_of(*self.stacks.get(&stack)?.pcs.last()?)
    }

    /// "function (file:line)" of the innermost call.
    pub(crate) fn leaf(&self, stack: u64) -> Option<String> {
        let frame = self.frames.get(self.stacks.get(&stack)?.pcs.first()?)?;
        Some(format!(
            "{} ({}:{})",
            self.string(frame.function)?,
            self.string(frame.file)?,
            frame.line
        ))
    }

    pub(crate) fn add_strings(&mut self, batch: &Batch) -> Result<(), Fault> {
        let mut cursor = Cursor::new(&batch.payload, 1, batch.payload_offset);
        while !cursor.is_empty() {
            let offset = cursor.offset();
            expect_record(&mut cursor, STRING, "a string")?;
            let id = cursor.varint("the ID of a string")?;
            let length = cursor.varint("the length of a string")?;
            if length > STRING_MAX {
                let message = format!("string {id} of {length} bytes, more than the largest of {STRING_MAX}");
                return Err(Fault::at(offset, message));
            }
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let text = String::from_utf8_lossy(cursor.take(length, "a string")?);
            if id == 0 || self.strings.insert(id, Rc::from(text)).is_some() {
                return Err(Fault::at(
                    offset,
                    format!("string ID {id} is written twice, or is 0"),
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn add_stacks(&mut self, batch: &Batch) -> Result<(), Fault> {
        let mut cursor = Cursor::new(&batch.payload, 1, batch.payload_offset);
        while !cursor.is_empty() {
            let offset = cursor.offset();
            expect_record(&mut cursor, STACK, "a stack")?;
            let id = cursor.varint("the ID of a stack")?;
            let count = cursor.varint("the number of frames")?;
            if count > FRAMES_MAX {
                let message = format!("stack {id} of {count} frames, more than the most of {FRAMES_MAX}");
                return Err(Fault::at(offset, message));
            }
            let mut pcs = Vec::new();
            for _ in 0..count {
                let frame = Frame {
                    pc: cursor.varint("the pc of a frame")?,
                    function: cursor.varint("the function of a frame")?,
                    file: cursor.varint("the file of a frame")?,
                    line: cursor.varint("the line of a frame")?,
                };
                pcs.push(frame.pc);
                self.frames.entry(frame.pc).or_insert(frame);
            }
            if id == 0 || self.stacks.insert(id, Stack { offset, pcs }).is_some() {
                return Err(Fault::at(
                    offset,
                    format!("stack ID {id} is written twice, or is 0"),
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn add_samples(&mut self, batch: &Batch) -> Result<(), Fault> {
        let mut cursor = Cursor::new(&batch.payload, 1, batch.payload_offset);
        while !cursor.is_empty() {
            let offset = cursor.offset();
            expect_record(&mut cursor, CPU_SAMPLE, "a CPU sample")?;
            let time = cursor.varint("the time of a CPU sample")?;
            let thread = cursor.varint("the thread of a CPU sample")?;
            let processor = cursor.varint("the processor of a CPU sample")?;
            let task = match cursor.varint("the task of a CPU sample")? {
                0 => NONE,
                id => id,
            };
            let stack = cursor.varint("the stack of a CPU sample")?;
            self.samples.push(Sample {
                offset,
                time,
                thread,
                processor,
                task,
                stack,
            });
        }
        Ok(())
    }

    /// Once all is read: every frame has its strings. A strict reader wants the callers of the innermost whole, too.
    pub(crate) fn finish(&self, strict: bool) -> Result<(), Fault> {
        let mut stacks: Vec<_> = self.stacks.iter().collect();
        stacks.sort_by_key(|(_, stack)| stack.offset);
        for (id, stack) in stacks {
            for (depth, pc) in stack.pcs.iter().enumerate() {
                let frame = self.frames[pc];
                for (what, string) in [("function", frame.function), ("file", frame.file)] {
                    if !self.has_string(string) {
                        let message = format!(
                            "stack {id}, frame {depth}: its {what} is string {string}, not in the table"
                        );
                        return Err(Fault::at(stack.offset, message));
                    }
                }
                let nameless =
                    [frame.function, frame.file].map(|id| self.string(id).is_none_or(|text| text.is_empty()));
                if strict && depth > 0 && (pc == &0 || frame.line == 0 || nameless[0] || nameless[1]) {
                    let message =
                        format!("stack {id}, frame {depth}: its pc, function, file or line is missing");
                    return Err(Fault::at(stack.offset, message));
                }
            }
        }
        match self.samples.iter().find(|sample| !self.has_stack(sample.stack)) {
            Some(sample) => {
                let message = format!("a CPU sample has stack {}, not in the table", sample.stack);
                Err(Fault::at(sample.offset, message))
            }
            None => Ok(()),
        }
    }
}

fn expect_record(cursor: &mut Cursor<'_>, wanted: u8, expected: &str) -> Result<(), Fault> {
    let offset = cursor.offset();
    let found = cursor.byte(expected)?;
    if found != wanted {
        return Err(Fault::at(
            offset,
            format!("expected {expected} (byte {wanted}), found byte {found}"),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(payload: &[u8]) -> Batch {
        Batch {
            offset: 0,
            generation: 1,
            thread: NONE,
            time: 0,
            experiment: None,
            payload: payload.to_vec(),
            payload_offset: 50,
        }
    }

    fn strings(payload: &[u8]) -> Result<Tables, String> {
        let mut tables = Tables::default();
        tables
            .add_strings(&batch(payload))
            .map_err(|fault| fault.to_string())?;
        Ok(tables)
    }

    #[test]
    fn strings_by_id() {
        let tables = strings(b"\x04\x05\x07\x03abc\x05\x81\x01\x00").unwrap();
        assert_eq!(tables.string(7).as_deref(), Some("abc"));
        assert_eq!(tables.string(129).as_deref(), Some(""));
        assert_eq!(tables.string(0).as_deref(), Some(""));
        assert_eq!(tables.string(8), None);
    }

    #[test]
    fn faults_of_strings() {
        let twice = strings(b"\x04\x05\x07\x01a\x05\x07\x01a").unwrap_err();
        assert_eq!(twice, "at byte 55: string ID 7 is written twice, or is 0");
        assert!(strings(b"\x04\x05\x00\x01a").unwrap_err().contains("or is 0"));
        let long = strings(b"\x04\x05\x07\x81\x08").unwrap_err();
        assert_eq!(
            long,
            "at byte 51: string 7 of 1025 bytes, more than the largest of 1024"
        );
        let cut = strings(b"\x04\x05\x07\x05ab").unwrap_err();
        assert_eq!(
            cut,
            "at byte 54: a string of 5 bytes was expected, the batch has 2 left"
        );
        assert!(
            strings(b"\x04\x03")
                .unwrap_err()
                .contains("expected a string (byte 5), found byte 3")
        );
    }

    #[test]
    fn stacks_have_leaf_and_root() {
        let mut tables = strings(b"\x04\x05\x01\x04leaf\x05\x02\x04root\x05\x03\x04f.rs").unwrap();
        let stacks = [2, 3, 9, 2, 0x10, 1, 3, 5, 0x20, 2, 3, 6];
        tables.add_stacks(&batch(&stacks)).unwrap();
        tables.finish(true).unwrap();
        assert_eq!(tables.leaf(9).as_deref(), Some("leaf (f.rs:5)"));
        assert_eq!(tables.root(9).as_deref(), Some("root"));
        assert_eq!(tables.root(0), None);
        assert!(tables.has_stack(0) && !tables.has_stack(8));
        let again = tables.add_stacks(&batch(&stacks)).unwrap_err().to_string();
        assert_eq!(again, "at byte 51: stack ID 9 is written twice, or is 0");
    }

    #[test]
    fn faults_of_stacks() {
        let mut tables = Tables::default();
        let many = tables
            .add_stacks(&batch(&[2, 3, 9, 0x81, 1]))
            .unwrap_err()
            .to_string();
        assert_eq!(
            many,
            "at byte 51: stack 9 of 129 frames, more than the most of 128"
        );
        tables.add_stacks(&batch(&[2, 3, 9, 1, 0x10, 4, 0, 5])).unwrap();
        let unknown = tables.finish(false).unwrap_err().to_string();
        assert_eq!(
            unknown,
            "at byte 51: stack 9, frame 0: its function is string 4, not in the table"
        );
    }
}
