//! How the API's types look in protobuf, and which zero values Go writes: facts that schemas leave out, kept as a
//! table beside this file.

use std::collections::{BTreeMap, HashMap};

/// What Go's encoder does with a field's zero value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// `omitempty`: zero is absent.
    Omitted,
    /// A pointer: zero is a value of its own.
    Pointer,
    /// Written whatever it is.
    Always,
}

/// The fields of a message by number.
pub(crate) type Numbers = BTreeMap<u32, Node>;

#[derive(Debug)]
pub(crate) enum Node {
    /// The JSON name of a field.
    Field(String),
    /// A message of Go's embedding, whose fields JSON has in the outer object.
    Inline(Numbers),
}

/// What the table says of a definition.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub numbers: Numbers,
    pub presence: HashMap<&'static str, Presence>,
}

pub(super) fn table() -> HashMap<&'static str, Entry> {
    include_str!("wire.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(entry)
        .collect()
}

fn entry(line: &'static str) -> Option<(&'static str, Entry)> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let mut entry = Entry::default();
    for word in words {
        let (field, place) = word.split_once('=')?;
        let presence = match place.as_bytes().last() {
            Some(b'*') => Presence::Pointer,
            Some(b'!') => Presence::Always,
            _ => Presence::Omitted,
        };
        entry.presence.insert(field, presence);
        let path = place
            .trim_end_matches(['*', '!'])
            .split('.')
            .map(str::parse)
            .collect::<Result<Vec<u32>, _>>()
            .ok()?;
        insert(&mut entry.numbers, &path, field);
    }
    Some((name, entry))
}

fn insert(numbers: &mut Numbers, path: &[u32], field: &str) {
    match path {
        [] => {}
        [last] => {
            numbers.insert(*last, Node::Field(field.to_string()));
        }
        [first, rest @ ..] => {
            if let Node::Inline(inner) = numbers
                .entry(*first)
                .or_insert_with(|| Node::Inline(Numbers::new()))
            {
                insert(inner, rest, field);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::schemas;

    #[test]
    fn every_line_is_read_and_every_field_has_a_number() {
        let lines = include_str!("wire.txt")
            .lines()
            .filter(|l| !l.starts_with('#'))
            .count();
        let table = table();
        assert_eq!(table.len(), lines);
        for (name, entry) in &table {
            let definition = schemas().get(name).unwrap_or_else(|| panic!("no {name}"));
            for field in definition
                .fields
                .keys()
                .filter(|f| !matches!(f.as_str(), "apiVersion" | "kind"))
            {
                // Gone again in 1.37, where the numbers come from.
                let gone =
                    name.ends_with("NodeAllocatableResourceClaimStatus") && field == "resources";
                assert!(
                    entry.presence.contains_key(field.as_str()) || gone,
                    "{name}.{field}"
                );
            }
        }
    }
}
