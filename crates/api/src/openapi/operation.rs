//! How one operation is described.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use crate::query::WaitQuery;

type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// What a request carries, or an answer.
pub(super) enum Content {
    Nothing,
    Json(MakeSchema),
    /// Another media type, whose items are described in words.
    Other(&'static str),
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) description: &'static str,
    pub(super) content: Vec<Content>,
    /// Operations that go on with what this answer names: where each of their parameters is found in it.
    pub(super) links: Vec<(&'static str, &'static [(&'static str, &'static str)])>,
}

/// What is not in the table of routes about an operation.
pub(super) struct Operation {
    pub(super) summary: &'static str,
    pub(super) queries: Vec<MakeSchema>,
    pub(super) body: Content,
    pub(super) example: Option<Value>,
    pub(super) answers: Vec<Answer>,
    /// Refusals that only some operations know.
    pub(super) problems: &'static [u16],
    /// Answers with an `ETag`, and takes `If-None-Match`.
    pub(super) tagged: bool,
    /// Answers with an `ETag`, without being a GET.
    pub(super) versioned: bool,
    /// Takes `If-Match`.
    pub(super) guarded: bool,
    /// Its answers come in parts, with a `Link` to the next.
    pub(super) paged: bool,
    /// The same, but with a parameter of its own that says where a part begins.
    pub(super) linked: bool,
    /// Its work goes on after the answer; `Location` tells how far it is.
    pub(super) slow: bool,
    /// Takes `Last-Event-ID`: its schema, and what it does.
    pub(super) resumable: Option<(Value, &'static str)>,
}

pub(super) fn operation(summary: &'static str) -> Operation {
    Operation {
        summary,
        queries: Vec::new(),
        body: Content::Nothing,
        example: None,
        answers: Vec::new(),
        problems: &[],
        tagged: false,
        versioned: false,
        guarded: false,
        paged: false,
        linked: false,
        slow: false,
        resumable: None,
    }
}

impl Operation {
    pub(super) fn query<T: JsonSchema>(mut self) -> Self {
        self.queries.push(T::json_schema);
        self
    }

    pub(super) fn body<T: JsonSchema>(self, example: Value) -> Self {
        Operation { body: Content::Json(schema_of::<T>), example: Some(example), ..self }
    }

    pub(super) fn raw_body(self) -> Self {
        Operation { body: Content::Other("application/octet-stream"), ..self }
    }

    pub(super) fn answer<T: JsonSchema>(self, status: u16, description: &'static str) -> Self {
        self.answer_of(status, description, vec![Content::Json(schema_of::<T>)])
    }

    pub(super) fn empty(self, status: u16, description: &'static str) -> Self {
        self.answer_of(status, description, vec![Content::Nothing])
    }

    /// Of work that takes time: 200 if it was waited for, and is done.
    pub(super) fn slow_answer<T: JsonSchema>(self, description: &'static str) -> Self {
        let slow = Operation { slow: true, ..self.query::<WaitQuery>() };
        slow.answer::<T>(202, description).answer::<T>(200, description)
    }

    pub(super) fn slow(self) -> Self {
        let slow = Operation { slow: true, ..self.query::<WaitQuery>() };
        slow.empty(202, "It is noted; `Location` tells how far it is").empty(200, "It is done")
    }

    pub(super) fn stream(self, media: &'static str, description: &'static str) -> Self {
        self.answer_of(200, description, vec![Content::Other(media)])
    }

    pub(super) fn answer_of(mut self, status: u16, description: &'static str, content: Vec<Content>) -> Self {
        self.answers.push(Answer { status, description, content, links: Vec::new() });
        self
    }

    /// Goes on from the answer before.
    pub(super) fn link(
        mut self,
        operation: &'static str,
        parameters: &'static [(&'static str, &'static str)],
    ) -> Self {
        let slow = self.slow;
        let status = self.answers.last().map(|answer| answer.status);
        for answer in self.answers.iter_mut().filter(|answer| slow || Some(answer.status) == status) {
            answer.links.push((operation, parameters));
        }
        self
    }

    pub(super) fn problems(self, problems: &'static [u16]) -> Self {
        Operation { problems, ..self }
    }

    pub(super) fn tagged(self) -> Self {
        Operation { tagged: true, ..self }
    }

    pub(super) fn versioned(self) -> Self {
        Operation { versioned: true, ..self }
    }

    pub(super) fn linked(self) -> Self {
        Operation { linked: true, ..self }
    }

    pub(super) fn guarded(self) -> Self {
        Operation { guarded: true, ..self }
    }

    pub(super) fn paged(self) -> Self {
        Operation { paged: true, ..self }
    }

    pub(super) fn resumable(self, id: Value, description: &'static str) -> Self {
        Operation { resumable: Some((id, description)), ..self }
    }
}

pub(super) fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}
