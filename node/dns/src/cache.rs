//! What upstream servers answered, for as long as they said it holds.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, RecordType},
};

#[cfg(test)]
mod tests;

/// As CoreDNS' `cache` has them.
const LONGEST: Duration = Duration::from_secs(3600);
const LONGEST_DENIAL: Duration = Duration::from_secs(1800);

/// What is asked of others. Answers differ by what is said of DNSSEC.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// In lower case.
    pub name: Name,
    pub kind: RecordType,
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
}

/// Bounded in number and in bytes: what holds the shortest goes first.
#[derive(Debug)]
pub struct Cache {
    most: usize,
    most_bytes: usize,
    bytes: usize,
    entries: HashMap<Question, Entry>,
    by_end: BTreeSet<(Instant, Question)>,
}

/// As it came: records that were read take several times as much.
#[derive(Debug)]
struct Entry {
    message: Arc<[u8]>,
    since: Instant,
    end: Instant,
}

impl Cache {
    pub fn new(most: usize, most_bytes: usize) -> Self {
        Self {
            most,
            most_bytes,
            bytes: 0,
            entries: HashMap::new(),
            by_end: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The message, and how old it is.
    pub fn get(&self, question: &Question, now: Instant) -> Option<(Arc<[u8]>, Duration)> {
        let entry = self.entries.get(question).filter(|entry| now < entry.end)?;
        let age = now.saturating_duration_since(entry.since);
        Some((Arc::clone(&entry.message), age))
    }

    pub fn put(&mut self, question: Question, message: &[u8], holds: Duration, now: Instant) {
        self.remove(&question);
        if message.len() > self.most_bytes {
            return;
        }
        while let Some((end, first)) = self.by_end.first()
            && (*end <= now
                || self.entries.len() >= self.most
                || self.bytes + message.len() > self.most_bytes)
        {
            let first = first.clone();
            self.remove(&first);
        }
        let entry = Entry {
            message: message.into(),
            since: now,
            end: now + holds,
        };
        self.bytes += message.len();
        self.by_end.insert((entry.end, question.clone()));
        self.entries.insert(question, entry);
    }

    fn remove(&mut self, question: &Question) {
        if let Some(entry) = self.entries.remove(question) {
            self.bytes -= entry.message.len();
            self.by_end.remove(&(entry.end, question.clone()));
        }
    }
}

/// For how long the message may be told; `None` for one that may not be kept: RFC 2308.
pub fn holds(message: &Message) -> Option<Duration> {
    if message.metadata.truncation {
        return None;
    }
    let soa = message
        .authorities
        .iter()
        .find_map(|record| match &record.data {
            RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
            _ => None,
        });
    let shortest = message.answers.iter().map(|record| record.ttl).min();
    let (seconds, longest) = match (message.metadata.response_code, shortest) {
        (ResponseCode::NoError, Some(shortest)) => (shortest.min(soa.unwrap_or(shortest)), LONGEST),
        (ResponseCode::NXDomain, Some(shortest)) => (shortest.min(soa?), LONGEST_DENIAL),
        (ResponseCode::NoError | ResponseCode::NXDomain, None) => (soa?, LONGEST_DENIAL),
        _ => return None,
    };
    let holds = Duration::from_secs(seconds.into()).min(longest);
    Some(holds).filter(|holds| !holds.is_zero())
}

/// What is left of its records' time.
pub fn aged(mut message: Message, age: Duration) -> Message {
    let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
    let Message {
        answers,
        authorities,
        additionals,
        ..
    } = &mut message;
    for record in answers.iter_mut().chain(authorities).chain(additionals) {
        record.ttl = record.ttl.saturating_sub(seconds);
    }
    message
}
