//! A request → its outcome: of the cluster, of the cache, or of others.

use std::sync::{Arc, PoisonError, RwLock};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, Record},
};

use crate::{
    answer::{Decision, decide},
    cache::Question,
    forward::Forwarder,
    key::Key,
    message::{Outcome, Request},
    metrics::{Metrics, Source},
    records::Records,
    zone::Zone,
};

/// Aliases of the cluster that lead to others of it.
const MOST_ALIASES: usize = 8;

#[derive(Clone)]
pub struct Resolver {
    pub records: Arc<RwLock<Records>>,
    pub zone: Arc<Zone>,
    /// The Service that this server answers for.
    pub service: Key,
    pub forwarder: Forwarder,
    pub metrics: Metrics,
}

pub enum Step {
    Done(Outcome, Source),
    Ask(Pending),
}

/// What somebody else has to be asked, and the aliases that led there.
pub struct Pending {
    aliases: Vec<Record>,
    question: Question,
}

impl Resolver {
    /// As far as it goes without waiting.
    pub fn step(&self, request: &Request) -> Step {
        let mut aliases: Vec<Record> = Vec::new();
        let mut name: Name = request.query.name().clone();
        let kind = request.query.query_type();
        while aliases.len() <= MOST_ALIASES {
            let decision = {
                let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
                decide(&records, &self.zone, &self.service, &name, kind)
            };
            match decision {
                Decision::Answer(answer) => {
                    aliases.extend(answer.answers);
                    let outcome = Outcome {
                        code: answer.code,
                        answers: aliases,
                        authorities: answer.authorities,
                        additionals: answer.additionals,
                        authoritative: true,
                        authentic: false,
                    };
                    return Step::Done(outcome, Source::Cluster);
                }
                Decision::Alias(alias, target) => {
                    aliases.push(*alias);
                    name = target;
                }
                Decision::NotYet => {
                    return Step::Done(Outcome::failed(ResponseCode::ServFail), Source::Cluster);
                }
                Decision::Elsewhere => {
                    let pending = Pending {
                        aliases,
                        question: Question {
                            name: name.to_lowercase(),
                            kind,
                            dnssec_ok: request.dnssec_ok(),
                            checking_disabled: request.checking_disabled(),
                        },
                    };
                    return self.from_cache(pending);
                }
            }
        }
        // They lead to each other.
        Step::Done(Outcome::failed(ResponseCode::ServFail), Source::Cluster)
    }

    fn from_cache(&self, pending: Pending) -> Step {
        match self.forwarder.cached(&pending.question) {
            Some(message) => {
                self.metrics.cache_hits.inc();
                Step::Done(pending.with(message), Source::Cache)
            }
            None => {
                self.metrics.cache_misses.inc();
                Step::Ask(pending)
            }
        }
    }

    pub async fn ask(&self, pending: Pending) -> Outcome {
        match self.forwarder.ask(&pending.question).await {
            Ok(message) => pending.with((*message).clone()),
            Err(error) => {
                tracing::debug!(name = %pending.question.name, %error, "not answered");
                Outcome::failed(ResponseCode::ServFail)
            }
        }
    }
}

impl Pending {
    /// Behind aliases the code is that of the last name: RFC 6604.
    fn with(self, message: Message) -> Outcome {
        let mut answers = self.aliases;
        let authoritative = !answers.is_empty();
        answers.extend(message.answers);
        Outcome {
            code: message.metadata.response_code,
            answers,
            authorities: message.authorities,
            additionals: message.additionals,
            authoritative,
            authentic: message.metadata.authentic_data && !authoritative,
        }
    }
}
