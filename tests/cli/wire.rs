//! Protocol buffers, taken apart by nothing but their encoding: a second opinion on what we write,
//! with the field numbers of the published schemas and not those of our structs.

use std::collections::BTreeMap;

/// A message: by field number, its values in order.
#[derive(Debug, Default)]
pub struct Message(BTreeMap<u64, Vec<Field>>);

#[derive(Debug)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Message {
    /// Reads a whole message; whatever is no message is a failed test.
    pub fn read(mut bytes: &[u8]) -> Message {
        let mut message = Message::default();
        while !bytes.is_empty() {
            let key = number(&mut bytes);
            let field = match key & 7 {
                0 => Field::Number(number(&mut bytes)),
                2 => {
                    let length = usize::try_from(number(&mut bytes)).unwrap();
                    let (data, rest) = bytes.split_at_checked(length).expect("a whole field");
                    bytes = rest;
                    Field::Bytes(data.to_vec())
                }
                kind => panic!("field {} of kind {kind}", key >> 3),
            };
            message.0.entry(key >> 3).or_default().push(field);
        }
        message
    }

    /// A field that is there once, or zero.
    pub fn number(&self, field: u64) -> u64 {
        match self.0.get(&field).map(Vec::as_slice) {
            None => 0,
            Some([Field::Number(n)]) => *n,
            other => panic!("field {field} is {other:?}"),
        }
    }

    /// Numbers of a field, packed or not.
    pub fn numbers(&self, field: u64) -> Vec<u64> {
        let mut all = Vec::new();
        for value in self.0.get(&field).into_iter().flatten() {
            match value {
                Field::Number(n) => all.push(*n),
                Field::Bytes(packed) => {
                    let mut rest = packed.as_slice();
                    while !rest.is_empty() {
                        all.push(number(&mut rest));
                    }
                }
            }
        }
        all
    }

    pub fn texts(&self, field: u64) -> Vec<String> {
        self.all(field).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()).collect()
    }

    pub fn messages(&self, field: u64) -> Vec<Message> {
        self.all(field).map(Message::read).collect()
    }

    /// The field numbers that are there.
    pub fn fields(&self) -> Vec<u64> {
        self.0.keys().copied().collect()
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &[u8]> {
        self.0.get(&field).into_iter().flatten().map(move |value| match value {
            Field::Bytes(bytes) => bytes.as_slice(),
            Field::Number(n) => panic!("field {field} is the number {n}"),
        })
    }
}

fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift.min(63);
        if first & 0x80 == 0 {
            return value;
        }
    }
    panic!("a number of more than ten bytes");
}
